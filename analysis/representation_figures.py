"""Figures of what the recorded features say: spectra of the activations and similarity between layers."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from losstune.analysis import drawing as d
from losstune.analysis.represented import Represented

MARGINS = {"left": 0.5, "right": 0.1, "bottom": 0.46, "top": 0.28, "between_columns": 0.5, "between_rows": 0.75}
COLUMNS = 5
SMALLEST = 1e-4  # of the largest singular value: what lies below is not drawn
LONGEST = 22  # letters of a layer's name


def representation_figures(found: Represented) -> Iterator[tuple[str, str, str, Figure, bool]]:
    """As `figures.draw` takes them."""
    if found.spectra:
        text = "Singular values of the centered penultimate activations over the largest one, by loss"
        yield "spectra", "spectra", text, spectra_figure(found), True
    if any(len(own) > 1 for own in found.by_layer.values()):
        text = "Debiased linear CKA between layers of different seeds, by loss"
        yield "layers", "layers", text, layers_figure(found), True


def _grid(names: list[str], side: float) -> tuple[Figure, Iterator[tuple[str, Axes]]]:
    """A panel for each name, as wide as high or wider."""
    columns = min(COLUMNS, len(names))
    rows = -(-len(names) // columns)
    figure = d.new_figure(2.2 * columns, side * rows, MARGINS)
    grid = d.panels(figure, rows, columns, MARGINS)
    for axes in grid[len(names) :]:
        axes.set_visible(False)
    return figure, zip(names, grid, strict=False)


def spectra_figure(found: Represented) -> Figure:
    """Each loss's mean spectrum before those of all others."""
    figure, panels = _grid(list(found.spectra), 1.95)
    for loss, axes in panels:
        for other, values in found.spectra.items():
            if other != loss:
                axes.plot(np.arange(1, len(values) + 1), values, color=d.FAINT, lw=0.8)
        own = found.spectra[loss]
        axes.plot(np.arange(1, len(own) + 1), own, color=d.BEST, lw=2)
        axes.set_yscale("log")
        axes.set_ylim(SMALLEST, 1.5)
        axes.yaxis.set_major_locator(LogLocator(numticks=5))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.set_title(loss, loc="left", fontweight="bold")
        axes.set_xlabel("singular value, in order")
        d.bare(axes, "y")
    return figure


def layers_figure(found: Represented) -> Figure:
    """Layers by layers for each loss, the darker the more alike; the first layer on top and left."""
    shown = {loss: own for loss, own in found.by_layer.items() if len(own) > 1}
    figure, panels = _grid(list(shown), 2.4)
    for loss, axes in panels:
        _matrix(axes, shown[loss])
        axes.set_title(loss, loc="left", fontweight="bold")
    return figure


def _matrix(axes: Axes, alike: pd.DataFrame) -> None:
    """Squares instead of an image, so that they take the page's colours; opacity is the value."""
    size = len(alike)
    for row in range(size):
        for column in range(size):
            value = float(alike.iloc[row, column])
            square = Rectangle((column - 0.5, row - 0.5), 1, 1, color=d.BEST, alpha=min(max(value, 0.0), 1.0), lw=0)
            axes.add_patch(square)
            d.hover(square, f"{alike.index[row]} and {alike.columns[column]}: {value:.3f}")
    axes.set_xlim(-0.5, size - 0.5)
    axes.set_ylim(size - 0.5, -0.5)
    axes.set_aspect("equal")
    axes.grid(False)
    axes.set_xticks([])
    step = max(1, size // 10)
    axes.set_yticks(range(0, size, step), [str(name)[:LONGEST] for name in alike.index[::step]], fontsize=6.5)
