"""The figures show the numbers that they were given, in the colours of all figures."""

import re

import numpy as np
import pandas as pd
import pytest

from losstune.analysis import drawing as d
from losstune.analysis.profiles import performance_profile, score_distribution
from losstune.analysis.ranking import MODES, rank_losses
from losstune.analysis.ranking_figures import critical_difference_figure, distribution_figure, profile_figure

LOSSES = ["softmax", "label_smoothing", "cosine_softmax", "sigmoid", "squared_error"]


@pytest.fixture(scope="module")
def means():
    noise = np.random.default_rng(0).normal(0, 0.004, (14, 5))
    return pd.DataFrame(0.9 + noise + [0, 0.004, 0.02, 0.005, -0.03], columns=LOSSES)


@pytest.fixture(scope="module")
def ranking(means):
    return rank_losses(means)


def svg_of(figure):
    svg = d.to_svg(figure)
    colours = set(re.findall(r"#[0-9a-f]{6}\b", svg))
    assert colours <= set(d.VARIABLES), colours - set(d.VARIABLES)
    return svg


@pytest.mark.parametrize("mode", MODES)
def test_critical_difference_diagram(ranking, mode):
    with d.style():
        figure = critical_difference_figure(ranking, mode)
        svg = svg_of(figure)
    axes = figure.axes[0]
    for loss, rank in ranking.table["average_rank"].items():
        assert loss in svg and f"{rank:.2f}" in svg
        assert sum(line.get_xdata()[0] == rank and len(line.get_xdata()) == 3 for line in axes.lines) >= 1
    bars = [line for line in axes.lines if line.get_linewidth() == 2.6]
    ends = [tuple(ranking.table["average_rank"][[group[0], group[-1]]]) for group in ranking.groups[mode]]
    assert [tuple(bar.get_xdata()) for bar in bars] == ends
    assert len({tuple(bar.get_ydata()) for bar in bars}) == len(bars)
    assert ("critical difference" in svg) == (mode == "nemenyi")
    bold = {text.get_text() for text in axes.texts if text.get_fontweight() == "bold"}
    assert len(bold) == len(ranking.best_set) and all(any(loss in text for text in bold) for loss in ranking.best_set)


@pytest.mark.parametrize(("blocks", "names"), [(3, LOSSES), (14, LOSSES), (3, list("abcde")), (6, list("abcde"))])
def test_nothing_in_the_diagram_overlaps(means, blocks, names):
    with d.style():
        # With three blocks the critical difference is as long as the line.
        figure = critical_difference_figure(rank_losses(means.iloc[:blocks].set_axis(names, axis=1)), "nemenyi")
        d.to_svg(figure)
        axes = figure.axes[0]
        written = [*axes.texts, axes._left_title, *axes.get_xticklabels()]
        boxes = [text.get_window_extent() for text in written if text.get_text()]
        (ruler,) = (line.get_window_extent() for line in axes.lines if line.get_marker() == "|")
    assert not any(box.y0 < ruler.y1 + 1 and ruler.y0 - 1 < box.y1 and box.x0 < ruler.x1 and ruler.x0 < box.x1
                   for box in boxes)  # fmt: skip
    assert not any(a.overlaps(b) for k, a in enumerate(boxes) for b in boxes[:k])
    width, height = figure.bbox.width, figure.bbox.height
    assert all(0 <= box.x0 and box.x1 <= width and 0 <= box.y0 and box.y1 <= height for box in boxes)


def test_profile_panels(means):
    profile = performance_profile(1 - means)
    with d.style():
        figure = profile_figure(profile)
        svg_of(figure)
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title(loc="left") for axes in shown][0] == "cosine_softmax" and len(shown) == 5
    for axes in shown:
        own = axes.lines[-1]
        assert own.get_ydata()[:-1].tolist() == profile.curves[axes.get_title(loc="left")].tolist()


def test_a_profile_without_any_ratio_but_one():
    with d.style():
        figure = profile_figure(performance_profile(pd.DataFrame({"a": [1.0], "b": [1.0]})))
    assert figure.axes[0].get_xlim() == (1, 1.02)


def test_distribution_panels(means):
    scores = pd.concat([
        means.rename_axis("block").reset_index().melt("block", var_name="loss", value_name="score").assign(seed=seed)
        for seed in range(3)
    ])  # fmt: skip
    found = score_distribution(scores, draws=50)
    with d.style():
        figure = distribution_figure(found, 100, "accuracy (%)")
        svg = svg_of(figure)
    assert "accuracy (%)" in svg and svg.count("share of runs better") == 1
    first = figure.axes[0]
    assert first.lines[-1].get_ydata().tolist() == found.shares["cosine_softmax"].tolist()
    assert first.get_xlim() == pytest.approx((100 * means.min().min(), 100 * means.max().max()))
