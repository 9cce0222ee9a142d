"""How much of a score's variance comes from the search, and how much from the seeds of one search.

Balanced one-way random effects: y[r, s] = mean + search r + seed s of search r. With R searches of S seeds,
MSB = S var(search means), MSW = the mean variance within a search; both variances with one less than their number.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

LEVEL = 0.95  # of the interval of the search's share
ROUNDING = 1e-12  # a standard deviation below this share of the largest score is none


@dataclass(frozen=True)
class Components:
    """The components of one loss's scores, or of the differences of two; in the scores' unit, None: not measured.

    searches, seeds: R and S. mean; standard_error: of the mean, sd(search means) / sqrt(R). between: sd of what a
    search adds, the estimate (MSB - MSW) / S of its variance, or 0 where that is negative; within: sd over the seeds of
    one search. share: the search's part of the variance of a search's mean, max(0, 1 - MSW / MSB); share_low and
    share_high: its 95% interval, exact for normal scores, where MSB / MSW is 1 / (1 - share) times an F variate of R -
    1 and R (S - 1) degrees of freedom.
    """

    searches: int
    seeds: int
    mean: float
    standard_error: float
    between: float | None
    within: float | None
    share: float | None
    share_low: float | None
    share_high: float | None

    def error_with(self, searches: int | None = None, seeds: int | None = None) -> float | None:
        """The standard error of the mean to be expected of other numbers; None where the share is not measured."""
        if self.share is None:
            return None
        row = self.searches * self.standard_error**2  # the variance of a search's mean
        per_search = row * (self.share + (1 - self.share) * self.seeds / (seeds or self.seeds))
        return float(np.sqrt(per_search / (searches or self.searches)))


def components(scores: np.ndarray) -> Components:
    """The variance components of scores of shape (R, S), R searches of S seeds each, R at least 2.

    One seed per search does not tell the two apart; where nothing varies there is no share either.
    """
    searches, seeds = scores.shape
    means = scores.mean(axis=1)
    least = (ROUNDING * np.abs(scores).max()) ** 2
    between_mean = _variance(means, least)  # MSB / S
    known = {"searches": searches, "seeds": seeds, "mean": float(means.mean()),
             "standard_error": float(np.sqrt(between_mean / searches))}  # fmt: skip
    if seeds < 2:
        return Components(**known, between=None, within=None, share=None, share_low=None, share_high=None)
    within_mean = _variance(scores, least) / seeds  # MSW / S
    between = np.sqrt(max(0.0, between_mean - within_mean))
    return Components(**known, between=float(between), within=float(np.sqrt(seeds * within_mean)),
                      **_share(between_mean, within_mean, searches, seeds))  # fmt: skip


def _variance(values: np.ndarray, least: float) -> float:
    """Over the last axis, the mean over others; 0 for what is no more than rounding."""
    found = float(values.var(axis=-1, ddof=1).mean())
    return found if found > least else 0.0


def _share(between: float, within: float, searches: int, seeds: int) -> dict[str, float | None]:
    """share with its interval; between, within: MSB / S and MSW / S."""
    names = ("share", "share_low", "share_high")
    if between == 0:
        return dict.fromkeys(names, 0.0 if within > 0 else None)
    ratio, tail = within / between, (1 - LEVEL) / 2
    low, high = (stats.f.isf(p, searches - 1, searches * (seeds - 1)) for p in (tail, 1 - tail))
    return {name: float(max(0.0, 1 - by * ratio)) for name, by in zip(names, (1.0, low, high), strict=True)}
