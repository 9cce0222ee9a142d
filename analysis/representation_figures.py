"""Figures of what the recorded features say: distances, hardness, spectra of activations, similarity between layers."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from losstune.analysis import drawing as d
from losstune.analysis.prediction_figures import small_multiples
from losstune.analysis.represented import Distribution, Represented
from losstune.analysis.results import with_minus
from losstune.analysis.separation import DISTANCE_BINS

PANEL = (2.2, 1.95)
TOP = 0.38  # inches of text above the panels
COLUMNS = 5
KINDS = "the same class", "different classes"
HARDNESS_BINS = 40
MOST_SHOWN = 0.999  # of what is distributed lies within the panels
SMALLEST = 1e-4  # of the largest singular value: what lies below is not drawn
LONGEST = 22  # letters of a layer's name


def representation_figures(found: Represented) -> Iterator[tuple[str, str, str, Figure, bool]]:
    """As `figures.draw` takes them."""
    if found.distances is not None:
        text = "Cosine distances between examples of one class and of different classes, by loss"
        yield "cosine_distances", "separation", text, distances_figure(found.distances), True
    if found.hardness is not None and any(map(len, itertools.chain(*found.hardness.by_loss.values()))):
        text = "Angular visual hardness of examples, by loss"
        yield "angular_visual_hardness", "separation", text, hardness_figure(found.hardness), True
    if found.spectra:
        text = "Singular values of the centered penultimate activations over the largest one, by loss"
        yield "spectra", "spectra", text, spectra_figure(found), True
    if any(len(own) > 1 for own in found.by_layer.values()):
        text = "Debiased linear CKA between layers of different seeds, by loss"
        yield "layers", "layers", text, layers_figure(found), True


def distances_figure(found: Distribution) -> Figure:
    """How far examples of one class, and of different ones, lie apart for each loss; every curve to its own height."""
    counts = {loss: np.sum(own, axis=0) for loss, own in found.by_loss.items()}
    pooled = sum(counts.values()).sum(axis=0)
    last = int(np.searchsorted(np.cumsum(pooled), MOST_SHOWN * pooled.sum())) + 1
    edges = np.linspace(0, 2, DISTANCE_BINS + 1)

    def draw(axes: Axes, loss: str) -> None:
        for own, kind, colour, dashes in zip(counts[loss], KINDS, (d.BEST, d.CHOSEN), ("-", (0, (3, 2))), strict=True):
            if own.any():
                mean = (own * (edges[:-1] + edges[1:]) / 2).sum() / own.sum()
                steps = axes.stairs(own / own.max(), edges, color=colour, ls=dashes, lw=1.6)
                d.hover(steps, f"{loss}, {kind}: mean distance {mean:.2f}, {own.sum():,} pairs")
        axes.set_xlim(0, edges[last])
        axes.set_yticks([])
        _finish(axes, loss, "cosine distance")

    text = f"pairs of {_examples(found)}\nsolid: {KINDS[0]}; dashed: {KINDS[1]}"
    return _titled(small_multiples(list(counts), PANEL, COLUMNS, draw, TOP), text)


def hardness_figure(found: Distribution) -> Figure:
    """How hard the examples are by their angles, each loss before all others."""
    values = {loss: np.concatenate(own) for loss, own in found.by_loss.items()}
    values = {loss: own for loss, own in values.items() if len(own)}
    pooled = np.concatenate(list(values.values()))
    edges = np.histogram_bin_edges(pooled, HARDNESS_BINS, (pooled.min(), np.quantile(pooled, MOST_SHOWN)))
    shares = {loss: 100 * np.histogram(own, edges)[0] / len(own) for loss, own in values.items()}

    def draw(axes: Axes, loss: str) -> None:
        for other in shares:
            if other != loss:
                axes.stairs(shares[other], edges, color=d.FAINT, lw=0.8)
        steps = axes.stairs(shares[loss], edges, color=d.BEST, lw=1.6)
        d.hover(steps, f"{loss}: mean {values[loss].mean():.4g}, {len(values[loss]):,} examples")
        _finish(axes, loss, "angular visual hardness")

    text = f"share (%) of {_examples(found)}\nfaint: the other losses"
    return _titled(small_multiples(list(values), PANEL, COLUMNS, draw, TOP), text)


def _examples(found: Distribution) -> str:
    seeds, of = max(map(len, found.by_loss.values())), "training" if found.split == "train" else "test"
    return f"{found.examples:,} {of} examples" + (f", {seeds} seeds" if seeds > 1 else "")


def _titled(figure: Figure, text: str) -> Figure:
    width, height = figure.get_size_inches()
    figure.text(0.1 / width, 1 - 0.08 / height, text, va="top", color=d.MUTED)
    return figure


def _finish(axes: Axes, loss: str, of: str) -> None:
    axes.set_ylim(bottom=0)
    axes.set_title(loss, loc="left", fontweight="bold")
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_formatter(FuncFormatter(d.short_number))
    axes.set_xlabel(of)
    d.bare(axes, "y")


def spectra_figure(found: Represented) -> Figure:
    """Each loss's mean spectrum before those of all others."""

    def draw(axes: Axes, loss: str) -> None:
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

    return small_multiples(list(found.spectra), PANEL, COLUMNS, draw)


def layers_figure(found: Represented) -> Figure:
    """Layers by layers for each loss, the darker the more alike; the first layer on top and left."""
    shown = {loss: own for loss, own in found.by_layer.items() if len(own) > 1}

    def draw(axes: Axes, loss: str) -> None:
        _matrix(axes, shown[loss])
        axes.set_title(loss, loc="left", fontweight="bold")

    return small_multiples(list(shown), (2.2, 2.4), COLUMNS, draw)


def _matrix(axes: Axes, alike: pd.DataFrame) -> None:
    """Squares instead of an image, so that they take the page's colours; opacity is the value."""
    size = len(alike)
    for row in range(size):
        for column in range(size):
            value = float(alike.iloc[row, column])
            square = Rectangle((column - 0.5, row - 0.5), 1, 1, color=d.BEST, alpha=min(max(value, 0.0), 1.0), lw=0)
            axes.add_patch(square)
            d.hover(square, f"{alike.index[row]} and {alike.columns[column]}: {with_minus(f'{value:.3f}')}")
    axes.set_xlim(-0.5, size - 0.5)
    axes.set_ylim(size - 0.5, -0.5)
    axes.set_aspect("equal")
    axes.grid(False)
    axes.set_xticks([])
    step = max(1, size // 10)
    axes.set_yticks(range(0, size, step), [str(name)[:LONGEST] for name in alike.index[::step]], fontsize=6.5)
