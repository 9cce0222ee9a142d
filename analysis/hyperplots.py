"""Each searched hyperparameter of a loss against the validation score."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from losstune.analysis import drawing as d
from losstune.analysis.results import SHARED_HYPERPARAMETERS, Results, factor, head

COLUMNS = 2
MARGINS = {"left": 0.5, "right": 0.12, "bottom": 0.46, "top": 0.34, "between_columns": 0.16, "between_rows": 0.52}
# At most this share of the trials may fall below the frame, and only where that doubles the room for the others.
CUT_SHARE = 0.3


def searched(trials: pd.DataFrame) -> list[str]:
    """The hyperparameters that vary over a loss's trials, its own first, learning rate and weight decay last."""
    names: dict[str, set] = {}
    for params in trials["params"]:
        for name, value in params.items():
            names.setdefault(name, set()).add(str(value))
    varied = [name for name, values in names.items() if len(values) > 1]
    return sorted(varied, key=lambda name: name in SHARED_HYPERPARAMETERS)


def hyperparameter_figure(results: Results, loss: str) -> Figure:
    """One panel per searched hyperparameter, two in a row, with one scale of the score."""
    trials = results.trials[(results.trials["loss"] == loss) & results.trials["score"].notna()]
    names = searched(trials) or list(SHARED_HYPERPARAMETERS)
    rows = -(-len(names) // COLUMNS)
    figure = d.new_figure(3.7, 0.28 + 1.62 * rows, MARGINS)
    grid = d.panels(figure, rows, COLUMNS, MARGINS, sharey=True)
    chosen, limits = results.chosen(loss), _limits(results, trials)
    for axes, name in zip(grid, names, strict=False):
        _panel(axes, results, trials, name, None if chosen is None else chosen["number"], limits)
    for axes in grid[len(names) :]:
        axes.set_visible(False)
    top = 1 - 0.04 / figure.get_figheight()
    figure.text(0.01, top, loss, ha="left", va="top", fontweight="bold", fontsize=10.5)
    figure.text(0.97, top, f"validation {head(results.metric)}", ha="right", va="top", fontsize=9, color=d.MUTED)
    return figure


def _limits(results: Results, trials: pd.DataFrame) -> tuple[float, float]:
    """(worst, best) score in view, in the figure's unit: hopeless trials must not flatten all the others."""
    kept = trials[trials["state"] != "failed"]
    scores = np.sort(results.direction() * (kept if len(kept) else trials)["score"].dropna().to_numpy(float))
    if not len(scores):
        return 0.0, float(factor(results.metric))
    worst, best = scores[0], scores[-1]
    typical = scores[int(CUT_SHARE * len(scores))]
    if best - typical < (best - worst) / 2:
        worst = typical
    room = max(best - worst, 1e-3)
    return tuple(results.direction() * factor(results.metric) * (end + side * room)
                 for end, side in ((worst, -0.18), (best, 0.15)))  # fmt: skip


def _panel(axes: Axes, results: Results, trials: pd.DataFrame, name: str, chosen: Any, limits: tuple) -> None:
    """Full-length trials filled, stopped ones hollow, the chosen one ringed; at the foot failed ones as crosses and
    those below the frame as triangles."""
    values, labels = _positions(trials, name)
    scores = (trials["score"] * factor(results.metric)).to_numpy(float)
    state, failed = trials["state"].to_numpy(), (trials["state"] == "failed").to_numpy()
    below = ~failed & (results.direction() * (scores - limits[0]) < 0)
    full, other = (state == "complete") & ~below, (state != "complete") & ~failed & ~below
    axes.plot(values[other], scores[other], "o", ms=5, mfc="none", mec=d.OTHER, mew=1)
    axes.plot(values[full], scores[full], "o", ms=5, color=d.BEST, mew=0)
    picked = (trials["number"] == chosen).to_numpy()
    axes.plot(values[picked], scores[picked], "o", ms=10, mfc="none", mec=d.CHOSEN, mew=2, clip_on=False)
    for rows, marker, colour in ((below, "v", d.OTHER), (failed, "x", d.INK)):
        axes.plot(values[rows], np.full(rows.sum(), 0.05), marker, ms=5, mfc="none", mec=colour, mew=1.2,
                  transform=axes.get_xaxis_transform(), clip_on=False)  # fmt: skip
    axes.set_ylim(min(limits), max(limits))
    if results.direction() < 0:
        axes.invert_yaxis()
    axes.yaxis.set_major_locator(MaxNLocator(4))
    if labels is None:
        d.number_axis(axes.xaxis, values)
    else:
        axes.set_xticks(range(len(labels)), labels)
        axes.set_xlim(-0.5, len(labels) - 0.5)
    axes.set_xlabel(name.replace("_", " ") if name in SHARED_HYPERPARAMETERS else name)


def _positions(trials: pd.DataFrame, name: str) -> tuple[np.ndarray, list[str] | None]:
    """Where each trial stands on the x axis, and the labels of a hyperparameter that is no number."""
    given = [params.get(name) for params in trials["params"]]
    if all(value is None or isinstance(value, int | float) and not isinstance(value, bool) for value in given):
        return np.array([np.nan if value is None else float(value) for value in given]), None
    labels = sorted({str(value) for value in given})
    return np.array([float(labels.index(str(value))) for value in given]), labels
