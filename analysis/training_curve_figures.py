"""Figures of what was followed over training: for each measure a panel per loss."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from losstune.analysis import drawing as d
from losstune.analysis.training_curves import TITLES

MARGINS = {"left": 0.55, "right": 0.1, "bottom": 0.46, "top": 0.5, "between_columns": 0.55, "between_rows": 0.75}
COLUMNS = 5
FOLDED = ("nc2", "nc3")  # on the page, behind a click


def training_curve_figures(curves: pd.DataFrame) -> Iterator[tuple[str, str, str, Figure, bool]]:
    """As `figures.draw` takes them; curves: `training_curves.training_curves`."""
    for measure, title in TITLES.items():
        own = curves[curves["measure"] == measure]
        if len(own):
            group = "training-curves-more" if measure in FOLDED else "training-curves"
            yield f"training_{measure}", group, f"{title} over training, by loss", measure_figure(own, title), True


def measure_figure(curves: pd.DataFrame, title: str) -> Figure:
    """Each loss's mean over seeds with its range from the lowest to the highest, before the means of the others."""
    by_loss = {str(loss): own for loss, own in curves.groupby("loss", sort=False)}
    columns = min(COLUMNS, len(by_loss))
    rows = -(-len(by_loss) // columns)
    figure = d.new_figure(2.2 * columns, 1.95 * rows + 0.22, MARGINS)
    grid = d.panels(figure, rows, columns, MARGINS)
    for axes, loss in zip(grid, by_loss, strict=False):
        _panel(axes, by_loss, loss)
        _limit(axes, curves)
    for axes in grid[len(by_loss) :]:
        axes.set_visible(False)
    width, height = figure.get_size_inches()
    figure.text(0.1 / width, 1 - 0.08 / height, title, va="top", fontweight="bold", color=d.MUTED)
    return figure


def _panel(axes: Axes, by_loss: dict[str, pd.DataFrame], loss: str) -> None:
    for other, curve in by_loss.items():
        if other != loss:
            axes.plot(curve["epoch"], curve["mean"], color=d.FAINT, lw=0.8)
    own = by_loss[loss]
    axes.fill_between(own["epoch"], own["low"], own["high"], color=d.SECOND, alpha=0.4, lw=0)
    axes.plot(own["epoch"], own["mean"], color=d.BEST, lw=2)
    last = own.iloc[-1]
    (dot,) = axes.plot(last["epoch"], last["mean"], "o", color=d.BEST, ms=4)
    d.hover(dot, f"{loss}, epoch {last['epoch']}: mean {last['mean']:.4g}, {last['low']:.4g} to {last['high']:.4g} "
                 f"over {last['seeds']} seeds")  # fmt: skip
    axes.set_title(loss, loc="left", fontweight="bold")
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.set_xlabel("epoch")
    d.bare(axes, "y")


def _limit(axes: Axes, curves: pd.DataFrame) -> None:
    """The same limits for every panel, so that they compare: what there is of all losses, and some room."""
    d.number_axis(axes.yaxis, curves[["low", "high"]].to_numpy())
    ends = curves["low"].min(), curves["high"].max()
    forth, back = axes.yaxis.get_transform(), axes.yaxis.get_transform().inverted()
    low, high = forth.transform(np.array(ends))
    if high > low:
        axes.set_ylim(*back.transform(np.array([low - 0.05 * (high - low), high + 0.05 * (high - low)])))
