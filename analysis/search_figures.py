"""The best validation score of each loss against its budget, as small multiples."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from losstune.analysis import drawing as d
from losstune.analysis.results import Results, factor, head, metric_name
from losstune.analysis.search_curves import ended_trials
from losstune.spaces import InputError

COLUMNS = 5
MARGINS = {"left": 0.48, "right": 0.12, "bottom": 0.46, "top": 0.56, "between_columns": 0.5, "between_rows": 0.75}
# The worst of this share of all curve points would press the rest into one line.
CUT_SHARE = 0.25


def search_figures(results: Results, found: dict[str, Any]) -> Iterator[tuple[str, str, str, Figure, bool]]:
    """As `figures.draw` takes them; found: what `search_honesty` gives."""
    if found["curves"]:
        text = f"Best validation {metric_name(results.metric)} of each loss against its configurations"
        yield "best_against_budget", "honesty", text, search_figure(results, found), True


def search_figure(
    results: Results, found: dict[str, Any], order: list[str] | None = None, quantity: str = "configurations"
) -> Figure:
    """Each loss's best validation score against its budget, before those of all others.

    found: what `search_honesty` gives; order: losses in the order of the panels (the study's by default), those
    without a curve are left out; quantity: "configurations" or "member_epochs". Against configurations the
    full-length trials are dots, in order of number, the chosen one ringed; where half of the configurations would have
    chosen another one it has a thin ring, and a line marks that half. Draw it within `drawing.style`. Raises
    InputError where no trial has ended.
    """
    shown = [loss for loss in order or found["curves"] if loss in found["curves"]]
    if not shown:
        raise InputError("search: no trial has ended; needed: at least one")
    columns, scale = min(COLUMNS, len(shown)), factor(results.metric)
    rows = -(-len(shown) // columns)
    figure = d.new_figure(2.2 * columns, 1.95 * rows + 0.28, MARGINS)
    grid = d.panels(figure, rows, columns, MARGINS)
    curves = {loss: _scaled(curve["best"], scale) for loss, curve in found["curves"].items()}
    trials, limits = ended_trials(results), _limits(results, curves)
    halves = {row["loss"]: row for row in (found["half_budget"] or {"losses": []})["losses"]}
    for axes, loss in zip(grid, shown, strict=False):
        _draw(axes, found["curves"], curves, loss, quantity)
        if quantity == "configurations":
            _draw_trials(axes, trials[loss], halves.get(loss), scale)
        _finish(axes, loss, quantity, limits)
    for axes in grid[len(shown) :]:
        axes.set_visible(False)
    figure.text(0.01, 1 - 0.04 / figure.get_figheight(), f"best validation {head(results.metric)}", va="top",
                color=d.MUTED)  # fmt: skip
    return figure


def _scaled(best: list[float | None], scale: int) -> np.ndarray:
    return scale * np.array([np.nan if value is None else value for value in best])


def _limits(results: Results, curves: dict[str, np.ndarray]) -> tuple[float, float] | None:
    """The y axis in the figure's unit, or None where no curve says anything."""
    values = results.direction() * np.concatenate(list(curves.values()))
    values = values[np.isfinite(values)]
    if not len(values):
        return None
    low, high = np.quantile(values, CUT_SHARE), values.max()
    room = max(high - low, 1e-3 * factor(results.metric))
    ends = results.direction() * np.array([low - 0.15 * room, high + 0.12 * room])
    return float(ends.min()), float(ends.max())


def _draw(axes: Axes, found: dict[str, Any], curves: dict[str, np.ndarray], loss: str, quantity: str) -> None:
    for other, best in curves.items():
        if other != loss:
            axes.plot(found[other][quantity], best, color=d.FAINT, lw=0.8, drawstyle=_style(found[other]))
    own, best = found[loss], curves[loss]
    axes.plot(own[quantity], best, color=d.BEST, lw=2, drawstyle=_style(own))
    axes.plot(own[quantity][-1:], best[-1:], "o", color=d.BEST, ms=4)


def _style(curve: dict[str, Any]) -> str:
    """A path that was realized rises in steps."""
    return "steps-post" if curve["kind"] == "realized" else "default"


def _draw_trials(axes: Axes, own: pd.DataFrame, row: dict[str, Any] | None, scale: int) -> None:
    own = own.assign(place=np.arange(1, len(own) + 1), shown=scale * own["score"].astype(float))
    full = own[(own["state"] == "complete") & own["value"].notna()]
    axes.plot(full["place"], full["shown"], "o", ms=3.4, color=d.OTHER, mew=0)
    if row is None:
        return
    chosen = own[own["number"] == row["number"]]
    axes.plot(chosen["place"], chosen["shown"], "o", ms=9, mfc="none", mec=d.CHOSEN, mew=2, clip_on=False)
    if not row["same"]:
        axes.axvline(row["half"] + 0.5, color=d.MUTED, lw=0.8, ls=":")
        before = own[own["number"] == row["half_number"]]
        axes.plot(before["place"], before["shown"], "o", ms=7, mfc="none", mec=d.INK, mew=1)


def _finish(axes: Axes, loss: str, quantity: str, limits: tuple[float, float] | None) -> None:
    if limits is not None:
        axes.set_ylim(*limits)
    if quantity == "configurations":
        axes.set_xlim(left=0.5, right=max(axes.get_xlim()[1], 1.5))
    axes.set_title(loss, loc="left", fontweight="bold")
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(d.short_number))
    axes.set_xlabel(quantity.replace("_", "-"))
    d.bare(axes, "y")
