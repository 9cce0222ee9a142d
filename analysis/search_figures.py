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
from losstune.analysis.results import Results, factor, head, metric_name, show
from losstune.analysis.search_curves import ended_trials
from losstune.spaces import InputError

COLUMNS = 5
MARGINS = {"left": 0.48, "right": 0.12, "bottom": 0.46, "top": 0.56, "between_columns": 0.5, "between_rows": 0.75}
# At most this share of the losses may end below the frame, and only where that doubles the room for the others.
CUT_SHARE = 0.3
# Nothing this near to the best is cut off, of a score in [0, 1].
NEAR = 0.01


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
    chosen another one it has a thin ring, and a line marks that half. A loss that ends below the frame has its last
    score written at the foot. Draw it within `drawing.style`. Raises InputError where no trial has ended.
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
        if results.direction() * (curves[loss][-1] - limits[0]) < 0:
            _write_at_foot(axes, f"at {show(curves[loss][-1] / scale, results.metric)}")
        _finish(axes, loss, quantity, limits)
    for axes in grid[len(shown) :]:
        axes.set_visible(False)
    figure.text(0.01, 1 - 0.04 / figure.get_figheight(), f"best validation {head(results.metric)}", va="top",
                color=d.MUTED)  # fmt: skip
    return figure


def _scaled(best: list[float | None], scale: int) -> np.ndarray:
    return scale * np.array([np.nan if value is None else value for value in best])


def _limits(results: Results, curves: dict[str, np.ndarray]) -> tuple[float, float]:
    """(worst, best) score in view, in the figure's unit: a hopeless loss must not flatten all the others."""
    ends = np.sort(results.direction() * np.array([best[-1] for best in curves.values()]))
    ends = ends[np.isfinite(ends)]
    if not len(ends):
        return 0.0, float(factor(results.metric))
    worst, best, typical = ends[0], ends[-1], ends[int(CUT_SHARE * len(ends))]
    near = max(2 * (best - typical), NEAR * factor(results.metric))
    if near < best - worst:
        worst = ends[best - ends <= near][0]
    room = max(best - worst, 1e-3 * factor(results.metric))
    # More room below, for what the curves rise from.
    return results.direction() * (worst - 0.5 * room), results.direction() * (best + 0.15 * room)


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
    axes.plot(chosen["place"], chosen["shown"], "o", ms=9, mfc="none", mec=d.CHOSEN, mew=2)
    if not row["same"]:
        axes.axvline(row["half"] + 0.5, color=d.MUTED, lw=0.8, ls=":")
        before = own[own["number"] == row["half_number"]]
        axes.plot(before["place"], before["shown"], "o", ms=7, mfc="none", mec=d.INK, mew=1)


def _write_at_foot(axes: Axes, text: str) -> None:
    axes.text(0.97, 0.06, text, ha="right", color=d.BEST, transform=axes.transAxes)


def _finish(axes: Axes, loss: str, quantity: str, limits: tuple[float, float]) -> None:
    axes.set_ylim(min(limits), max(limits))
    if quantity == "configurations":
        last = max(axes.dataLim.x1, 1.0)
        axes.set_xlim(1 - max(0.5, 0.05 * last), last + max(0.5, 0.05 * last))
    axes.set_title(loss, loc="left", fontweight="bold")
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(d.short_number))
    axes.set_xlabel(quantity.replace("_", "-"))
    d.bare(axes, "y")
