"""The report's figures, each drawn once and kept as SVG and PDF."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from html import escape

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from scipy import stats

from losstune.analysis import drawing as d
from losstune.analysis.hyperplots import hyperparameter_figure
from losstune.analysis.looks import level_of
from losstune.analysis.results import Results, difference_unit, factor, head, metric_name, show, show_p

WIDTH = 4.2
PANEL = (2.15, 1.75)
MARGINS = {"left": 0.48, "right": 0.1, "bottom": 0.46, "top": 0.28, "between_columns": 0.5, "between_rows": 0.75}


@dataclass(frozen=True)
class Drawn:
    """A finished figure. group: the section of the page it belongs to; pdf: None for figures of the page only."""

    name: str
    group: str
    description: str
    svg: str
    pdf: bytes | None

    def inline(self) -> str:
        """The SVG as an element of the page."""
        return d.inline(self.svg, self.name, escape(self.description, quote=True))


def draw_all(results: Results, frame: pd.DataFrame) -> list[Drawn]:
    """Every figure of the scores and the search; frame: `tables.results_frame`."""
    return draw(_figures(results, frame))


def draw(figures: Iterable[tuple[str, str, str, Figure, bool]]) -> list[Drawn]:
    """Draw figures, which are made on the way: (name, group, description, figure, whether it is a file of its own too).

    The same figures give the same bytes.
    """
    with d.style():
        return [
            Drawn(name, group, text, d.to_svg(figure), d.to_pdf(figure) if kept else None)
            for name, group, text, figure, kept in figures
        ]


def _figures(results: Results, frame: pd.DataFrame) -> Iterator[tuple[str, str, str, Figure, bool]]:
    """Those of the scores and the search, as `draw` takes them."""
    metric = metric_name(results.metric)
    yield "score", "score", f"Test {metric} per loss, {results.rows} as points", score_figure(results, frame), True
    if frame["p"].notna().any():
        text = f"Difference in test {metric} to the best mean, simultaneous intervals"
        yield "difference", "score", text, difference_figure(results, frame), True
    curves = mean_curves(results)
    if curves:
        text = f"Validation {metric} by epoch of the chosen configurations"
        order = [loss for loss in _ranked(results, frame) if loss in curves]
        yield "learning_curves", "", text, curves_figure(results, curves, order), True
        for loss in order:
            text = f"Validation {metric} by epoch, {loss}"
            yield f"learning_curve_{loss}", "curves", text, curve_panel(results, curves, loss), False
    for loss in _ranked(results, frame):
        if (results.trials["loss"] == loss).any():
            text = f"Hyperparameters of {loss} against validation {metric}"
            figure = hyperparameter_figure(results, loss)
            yield f"hyperparameters_{loss}", "hyperparameters", text, figure, True
    for quantity in ("member_epochs", "slot_seconds"):
        name = quantity.replace("_", "-")
        figure = budget_figure(results, frame, quantity)
        yield f"budget_{quantity}", "budget", f"{name} per loss and phase", figure, True


def _ranked(results: Results, frame: pd.DataFrame) -> list[str]:
    """Every loss of the study, in the order of the table; those without a confirmed run last."""
    return [*frame["loss"], *(loss for loss in results.study["losses"] if loss not in set(frame["loss"]))]


def _rows(axes: Axes, losses: list[str], bold: set[str], baseline: str | None) -> None:
    """Losses down the y axis, the first on top; bold ones stand out, the baseline says so."""
    labels = [f"{loss} (baseline)" if loss == baseline else loss for loss in losses]
    axes.set_yticks(range(len(losses)), labels)
    axes.set_ylim(len(losses) - 0.4, -0.6)
    for label, loss in zip(axes.get_yticklabels(), losses, strict=True):
        label.set_color(d.INK)
        label.set_fontweight("bold" if loss in bold else "normal")
    d.bare(axes, "x")


def _height(rows: int) -> float:
    return 0.95 + 0.29 * rows


def _failed(results: Results, loss: str) -> bool:
    """Whether a confirmed seed of the loss failed: its constant predictor must not set the scale for all others."""
    return bool(((results.members["loss"] == loss) & (results.members["state"] == "failed")).any())


def _frame(axes: Axes, low: float, high: float) -> None:
    """Limit the x axis to low..high with some room, and mark at the edge each mean that lies outside."""
    room = 0.05 * max(high - low, 1e-6)
    axes.set_xlim(low - room, high + room)
    for line in list(axes.lines):
        x, y = line.get_xdata(), line.get_ydata()
        if line.get_markersize() == 7 and not low - room <= x[0] <= high + room:
            edge, marker = (0.015, "<") if x[0] < low else (0.985, ">")
            axes.plot(edge, y[0], marker, ms=6, color=line.get_markeredgecolor(),
                      transform=axes.get_yaxis_transform(), clip_on=False)  # fmt: skip


def score_figure(results: Results, frame: pd.DataFrame) -> Figure:
    """Mean and 95% t interval of each loss, its seeds as points; the best set is filled."""
    figure = d.new_figure(WIDTH, _height(len(frame)))
    axes, scale = figure.subplots(), factor(results.metric)
    scores = results.direction() * results.score_matrix() * scale
    best = set(frame.loc[frame["in_best_set"], "loss"])
    frame = frame[frame["mean"].notna()]
    intact = [loss for loss in frame["loss"] if not _failed(results, loss)] or list(frame["loss"])
    low, high = scores[intact].min().min(), scores[intact].max().max()
    for place, loss in enumerate(frame["loss"]):
        seeds = scores[loss].dropna().sort_values(kind="stable")
        colour = d.BEST if loss in best else d.OTHER
        mean = seeds.mean()
        # Equal scores are spread downwards from the mean's line, so that none hides another.
        rank = seeds.groupby(seeds.round(9).to_numpy()).cumcount()
        for seed, score in seeds.items():
            y = place + 0.2 + 0.08 * min(rank[seed], 4)
            (point,) = axes.plot(score, y, "o", ms=3.4, color=colour, alpha=0.55, mew=0)
            d.hover(point, f"{loss}, {'search' if results.rows == 'searches' else 'seed'} {seed}: "
                           f"{show(score / scale, results.metric)}")  # fmt: skip
        half = stats.t.isf(0.025, len(seeds) - 1) * seeds.std(ddof=1) / np.sqrt(len(seeds)) if len(seeds) > 1 else 0.0
        axes.plot([mean - half, mean + half], [place, place], color=colour, lw=2.2, solid_capstyle="butt")
        (dot,) = axes.plot(mean, place, "o", ms=7, mfc=colour if loss in best else d.PAPER, mec=colour, mew=1.6)
        said, low_end, high_end = (show(value / scale, results.metric) for value in (mean, mean - half, mean + half))
        d.hover(dot, f"{loss}: mean {said}, 95% interval {low_end} to {high_end}")
        low, high = (min(low, mean - half), max(high, mean + half)) if loss in intact else (low, high)
    _frame(axes, low, high)
    _rows(axes, list(frame["loss"]), best, results.study.get("baseline"))
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.set_xlabel(f"test {head(results.metric)}: mean, 95% interval, {results.rows}", loc="right")
    return figure


def difference_figure(results: Results, frame: pd.DataFrame) -> Figure:
    """Difference of each loss to the best mean with its simultaneous interval; zero is the best mean."""
    figure = d.new_figure(WIDTH, _height(len(frame)))
    axes, scale = figure.subplots(), factor(results.metric)
    best = set(frame.loc[frame["in_best_set"], "loss"])
    axes.axvline(0, color=d.MUTED, lw=1)
    frame, ends = frame[frame["difference"].notna()], [0.0]
    for place, row in enumerate(frame.to_dict("records")):
        colour = d.BEST if row["loss"] in best else d.OTHER
        if np.isfinite([row["ci_low"], row["ci_high"]]).all():
            axes.plot([scale * row["ci_low"], scale * row["ci_high"]], [place, place], color=colour, lw=2.2)
            ends += [scale * row["ci_low"], scale * row["ci_high"]] if not _failed(results, row["loss"]) else []
        (dot,) = axes.plot(scale * row["difference"], place, "o", ms=7, mew=1.6, mec=colour,
                           mfc=colour if row["loss"] in best else d.PAPER)  # fmt: skip
        d.hover(dot, f"{row['loss']}: {show(row['difference'], results.metric, sign=True)}"
                     f"{difference_unit(results.metric)} to the best mean, p {show_p(row['p'])}")  # fmt: skip
    rope = results.study["confirm"].get("rope")
    if rope:
        axes.axvspan(-scale * rope, scale * rope, color=d.GRID, lw=0)
    if max(ends) > min(ends):
        _frame(axes, min(ends), max(ends))
    _rows(axes, list(frame["loss"]), best, results.study.get("baseline"))
    axes.xaxis.set_major_locator(MaxNLocator(6))
    level = f"{100 * (1 - level_of(results)):.4g}%"
    amount = difference_unit(results.metric).strip() or metric_name(results.metric)
    worse = " (negative is worse)" if results.direction() < 0 else ""
    axes.set_xlabel(f"{amount} to the best mean, {level} simultaneous{worse}", loc="right")
    return figure


def mean_curves(results: Results) -> dict[str, pd.Series]:
    """Per loss the validation metric by epoch of its chosen configuration, mean over the confirmed seeds.

    Where confirm recorded no curve, the chosen trial's own.
    """
    curves, found = results.curves, {}
    for loss in results.study["losses"]:
        own = curves[(curves["loss"] == loss) & (curves["phase"] == "confirm")]
        chosen = results.chosen(loss)
        if own["value"].isna().all() and chosen is not None:
            own = curves[(curves["loss"] == loss) & (curves["phase"] == "search")]
            own = own[own["trial"] == chosen["number"]]
        mean = own.groupby("epoch")["value"].mean().dropna()
        if len(mean):
            found[loss] = mean * factor(results.metric)
    return found


def curve_panel(results: Results, curves: dict[str, pd.Series], loss: str) -> Figure:
    """One loss's learning curve before those of all others."""
    figure = d.new_figure(*PANEL, MARGINS)
    _draw_curve(figure.subplots(), results, curves, loss)
    return figure


def curves_figure(results: Results, curves: dict[str, pd.Series], order: list[str]) -> Figure:
    """All learning curves as small multiples, for print."""
    columns = min(5, len(order))
    rows = -(-len(order) // columns)
    figure = d.new_figure(2.2 * columns, 1.95 * rows, MARGINS)
    grid = d.panels(figure, rows, columns, MARGINS)
    for axes, loss in zip(grid, order, strict=False):
        _draw_curve(axes, results, curves, loss)
    for axes in grid[len(order) :]:
        axes.set_visible(False)
    return figure


def _draw_curve(axes: Axes, results: Results, curves: dict[str, pd.Series], loss: str) -> None:
    for other, curve in curves.items():
        if other != loss:
            axes.plot(curve.index, curve, color=d.FAINT, lw=0.8)
    own = curves[loss]
    axes.plot(own.index, own, color=d.BEST, lw=2)
    axes.plot(own.index[-1], own.iloc[-1], "o", color=d.BEST, ms=4)
    # The first epochs of a run would press everything that matters into one line.
    values = results.direction() * np.concatenate([curve.to_numpy() for curve in curves.values()])
    low, high = np.quantile(values, 0.25), values.max()
    ends = results.direction() * np.array([low - 0.02 * (high - low), high + 0.08 * (high - low)])
    if high > low:
        axes.set_ylim(ends.min(), ends.max())
        best = (results.direction() * own).max()
        if best < low:  # else the panel would look as if the loss had no curve
            text = f"outside the frame,\nat best {d.short_number(round(results.direction() * best, 2))}"
            axes.text(0.06, 0.45, text, color=d.BEST, transform=axes.transAxes)
    axes.set_title(loss, loc="left", fontweight="bold")
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.yaxis.set_major_formatter(FuncFormatter(d.short_number))
    axes.set_xlabel("epoch")
    d.bare(axes, "y")


def budget_figure(results: Results, frame: pd.DataFrame, quantity: str) -> Figure:
    """Bars per loss, search and confirm stacked."""
    spent = results.budget.pivot_table(index="loss", columns="phase", values=quantity, aggfunc="sum").fillna(0.0)
    losses = [loss for loss in _ranked(results, frame) if loss in spent.index]
    figure = d.new_figure(WIDTH, _height(len(losses)) + 0.2)
    axes, left = figure.subplots(), np.zeros(len(losses))
    for phase, colour in (("search", d.BEST), ("confirm", d.SECOND)):
        if phase in spent:
            width = spent.loc[losses, phase].to_numpy()
            bars = axes.barh(range(len(losses)), width, left=left, height=0.62, color=colour, label=phase, linewidth=0)
            for bar, loss, amount in zip(bars, losses, width, strict=True):
                d.hover(bar, f"{loss}, {phase}: {amount:,.6g} {quantity.replace('_', '-')}")
            left = left + width
    _rows(axes, losses, set(), results.study.get("baseline"))
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
    axes.set_xlabel(quantity.replace("_", "-"))
    figure.legend(loc="outside upper left", ncols=2, borderpad=0, handlelength=1.2)
    return figure
