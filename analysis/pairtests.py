"""The test of a family of pairs of losses: sign flips, paired t with Holm, or Welch with Holm, chosen by design.

Where seeds are missing for some losses, pairs of losses that have the same seeds are compared paired all the same, by
t-tests, and only the others by Welch's; Holm's adjustment, which holds for any tests together, is over all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import stats
from statsmodels.stats.multitest import multipletests

from losstune.analysis.signflips import (
    EXACT_SEEDS,
    ROUNDING,
    critical_value,
    sign_patterns,
    step_down,
    tie_tolerance,
)

SIGN_FLIP_SEEDS = 8


@dataclass(frozen=True)
class Family:
    """What was found for m pairs (arrays of shape (m,)), adjusted over these m pairs.

    difference: mean of the first minus mean of the second loss; sd: of the paired differences (Welch's: the pooled
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


def common_seeds(x: np.ndarray, first: np.ndarray, second: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The pairs of columns of (S, L) scores that have scores for the same seeds, those of the same ones together.

    Yields which seeds these are, (S,) bool, and the places of the pairs in first and second.
    """
    there = ~np.isnan(x)
    places = np.flatnonzero((there[:, first] == there[:, second]).all(axis=0))
    if len(places):
        kinds, kind = np.unique(there[:, first[places]], axis=1, return_inverse=True)
        for number, seeds in enumerate(kinds.T):
            yield seeds, places[kind.ravel() == number]


def paired_pairs(x: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Which pairs have scores for the same seeds, (m,) bool."""
    paired = np.zeros(len(first), dtype=bool)
    for _, places in common_seeds(x, first, second):
        paired[places] = True
    return paired


def method_name(x: np.ndarray, resolution: float | None = None) -> str:
    """The test for (S, L) scores, by the number of seeds and the design alone, never by what was observed."""
    few = (~np.isnan(x)).sum(axis=0).min() < SIGN_FLIP_SEEDS
    floor = "; no standard deviation below one step of the metric" if few and resolution else ""
    if paired_pairs(x, *np.triu_indices(x.shape[1], 1)).any() and not is_paired(x):
        return ("paired t-tests of the losses that have the same seeds, Welch t-tests of the other pairs, with Holm's "
                f"adjustment over all pairs{floor}")  # fmt: skip
    if not is_paired(x):
        return f"Welch t-tests with Holm's adjustment over all pairs (no two losses have the same seeds){floor}"
    if few:
        return f"paired t-tests with Holm's adjustment over all pairs (fewer than {SIGN_FLIP_SEEDS} seeds){floor}"
    patterns = f"all {2 ** (len(x) - 1):,}" if len(x) <= EXACT_SEEDS else "10,000 seeded"
    return f"paired sign-flip test of whole seeds, step-down max-T over all pairs ({patterns} sign patterns)"


def family_of_pairs(
    x: np.ndarray, first: np.ndarray, second: np.ndarray, alpha: float, resolution: float | None = None
) -> Family:
    """Test the pairs (first[k], second[k]) of columns of (S, L) scores as one family at level alpha.

    resolution: the step between possible scores, such as 1 / n_test for accuracy. Scores that come in steps are often
    the same in all of a few seeds by chance, and a standard deviation of 0 or near it would then separate losses that
    do not differ; t-tests on fewer than 8 seeds therefore take no standard deviation below the resolution.
    """
    floor = resolution or 0.0
    if not is_paired(x):
        return _with_gaps(x, first, second, alpha, floor)
    differences, noise = _differences(x, first, second)
    if len(x) < SIGN_FLIP_SEEDS:
        return _paired_t(differences, noise, alpha, floor)
    return _sign_flips(differences, noise, alpha)


def _differences(x: np.ndarray, first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Paired differences (S, m), and the noise of each pair."""
    differences, noise = x[:, first] - x[:, second], rounding_noise(x, first, second)
    # Equal scores that were computed along two routes differ in the last bits.
    differences[np.abs(differences) <= noise] = 0.0
    return differences, noise


def rounding_noise(x: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """How far rounding alone moves a difference of two columns of (S, L) scores: of these two, whatever the others."""
    largest = np.nanmax(np.abs(x), axis=0)
    return ROUNDING * np.maximum(largest[first], largest[second])


def never_varies(differences: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Which columns of (S, m) differences are the same number in every row, but for rounding."""
    return (np.abs(differences - differences.mean(axis=0)) <= noise).all(axis=0)


def _holm(p: np.ndarray, alpha: float) -> np.ndarray:
    return multipletests(p, alpha=alpha, method="holm")[1]


def _ratio(difference: np.ndarray, error: np.ndarray) -> np.ndarray:
    """T; 0/0 is 0 and x/0 is infinity."""
    endless = np.where(difference == 0, 0.0, np.copysign(np.inf, difference))
    return np.divide(difference, error, out=endless, where=error > 0)


def _moments(differences: np.ndarray, noise: np.ndarray, floor: float = 0.0) -> tuple[np.ndarray, ...]:
    """Mean, sd (floor at least), standard error and signed T of (S, m) differences."""
    mean = differences.mean(axis=0)
    mean = np.where(np.abs(mean) <= noise, 0.0, mean)
    sd = np.where(never_varies(differences, noise), 0.0, differences.std(axis=0, ddof=1))
    sd = np.maximum(sd, floor)
    error = sd / np.sqrt(len(differences))
    return mean, sd, error, _ratio(mean, error)


def _sign_flips(differences: np.ndarray, noise: np.ndarray, alpha: float) -> Family:
    seeds, pairs = differences.shape
    signs = sign_patterns(seeds)
    mean, sd, error, t = _moments(differences, noise)
    c = critical_value(differences, signs, alpha, noise)
    half_width = np.multiply(c, error, out=np.zeros(pairs), where=error > 0)
    level = np.full(pairs, 2 * stats.t.sf(c, seeds - 1))
    p = step_down(differences, signs, tie_tolerance(differences, noise))
    return Family(mean, sd, error, t, p, half_width, level)


def _paired_t(differences: np.ndarray, noise: np.ndarray, alpha: float, floor: float) -> Family:
    seeds, pairs = differences.shape
    mean, sd, error, t = _moments(differences, noise, floor)
    p = _holm(2 * stats.t.sf(np.abs(t), seeds - 1), alpha)
    c = stats.t.isf(alpha / pairs / 2, seeds - 1)
    return Family(mean, sd, error, t, p, c * error, np.full(pairs, alpha / pairs))


class Columns(NamedTuple):
    """Per loss, arrays of shape (L,): mean, variance, number of seeds, and how far rounding moves a score."""

    means: np.ndarray
    variances: np.ndarray
    counts: np.ndarray
    noise: np.ndarray


def column_moments(x: np.ndarray, floor: float = 0.0) -> Columns:
    """The moments of (S, L) scores with gaps; no sd below floor where a loss has fewer than 8 seeds."""
    counts, noise = (~np.isnan(x)).sum(axis=0), ROUNDING * np.nanmax(np.abs(x), axis=0)
    variances = np.nanvar(x, axis=0, ddof=1)
    # A constant column has a variance of the order of its rounding error.
    variances = np.where(variances <= noise**2, 0.0, variances)
    least = np.where(counts < SIGN_FLIP_SEEDS, floor**2, 0.0)
    return Columns(np.nanmean(x, axis=0), np.maximum(variances, least), counts, noise)


def _with_gaps(x: np.ndarray, first: np.ndarray, second: np.ndarray, alpha: float, floor: float) -> Family:
    """Paired t-tests of the pairs that have the same seeds, Welch's of the others."""
    columns = column_moments(x, floor)
    difference, t, df, error = welch(columns, first, second)
    sd = np.sqrt((columns.variances[first] + columns.variances[second]) / 2)
    for seeds, places in common_seeds(x, first, second):
        differences, noise = _differences(x[seeds], first[places], second[places])
        found = _moments(differences, noise, floor if len(differences) < SIGN_FLIP_SEEDS else 0.0)
        difference[places], sd[places], error[places], t[places] = found
        df[places] = len(differences) - 1
    level = alpha / len(first)
    p = _holm(2 * stats.t.sf(np.abs(t), df), alpha)
    half_width = stats.t.isf(level / 2, df) * error
    return Family(difference, sd, error, t, p, half_width, np.full(len(first), level))


def welch(columns: Columns, first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, ...]:
    """Difference, Welch's T, its degrees of freedom and its standard error for pairs of losses.

    0/0 is 0 and x/0 is infinity, with the degrees of freedom of the smaller sample where no variance is left.
    """
    parts, counts = columns.variances / columns.counts, columns.counts
    difference = columns.means[first] - columns.means[second]
    noise = np.maximum(columns.noise[first], columns.noise[second])
    difference = np.where(np.abs(difference) <= noise, 0.0, difference)
    both = parts[first] + parts[second]
    # As shares, because squares of variances leave the range of floats for scores that are themselves well within it.
    one, other = (np.divide(parts[side], both, out=np.zeros_like(both), where=both > 0) for side in (first, second))
    weights = one**2 / (counts[first] - 1) + other**2 / (counts[second] - 1)
    smaller = np.minimum(counts[first], counts[second]) - 1.0
    df = np.divide(1.0, weights, out=smaller, where=weights > 0)
    return difference, _ratio(difference, np.sqrt(both)), df, np.sqrt(both)
