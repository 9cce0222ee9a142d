"""How many seeds would decide a pair that is undecided."""

from __future__ import annotations

import numpy as np
from scipy import stats
from statsmodels.stats.power import TTestIndPower, TTestPower

POWER = 0.8
MOST_SEEDS = 100_000


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
