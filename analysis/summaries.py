"""What published means, their errors and numbers of runs allow one to say, where the runs themselves are not at hand.

Runs that were paired cannot be compared as pairs from such numbers: every test here is unpaired. Average ranks and the
tests over blocks need means alone: `ranking.rank_losses` takes them as printed.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.multitest import multipletests

from losstune.analysis.power import detectable_difference
from losstune.analysis.ranking import critical_difference, iman_davenport
from losstune.analysis.significance import PAPER_ALPHA
from losstune.spaces import InputError

# A sum of k ranks printed with two decimals is off by k / 200 at most.
RANK_ROUNDING = 0.005


def summary(means, counts, standard_errors=None, standard_deviations=None) -> pd.DataFrame:
    """Published numbers as a table indexed by loss: mean, sd, n. Higher means are better.

    means: loss -> mean; counts: loss -> number of runs, or one number for all; and either the standard errors or the
    standard deviations, by loss. sd = standard error sqrt(n). Raises InputError (one line).
    """
    if (standard_errors is None) == (standard_deviations is None):
        raise InputError("summary: needed: either standard_errors or standard_deviations")
    means = pd.Series(means, dtype=float).rename(index=str)
    table = pd.DataFrame({
        "mean": means, "n": counts if np.isscalar(counts) else pd.Series(counts).rename(index=str),
        "sd": pd.Series(standard_deviations if standard_errors is None else standard_errors).rename(index=str),
    }).reindex(means.index).rename_axis("loss").astype(float)  # fmt: skip
    if standard_errors is not None:
        table["sd"] *= np.sqrt(table["n"])
    for loss, row in table.iterrows():
        if not np.isfinite(row).all() or row["sd"] < 0 or row["n"] < 2:
            raise InputError(f"summary: {loss}: needed: a finite mean, an error of at least 0 and at least 2 runs")
    if len(table) < 2 or not table.index.is_unique:
        raise InputError("summary: needed: at least two losses, each once")
    return table


def compare_summaries(
    table: pd.DataFrame, alpha: float = 0.05, baseline: str | None = None, mean_step: float = 0.0,
    error_step: float = 0.0,
) -> pd.DataFrame:  # fmt: skip
    """Welch's t-test of every pair with Holm's adjustment, from `summary`'s mean, sd and n.

    A row per pair, the smaller p first: loss_a (the higher mean), loss_b, difference (>= 0), t, p, p_holm, separated.
    0/0 is t = 0, x/0 infinite: printed errors of 0 are rounded ones, and such a separation is no evidence. With
    baseline: only its pairs, and the adjustment is over these. mean_step, error_step: see `paper_bold`; settled:
    whether the pair is separated, or is not, however all the numbers were rounded.
    """
    rows = []
    for a, b in combinations(table.sort_values("mean", ascending=False, kind="stable").index, 2):
        if baseline not in (None, a, b):
            continue
        t, p = _welch(table.loc[a], table.loc[b])
        closest, widest = (_welch(*_moved(table.loc[a], table.loc[b], sign * mean_step, sign * error_step))[1]
                           for sign in (1, -1))  # fmt: skip
        rows.append({"loss_a": a, "loss_b": b, "difference": table.loc[a, "mean"] - table.loc[b, "mean"], "t": t,
                     "p": p, "closest": closest, "widest": widest})  # fmt: skip
    pairs = pd.DataFrame(rows)
    # Holm's adjusted p of a pair rises with the p of every pair: the ends of all together bound it.
    pairs["p_holm"], least, most = (multipletests(pairs[name], method="holm")[1] for name in ("p", "widest", "closest"))
    pairs["separated"], pairs["settled"] = pairs["p_holm"] <= alpha, (least <= alpha) == (most <= alpha)
    pairs = pairs.drop(columns=["closest", "widest"])
    return pairs.sort_values("p", kind="stable").reset_index(drop=True)


def _moved(a: pd.Series, b: pd.Series, nearer: float, error_step: float) -> tuple[pd.Series, pd.Series]:
    """Two rows of `summary` whose means are nearer to each other by so much, and standard errors larger by half a
    step."""
    a, b = a.copy(), b.copy()
    a["mean"] = max(a["mean"] - nearer, b["mean"])
    for side in (a, b):
        side["sd"] = max(0.0, side["sd"] + error_step / 2 * np.sqrt(side["n"]))
    return a, b


def lost_pairing(table: pd.DataFrame, alpha: float, correlations: tuple[float, ...]) -> list[float]:
    """What it costs that the runs cannot be paired: the smallest true difference that is found with power 80%.

    The first is unpaired, the others had the losses run with the same seeds and scores of these correlations over
    them; each the median over the pairs of `summary`'s table, by `power.detectable_difference` at Holm's first step.
    """
    pairs, found = [(table.loc[a], table.loc[b]) for a, b in combinations(table.index, 2)], []
    for a, b in pairs:
        variance, product = a["sd"] ** 2 + b["sd"] ** 2, a["sd"] * b["sd"]
        level, runs = alpha / len(pairs), int(min(a["n"], b["n"]))
        spreads = [np.sqrt(variance - 2 * correlation * product) for correlation in correlations]
        unpaired = detectable_difference(np.sqrt(variance / 2), level, runs, paired=False)
        found.append([float(unpaired), *detectable_difference(spreads, level, runs)])
    return np.median(found, axis=0).tolist()


def paper_bold(
    table: pd.DataFrame, mean_step: float = 0.0, error_step: float = 0.0, equal_variances: bool = False
) -> pd.DataFrame:
    """Which means the papers' rule prints in bold: not different from the best mean by an unadjusted t-test, p > 0.05.

    table: `summary`'s. mean_step, error_step: one unit in the last printed digit of means and standard errors (0.1
    for 77.8), so that the true numbers lie within half a step. equal_variances: Student's test in place of Welch's.
    Indexed by loss: p and bold from the numbers as printed; p_low, p_high: the least and the largest p of all numbers
    that round to these (both standard errors at the same end of their range); settled: whether these agree about bold.
    The rule has no error guarantee.
    """
    best = table["mean"].idxmax()
    rows = {}
    for loss in table.index:
        p = 1.0 if loss == best else _welch(table.loc[best], table.loc[loss], equal_variances)[1]
        ends = list(_rounded(table, loss, mean_step / 2, error_step / 2, equal_variances))
        rows[loss] = {"p": p, "p_low": min([p, *ends]), "p_high": max([p, *ends])}
    found = pd.DataFrame(rows).T.rename_axis("loss")
    return found.assign(
        bold=found["p"] > PAPER_ALPHA, settled=(found["p_low"] > PAPER_ALPHA) == (found["p_high"] > PAPER_ALPHA)
    )


def _rounded(table: pd.DataFrame, loss: str, half: float, error_half: float, equal: bool) -> Iterator[float]:
    """p of the loss against every other one that can be the best mean, at both ends of what rounds to the table."""
    floor = table["mean"].max() - half
    if table.loc[loss, "mean"] + half >= floor:
        yield 1.0
    for other in table.index[(table["mean"] + half >= floor) & (table.index != loss)]:
        for nearer, sign in ((True, 1), (False, -1)):
            one, best = table.loc[loss].copy(), table.loc[other].copy()
            if nearer:
                best["mean"] = max(best["mean"] - half, floor)
                one["mean"] = min(one["mean"] + half, best["mean"])
            else:
                best["mean"], one["mean"] = best["mean"] + half, one["mean"] - half
            for side in (one, best):
                side["sd"] = max(0.0, side["sd"] + sign * error_half * np.sqrt(side["n"]))
            yield _welch(best, one, equal)[1]


def _welch(a: pd.Series, b: pd.Series, equal_variances: bool = False) -> tuple[float, float]:
    """t and p of two rows of `summary`."""
    if a["sd"] == 0 == b["sd"]:
        return (0.0, 1.0) if a["mean"] == b["mean"] else (float(np.copysign(np.inf, a["mean"] - b["mean"])), 0.0)
    found = stats.ttest_ind_from_stats(a["mean"], a["sd"], a["n"], b["mean"], b["sd"], b["n"], equal_variances)
    return float(found.statistic), float(found.pvalue)


def friedman_from_ranks(average_ranks: Any, blocks: int, alpha: float = 0.05) -> dict[str, float]:
    """Friedman's test from published average ranks over N blocks (Demsar 2006, section 3.2.2), without ties.

    average_ranks: loss -> average rank, k >= 3. Returns chi2 = 12 N / (k (k + 1)) (sum R^2 - k (k + 1)^2 / 4), p, Iman
    and Davenport's f and p_f, and Nemenyi's critical_difference at alpha. Ties, which average ranks do not show, would
    raise chi2. Raises InputError where the ranks do not sum to k (k + 1) / 2, but for two-decimal rounding: then ties
    were not averaged, and no test follows.
    """
    ranks = pd.Series(average_ranks, dtype=float)
    k = len(ranks)
    if k < 3 or blocks < 2:
        raise InputError("average ranks: needed: at least 3 losses and 2 blocks")
    if not abs(ranks.sum() - k * (k + 1) / 2) <= k * RANK_ROUNDING + 1e-9:
        raise InputError(f"average ranks: they sum to {ranks.sum():g}; with ties averaged, ranks of {k} losses sum to "
                         f"{k * (k + 1) / 2:g}")  # fmt: skip
    chi2 = max(0.0, 12 * blocks / (k * (k + 1)) * ((ranks**2).sum() - k * (k + 1) ** 2 / 4))
    return {"chi2": float(chi2), "p": float(stats.chi2.sf(chi2, k - 1)), **iman_davenport(chi2, k, blocks),
            "critical_difference": critical_difference(k, blocks, alpha)}  # fmt: skip
