"""The figures over several data sets: critical-difference diagram, performance profile, score distribution.

Each is built within `drawing.style()`, as the other figures are.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from losstune.analysis import drawing as d
from losstune.analysis.profiles import Profile, ScoreDistribution
from losstune.analysis.ranking import DEFAULT, Ranking

LINE, ROW, BAR = 2.7, 0.22, 0.14
# Inches of a bold character of a loss's name, and of the rank and the gap beside it.
CHARACTER, RANK = 0.088, 0.45
COLUMNS, PANEL = 5, (2.2, 1.95)
MARGINS = {"left": 0.62, "right": 0.1, "bottom": 0.46, "top": 0.28, "between_columns": 0.5, "between_rows": 0.75}


def critical_difference_figure(ranking: Ranking, mode: str = DEFAULT) -> Figure:
    """Average ranks on a line, 1 at the left; a bar joins losses of which no two are separated (Demsar 2006, 3.2.4).

    Dots on a bar mark its members: by Wilcoxon's test a loss between two members need not be one. mode: one of
    `ranking.MODES`; for Nemenyi's the critical difference is drawn above the line. The best set stands out.
    """
    ranks, groups = ranking.table["average_rank"], ranking.groups[mode]
    left = -(-len(ranks) // 2)
    depth = 0.12 + BAR * len(groups)
    top, bottom = 0.86 if mode == "nemenyi" else 0.42, depth + ROW * (left + 0.2)
    side = RANK + CHARACTER * max(map(len, ranks.index))
    margins = {"left": side, "right": side, "bottom": 0.05, "top": top}
    figure = d.new_figure(LINE + 2 * side, top + bottom + 0.05, margins)
    axes = figure.subplots()
    _rank_axis(axes, len(ranks), bottom)
    for place, (loss, rank) in enumerate(ranks.items()):
        row = place if place < left else len(ranks) - 1 - place
        _elbow(axes, loss, rank, depth + ROW * (row + 0.5), place < left, loss in ranking.best_set)
    for place, group in enumerate(groups):
        y = 0.12 + BAR * place
        axes.plot(ranks[[group[0], group[-1]]], [y, y], color=d.INK, lw=2.6, solid_capstyle="round")
        axes.plot(ranks[group], np.full(len(group), y), "o", ms=5, mfc=d.INK, mec=d.PAPER, mew=0.8, clip_on=False)
    if mode == "nemenyi":
        _ruler(axes, ranking.critical_difference, len(ranks))
    return figure


def _rank_axis(axes: Axes, losses: int, bottom: float) -> None:
    """Ranks from 1 along the top; y counts inches below them, to bottom."""
    axes.set_ylim(bottom, 0)
    axes.set_xlim(1, losses)
    axes.xaxis.tick_top()
    axes.xaxis.set_major_locator(MaxNLocator(nbins=min(losses, 9), integer=True))
    axes.set_title("average rank (1 is best)", loc="left", color=d.MUTED, fontsize=9)
    axes.yaxis.set_visible(False)
    axes.grid(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)
    axes.spines["top"].set_visible(True)


def _elbow(axes: Axes, loss: str, rank: float, y: float, left: bool, best: bool) -> None:
    """The line from a rank down and out to the loss's name."""
    edge, gap = (0.0, -0.01) if left else (1.0, 1.01)
    low, high = axes.get_xlim()
    colour = d.BEST if best else d.OTHER
    axes.plot([rank, rank, low + edge * (high - low)], [0, y, y], color=colour, lw=1, clip_on=False)
    axes.text(gap, y, f"{loss}  {rank:.2f}" if left else f"{rank:.2f}  {loss}", transform=axes.get_yaxis_transform(),
              ha="right" if left else "left", va="center_baseline", color=d.INK, fontsize=9,
              fontweight="bold" if best else "normal")  # fmt: skip


def _ruler(axes: Axes, length: float, losses: int) -> None:
    """Nemenyi's critical difference, to scale, above the line, as far as the line reaches; its name above it."""
    end, y = losses - min(length, losses - 1), -0.56
    axes.plot([losses, end], [y, y], "|-", color=d.CHOSEN, lw=1.6, ms=6, clip_on=False)
    more = " (longer than the line)" if length > losses - 1 else ""
    axes.text(losses, y - 0.08, f"critical difference {length:.2f}{more}", ha="right", va="bottom", color=d.MUTED,
              fontsize=8.5)  # fmt: skip


def profile_figure(profile: Profile) -> Figure:
    """Dolan and More's profile, a panel per loss: the share of data sets within each ratio to the best."""
    finite = profile.curves.index.to_numpy()
    end = max(1.02, 1 + 1.05 * (finite.max() - 1))
    # The last step would have no width otherwise.
    curves = pd.concat([profile.curves, profile.curves.iloc[[-1]].set_axis([end])])
    order = list(profile.curves.mean().sort_values(ascending=False, kind="stable").index)

    def draw(axes: Axes, loss: str, own: bool) -> None:
        axes.step(curves.index, curves[loss], where="post", color=d.BEST if own else d.FAINT, lw=2 if own else 0.8)

    return _panels(order, draw, ("ratio to the best", "share of data sets"), (1, end))


def distribution_figure(distribution: ScoreDistribution, scale: float = 1.0, label: str = "score") -> Figure:
    """Run-score distributions, a panel per loss with its interval: the share of runs better than each score.

    scale: what scores are multiplied with for the axis, such as 100 for percent, or -1 for a negated metric.
    """
    shares = distribution.shares
    taus = scale * shares.index.to_numpy()
    order = list(shares.mean().sort_values(ascending=False, kind="stable").index)

    def draw(axes: Axes, loss: str, own: bool) -> None:
        if own:
            axes.fill_between(taus, distribution.low[loss], distribution.high[loss], color=d.SECOND, alpha=0.4, lw=0)
        axes.plot(taus, shares[loss], color=d.BEST if own else d.FAINT, lw=2 if own else 0.8)

    return _panels(order, draw, (label, "share of runs better"), (taus[0], taus[-1]))


def _panels(
    order: list[str], draw: Callable[[Axes, str, bool], None], labels: tuple[str, str], limits: tuple[float, float]
) -> Figure:
    """Small multiples of shares, each loss before all others; draw(axes, loss, whether it is the panel's own)."""
    columns = min(COLUMNS, len(order))
    rows = -(-len(order) // columns)
    figure = d.new_figure(PANEL[0] * columns, PANEL[1] * rows, MARGINS)
    grid = d.panels(figure, rows, columns, MARGINS)
    for place, (axes, loss) in enumerate(zip(grid, order, strict=False)):
        for other in order:
            if other != loss:
                draw(axes, other, False)
        draw(axes, loss, True)
        axes.set_title(loss, loc="left", fontweight="bold")
        axes.set_xlim(*limits)
        axes.set_ylim(-0.02, 1.04)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.xaxis.set_major_formatter(FuncFormatter(d.short_number))
        axes.set_yticks([0, 0.5, 1])
        axes.set_xlabel(labels[0])
        axes.set_ylabel("" if place % columns else labels[1])
        d.bare(axes, "y")
    for axes in grid[len(order) :]:
        axes.set_visible(False)
    return figure
