"""What another test set would change: a bootstrap over seeds and test examples at once (crossed).

D[s, n] is the difference between two losses on test example n with seed s: of right answers (0 or 1), or of any score
per example. With mu + a_s + b_n + e_sn, independent effects of seeds, of examples and of both together,

    var(mean D) = var_a / S + var_b / N + var_e / (S N),

which the mean squares of the two-way analysis of variance estimate without bias by (MS_a + MS_b - MS_e) / (S N).

Drawing seeds and examples with replacement, independently, is Owen's pigeonhole bootstrap (2007, Annals of Applied
Statistics 1); weighting them by independent factors, as here, that of Owen and Eckles (2012, same journal 6). The
variance of either is, exactly, A + B + C with the sums of squares around the means A = SS_a / (S^2 N),
B = SS_b / (S N^2), C = SS_e / (S^2 N^2). Each of the three has its own var_e / (S N), so that the naive bootstrap
counts it three times (McCullagh 2000, Bernoulli 6: no bootstrap of such data is exact). It matters here: networks
differ mostly on single examples, so that var_e dominates. Few seeds, on the other hand, have too narrow quantiles.

So the draws only say how large the largest of all differences gets; the width is the unbiased standard error, and
quantiles are those of Student's t with Satterthwaite's degrees of freedom. The weights are normal with the covariance
of multinomial counts, because sums of 5 drawn seeds have shorter tails than the sums that they stand for.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from losstune.spaces import InputError

DRAWS = 2000
BLOCK = 100


def crossed_bootstrap(
    scores: np.ndarray, losses: Sequence[str], alpha: float = 0.05, draws: int = DRAWS, seed: int = 0
) -> pd.DataFrame:
    """Differences between losses that would hold for new seeds and for new test examples of the same kind.

    scores: (L, S, N), per loss, seed and test example, higher is better, the same seeds and examples for every loss:
    bool for right answers, or any finite numbers; losses: L names.

    Returns a row per pair, in order of means, so that the rows whose loss_a is the first are those to the best mean:
    loss_a (the higher mean), loss_b, difference (>= 0), standard_error, df (Satterthwaite), alone_low, alone_high (the
    1 - alpha interval of this pair on its own), ci_low, ci_high (simultaneous over all pairs); seeds_share,
    examples_share and interaction_share (of the variance of the difference: what more seeds alone would lower, more
    examples alone, and either; they sum to 1, NaN where two losses agree everywhere); bootstrap_error, the naive
    standard error of the draws, exactly, for comparison.

    Time and memory: 9 x 25 x 10,000 with 2,000 draws take seconds and some 100 MiB. Raises InputError for other shapes,
    fewer than 2 losses, seeds or examples, scores that are not finite, and alpha outside (0, 1).
    """
    scores = _checked(scores, losses, alpha, draws)
    means = scores.mean(axis=(1, 2))
    ranking = np.argsort(-means, kind="stable")
    upper, lower = (ranking[side] for side in np.triu_indices(len(losses), 1))
    table = pd.DataFrame([variance_components(scores[i] - scores[j]) for i, j in zip(upper, lower, strict=True)])
    table.insert(0, "loss_a", [losses[i] for i in upper])
    table.insert(1, "loss_b", [losses[j] for j in lower])
    table.insert(2, "difference", means[upper] - means[lower])
    drawn = _drawn_means(scores, draws, seed) - means
    return table.join(_intervals(table, np.abs(drawn[:, upper] - drawn[:, lower]), alpha))


def _intervals(table: pd.DataFrame, deviations: np.ndarray, alpha: float) -> pd.DataFrame:
    """The two intervals of every pair, from the sizes (draws, m) of its drawn deviations."""
    spread, found = table["bootstrap_error"].to_numpy(), {}
    z = np.divide(deviations, spread, out=np.zeros_like(deviations), where=spread > 0)
    quantiles = {"alone": np.quantile(z, 1 - alpha, axis=0), "ci": np.quantile(z.max(axis=1), 1 - alpha)}
    for name, quantile in quantiles.items():
        half = table["standard_error"] * _student(quantile, table["df"])
        found[f"{name}_low"], found[f"{name}_high"] = table["difference"] - half, table["difference"] + half
    return pd.DataFrame(found)


def variance_components(d: np.ndarray) -> dict[str, float]:
    """The variance of the mean of (S, N) crossed differences and where it comes from; see the module.

    standard_error, df, seeds_share, examples_share, interaction_share and bootstrap_error, as in `crossed_bootstrap`.
    A component estimated below zero counts as zero, which errs on the side of a larger standard error.
    """
    seeds, examples = d.shape
    row, column = d.mean(axis=1), d.mean(axis=0)
    a = ((row - row.mean()) ** 2).sum() * examples
    b = ((column - column.mean()) ** 2).sum() * seeds
    e = ((d - row[:, None] - column + row.mean()) ** 2).sum()
    freedom = np.array([seeds - 1, examples - 1, (seeds - 1) * (examples - 1)], dtype=float)
    squares = np.array([a, b, e]) / freedom
    squares[:2] = np.maximum(squares[:2], squares[2])
    total = squares[0] + squares[1] - squares[2]
    parts = np.array([squares[0] - squares[2], squares[1] - squares[2], squares[2]])
    shares = parts / total if total > 0 else np.full(3, np.nan)
    naive = a / (seeds**2 * examples) + b / (seeds * examples**2) + e / (seeds * examples) ** 2
    return {
        "standard_error": float(np.sqrt(total / (seeds * examples))),
        "df": float(total**2 / (squares**2 / freedom).sum()) if total > 0 else np.nan,
        "seeds_share": shares[0], "examples_share": shares[1], "interaction_share": shares[2],
        "bootstrap_error": float(np.sqrt(naive)),
    }  # fmt: skip


def interval_of_test_set(accuracy: float, n_test: int, alpha: float = 0.05) -> tuple[float, float]:
    """Wilson's interval for one network's accuracy on all examples of the kind, given that on n_test of them.

    accuracy: in [0, 1]. It is that of an accuracy, not of a difference between two losses, which share the examples:
    `crossed_bootstrap` has those. Unlike accuracy +- 2 standard errors it has a width where all 12 of 12 are right:
    0.76 to 1. Raises InputError where out of bounds.
    """
    if n_test < 1 or not 0 <= accuracy <= 1:
        raise InputError("accuracy, n_test: out of bounds; allowed: an accuracy in [0, 1] on at least 1 example")
    low, high = proportion_confint(accuracy * n_test, n_test, alpha, method="wilson")
    return float(low), float(high)


def _checked(scores: np.ndarray, losses: Sequence[str], alpha: float, draws: int) -> np.ndarray:
    scores = np.asarray(scores)
    if scores.ndim != 3 or scores.dtype.kind not in "biuf":
        raise InputError(f"scores: {scores.dtype} of shape {scores.shape}; needed: numbers per loss, seed and example")
    if min(scores.shape) < 2:
        raise InputError(f"scores: shape {scores.shape}; needed: at least 2 losses, 2 seeds and 2 test examples")
    if len(losses) != len(scores) or len(set(losses)) != len(losses):
        raise InputError(f"losses: {len(losses)} names for {len(scores)} losses; needed: a different one for each")
    if not 0 < alpha < 1:
        raise InputError(f"alpha: {alpha!r} is out of bounds; allowed: (0, 1)")
    if draws < 1 / alpha:
        raise InputError(f"draws: {draws} is out of bounds; allowed: at least 1 / alpha = {1 / alpha:.0f}")
    scores = scores.astype(float)
    if not np.isfinite(scores).all():
        raise InputError("scores: holds values that are not finite")
    return scores


def _drawn_means(scores: np.ndarray, draws: int, seed: int) -> np.ndarray:
    """Means (draws, L) of (L, S, N) scores over drawn seeds and drawn examples, the same for every loss."""
    (losses, seeds, examples), rng, found = scores.shape, np.random.default_rng(seed), []
    flat = scores.reshape(losses * seeds, examples)
    for start in range(0, draws, BLOCK):
        size = min(BLOCK, draws - start)
        of_examples = (flat @ _weights(rng, examples, size)).reshape(losses, seeds, size)
        found.append(np.einsum("lsb,sb->bl", of_examples, _weights(rng, seeds, size)) / (seeds * examples))
    return np.concatenate(found)


def _weights(rng: np.random.Generator, items: int, draws: int) -> np.ndarray:
    """Weights (items, draws) of mean 1, with the covariance of how often items are drawn with replacement."""
    weights = rng.standard_normal((items, draws))
    return 1.0 + weights - weights.mean(axis=0)


def _student(quantile, df) -> np.ndarray:
    """The quantile of Student's t at the level at which this one stands among normal ones; 0 without a variance."""
    return np.nan_to_num(stats.t.isf(stats.norm.sf(quantile), df), nan=0.0)
