"""What this number of seeds can find, what it can never find, and how many seeds would decide an undecided pair."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import stats
from statsmodels.stats.power import TTestIndPower, TTestPower

from losstune.analysis.signflips import DRAWS, EXACT_SEEDS
from losstune.spaces import InputError

POWER = 0.8
MOST_SEEDS = 100_000
# Two to the power of minus this is zero as a float, and so is every p-value that still falls.
MOST_PAIRS = 1100
# Effects, in standard deviations, between which the smallest one that can be found is looked for.
LEAST_EFFECT, LARGEST_EFFECT = 1e-4, 1e8
HALVINGS = 60


class CoarseTest(NamedTuple):
    """A test whose p-value cannot fall below some value, however clear the difference.

    name: as a sentence says it; smallest_p: seeds -> the smallest two-sided p; adjusted: whose adjustment multiplies
    the smallest p of several comparisons by their number (Holm's, Bonferroni's); None for step-down max-T, which
    adjusts within the test itself.
    """

    name: str
    smallest_p: Callable[[int], float]
    adjusted: str | None


# In n pairs all 2^n signs are equally likely without a difference, and two of them are as extreme as all alike.
TESTS = {
    "sign_flips": CoarseTest(
        "the sign-flip test", lambda seeds: 2.0 ** (1 - seeds) if seeds <= EXACT_SEEDS else 1 / DRAWS, adjusted=None
    ),
    "wilcoxon": CoarseTest("Wilcoxon's test", lambda n: 2.0 ** (1 - n), adjusted="Holm's"),
    "sign": CoarseTest("the sign test", lambda n: 2.0 ** (1 - n), adjusted="Bonferroni's"),
}


def smallest_p(test: str, seeds: int, comparisons: int = 1) -> float:
    """The smallest two-sided p, adjusted over the comparisons, that a test can reach with so many pairs.

    test: a name in `TESTS`; seeds: number of pairs (seeds, or data sets), at least 1. Sign flips: 2^(1 - S) up to 14
    seeds, whatever the number of comparisons, and 1/10,000 beyond, where patterns are drawn. Wilcoxon's exact test and
    the sign test: 2^(1 - n) times the comparisons. Raises InputError for an unknown test or counts below 1.
    """
    if test not in TESTS:
        raise InputError(f"test: {test!r} is unknown; allowed: {', '.join(TESTS)}")
    for name, count in (("seeds", seeds), ("comparisons", comparisons)):
        if count < 1:
            raise InputError(f"{name}: {count} is out of bounds; allowed: at least 1")
    return min(1.0, TESTS[test].smallest_p(seeds) * (comparisons if TESTS[test].adjusted else 1))


def pairs_to_reach(test: str, alpha: float, comparisons: int = 1) -> int | None:
    """The fewest pairs with which `smallest_p` is at most alpha; None where no number is enough."""
    return next((n for n in range(1, MOST_PAIRS) if smallest_p(test, n, comparisons) <= alpha), None)


def cannot_reach(test: str, seeds: int, alpha: float, comparisons: int = 1, rows: str = "seeds") -> str | None:
    """A sentence where a test with so many pairs can never separate anything at level alpha, else None.

    rows: what a pair is of, "seeds" or "blocks". Raises InputError as `smallest_p` does.
    """
    least, found = smallest_p(test, seeds, comparisons), TESTS[test]
    if least <= alpha:
        return None
    alone = smallest_p(test, seeds)
    adjusted = f", {least:.3g} after {found.adjusted} adjustment over {comparisons} pairs" if least > alone else ""
    needed = pairs_to_reach(test, alpha, comparisons)
    remedy = f"no number of {rows} is enough" if needed is None else f"it takes {needed} {rows}"
    return (f"{seeds} {rows} cannot separate anything at alpha = {alpha:g}, however clear the differences: the "
            f"smallest p that {found.name} can reach is {alone:.3g}{adjusted}; {remedy}")  # fmt: skip


def detectable_difference(sd, level, seeds: int, paired: bool = True) -> np.ndarray:
    """The smallest true difference that a t-test finds, in its own direction, with power 80% at this number of seeds.

    sd: of the paired differences (unpaired: the pooled sd of the two losses), shape (m,), in the metric's unit, as is
    what is returned; level: two-sided level per comparison, a number or (m,): alpha for one comparison on its own,
    `Family.level` for one within its family; seeds: per loss, at least 2. Infinite where the level is zero, 0 where
    the sd is. As `seeds_to_decide`, by statsmodels' TTestPower (unpaired TTestIndPower).
    """
    sd, level = np.broadcast_arrays(np.asarray(sd, dtype=float), np.asarray(level, dtype=float))
    levels, place = np.unique(level, return_inverse=True)
    effect = _detectable_effects(levels, seeds, paired)[place.reshape(level.shape)]
    return np.multiply(effect, sd, out=np.zeros(sd.shape), where=sd > 0)


def _detectable_effects(level: np.ndarray, seeds: int, paired: bool) -> np.ndarray:
    """Effects in standard deviations for two-sided levels (m,), by bisection of their logarithm."""
    low, high = np.full(level.shape, np.log(LEAST_EFFECT)), np.full(level.shape, np.log(LARGEST_EFFECT))
    with np.errstate(all="ignore"):
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            enough = _power(np.exp(middle), np.full(level.shape, float(seeds)), level, paired) >= POWER
            low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    return np.where(level > 0, np.exp(high), np.inf)


def seeds_to_decide(
    effect, spread, level, tested: int, paired: bool = True
) -> tuple[list[int | None], list[int | None]]:
    """Total seeds per loss with which each of m pairs would be decided, as a range (low, high).

    effect: |mean difference| / sd, shape (m,); spread: one standard error of the difference in the same unit (paired:
    1 / sqrt(S)); level: two-sided level per comparison, shape (m,). low is the seeds needed if the true effect
    is one standard error larger than the observed one, high if it is one smaller. Each is the smallest number of
    seeds with which a t-test at that level finds the difference, in its observed direction, with power 80%
    (statsmodels' TTestPower; for losses without common seeds TTestIndPower), at least tested + 1.

    None stands for unbounded: the smaller effect is not above zero, more than 100,000 seeds, or a level of zero.
    The range is a rough guide: the effect is an estimate, and the family's critical value is held where it is now.
    """
    effect, spread, level = (np.asarray(value, dtype=float) for value in (effect, spread, level))
    low, high = (_seeds_needed(effect + side * spread, level, paired) for side in (1, -1))
    return _bounded(low, tested), _bounded(high, tested)


def _bounded(needed: np.ndarray, tested: int) -> list[int | None]:
    return [None if n > MOST_SEEDS else max(int(n), tested + 1) for n in needed]


def _seeds_needed(effect: np.ndarray, level: np.ndarray, paired: bool) -> np.ndarray:
    """Smallest seeds with power 80% for each effect, by bisection; above MOST_SEEDS where none is enough."""
    low, high = np.full(effect.shape, 1), np.full(effect.shape, MOST_SEEDS + 1)
    possible = (effect > 0) & (level > 0)
    if not possible.any():
        return high
    with np.errstate(all="ignore"):
        while (high - low > 1).any():
            middle = (low + high) // 2
            enough = possible & (_power(effect, middle.astype(float), level, paired) >= POWER)
            low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    return high


def _power(effect: np.ndarray, seeds: np.ndarray, level: np.ndarray, paired: bool) -> np.ndarray:
    """Power to find an effect in its own direction at a two-sided level, where seeds >= 2."""
    if paired:
        power = TTestPower().power(effect, seeds, level / 2, alternative="larger")
        limit = stats.norm.sf(stats.norm.isf(level / 2) - effect * np.sqrt(seeds))
    else:
        power = TTestIndPower().power(effect, seeds, level / 2, ratio=1.0, alternative="larger")
        limit = stats.norm.sf(stats.norm.isf(level / 2) - effect * np.sqrt(seeds / 2))
    # scipy's noncentral t gives up on some very large samples; there it is normal.
    return np.where(np.isnan(power), limit, power)
