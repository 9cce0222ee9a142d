"""What was followed over training: means over seeds, tables and figures of it, and none of them where nothing was."""

import dataclasses
import math

import numpy as np
import pandas as pd
import pytest
from feature_data import HAND, record

from losstune.analysis.followed import training_measures
from losstune.analysis.report import write_report
from losstune.analysis.results import TRAINING_MEASURES
from losstune.analysis.training_curve_figures import measure_figure, training_curve_figures
from losstune.analysis.training_curves import TITLES, training_curves, training_tables

# Two losses; of b's second seed the measure is not defined in epoch 4.
BIAS = {
    "a": {0: {2: 2.0, 4: 1.0, 5: 0.5}, 1: {2: 1.0, 4: 0.5, 5: 0.25}},
    "b": {0: {2: 2.0, 4: 0.5, 5: 1.5}, 1: {2: 1.0, 4: math.nan, 5: 0.5}},
}


def followed(results, values=BIAS, measures=("margin_bias",), losses=("b", "a")):
    """Results of these losses, in this order, with the values of each measure; rows in no order."""
    rows = [(loss, seed, epoch, measure, value) for measure in measures for loss, seeds in values.items()
            for seed, epochs in seeds.items() for epoch, value in epochs.items()]  # fmt: skip
    frame = pd.DataFrame(rows[::-1], columns=TRAINING_MEASURES)
    return dataclasses.replace(results, training_measures=frame, study={**results.study, "losses": list(losses)})


def test_means_and_ranges_over_seeds_by_hand(results):
    """In the study's order of losses; a seed without a value is left out of its epoch alone."""
    found = training_curves(followed(results))
    assert found.to_dict("split")["data"] == [
        ["b", "margin_bias", 2, 1.5, 1.0, 2.0, 2], ["b", "margin_bias", 4, 0.5, 0.5, 0.5, 1],
        ["b", "margin_bias", 5, 1.0, 0.5, 1.5, 2], ["a", "margin_bias", 2, 1.5, 1.0, 2.0, 2],
        ["a", "margin_bias", 4, 0.75, 0.5, 1.0, 2], ["a", "margin_bias", 5, 0.375, 0.25, 0.5, 2],
    ]  # fmt: skip
    assert found.columns.tolist() == ["loss", "measure", "epoch", "mean", "low", "high", "seeds"]


def test_how_the_bias_went(results):
    """Only down with one loss, down and up again with the other."""
    (table,) = training_tables(training_curves(followed(results)))
    assert table.rows == [
        ["b", "1.5000", "0.5000", "4", "1.0000", "0.5000 to 1.5000"],
        ["a", "1.5000", "0.3750", "5", "0.3750", "0.2500 to 0.5000"],
    ]
    assert training_tables(training_curves(followed(results, measures=("nc1",)))) == []


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_defined_nowhere_has_no_curve(results, value):
    own = followed(results, {"a": {0: {1: value}}, "b": {0: {1: 3.0}}})
    assert training_curves(own)["loss"].tolist() == ["b"]
    nowhere = training_curves(followed(results, {"a": {0: {1: value}}}))
    assert nowhere.empty and training_tables(nowhere) == [] and not list(training_curve_figures(nowhere))


def test_a_loss_that_the_study_has_no_more_is_left_out(results):
    assert set(training_curves(followed(results, losses=["a"]))["loss"]) == {"a"}


def test_measures_are_those_of_the_statistics_by_hand():
    """The four examples of test_collapse and test_separation; the classifier is the identity."""
    found = training_measures(record(*HAND, 2, np.eye(2)))
    assert found["nc1"] == pytest.approx(17 / 169, abs=1e-15)
    # Two centered weights are opposite, and so are two means: a simplex.
    assert (found["nc2"], found["nc3"]) == pytest.approx((0, 0), abs=1e-7)
    # Unit rows (1, 0), (0, 1), (-1, 0), (0, -1): within 1 - 1/2, overall 1.
    assert found["class_separation"] == pytest.approx(0.5, abs=1e-12)
    assert set(found) | {"margin_bias"} == set(TITLES)


@pytest.mark.parametrize("factor", [1, 30])
def test_panels_have_the_same_limits_and_hold_every_seed(results, factor):
    """Also on a log scale, where values span more than a decade."""
    values = {**BIAS, "a": {0: {2: 2.0 * factor, 4: 1.0, 5: 0.5}}}
    figure = measure_figure(training_curves(followed(results, values)), "margin bias")
    limits = {axes.get_ylim() for axes in figure.axes}
    ((low, high),) = limits
    assert low < 0.5 and high > 2 * factor and [axes.get_title("left") for axes in figure.axes] == ["b", "a"]
    assert {axes.get_yscale() for axes in figure.axes} == {"log" if factor > 1 else "linear"}


def test_page_has_them_where_they_were_followed_and_only_there(results, make_results, tmp_path):
    losses = results.study["losses"]
    values = {loss: {seed: {epoch: 1 / epoch + seed / 100 for epoch in (1, 5, 10)} for seed in range(3)}
              for loss in losses}  # fmt: skip
    page = write_report(followed(make_results(), values, tuple(TITLES), losses), tmp_path / "with").read_text()
    assert page.count('id="training-curves"') == 1 and "NC2 and NC3" in page and 'href="#term-margin-bias"' in page
    for measure in TITLES:
        assert (tmp_path / "with" / "figures" / f"training_{measure}.svg").stat().st_size > 5000
        assert (tmp_path / "with" / "figures" / f"training_{measure}.pdf").exists()
    assert "softmax, epoch 10: mean 0.11, 0.1 to 0.12 over 3 seeds" in page
    raw = pd.read_csv(tmp_path / "with" / "training_measures.csv")
    assert len(raw) == len(losses) * 3 * 3 * 5 and raw.columns.tolist() == TRAINING_MEASURES
    plain = write_report(results, tmp_path / "without").read_text()
    assert "training-curves" not in plain and not (tmp_path / "without" / "training_measures.csv").exists()
    assert not list((tmp_path / "without" / "figures").glob("training_*"))
