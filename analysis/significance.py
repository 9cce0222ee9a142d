"""Which losses are better than which, from scores of the same seeds: the design's default procedure.

X[s, l] is the score of loss l with seed s, higher is better. For every pair of losses D = X[:, i] - X[:, j] and
T = mean(D) / (sd(D) / sqrt(S)). Whole seeds are flipped, all pairs together; p-values are step-down max-T
(Westfall and Young 1993; Romano and Wolf 2005), so that the chance of one or more false separations among all pairs
is held at alpha. i beats j if p <= alpha and mean(D) > 0; the best set is the losses that nobody beats. Fewer than 8
seeds: paired t-tests with Holm. Seeds missing for some losses: Welch's t-tests with Holm.

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

from losstune.analysis.pairtests import (
    SIGN_FLIP_SEEDS,
    Family,
    family_of_pairs,
    is_paired,
    method_name,
    welch,
)
from losstune.analysis.power import seeds_to_decide
from losstune.analysis.signflips import TIE, sign_patterns
from losstune.spaces import InputError

PAPER_ALPHA = 0.05
# Skewness beyond what one in a hundred normal samples shows in any of its pairs.
SKEW_LEVEL = 0.01


@dataclass(frozen=True)
class Comparison:
    """Everything that `analyse` found.

    scores: seeds x losses, as tested. pairs: a row per pair of losses, the larger |t| first: loss_a (the higher
    mean), loss_b, difference (>= 0), sd, t, p (adjusted), ci_low, ci_high (simultaneous), a_beats_b, separated,
    practically_equivalent (the interval lies within +-rope; False without a rope), seeds_needed_low,
    seeds_needed_high (total seeds that would decide an undecided pair, see `power.seeds_to_decide`; None = unbounded,
    also for separated pairs), correlation (of the two losses over seeds) and skew (of the paired differences);
    both NaN without common seeds. best_set: the losses nobody beats, the highest mean first. seeds: the fewest
    seeds of any loss. correlation: mean over pairs; skew: the largest |skew|.
    """

    scores: pd.DataFrame
    alpha: float
    rope: float | None
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
    found = analyse(scores, alpha, rope)
    if baseline is not None and baseline not in found.scores.columns:
        raise InputError(f"baseline: {baseline!r} is not in scores; allowed: {', '.join(found.scores.columns)}")
    x = found.scores.to_numpy()
    means = found.scores.mean()
    best = means.idxmax()
    table = pd.DataFrame({"mean": means, "standard_error": found.scores.sem(), "n_seeds": found.scores.count()})
    # The best one itself, whose pair with itself no test holds.
    alone = {"difference": 0.0, "ci_low": 0.0, "ci_high": 0.0, "p": 1.0, "practically_equivalent": rope is not None}
    rows = {loss: alone if loss == best else _row_against(found.pairs, best, loss) for loss in table.index}
    table = table.join(pd.DataFrame(rows).T.astype({name: float for name in ("difference", "ci_low", "ci_high", "p")}))
    table["practically_equivalent"] = table["practically_equivalent"].astype(bool)
    if rope is None:
        table = table.drop(columns="practically_equivalent")
    table["in_best_set"] = table.index.isin(found.best_set)
    table["paper_rule"] = paper_rule(x)
    if baseline is not None:
        table = table.join(_against_baseline(found.scores, baseline, alpha))
    return table.sort_values("mean", ascending=False, kind="stable").rename_axis("loss")


def _row_against(pairs: pd.DataFrame, best: str, loss: str) -> dict[str, Any]:
    """The pair (best, loss) seen from the loss: the difference is loss minus best."""
    row = pairs[pairs["loss_a"].isin([best, loss]) & pairs["loss_b"].isin([best, loss])].iloc[0]
    kept = {"p": row["p"], "practically_equivalent": row["practically_equivalent"]}
    low, middle, high = row["ci_low"], row["difference"], row["ci_high"]
    if row["loss_a"] != loss:
        low, middle, high = 0.0 - high, 0.0 - middle, 0.0 - low
    return {"difference": middle, "ci_low": low, "ci_high": high, **kept}


def _against_baseline(scores: pd.DataFrame, baseline: str, alpha: float) -> pd.DataFrame:
    """The same steps on the pairs (loss, baseline) alone; the baseline against itself is 0 with p = 1."""
    column = scores.columns.get_loc(baseline)
    others = np.array([index for index in range(scores.shape[1]) if index != column])
    family = family_of_pairs(scores.to_numpy(), others, np.full(len(others), column), alpha)
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
    means, counts = np.nanmean(x, axis=0), (~np.isnan(x)).sum(axis=0)
    every = np.arange(x.shape[1])
    t, df, _ = welch(means, np.nanvar(x, axis=0, ddof=1), counts, np.full_like(every, np.argmax(means)), every)
    return 2 * stats.t.sf(np.abs(t), df) > PAPER_ALPHA


def analyse(scores: pd.DataFrame, alpha: float = 0.05, rope: float | None = None) -> Comparison:
    """All pairs of losses, tested; see the module and `Comparison`. Raises InputError (one line) on bad input."""
    scores = check_scores(scores, alpha, rope)
    x = scores.to_numpy()
    # The pair's first loss is the one with the higher mean; equal means keep the order of the columns.
    ranking = np.argsort(-np.nanmean(x, axis=0), kind="stable")
    upper, lower = (ranking[side] for side in np.triu_indices(x.shape[1], 1))
    family = family_of_pairs(x, upper, lower, alpha)
    pairs = _pair_table(scores, upper, lower, family, alpha, rope)
    beaten = set(pairs.loc[pairs["a_beats_b"], "loss_b"])
    skew = float(pairs["skew"].abs().max())
    return Comparison(
        scores=scores, alpha=alpha, rope=rope, pairs=pairs, method=method_name(x), paired=is_paired(x), skew=skew,
        best_set=[loss for loss in scores.columns[ranking] if loss not in beaten],
        seeds=int(scores.count().min()), correlation=float(pairs["correlation"].mean()),
        warnings=_warnings(x, alpha, family, skew),
    )  # fmt: skip


def _pair_table(scores, upper, lower, family: Family, alpha: float, rope: float | None) -> pd.DataFrame:
    x, paired = scores.to_numpy(), is_paired(scores.to_numpy())
    low, high = family.difference - family.half_width, family.difference + family.half_width
    beats = (family.p <= alpha) & (family.difference > 0)
    unit = np.where(family.sd > 0, family.sd, np.inf)
    needed = seeds_to_decide(family.difference / unit, family.error / unit, family.level, len(x), paired)
    few, many = ([None if won else n for won, n in zip(beats, side, strict=True)] for side in needed)
    correlation = _correlations(x)[upper, lower] if paired else np.full(len(upper), np.nan)
    skew = _skews(x[:, upper] - x[:, lower], family.sd) if paired else np.full(len(upper), np.nan)
    table = pd.DataFrame({
        "loss_a": scores.columns[upper], "loss_b": scores.columns[lower], "difference": family.difference,
        "sd": family.sd, "t": family.t, "p": family.p, "ci_low": low, "ci_high": high,
        "a_beats_b": beats, "separated": beats,
        "practically_equivalent": np.zeros(len(low), bool) if rope is None else (low >= -rope) & (high <= rope),
        "seeds_needed_low": pd.Series(few, dtype=object), "seeds_needed_high": pd.Series(many, dtype=object),
        "correlation": correlation, "skew": skew,
    })  # fmt: skip
    return table.iloc[np.argsort(-np.abs(family.t), kind="stable")].reset_index(drop=True)


def _correlations(x: np.ndarray) -> np.ndarray:
    """(S, L) -> (L, L) correlations over seeds; NaN where a loss never varies."""
    varies = x.std(axis=0) > TIE * np.abs(x).max(axis=0)
    with np.errstate(all="ignore"):
        return np.where(np.outer(varies, varies), np.corrcoef(x, rowvar=False), np.nan)


def _skews(differences: np.ndarray, sd: np.ndarray) -> np.ndarray:
    """Sample skewness (adjusted, G1) of each column; 0 where nothing varies, NaN for two seeds."""
    seeds = len(differences)
    if seeds < 3:
        return np.full(differences.shape[1], np.nan)
    z = (differences - differences.mean(axis=0)) / np.where(sd > 0, sd, np.inf)
    return (z**3).sum(axis=0) * seeds / ((seeds - 1) * (seeds - 2))


def _warnings(x: np.ndarray, alpha: float, family: Family, skew: float) -> list[str]:
    seeds, found = len(x), []
    if is_paired(x) and seeds >= SIGN_FLIP_SEEDS:
        smallest = 1 / len(sign_patterns(seeds))
        if smallest > alpha:
            found.append(f"{seeds} seeds cannot separate anything at alpha = {alpha:g}: "
                         f"the smallest p they can reach is {smallest:.2g}")
        error = np.sqrt(6 * seeds * (seeds - 1) / ((seeds - 2) * (seeds + 1) * (seeds + 3)))
        if skew > error * stats.norm.isf(SKEW_LEVEL / 2 / len(family.t)):
            found.append(f"a difference between two losses is strongly skewed over seeds (skewness {skew:.1f}): "
                         "false separations may be somewhat more frequent than alpha, up to 8% in simulations at 5%")
    elif is_paired(x):
        found.append(f"{seeds} seeds are too few for a sign-flip test (it takes {SIGN_FLIP_SEEDS}): the t-tests used "
                     "instead rely on normally distributed differences")
    else:
        found.append("not every loss has every seed, so the losses are compared unpaired, which separates less")
    if np.isinf(family.t).any():
        found.append("some difference is exactly the same in every seed: it counts as infinitely clear")
    return found  # fmt: skip


def check_scores(scores: Any, alpha: float = 0.05, rope: float | None = None) -> pd.DataFrame:
    """The scores as floats, rows without any score dropped; InputError (one line) says what cannot be compared."""
    if not isinstance(scores, pd.DataFrame):
        raise InputError(f"scores: a {type(scores).__name__}; needed: a DataFrame, a row per seed, a column per loss")
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not 0 < alpha < 1:
        raise InputError(f"alpha: {alpha!r} is out of bounds; allowed: (0, 1)")
    if rope is not None and (isinstance(rope, bool) or not isinstance(rope, int | float) or not 0 < rope < np.inf):
        raise InputError(f"rope: {rope!r} is out of bounds; allowed: a number above 0")
    if scores.shape[1] < 2:
        raise InputError(f"scores: {scores.shape[1]} loss; needed: at least 2 columns, one per loss")
    if not scores.columns.is_unique:
        raise InputError(f"scores: column {scores.columns[scores.columns.duplicated()][0]!r} occurs twice")
    for name, column in scores.items():
        if not pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column):
            raise InputError(f"scores: column {name!r} is not numeric ({column.dtype})")
    scores = scores.set_axis([str(name) for name in scores.columns], axis=1).astype(float)
    for name, column in scores.items():
        if np.isinf(column).any():
            raise InputError(f"scores: column {name!r} holds an infinite value; allowed: finite numbers or empty")
        if column.count() < 2:
            raise InputError(f"scores: column {name!r} has {column.count()} seed(s); needed: at least 2")
    return scores.dropna(how="all")


__all__ = ["Comparison", "analyse", "check_scores", "compare", "paper_rule"]
