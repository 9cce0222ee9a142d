"""The test of a family of pairs of losses: sign flips, paired t with Holm, or Welch with Holm, chosen by design."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats
from statsmodels.stats.multitest import multipletests

from losstune.analysis.signflips import (
    EXACT_SEEDS,
    TIE,
    alignment,
    critical_value,
    sign_patterns,
    step_down,
    t_of_alignment,
)

SIGN_FLIP_SEEDS = 8


@dataclass(frozen=True)
class Family:
    """What was found for m pairs (arrays of shape (m,)), adjusted over these m pairs.

    difference: mean of the first minus mean of the second loss; sd: of the paired differences (Welch: the pooled
    sd of the two losses); t: signed; p: adjusted; half_width: of the simultaneous 1 - alpha interval;
    level: the unadjusted two-sided level that one pair has to reach on its own to clear the family's critical value;
    error: standard error of the difference.
    """

    difference: np.ndarray
    sd: np.ndarray
    error: np.ndarray
    t: np.ndarray
    p: np.ndarray
    half_width: np.ndarray
    level: np.ndarray


def is_paired(x: np.ndarray) -> bool:
    """Whether every loss has a score for every seed: (S, L) scores without a gap."""
    return not np.isnan(x).any()


def method_name(x: np.ndarray) -> str:
    """The test for (S, L) scores, by the number of seeds and the design alone, never by what was observed."""
    if not is_paired(x):
        return "Welch t-tests with Holm's adjustment over all pairs (the losses do not share all seeds)"
    if len(x) < SIGN_FLIP_SEEDS:
        return f"paired t-tests with Holm's adjustment over all pairs (fewer than {SIGN_FLIP_SEEDS} seeds)"
    patterns = f"all {2 ** (len(x) - 1):,}" if len(x) <= EXACT_SEEDS else "10,000 seeded"
    return f"paired sign-flip test of whole seeds, step-down max-T over all pairs ({patterns} sign patterns)"


def family_of_pairs(x: np.ndarray, first: np.ndarray, second: np.ndarray, alpha: float) -> Family:
    """Test the pairs (first[k], second[k]) of columns of (S, L) scores as one family at level alpha."""
    if not is_paired(x):
        return _welch(x, first, second, alpha)
    differences = x[:, first] - x[:, second]
    # Equal scores that were computed along two routes differ in the last bit.
    differences[np.abs(differences) <= TIE * np.abs(x).max()] = 0.0
    return (_paired_t if len(x) < SIGN_FLIP_SEEDS else _sign_flips)(differences, alpha)


def _holm(p: np.ndarray, alpha: float) -> np.ndarray:
    return multipletests(p, alpha=alpha, method="holm")[1]


def _moments(differences: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Mean, sd, standard error and signed T of (S, m) differences; 0/0 is 0 and x/0 is infinity."""
    seeds = len(differences)
    mean = differences.mean(axis=0)
    t = t_of_alignment(alignment(differences, np.ones((1, seeds)))[0], seeds)
    sd = np.where(np.isinf(t), 0.0, differences.std(axis=0, ddof=1))
    return mean, sd, sd / np.sqrt(seeds), np.sign(mean) * t


def _sign_flips(differences: np.ndarray, alpha: float) -> Family:
    seeds, pairs = differences.shape
    signs = sign_patterns(seeds)
    mean, sd, error, t = _moments(differences)
    c = critical_value(differences, signs, alpha)
    half_width = np.multiply(c, error, out=np.zeros(pairs), where=error > 0)
    level = np.full(pairs, 2 * stats.t.sf(c, seeds - 1))
    return Family(mean, sd, error, t, step_down(differences, signs), half_width, level)


def _paired_t(differences: np.ndarray, alpha: float) -> Family:
    seeds, pairs = differences.shape
    mean, sd, error, t = _moments(differences)
    p = _holm(2 * stats.t.sf(np.abs(t), seeds - 1), alpha)
    c = stats.t.isf(alpha / pairs / 2, seeds - 1)
    return Family(mean, sd, error, t, p, c * error, np.full(pairs, alpha / pairs))


def _welch(x: np.ndarray, first: np.ndarray, second: np.ndarray, alpha: float) -> Family:
    means, variances, counts = np.nanmean(x, axis=0), np.nanvar(x, axis=0, ddof=1), (~np.isnan(x)).sum(axis=0)
    t, df, error = welch(means, variances, counts, first, second)
    sd = np.where(error > 0, np.sqrt((variances[first] + variances[second]) / 2), 0.0)
    level = alpha / len(first)
    p = _holm(2 * stats.t.sf(np.abs(t), df), alpha)
    half_width = stats.t.isf(level / 2, df) * error
    return Family(means[first] - means[second], sd, error, t, p, half_width, np.full(len(first), level))


def welch(means, variances, counts, first, second) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Welch's T, degrees of freedom and standard error for pairs of losses, from per-loss moments of shape (L,).

    0/0 is 0 and x/0 is infinity, with the degrees of freedom of the smaller sample where no variance is left.
    """
    # A constant column has a variance of the order of its rounding error.
    parts = np.where(variances <= (TIE * np.abs(means)) ** 2, 0.0, variances) / counts
    difference = means[first] - means[second]
    difference = np.where(np.abs(difference) <= TIE * np.abs(means).max(), 0.0, difference)
    error = np.sqrt(parts[first] + parts[second])
    weights = parts[first] ** 2 / (counts[first] - 1) + parts[second] ** 2 / (counts[second] - 1)
    smaller = np.minimum(counts[first], counts[second]) - 1.0
    df = np.divide(error**4, weights, out=smaller, where=weights > 0)
    endless = np.where(difference == 0, 0.0, np.copysign(np.inf, difference))
    return np.divide(difference, error, out=endless, where=error > 0), df, error
