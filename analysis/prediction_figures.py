"""Figures of what the recorded predictions say: reliability diagrams and the dendrogram of models."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import groupby

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy.cluster import hierarchy

from losstune.analysis import drawing as d
from losstune.analysis.agreement import linkage
from losstune.analysis.predicted import Predicted

PANEL = (2.15, 2.15)
MARGINS = {"left": 0.5, "right": 0.1, "bottom": 0.46, "top": 0.28, "between_columns": 0.5, "between_rows": 0.75}
MOST_ROWS = 40  # leaves that are labelled one by one
LEAST_ROW, TALLEST = 0.075, 13.0  # inches of a leaf and of all


def prediction_figures(found: Predicted) -> Iterator[tuple[str, str, str, Figure, bool]]:
    """As `figures.draw` takes them."""
    losses = list(found.reliability)
    if losses:
        together = small_multiples(losses, (2.3, 2.3), 4, partial(_reliability, found))
        yield "reliability", "", "Reliability diagrams of all losses", together, True
    for loss in losses:
        panel = small_multiples([loss], PANEL, 1, partial(_reliability, found))
        yield f"reliability_{loss}", "reliability", f"Reliability diagram, {loss}", panel, False
    if len(found.agreement.models) > 2:
        text = "Dendrogram of losses and seeds by how often they predict the same class"
        yield "dendrogram", "agreement", text, dendrogram_figure(found), True


def small_multiples(
    names: list[str], panel: tuple[float, float], columns: int, draw: Callable[[Axes, str], None], top: float = 0.0
) -> Figure:
    """A panel for each name, filled in by draw, in rows of so many columns at most; one name makes a figure of its own.

    panel: width and height of each, in inches. top: inches that are left above all of them.
    """
    columns = min(columns, len(names))
    rows = -(-len(names) // columns)
    margins = {**MARGINS, "top": MARGINS["top"] + top}
    figure = d.new_figure(panel[0] * columns, panel[1] * rows + top, margins)
    grid = d.panels(figure, rows, columns, margins)
    for axes, name in zip(grid, names, strict=False):
        draw(axes, name)
    for axes in grid[len(names) :]:
        axes.set_visible(False)
    return figure


def _reliability(found: Predicted, axes: Axes, loss: str) -> None:
    """Accuracy against confidence per bin; the area of a point is its bin's share of the predictions."""
    axes.plot([0, 1], [0, 1], color=d.MUTED, lw=0.8)
    scaled = found.scaled_reliability.get(loss)
    if scaled is not None:
        _bins(axes, scaled, d.CHOSEN, filled=False)
    _bins(axes, found.reliability[loss], d.BEST, filled=True)
    axes.set_xlim(0, 1.03)
    axes.set_ylim(0, 1.03)
    axes.set_title(loss, loc="left", fontweight="bold")
    axes.set_xlabel("confidence")
    axes.set_ylabel("accuracy")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(4))
        axis.set_major_formatter(lambda value, _: f"{value:g}")


def _bins(axes: Axes, bins: pd.DataFrame, colour: str, filled: bool) -> None:
    shown = bins[bins["count"] > 0]
    share = shown["count"] / shown["count"].sum()
    axes.plot(shown["confidence"], shown["accuracy"], color=colour, lw=1.2, ls="-" if filled else (0, (3, 2)))
    for row, part in zip(shown.to_dict("records"), share, strict=True):
        (dot,) = axes.plot(row["confidence"], row["accuracy"], "o", ms=3 + 7 * float(np.sqrt(part)), mec=colour,
                           mfc=colour if filled else d.PAPER, mew=1.2, clip_on=False)  # fmt: skip
        at = f"confidence {row['confidence']:.3f}, accuracy {row['accuracy']:.3f}"
        d.hover(dot, f"{at}, {row['count']:,} predictions")


def dendrogram_figure(found: Predicted) -> Figure:
    """Average linkage of one minus the share of test examples with the same predicted class.

    Up to 40 models have a label each; of more, neighbours of one loss share one.
    """
    models = found.agreement.models
    tree = hierarchy.dendrogram(linkage(found.agreement.same_class), no_plot=True)
    leaves = [models[leaf] for leaf in tree["leaves"]]
    ticks, labels = _leaf_labels(leaves)
    each = 0.17 if len(leaves) <= MOST_ROWS else max(LEAST_ROW, min(0.13, TALLEST / len(leaves)))
    figure = d.new_figure(5.6, 0.8 + each * len(leaves))
    axes = figure.subplots()
    for across, along in zip(tree["dcoord"], tree["icoord"], strict=True):
        axes.plot(100 * np.array(across), (np.array(along) - 5) / 10, color=d.BEST, lw=0.9)
    axes.set_yticks(ticks, labels, fontsize=min(8.5, 62 * each))
    axes.set_ylim(len(leaves) - 0.5, -0.5)
    axes.set_xlim(left=0)
    axes.invert_xaxis()
    axes.yaxis.tick_right()
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("test examples with another predicted class (%)")
    d.bare(axes, "x")
    return figure


def _leaf_labels(leaves: list[tuple[str, int]]) -> tuple[list[float], list[str]]:
    if len(leaves) <= MOST_ROWS:
        return list(range(len(leaves))), [f"{loss}, seed {seed}" for loss, seed in leaves]
    ticks, labels, start = [], [], 0
    for loss, run in groupby(leaves, key=lambda leaf: leaf[0]):
        size = len(list(run))
        ticks.append(start + (size - 1) / 2)
        labels.append(f"{loss} ({size} seeds)" if size > 1 else loss)
        start += size
    return ticks, labels
