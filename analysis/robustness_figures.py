"""Figure of the errors on corrupted images against severity, a panel per corruption."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from losstune.analysis import drawing as d
from losstune.analysis.robustness import MeasuredRobustness

PANEL = (2.15, 2.0)
MARGINS = {"left": 0.5, "right": 0.1, "bottom": 0.46, "top": 0.28, "between_columns": 0.45, "between_rows": 0.75}
MOST_COLUMNS = 5


def robustness_figures(found: MeasuredRobustness) -> Iterator[tuple[str, str, str, Figure, bool]]:
    """As `figures.draw` takes them."""
    if found.errors.empty:
        return
    names = list(found.errors["corruption"].unique())
    yield "corruptions", "", "Error against severity, by corruption", corruptions_figure(found, names), True
    for name in names:
        figure = d.new_figure(*PANEL, MARGINS)
        _errors(figure.subplots(), found, name)
        yield f"corruption_{name}", "corruptions", f"Error against severity of {name}", figure, False


def most_robust(found: MeasuredRobustness) -> str:
    """The loss with the lowest mean error on corrupted images."""
    return found.members.groupby("loss", sort=False)["corrupted"].mean().idxmin()


def corruptions_figure(found: MeasuredRobustness, names: list[str]) -> Figure:
    """All panels, for print."""
    columns = min(MOST_COLUMNS, len(names))
    rows = -(-len(names) // columns)
    figure = d.new_figure(PANEL[0] * columns, PANEL[1] * rows, MARGINS)
    grid = d.panels(figure, rows, columns, MARGINS)
    for axes, name in zip(grid, names, strict=False):
        _errors(axes, found, name)
    for axes in grid[len(names) :]:
        axes.set_visible(False)
    return figure


def _errors(axes: Axes, found: MeasuredRobustness, name: str) -> None:
    """Mean error of each loss over seeds; severity 0 is the image as it is."""
    own = found.errors[found.errors["corruption"] == name]
    means = own.pivot_table(index="severity", columns="loss", values="error", sort=False) * 100
    best = most_robust(found)
    colours = {found.baseline: (d.CHOSEN, (0, (3, 2))), best: (d.BEST, "-")}  # the best stands out if it is both
    for loss in sorted(means.columns, key=lambda loss: (loss in colours, loss == best)):
        colour, dashes = colours.get(loss, (d.FAINT, "-"))
        (line,) = axes.plot(means.index, means[loss], color=colour, ls=dashes, lw=1.8 if loss in colours else 1.0)
        d.hover(line, f"{loss}: {_range(means[loss])}")
    axes.set_title(name.replace("_", " "), loc="left", fontweight="bold")
    axes.set_xlabel("severity")
    axes.set_ylabel("error (%)")
    axes.set_ylim(bottom=0)
    axes.set_xticks(range(6))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    d.bare(axes, "y")


def _range(errors: pd.Series) -> str:
    return f"error {errors.iloc[0]:.2f} % as it is, {errors.iloc[-1]:.2f} % at severity {errors.index[-1]}"
