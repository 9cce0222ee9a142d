"""P(A>B): how likely a run with one loss beats a run with another, with an interval that holds at few seeds.

Over n paired seeds it is the share that A wins, ties counted half; without common seeds the share of all n_a x n_b
pairs of runs (the Mann-Whitney effect). The interval is that of Clopper and Pearson (1934) for n = the number of pairs
and x = n P wins, which need not be whole numbers: ties, and averages over more pairs, vary less than wins and losses
do, so that the coverage stays above the nominal one. Without common seeds n is the smaller of n_a and n_b: the share of
all pairs of runs is an average of shares of min(n_a, n_b) independent pairs (Hoeffding 1963, section 5b), so that its
variance is at most P (1 - P) / min(n_a, n_b); where the two samples are alike that is up to 1.5 times too much, which
is the price of an interval that assumes nothing about them.

The percentile bootstrap of Bouthillier et al. (2021) is for many pairs: where one loss wins all of 5, its interval is
the point 1, although that happens to equal losses in one of 16 comparisons.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

from losstune.analysis.comparable import check_scores
from losstune.analysis.pairtests import paired_pairs, rounding_noise
from losstune.analysis.power import pairs_to_reach
from losstune.spaces import InputError

MEANINGFUL = 0.75
READINGS = {
    "too few": "too few pairs to call",
    "open": "not significant",
    "small": "significant but not meaningful",
    "both": "significant and meaningful",
}


def probability_of_improvement(
    scores: pd.DataFrame, alpha: float = 0.05, meaningful: float = MEANINGFUL
) -> pd.DataFrame:
    """P(A>B) for every pair of losses, from scores with a row per seed and a column per loss, higher is better.

    Returns a row per pair, the larger P first: loss_a (the one that wins more often, then the one with the higher
    mean), loss_b; wins, ties, losses (of loss_a, over pairs of runs); pairs (n, see the module); probability (>= 0.5);
    alone_low, alone_high (the 1 - alpha interval of this pair on its own); ci_low, ci_high (simultaneous over all pairs
    of losses, by Bonferroni); pairs_needed (the fewest pairs with which any separation is possible over all these
    comparisons); and reading, by the simultaneous interval and the three regions of Bouthillier et al. (2021):

    - not significant: ci_low <= 0.5;
    - significant but not meaningful: ci_low > 0.5 and ci_high <= meaningful (their gamma);
    - significant and meaningful: ci_low > 0.5 and ci_high > meaningful, that is, a meaningful one is not ruled out;
    - too few pairs to call: so few that ci_low > 0.5 is impossible, whatever the scores.

    Losses that do not have the same seeds are compared unpaired, as in `significance`. Raises InputError (one line) for
    scores that cannot be compared, and for meaningful outside (0.5, 1).
    """
    scores = check_scores(scores, alpha)
    if isinstance(meaningful, bool) or not isinstance(meaningful, int | float) or not 0.5 < meaningful < 1:
        raise InputError(f"meaningful: {meaningful!r} is out of bounds; allowed: (0.5, 1)")
    table = pd.DataFrame(_counts(scores)).pipe(_winner_first)
    runs, chosen = table["wins"] + table["ties"] + table["losses"], len(table)
    table["probability"] = (table["wins"] + table["ties"] / 2) / runs
    table["alone_low"], table["alone_high"] = clopper_pearson(table["probability"], table["pairs"], alpha)
    table["ci_low"], table["ci_high"] = clopper_pearson(table["probability"], table["pairs"], alpha / chosen)
    table["pairs_needed"] = pairs_to_reach("sign", alpha, chosen)
    table["reading"] = _readings(table, meaningful)
    return table.sort_values("probability", ascending=False, kind="stable", ignore_index=True)


def clopper_pearson(probability, pairs, alpha: float) -> tuple[np.ndarray, np.ndarray]:
    """Low and high ends of the two-sided 1 - alpha interval for shares (m,) in [0, 1] of so many pairs (m,)."""
    probability, pairs = np.asarray(probability, dtype=float), np.asarray(pairs, dtype=float)
    wins = np.clip(probability, 0.0, 1.0) * pairs
    with np.errstate(all="ignore"):
        low = stats.beta.ppf(alpha / 2, wins, pairs - wins + 1)
        high = stats.beta.isf(alpha / 2, wins + 1, pairs - wins)
    return np.where(wins > 0, low, 0.0), np.where(wins < pairs, high, 1.0)


def _counts(scores: pd.DataFrame) -> list[dict]:
    """Wins, ties and losses of the first of every pair of losses, the higher mean first."""
    x, found = scores.to_numpy(), []
    ranking = np.argsort(-np.nanmean(x, axis=0), kind="stable")
    upper, lower = (ranking[side] for side in np.triu_indices(x.shape[1], 1))
    for first, second, paired in zip(upper, lower, paired_pairs(x, upper, lower), strict=True):
        ours, theirs = (x[~np.isnan(x[:, side]), side] for side in (first, second))
        difference = ours - theirs if paired else np.subtract.outer(ours, theirs)
        noise = rounding_noise(x, first, second)
        wins, losses = int((difference > noise).sum()), int((difference < -noise).sum())
        found.append({
            "loss_a": scores.columns[first], "loss_b": scores.columns[second], "wins": wins,
            "ties": difference.size - wins - losses, "losses": losses, "pairs": min(len(ours), len(theirs)),
        })  # fmt: skip
    return found


def _winner_first(table: pd.DataFrame) -> pd.DataFrame:
    swapped, turned = table["losses"] > table["wins"], {"loss_a": "loss_b", "wins": "losses"}
    other = table.rename(columns=turned | {new: old for old, new in turned.items()})
    return table.where(~swapped, other)


def _readings(table: pd.DataFrame, meaningful: float) -> np.ndarray:
    reading = np.where(table["ci_high"] > meaningful, READINGS["both"], READINGS["small"])
    reading = np.where(table["ci_low"] > 0.5, reading, READINGS["open"])
    return np.where(table["pairs"] < table["pairs_needed"], READINGS["too few"], reading)
