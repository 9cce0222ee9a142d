"""Figure of the errors on corrupted images against severity, a panel per corruption."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from losstune.analysis import drawing as d
from losstune.analysis.prediction_figures import small_multiples
from losstune.analysis.robustness import MeasuredRobustness

PANEL = (2.15, 2.0)
MOST_COLUMNS = 5


def robustness_figures(found: MeasuredRobustness) -> Iterator[tuple[str, str, str, Figure, bool]]:
    """As `figures.draw` takes them."""
    if found.errors.empty:
        return
    names = list(found.errors["corruption"].unique())
    together = small_multiples(names, PANEL, MOST_COLUMNS, partial(_errors, found))
    yield "corruptions", "", "Error against severity, by corruption", together, True
    for name in names:
        figure = small_multiples([name], PANEL, 1, partial(_errors, found))
        yield f"corruption_{name}", "corruptions", f"Error against severity of {name}", figure, False


def most_robust(found: MeasuredRobustness) -> str:
    """The loss with the lowest mean error on corrupted images."""
    return found.members.groupby("loss", sort=False)["corrupted"].mean().idxmin()


def _errors(found: MeasuredRobustness, axes: Axes, name: str) -> None:
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
