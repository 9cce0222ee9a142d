"""Sign flips of whole seeds over many paired differences at once: the arithmetic of the step-down max-T test.

Everything is computed on r = |sum(D)| / sqrt(S sum(D^2)) in [0, 1] in place of |T|. Since sum(D^2) does not change
when signs flip, |T| = r sqrt(S - 1) / sqrt(1 - r^2) is the same increasing function of r for every pair and pattern,
so that comparisons and maxima agree, while r has none of T's cancellation: T = infinity is simply r = 1.
"""

from __future__ import annotations

import numpy as np

EXACT_SEEDS = 14
DRAWS = 10_000
DRAW_SEED = 0
BLOCK = 1024
# Two values of r closer than this are ties: accuracies are multiples of 1/n, so that exact ties are common. Where the
# level of the scores is far above their differences, rounding blurs r more than that: see `tie_tolerance`.
TIE = 1e-12
# How far the rounding of two scores moves their difference at most, as a share of the larger score.
ROUNDING = 16 * float(np.finfo(float).eps)


def sign_patterns(seeds: int) -> np.ndarray:
    """Sign patterns as (P, seeds) floats of +-1, the identity first.

    Up to 14 seeds: all 2^(seeds - 1) with the first sign held at +1, as |T| is the same for a pattern and its
    mirror image. Beyond: the identity and 9,999 draws from a fixed seed.
    """
    if seeds <= EXACT_SEEDS:
        bits = np.arange(2 ** (seeds - 1))[:, None] >> np.arange(seeds - 1) & 1
        return np.hstack([np.ones((len(bits), 1)), 1.0 - 2.0 * bits])
    draws = np.random.default_rng(DRAW_SEED).integers(0, 2, size=(DRAWS - 1, seeds))
    return np.vstack([np.ones((1, seeds)), 1.0 - 2.0 * draws])


def alignment(differences: np.ndarray, signs: np.ndarray) -> np.ndarray:
    """r of every pair under every sign pattern: (S, m) differences and (P, S) signs -> (P, m); 0/0 is 0."""
    seeds = len(differences)
    norm = np.sqrt(seeds * (differences**2).sum(axis=0))
    sums = np.abs(signs @ differences)
    return np.minimum(np.divide(sums, norm, out=np.zeros_like(sums), where=norm > 0), 1.0)


def t_of_alignment(r: np.ndarray, seeds: int) -> np.ndarray:
    """|T| of r; infinity where every difference is the same non-zero number (r = 1).

    r keeps no more than about TIE of how little a difference varies: for the |T*| of flips, of which a size beyond a
    million is as good as infinite. The observed T is computed from the differences themselves.
    """
    r = np.asarray(r, dtype=float)
    inside = r < 1.0 - TIE
    safe = np.where(inside, r, 0.0)
    return np.where(inside, safe * np.sqrt(seeds - 1) / np.sqrt(1.0 - safe**2), np.inf)


def tie_tolerance(differences: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """How far rounding moves r, per pair: (S, m) differences and the noise (m,) of each -> (m,), at least TIE."""
    size = np.sqrt((differences**2).mean(axis=0))
    return np.maximum(TIE, np.divide(noise, size, out=np.zeros_like(size), where=size > 0))


def step_down(differences: np.ndarray, signs: np.ndarray, tie: np.ndarray | float = TIE) -> np.ndarray:
    """Step-down max-T p-values of (S, m) paired differences, adjusted over the m pairs (Westfall and Young).

    Pairs are sorted by |T|; p_k is the share of patterns, identity included, in which the largest |T*| over the pairs
    k..last is at least |T_k|; then the running maximum. tie: how far rounding moves r, per pair.
    """
    tie = np.broadcast_to(tie, differences.shape[1:])
    observed = alignment(differences, signs[:1])[0]
    order = np.argsort(-observed, kind="stable")
    counts = np.zeros(differences.shape[1])
    for start in range(0, len(signs), BLOCK):
        r = alignment(differences[:, order], signs[start : start + BLOCK]) + tie[order]
        largest = np.maximum.accumulate(r[:, ::-1], axis=1)[:, ::-1]
        counts += (largest >= (observed - tie)[order]).sum(axis=0)
    p = np.empty_like(counts)
    p[order] = np.maximum.accumulate(counts / len(signs))
    return p


def critical_value(
    differences: np.ndarray, signs: np.ndarray, alpha: float, noise: np.ndarray | float = 0.0
) -> float:
    """c: the (1 - alpha) quantile of the largest |T*| over (S, m) differences, each centred to mean zero.

    The smallest value that at least a share 1 - alpha of the patterns does not exceed; may be infinite. noise: how far
    rounding moves a difference, per pair.
    """
    seeds = len(differences)
    centred = differences - differences.mean(axis=0)
    # A difference that never varies centres to rounding noise, which must not count as a spread.
    noise = np.maximum(noise, ROUNDING * np.abs(differences).max(axis=0))
    centred[:, np.abs(centred).max(axis=0) <= noise] = 0.0
    blocks = [
        alignment(centred, signs[start : start + BLOCK]).max(axis=1) for start in range(0, len(signs), BLOCK)
    ]
    return float(t_of_alignment(np.quantile(np.concatenate(blocks), 1.0 - alpha, method="inverted_cdf"), seeds))
