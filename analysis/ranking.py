"""Which losses are better over several data sets: average ranks, wins and tests over blocks.

A block is one study, that is, one data set with one network. Its seeds are averaged first: seeds are not data sets.
The default test is Wilcoxon's signed-rank test of every pair with Holm's adjustment, which looks at the two losses
alone. Conover's test with Benjamini and Hochberg's adjustment (Battash et al. 2021, Fig. 3) and Nemenyi's (Demsar 2006)
are kept as paper modes, to compare with published diagrams: both depend on which other losses take part (Benavoli et
al. 2016), and Benjamini and Hochberg hold the share of false separations, not the chance of any.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from math import comb
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.multitest import multipletests

from losstune.analysis.power import cannot_reach
from losstune.analysis.signflips import ROUNDING
from losstune.spaces import InputError

DEFAULT = "wilcoxon_holm"
MODES = {
    DEFAULT: "Wilcoxon signed-rank tests with Holm's adjustment over all pairs",
    "conover_bh": "paper mode: Friedman's test, then Conover's with Benjamini-Hochberg; with one loss truly worse it "
    "separates some equal ones in 17% to 27% of diagrams",
    "nemenyi": "paper mode: Friedman's test, then Nemenyi's; it separates equal losses in fewer than 1% of diagrams",
}
EXACT = 50  # blocks, as in scipy without ties
PAPER_MODES = tuple(mode for mode in MODES if mode != DEFAULT)


@dataclass(frozen=True)
class Ranking:
    """Everything that `rank_losses` found.

    means: complete blocks x losses, as tested. table: see `rank_table`. friedman: see `friedman`. pairs: a row per
    pair of losses: loss_a (the better average rank), loss_b, rank_difference (>= 0), mean_difference (mean over
    blocks of a minus b), a_better, equal, b_better (numbers of blocks), better (the loss that the signed ranks
    favour, or None), p (Wilcoxon, unadjusted) and per mode of `MODES` p_<mode> (adjusted) and <mode> (separated?).
    best_set: the losses that nobody beats by the default test, the best average rank first. groups: per mode the
    largest sets of losses of which no two are separated, each the best average rank first: the bars of a
    critical-difference diagram. critical_difference: Nemenyi's. stability: see `stability`. left_out: blocks without
    every loss.
    """

    means: pd.DataFrame
    alpha: float
    baseline: str | None
    table: pd.DataFrame
    friedman: dict[str, float] | None
    pairs: pd.DataFrame
    best_set: list[str]
    groups: dict[str, list[list[str]]]
    critical_difference: float
    stability: pd.DataFrame
    left_out: list[str]
    warnings: list[str]


def check_means(means: Any) -> pd.DataFrame:
    """Blocks x losses as floats; InputError (one line) says what cannot be ranked. NaN is a loss that was not run."""
    if not isinstance(means, pd.DataFrame):
        raise InputError(f"means: a {type(means).__name__}; needed: a DataFrame, a row per block, a column per loss")
    if means.shape[1] < 2:
        raise InputError(f"means: {means.shape[1]} loss; needed: at least 2 columns, one per loss")
    for axis, labels in (("column", means.columns), ("block", means.index)):
        if not labels.is_unique:
            raise InputError(f"means: {axis} {labels[labels.duplicated()][0]!r} occurs twice")
    for name, column in means.items():
        if not pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column):
            raise InputError(f"means: column {name!r} is not numeric ({column.dtype})")
        if np.isinf(column).any():
            raise InputError(f"means: column {name!r} holds an infinite value; allowed: finite numbers or empty")
    if means.dropna().empty:
        raise InputError("means: no block has every loss; needed: at least one")
    return means.rename(columns=str, index=str).astype(float)


def aggregate_datasets(means: pd.DataFrame, datasets: Mapping[str, str]) -> pd.DataFrame:
    """Data sets x losses: the complete blocks of each data set averaged, so that several networks count once.

    datasets: the data set of every block.
    """
    means = check_means(means).dropna()
    return means.groupby(_labels(means, datasets).to_numpy(), sort=False).mean()


def rank_table(means: pd.DataFrame, baseline: str | None = None) -> pd.DataFrame:
    """Average ranks of (N, k) complete blocks x losses, higher is better; indexed by loss, the best rank first.

    average_rank: 1 is best, ties averaged (k (k + 1) / 2 in all); wins: blocks in which no loss is better; ties:
    those of them that are shared; mean: over blocks; mean_difference: to the baseline, or to the first row without.
    """
    levels = _levels(means)
    ranks = stats.rankdata(-levels, axis=1)
    best = levels == levels.max(axis=1, keepdims=True)
    table = pd.DataFrame({
        "average_rank": ranks.mean(axis=0), "wins": best.sum(axis=0),
        "ties": (best & (best.sum(axis=1, keepdims=True) > 1)).sum(axis=0), "mean": means.mean().to_numpy(),
    }, index=means.columns).sort_values("average_rank", kind="stable").rename_axis("loss")  # fmt: skip
    reference = baseline or table.index[0]
    return table.assign(mean_difference=means.sub(means[reference], axis=0).mean().reindex(table.index))


def rank_losses(
    means: pd.DataFrame, alpha: float = 0.05, baseline: str | None = None, datasets: Mapping[str, str] | None = None
) -> Ranking:
    """Test all pairs of losses over N blocks; means: blocks x losses, higher is better, NaN = not run.

    Blocks without every loss are left out. datasets: the data set of every block; where one is repeated, a warning
    says so (`aggregate_datasets` makes one block of each). Raises InputError (one line) on bad input, also for fewer
    than two complete blocks.
    """
    every = check_means(means)
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not 0 < alpha < 1:
        raise InputError(f"alpha: {alpha!r} is out of bounds; allowed: (0, 1)")
    if baseline is not None and baseline not in every:
        raise InputError(f"baseline: {baseline!r} is not in means; allowed: {', '.join(every)}")
    complete = every.dropna()
    if len(complete) < 2:
        raise InputError(f"means: {len(complete)} block has every loss; needed: at least 2 to test over blocks")
    table, pairs = rank_table(complete, baseline), _pairs(complete, alpha)
    beaten = {row["loss_b"] if row["better"] == row["loss_a"] else row["loss_a"]
              for row in pairs[pairs[DEFAULT]].to_dict("records")}  # fmt: skip
    left_out = [block for block in every.index if block not in complete.index]
    return Ranking(
        means=complete, alpha=alpha, baseline=baseline, table=table, friedman=friedman(complete), pairs=pairs,
        best_set=[loss for loss in table.index if loss not in beaten], left_out=left_out,
        groups={mode: _groups(pairs, list(table.index), mode) for mode in MODES},
        critical_difference=critical_difference(*complete.shape[::-1], alpha), stability=stability(complete, alpha),
        warnings=list(_caveats(complete, alpha, left_out, datasets)),
    )  # fmt: skip


def friedman(means: pd.DataFrame) -> dict[str, float] | None:
    """Friedman's test of (N, k) blocks x losses, and Iman and Davenport's F, which is less conservative.

    chi2 is corrected for ties, p from k - 1 degrees of freedom (scipy); f = (N - 1) chi2 / (N (k - 1) - chi2), p_f
    from k - 1 and (k - 1)(N - 1) (Demsar 2006, section 3.2.2). None for two losses, which it is not made for.
    """
    blocks, losses = means.shape
    if losses < 3:
        return None
    levels = _levels(means)
    chi2 = 0.0 if (levels == 0).all() else float(stats.friedmanchisquare(*levels.T).statistic)
    return {"chi2": chi2, "p": float(stats.chi2.sf(chi2, losses - 1)), **iman_davenport(chi2, losses, blocks)}


def iman_davenport(chi2: float, losses: int, blocks: int) -> dict[str, float]:
    """f and p_f of `friedman`, from chi2; f is infinite where every block gives the same order."""
    left = blocks * (losses - 1) - chi2
    f = (blocks - 1) * chi2 / left if left > ROUNDING * blocks * losses else np.inf
    return {"f": float(f), "p_f": float(stats.f.sf(f, losses - 1, (losses - 1) * (blocks - 1)))}


def critical_difference(losses: int, blocks: int, alpha: float = 0.05) -> float:
    """The average ranks of two losses that Nemenyi's test separates differ by this much (Demsar 2006, 3.2.2)."""
    q = stats.studentized_range.isf(alpha, losses, np.inf) / np.sqrt(2)
    return float(q * np.sqrt(losses * (losses + 1) / (6 * blocks)))


def stability(means: pd.DataFrame, alpha: float = 0.05) -> pd.DataFrame:
    """Which verdicts of the paper modes hang on a third loss: each pair tested again with each other loss left out.

    A row per mode and pair: mode, loss_a, loss_b, separated (with all losses), changes_without (the losses whose
    absence turns the verdict over).
    """
    losses, rows = list(means.columns), []
    whole = _paper_p(means, alpha)[1]
    without = {loss: _paper_p(means.drop(columns=loss), alpha)[1] for loss in losses} if len(losses) > 2 else {}
    for mode, (a, b) in ((mode, pair) for mode in PAPER_MODES for pair in combinations(losses, 2)):
        said = bool(whole[mode].loc[a, b])
        changes = [loss for loss, part in without.items() if loss not in (a, b) and part[mode].loc[a, b] != said]
        rows.append({"mode": mode, "loss_a": a, "loss_b": b, "separated": said, "changes_without": changes})
    return pd.DataFrame(rows)


def _labels(means: pd.DataFrame, datasets: Mapping[str, str]) -> pd.Series:
    """The data set of every block of means."""
    labels = pd.Series({block: datasets.get(block) for block in means.index}, dtype=object)
    if labels.isna().any():
        raise InputError(f"datasets: block {labels.index[labels.isna()][0]!r} has no data set")
    return labels


def _dense(values: np.ndarray, noise: float) -> np.ndarray:
    """Whole numbers in the order of the values, equal where values differ by rounding only."""
    order = np.argsort(values)
    steps = np.concatenate([[0], np.cumsum(np.diff(values[order]) > noise)])
    return steps[np.argsort(order)]


def _levels(means: pd.DataFrame) -> np.ndarray:
    """(N, k) `_dense` levels within each block."""
    return np.array([_dense(row, ROUNDING * np.abs(row).max()) for row in means.to_numpy()])


def _wilcoxon(first: np.ndarray, second: np.ndarray) -> tuple[int, float]:
    """Which of two losses the signed ranks favour (+1, -1, 0) and the two-sided p; equal blocks are left out.

    Exact up to `EXACT` blocks, with ties too, else scipy's normal approximation.
    """
    noise = ROUNDING * np.maximum(np.abs(first), np.abs(second))
    d = np.where(np.abs(first - second) <= noise, 0.0, first - second)
    if not d.any():
        return 0, 1.0
    d = d[d != 0]
    # Equal sizes that were computed along two routes differ in the last bits.
    signed = np.sign(d) * (1 + _dense(np.abs(d), noise.max()))
    ranks = stats.rankdata(np.abs(signed))
    exact = len(d) <= EXACT
    p = _exact_p(ranks, ranks[d > 0].sum()) if exact else stats.wilcoxon(signed, method="asymptotic").pvalue
    return int(np.sign((np.sign(d) * ranks).sum())), float(p)


def _exact_p(ranks: np.ndarray, positive: float) -> float:
    """Two-sided p of a sum of positive ranks where either sign is as likely as the other."""
    # scipy's, with ties, goes through all patterns of signs: seconds per pair at 11 blocks.
    chance, observed = np.ones(1), round(2 * positive)
    for rank in np.rint(2 * ranks).astype(int):  # tied ranks may be halves
        chance = (np.pad(chance, (0, rank)) + np.pad(chance, (rank, 0))) / 2
    return min(1.0, 2 * min(chance[: observed + 1].sum(), chance[observed:].sum()))


def _paper_p(means: pd.DataFrame, alpha: float) -> tuple[dict[str, pd.DataFrame], dict[str, pd.DataFrame]]:
    """Per paper mode the (k, k) adjusted p-values and what they separate, if Friedman's test rejects."""
    import scikit_posthocs  # it loads seaborn, for a second

    levels = pd.DataFrame(_levels(means), columns=means.columns)
    if (levels == levels.iloc[0]).all(axis=None):
        # Conover's variance is then zero, and rounding may make it negative.
        first = levels.iloc[0].to_numpy()
        conover = pd.DataFrame((first[:, None] == first).astype(float), levels.columns, levels.columns)
    else:
        conover = scikit_posthocs.posthoc_conover_friedman(levels, p_adjust="fdr_bh")
    p = {"conover_bh": conover, "nemenyi": scikit_posthocs.posthoc_nemenyi_friedman(levels)}
    gate = friedman(means)
    return p, {mode: (values <= alpha) & (gate is None or gate["p"] <= alpha) for mode, values in p.items()}


def _pairs(means: pd.DataFrame, alpha: float) -> pd.DataFrame:
    rank, levels = rank_table(means)["average_rank"], pd.DataFrame(_levels(means), columns=means.columns)
    (p, separated), rows = _paper_p(means, alpha), []
    for a, b in combinations(rank.index, 2):
        favours, p_wilcoxon = _wilcoxon(means[a].to_numpy(), means[b].to_numpy())
        rows.append({
            "loss_a": a, "loss_b": b, "rank_difference": rank[b] - rank[a],
            "mean_difference": (means[a] - means[b]).mean(), "a_better": int((levels[a] > levels[b]).sum()),
            "equal": int((levels[a] == levels[b]).sum()), "b_better": int((levels[a] < levels[b]).sum()),
            "better": (None, a, b)[favours], "p": p_wilcoxon,
            **{f"p_{mode}": p[mode].loc[a, b] for mode in PAPER_MODES},
            **{mode: bool(separated[mode].loc[a, b]) for mode in PAPER_MODES},
        })  # fmt: skip
    pairs = pd.DataFrame(rows)
    pairs["better"] = pd.Series([row["better"] for row in rows], dtype=object)
    pairs[f"p_{DEFAULT}"] = multipletests(pairs["p"], method="holm")[1]
    return pairs.assign(**{DEFAULT: pairs[f"p_{DEFAULT}"] <= alpha})


def _groups(pairs: pd.DataFrame, order: list[str], mode: str) -> list[list[str]]:
    """The largest sets of two or more losses of which no two are separated, in the order of the average ranks."""
    near: dict[str, set[str]] = {loss: set() for loss in order}
    for a, b in pairs.loc[~pairs[mode], ["loss_a", "loss_b"]].to_numpy():
        near[a].add(b)
        near[b].add(a)
    found = [sorted(group, key=order.index) for group in _cliques(set(), set(order), set(), near)]
    return sorted((group for group in found if len(group) > 1), key=lambda g: [order.index(loss) for loss in g])


def _cliques(chosen: set, open_: set, closed: set, near: dict[str, set]) -> Iterator[set]:
    """Maximal cliques (Bron and Kerbosch 1973, with a pivot)."""
    if not open_ and not closed:
        yield chosen
        return
    pivot = max(open_ | closed, key=lambda loss: len(near[loss] & open_))
    for loss in list(open_ - near[pivot]):
        yield from _cliques(chosen | {loss}, open_ & near[loss], closed & near[loss], near)
        open_, closed = open_ - {loss}, closed | {loss}


def _caveats(means: pd.DataFrame, alpha: float, left_out: list[str], datasets) -> Iterator[str]:
    """What a reader has to know before trusting the tests."""
    blocks, pairs = len(means), comb(means.shape[1], 2)
    unreachable = cannot_reach("wilcoxon", blocks, alpha, pairs, "blocks")
    if unreachable:
        yield unreachable
    if left_out:
        yield f"left out, because not every loss was run there: {', '.join(left_out)}"
    repeated = pd.Series(dtype=int) if datasets is None else _labels(means, datasets).value_counts(sort=False)
    for name, count in repeated[repeated > 1].items():
        yield (f"{count} blocks use the data set {name}: they are not independent, and tests that count each of them "
               "claim more than the evidence holds; average them to one block per data set")  # fmt: skip
