"""How losses do over many blocks beyond their means: performance profiles, score distributions, interquartile means.

Two curves go by the name of performance profile and are kept apart here: Dolan and More's, of ratios to the best loss
of each block, and Agarwal et al.'s run-score distributions, of scores as they are. Long scores are a DataFrame with a
row per run: block, loss, seed, score (higher is better).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from losstune.analysis.ranking import check_means
from losstune.analysis.signflips import ROUNDING
from losstune.spaces import InputError

KEYS = ("block", "loss", "seed")
DRAWS, SEED, LEVEL = 2000, 0, 0.95
POINTS = 201


@dataclass(frozen=True)
class Profile:
    """Dolan and More's performance profile.

    ratios: blocks x losses, 1 is the best of the block. curves: index ratio (tau, from 1), a column per loss: the
    share of blocks in which its ratio is at most tau; constant from one row to the next. left_out: blocks without
    every loss.
    """

    ratios: pd.DataFrame
    curves: pd.DataFrame
    left_out: list[str]


@dataclass(frozen=True)
class ScoreDistribution:
    """Run-score distributions.

    shares, low, high: index tau, a column per loss: the share of runs with a score above tau and its pointwise
    interval (NaN where a block has one seed); blocks weigh the same. left_out: blocks without every loss.
    """

    shares: pd.DataFrame
    low: pd.DataFrame
    high: pd.DataFrame
    level: float
    left_out: list[str]


def check_scores_long(scores: Any) -> pd.DataFrame:
    """Long scores with block and loss as text; InputError (one line) says what cannot be used."""
    columns = set(getattr(scores, "columns", ()))
    if not isinstance(scores, pd.DataFrame) or not columns.issuperset({*KEYS, "score"}):
        raise InputError(f"scores: needed: a DataFrame with the columns {', '.join(KEYS)} and score, a row per run")
    if scores.empty or not pd.api.types.is_numeric_dtype(scores["score"]):
        raise InputError("scores: column 'score' is not numeric" if len(scores) else "scores: there is no run")
    if not np.isfinite(scores["score"]).all():
        row = scores.loc[~np.isfinite(scores["score"])].iloc[0]
        raise InputError(f"scores: {row['loss']} in {row['block']}, seed {row['seed']}: not a finite number; a failed "
                         "run scores as the constant predictor, one that was not run has no row")  # fmt: skip
    if scores.duplicated(list(KEYS)).any():
        row = scores.loc[scores.duplicated(list(KEYS))].iloc[0]
        raise InputError(f"scores: {row['loss']} in {row['block']} has seed {row['seed']} twice")
    return scores[[*KEYS, "score"]].astype({"block": str, "loss": str, "score": float})


def block_means(scores: pd.DataFrame) -> pd.DataFrame:
    """Long scores -> blocks x losses, the mean over seeds, NaN where a loss has no run; in the order of appearance."""
    scores = check_scores_long(scores)
    means = scores.pivot_table(index="block", columns="loss", values="score", aggfunc="mean", sort=False)
    return means.reindex(columns=scores["loss"].unique()).rename_axis(columns=None)


def performance_profile(values: pd.DataFrame, greater_is_better: bool = False) -> Profile:
    """Dolan and More's profile (2002) of blocks x losses of errors or other costs, all >= 0, NaN = not run.

    The ratio is cost / least cost of the block; 0 / 0 is 1 and x / 0 infinite. With greater_is_better, of scores
    above 0, it is best score / score: Battash et al.'s Fig. 2, whose tau is the inverse. Ratios depend on what is
    counted: an error of 1% against 2% is a ratio of 2, the accuracies 99% and 98% one of 1.01. Blocks without every
    loss are left out. Raises InputError (one line) for values out of these bounds.
    """
    every = check_means(values)
    complete = every.dropna()
    if (complete < 0).any(axis=None) or greater_is_better and (complete == 0).any(axis=None):
        raise InputError(f"values: ratios need numbers {'above 0' if greater_is_better else 'of at least 0'}")
    x = complete.to_numpy()
    best = (x.max if greater_is_better else x.min)(axis=1, keepdims=True)
    above, below = (best, x) if greater_is_better else (x, best)
    endless = np.where(above == below, 1.0, np.inf)
    ratios = np.divide(above, below, out=endless, where=below > 0)
    # Equal values that were computed along two routes differ in the last bits.
    ratios[ratios <= 1 + ROUNDING] = 1.0
    taus = np.unique(ratios[np.isfinite(ratios)])
    shares = (ratios[None] <= taus[:, None, None]).mean(axis=1)
    return Profile(
        ratios=pd.DataFrame(ratios, complete.index, complete.columns),
        curves=pd.DataFrame(shares, pd.Index(taus, name="ratio"), complete.columns),
        left_out=[block for block in every.index if block not in complete.index],
    )


def score_distribution(
    scores: pd.DataFrame, taus: np.ndarray | None = None, draws: int = DRAWS, seed: int = SEED, level: float = LEVEL
) -> ScoreDistribution:
    """The share of runs with a score above tau, per loss (Agarwal et al. 2021, run-score distributions).

    scores: long. taus: ascending; by default 201 from the smallest to the largest score. The intervals are pointwise,
    percentiles of draws that resample seeds within each block and loss; blocks are taken as given.
    """
    scores, left_out = _common(scores)
    if taus is None:
        taus = np.linspace(scores["score"].min(), scores["score"].max(), POINTS)
    index, rng, tail = pd.Index(taus, name="tau"), np.random.default_rng(seed), (1 - level) / 2
    found: dict[str, dict[str, np.ndarray]] = {"shares": {}, "low": {}, "high": {}}
    for loss, cells in _cells(scores):
        above = [cell[:, None] > np.asarray(taus) for cell in cells]
        found["shares"][loss] = np.mean([runs.mean(axis=0) for runs in above], axis=0)
        drawn = sum(_resamples(rng, len(runs), draws) @ runs for runs in above) / len(above)
        single = min(map(len, cells)) < 2
        for side, share in (("low", tail), ("high", 1 - tail)):
            found[side][loss] = np.full(len(index), np.nan) if single else np.quantile(drawn, share, axis=0)
    frames = {name: pd.DataFrame(columns, index) for name, columns in found.items()}
    return ScoreDistribution(**frames, level=level, left_out=left_out)


def _resamples(rng: np.random.Generator, runs: int, draws: int) -> np.ndarray:
    """(draws, runs) weights of bootstrap samples of the runs of one block; each row sums to 1."""
    return rng.multinomial(runs, np.full(runs, 1 / runs), size=draws) / runs


def interquartile_means(
    scores: pd.DataFrame, draws: int = DRAWS, seed: int = SEED, level: float = LEVEL
) -> pd.DataFrame:
    """The mean of the middle half of all runs, with a stratified bootstrap interval (Agarwal et al. 2021).

    scores: long, in units that are comparable between blocks. Indexed by loss, the highest first: iqm (scipy's
    trim_mean with 0.25 on all runs of all blocks together), ci_low, ci_high (percentiles of draws that resample seeds
    within each block; NaN where a block has one seed), n_runs, n_blocks. The interval holds for these blocks: it says
    nothing about other data sets. Only blocks with every loss count. Raises InputError where there is none.
    """
    scores, _ = _common(scores)
    rng, rows = np.random.default_rng(seed), {}
    for loss, cells in _cells(scores):
        drawn = np.hstack([cell[rng.integers(0, len(cell), (draws, len(cell)))] for cell in cells])
        ends = np.quantile(stats.trim_mean(drawn, 0.25, axis=1), [(1 - level) / 2, (1 + level) / 2])
        low, high = ends if min(map(len, cells)) > 1 else (np.nan, np.nan)
        runs = np.concatenate(cells)
        rows[loss] = {"iqm": stats.trim_mean(runs, 0.25), "ci_low": low, "ci_high": high, "n_runs": len(runs),
                      "n_blocks": len(cells)}  # fmt: skip
    table = pd.DataFrame(rows).T.astype({"n_runs": int, "n_blocks": int})
    return table.sort_values("iqm", ascending=False, kind="stable").rename_axis("loss")


def _common(scores: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """The runs of the blocks in which every loss ran, and the blocks that were left out."""
    means, scores = block_means(scores), check_scores_long(scores)
    complete = means.dropna().index
    if complete.empty:
        raise InputError("scores: no block has every loss; needed: at least one")
    return scores[scores["block"].isin(complete)], [block for block in means.index if block not in complete]


def _cells(scores: pd.DataFrame) -> Iterator[tuple[str, list[np.ndarray]]]:
    """Per loss its scores in each block."""
    for loss, own in scores.groupby("loss", sort=False):
        yield str(loss), [cell["score"].to_numpy() for _, cell in own.groupby("block", sort=False)]
