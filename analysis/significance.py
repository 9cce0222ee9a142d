"""Which losses are better than which, from scores of the same seeds: the design's default procedure.

X[s, l] is the score of loss l with seed s, higher is better. For every pair of losses D = X[:, i] - X[:, j] and
T = mean(D) / (sd(D) / sqrt(S)). Whole seeds are flipped, all pairs together; p-values are step-down max-T
(Westfall and Young 1993; Romano and Wolf 2005), so that the chance of one or more false separations among all pairs
is held at alpha. i beats j if p <= alpha and mean(D) > 0; the best set is the losses that nobody beats. Fewer than 8
seeds: paired t-tests with Holm. Seeds missing for some losses: paired t-tests of the pairs of losses that have the same
seeds, Welch's of the others, with Holm over all.

The simultaneous intervals use the critical value c of all pairs at once (sign flips of centred differences; Bonferroni
t where t-tests are used), which the step-down p-values can beat: a pair may be separated while its interval just
touches zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from losstune.analysis.caveats import caveats
from losstune.analysis.comparable import check_scores
from losstune.analysis.pairtests import (
    Family,
    column_moments,
    common_seeds,
    family_of_pairs,
    is_paired,
    method_name,
    never_varies,
    paired_pairs,
    rounding_noise,
    welch,
)
from losstune.analysis.power import detectable_difference, seeds_to_decide
from losstune.analysis.signflips import ROUNDING
from losstune.spaces import InputError

PAPER_ALPHA = 0.05
LEAST_CORRELATED = 4  # seeds: of fewer a correlation says nothing


@dataclass(frozen=True)
class Comparison:
    """Everything that `analyse` found.

    scores: seeds x losses, as tested. pairs: a row per pair of losses, the larger |t| first: loss_a (the higher
    mean), loss_b, difference (>= 0), sd, t, p (adjusted), ci_low, ci_high (simultaneous), a_beats_b, separated,
    practically_equivalent (the interval lies within +-rope; False without a rope), seeds_needed_low,
    seeds_needed_high (total seeds that would decide an undecided pair, see `power.seeds_to_decide`; None = unbounded,
    also for separated pairs), correlation (of the two losses over seeds) and skew (of the paired differences);
    both NaN for losses without the same seeds, the correlation for fewer than 4; paired: whether they have the same
    seeds; detectable: the smallest true difference that the pair's test would find with power
    80% at this number of seeds, were sd the true one (see `power.detectable_difference`). best_set: the losses nobody
    beats, the highest mean first. seeds: the fewest seeds of any loss. correlation: mean over pairs; skew: the largest
    |skew|. resolution: see `analyse`.
    """

    scores: pd.DataFrame
    alpha: float
    rope: float | None
    resolution: float | None
    pairs: pd.DataFrame
    best_set: list[str]
    method: str
    paired: bool
    seeds: int
    correlation: float
    skew: float
    warnings: list[str]


def compare(
    scores: pd.DataFrame, alpha: float = 0.05, baseline: str | None = None, rope: float | None = None
) -> pd.DataFrame:
    """The verdict on a table of scores: a row per seed, a column per loss, higher is better.

    Returns a DataFrame indexed by loss, the highest mean first: mean, standard_error (sd / sqrt(n)), n_seeds;
    difference to the loss with the highest mean (paired, <= 0) with its simultaneous interval ci_low, ci_high and
    adjusted p (that loss itself: 0, 0, 0 and 1); in_best_set: nobody beats it; paper_rule: would be bold in the
    papers, that is, Welch's unadjusted t-test against the highest mean gives p > 0.05 (kept to compare with
    published tables: it has no error guarantee). With baseline: baseline_difference (loss minus baseline),
    baseline_ci_low, baseline_ci_high and baseline_p, adjusted over the pairs with the baseline only. With rope:
    practically_equivalent to the highest mean.

    Raises InputError (one line) for scores that cannot be compared.
    """
    return comparison_table(analyse(scores, alpha, rope), baseline)


def comparison_table(found: Comparison, baseline: str | None = None) -> pd.DataFrame:
    """What `compare` returns, from what `analyse` found."""
    if baseline is not None and baseline not in found.scores.columns:
        raise InputError(f"baseline: {baseline!r} is not in scores; allowed: {', '.join(found.scores.columns)}")
    rope, means = found.rope, found.scores.mean()
    best = means.idxmax()
    columns = column_moments(found.scores.to_numpy())
    error = np.sqrt(columns.variances / columns.counts)
    table = pd.DataFrame({"mean": means, "standard_error": error, "n_seeds": columns.counts})
    # The best one itself, whose pair with itself no test holds.
    alone = {"difference": 0.0, "ci_low": 0.0, "ci_high": 0.0, "p": 1.0, "practically_equivalent": rope is not None}
    rows = {loss: alone if loss == best else _row_against(found.pairs, best, loss) for loss in table.index}
    table = table.join(pd.DataFrame(rows).T.astype({name: float for name in ("difference", "ci_low", "ci_high", "p")}))
    table["practically_equivalent"] = table["practically_equivalent"].astype(bool)
    if rope is None:
        table = table.drop(columns="practically_equivalent")
    table["in_best_set"] = table.index.isin(found.best_set)
    table["paper_rule"] = paper_rule(found.scores.to_numpy())
    if baseline is not None:
        table = table.join(_against_baseline(found, baseline))
    return table.sort_values("mean", ascending=False, kind="stable").rename_axis("loss")


def _row_against(pairs: pd.DataFrame, best: str, loss: str) -> dict[str, Any]:
    """The pair (best, loss) seen from the loss: the difference is loss minus best."""
    row = pairs[pairs["loss_a"].isin([best, loss]) & pairs["loss_b"].isin([best, loss])].iloc[0]
    kept = {"p": row["p"], "practically_equivalent": row["practically_equivalent"]}
    low, middle, high = row["ci_low"], row["difference"], row["ci_high"]
    if row["loss_a"] != loss:
        low, middle, high = 0.0 - high, 0.0 - middle, 0.0 - low
    return {"difference": middle, "ci_low": low, "ci_high": high, **kept}


def _against_baseline(found: Comparison, baseline: str) -> pd.DataFrame:
    """The same steps on the pairs (loss, baseline) alone; the baseline against itself is 0 with p = 1."""
    scores, own = found.scores, (found.alpha, found.resolution)
    column = scores.columns.get_loc(baseline)
    others = np.array([index for index in range(scores.shape[1]) if index != column])
    family = family_of_pairs(scores.to_numpy(), others, np.full(len(others), column), *own)
    names = ["baseline_difference", "baseline_ci_low", "baseline_ci_high", "baseline_p"]
    low, high = family.difference - family.half_width, family.difference + family.half_width
    values = pd.DataFrame(dict(zip(names, (family.difference, low, high, family.p), strict=True)))
    values.index = scores.columns[others]
    values.loc[baseline] = [0.0, 0.0, 0.0, 1.0]
    return values


def paper_rule(x: np.ndarray) -> np.ndarray:
    """Which losses the papers would print in bold: p > 0.05 in Welch's unadjusted t-test against the highest mean.

    (S, L) scores -> (L,) bool.
    """
    columns, every = column_moments(x), np.arange(x.shape[1])
    _, t, df, _ = welch(columns, np.full_like(every, np.argmax(columns.means)), every)
    return 2 * stats.t.sf(np.abs(t), df) > PAPER_ALPHA


def analyse(
    scores: pd.DataFrame, alpha: float = 0.05, rope: float | None = None, resolution: float | None = None
) -> Comparison:
    """All pairs of losses, tested; see the module and `Comparison`. Raises InputError (one line) on bad input.

    resolution: the step between possible scores where it is known (1 / n_test for accuracy). With fewer than 8 seeds
    the t-tests take no standard deviation below it: counts of right answers are often the same in all of a few seeds
    by chance, so that x/0 = infinity separates equal losses in most studies of 2 seeds and a third of those of 3.
    """
    scores = check_scores(scores, alpha, rope)
    x = scores.to_numpy()
    # The pair's first loss is the one with the higher mean; equal means keep the order of the columns.
    ranking = np.argsort(-np.nanmean(x, axis=0), kind="stable")
    upper, lower = (ranking[side] for side in np.triu_indices(x.shape[1], 1))
    family = family_of_pairs(x, upper, lower, alpha, resolution)
    pairs = _pair_table(scores, upper, lower, family, alpha, rope)
    beaten = set(pairs.loc[pairs["a_beats_b"], "loss_b"])
    skew = float(pairs["skew"].abs().max())
    return Comparison(
        scores=scores, alpha=alpha, rope=rope, resolution=resolution, pairs=pairs, paired=is_paired(x), skew=skew,
        method=method_name(x, resolution), best_set=[loss for loss in scores.columns[ranking] if loss not in beaten],
        seeds=int(scores.count().min()), correlation=float(pairs["correlation"].mean()),
        warnings=caveats(scores, alpha, resolution, family, skew),
    )  # fmt: skip


def _pair_table(scores, upper, lower, family: Family, alpha: float, rope: float | None) -> pd.DataFrame:
    x = scores.to_numpy()
    paired = paired_pairs(x, upper, lower)
    low, high = family.difference - family.half_width, family.difference + family.half_width
    beats = (family.p <= alpha) & (family.difference > 0)
    needed, detectable = _power(family, paired, _fewest(x, upper, lower), len(x))
    few, many = ([None if won else n for won, n in zip(beats, side, strict=True)] for side in needed)
    correlation = np.where(paired, _correlations(scores)[upper, lower], np.nan)
    table = pd.DataFrame({
        "loss_a": scores.columns[upper], "loss_b": scores.columns[lower], "difference": family.difference,
        "sd": family.sd, "t": family.t, "p": family.p, "ci_low": low, "ci_high": high,
        "a_beats_b": beats, "separated": beats,
        "practically_equivalent": np.zeros(len(low), bool) if rope is None else (low >= -rope) & (high <= rope),
        "seeds_needed_low": pd.Series(few, dtype=object), "seeds_needed_high": pd.Series(many, dtype=object),
        "correlation": correlation, "skew": _skews(x, upper, lower), "detectable": detectable, "paired": paired,
    })  # fmt: skip
    return table.iloc[np.argsort(-np.abs(family.t), kind="stable")].reset_index(drop=True)


def _fewest(x: np.ndarray, upper: np.ndarray, lower: np.ndarray) -> np.ndarray:
    """The seeds of the one of each two losses that has fewer."""
    counts = (~np.isnan(x)).sum(axis=0)
    return np.minimum(counts[upper], counts[lower])


def _power(family: Family, paired: np.ndarray, seeds: np.ndarray, tested: int) -> tuple[np.ndarray, np.ndarray]:
    """Seeds that would decide each pair, (2, m), and the smallest difference that its test can find, (m,)."""
    unit = np.where(family.sd > 0, family.sd, np.inf)
    needed, detectable = np.empty((2, len(seeds)), dtype=object), np.empty(len(seeds))
    for alike, number in sorted(set(zip(paired.tolist(), seeds.tolist(), strict=True))):
        own = (paired == alike) & (seeds == number)
        effect, spread, level = family.difference[own] / unit[own], family.error[own] / unit[own], family.level[own]
        needed[:, own] = seeds_to_decide(effect, spread, level, tested, alike)
        detectable[own] = detectable_difference(family.sd[own], level, number, alike)
    return needed, detectable


def _correlations(scores: pd.DataFrame) -> np.ndarray:
    """(S, L) -> (L, L) correlations over common seeds; NaN for fewer than 4, and where a loss never varies."""
    x = scores.to_numpy()
    largest = np.nanmax(np.abs(x), axis=0)
    varies = np.nanstd(x, axis=0) > ROUNDING * largest
    found = (scores / np.where(largest > 0, largest, 1)).corr(min_periods=LEAST_CORRELATED).to_numpy()
    return np.where(np.outer(varies, varies), found, np.nan)


def _skews(x: np.ndarray, upper: np.ndarray, lower: np.ndarray) -> np.ndarray:
    """Sample skewness (adjusted, G1) of each pair's differences; 0 where nothing varies, NaN for two seeds and for
    losses that have different ones."""
    found = np.full(len(upper), np.nan)
    for rows, places in common_seeds(x, upper, lower):
        first, second, own = upper[places], lower[places], x[rows]
        seeds, differences = len(own), own[:, first] - own[:, second]
        if seeds > 2:
            constant = never_varies(differences, rounding_noise(own, first, second))
            spread = np.where(constant, np.inf, differences.std(axis=0, ddof=1))
            z = (differences - differences.mean(axis=0)) / spread
            found[places] = (z**3).sum(axis=0) * seeds / ((seeds - 1) * (seeds - 2))
    return found


__all__ = ["Comparison", "analyse", "check_scores", "compare", "comparison_table", "paper_rule"]
