"""What a reader has to know before trusting a comparison: too few seeds, skew, collapsed runs, constant differences."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

from losstune.analysis.pairtests import SIGN_FLIP_SEEDS, Family, is_paired
from losstune.analysis.power import cannot_reach

# Skewness beyond what one in a hundred normal samples shows in any of its pairs.
SKEW_LEVEL = 0.01
COLLAPSED = 5
# A median and a spread around it say little about fewer.
COLLAPSE_SEEDS = 5
MAD_TO_SD = 1.4826


def caveats(
    scores: pd.DataFrame, alpha: float, resolution: float | None, family: Family, skew: float
) -> list[str]:
    """Warnings, a sentence each, on (seeds x losses) scores and what was found for all their pairs."""
    x, seeds, found = scores.to_numpy(), int(scores.count().min()), []
    if is_paired(x) and seeds >= SIGN_FLIP_SEEDS:
        found += _about_sign_flips(seeds, alpha, len(family.t), skew)
    elif is_paired(x):
        found.append(f"{seeds} seeds are too few for a sign-flip test (it takes {SIGN_FLIP_SEEDS}): the t-tests used "
                     "instead rely on normally distributed differences")
    else:
        found.append("not every loss has every seed: losses that do not have the same ones are compared unpaired, "
                     "which separates less, and all pairs by t-tests, which rely on normally distributed scores")
    for loss, count in collapsed(scores, resolution).items():
        runs = f"1 seed of {loss} is" if count == 1 else f"{count} seeds of {loss} are"
        found.append(f"{runs} far worse than its others, by more than {COLLAPSED} robust standard deviations from its "
                     "median: where losses collapse in rare seeds, false separations can be far more frequent than "
                     "alpha")
    if np.isinf(family.t).any():
        found.append(_about_constants(seeds))
    return found  # fmt: skip


def _about_sign_flips(seeds: int, alpha: float, pairs: int, skew: float) -> list[str]:
    unreachable = cannot_reach("sign_flips", seeds, alpha, pairs)
    found = [unreachable] if unreachable else []
    error = np.sqrt(6 * seeds * (seeds - 1) / ((seeds - 2) * (seeds + 1) * (seeds + 3)))
    if skew > error * stats.norm.isf(SKEW_LEVEL / 2 / pairs):
        found.append(f"a difference between two losses is strongly skewed over seeds (skewness {skew:.1f}): false "
                     "separations can be more frequent than alpha; in simulations at 5% they came in 7% to 8% of "
                     "studies with exponential-like noise, and far more often where a loss collapses in rare seeds")
    return found  # fmt: skip


def _about_constants(seeds: int) -> str:
    text = "some difference is exactly the same in every seed: it counts as infinitely clear"
    if seeds >= SIGN_FLIP_SEEDS:
        return text
    return (f"{text}, although with {seeds} seeds chance alone often does that where scores come in steps, as shares "
            "of right answers do: such a separation is then no evidence")  # fmt: skip


def collapsed(scores: pd.DataFrame, resolution: float | None = None) -> dict[str, int]:
    """How many seeds of each loss lie more than 5 robust standard deviations below its median; only losses with any.

    The robust standard deviation is that of the loss or that of the median loss, whichever is larger, since that of a
    few seeds is itself uncertain and that of counts is often 0; never below the resolution.
    """
    below = scores.median() - scores
    spread = MAD_TO_SD * below.abs().median()
    spread = spread.clip(lower=max(spread.median(), resolution or 0.0))
    far = (below > COLLAPSED * spread).sum() * ((spread > 0) & (scores.count() >= COLLAPSE_SEEDS))
    return {loss: int(count) for loss, count in far.items() if count}
