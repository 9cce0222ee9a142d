"""What is said of a search: the selection's optimism, half the budget, spaces, failures; and its figure."""

import dataclasses
import json
import math
import re

import numpy as np
import pandas as pd
import pytest
from searches import done, searched

from losstune.analysis import drawing
from losstune.analysis.search_curves import ended_trials
from losstune.analysis.search_figures import search_figure
from losstune.analysis.search_honesty import search_honesty, sentences
from losstune.analysis.search_selection import expected_maximum, half_budget, winners_bias
from losstune.spaces import InputError

# The winner's bias


def test_expected_maximum_is_that_of_published_tables():
    """Closed forms for 2 and 3; five decimals of the tables of normal order statistics for 20, 50 and 100."""
    assert expected_maximum(1) == 0
    assert expected_maximum(2) == pytest.approx(1 / math.sqrt(math.pi), abs=1e-9)
    assert expected_maximum(3) == pytest.approx(3 / (2 * math.sqrt(math.pi)), abs=1e-9)
    assert [round(expected_maximum(n), 5) for n in (20, 50, 100)] == [1.86748, 2.24907, 2.50759]


def test_the_bias_by_hand():
    """Fresh 0.5, 0.6, 0.7: mean 0.6, deviation 0.1; three trials could be chosen; four seeds per trial."""
    rows = [("complete", 0.8, 9), ("stopped", 0.5, 3), ("failed", 0.1, 1), ("complete", 0.7, 9)]
    results = searched({"softmax": rows}, fresh={"softmax": [0.5, 0.6, 0.7, None]})
    found = winners_bias(results, ended_trials(results))
    row = found["losses"][0]
    assert (row["loss"], row["chosen"], row["seeds"], row["candidates"]) == ("softmax", 0.8, 3, 3)
    assert row["fresh"] == pytest.approx(0.6) and row["observed"] == pytest.approx(0.2)
    assert row["standard_error"] == pytest.approx(0.1 * math.sqrt(1 / 4 + 1 / 3))
    assert row["expected"] == pytest.approx(0.8462843753 * 0.1 / 2)
    assert found["median_observed"] == row["observed"] and found["reason"] is None


def test_the_bias_where_lower_is_better():
    results = searched({"softmax": done(1.0, 1.4)}, metric="nll", greater=False, fresh={"softmax": [1.2, 1.4]})
    assert winners_bias(results, ended_trials(results))["median_observed"] == pytest.approx(0.3)


def test_what_is_expected_of_equal_configurations_is_what_is_observed():
    """150 searches of 20 equally good trials, each the mean of 4 seeds with deviation 0.02."""
    rng = np.random.default_rng(2)
    losses = {f"loss{k}": done(*rng.normal(0.7, 0.01, 20)) for k in range(150)}
    results = searched(losses, fresh={loss: list(rng.normal(0.7, 0.02, 10)) for loss in losses})
    found = winners_bias(results, ended_trials(results))
    assert found["median_expected"] == pytest.approx(0.01867, rel=0.06)
    assert found["median_observed"] == pytest.approx(found["median_expected"], rel=0.12)


def test_no_bias_is_told_where_validation_scores_mean_something_else_or_are_missing():
    results = searched({"softmax": done(0.8)}, fresh={"softmax": [0.5, 0.6]})
    seen = dataclasses.replace(results, study={**results.study, "confirm": {"train_on": "all"}})
    unmeasured = dataclasses.replace(results, members=results.members.drop(columns="validation_accuracy"))
    unchosen = dataclasses.replace(results, choices=results.choices.iloc[:0])
    for other, reason in ((seen, "trained on"), (unmeasured, "no confirmed run"), (unchosen, "both")):
        found = winners_bias(other, ended_trials(other))
        assert found["losses"] == [] and found["median_observed"] is None and reason in found["reason"]


def test_one_unsteady_loss_does_not_rule_what_is_said_of_all():
    results = searched({loss: done(0.8) for loss in "abc"}, fresh={"a": [0.7, 0.7], "b": [0.6, 0.6], "c": [0.1, 0.3]})
    assert winners_bias(results, ended_trials(results))["median_observed"] == pytest.approx(0.2)


def test_one_fresh_seed_has_no_deviation():
    results = searched({"softmax": done(0.8)}, fresh={"softmax": [0.5]})
    found = winners_bias(results, ended_trials(results))
    assert found["losses"][0]["standard_error"] is None and found["median_expected"] is None
    assert found["median_observed"] == pytest.approx(0.3)


# Half the budget


def test_half_the_budget_by_hand():
    results = searched({
        "softmax": done(0.5, 0.6, 0.6, 0.55, 0.1),  # the first two: number 1, as after all, since it comes first
        "sigmoid": done(0.4, 0.5, 0.7, 0.2),
        "mae": [("failed", 0.1, 1), ("stopped", 0.9, 1), ("complete", 0.3, 9), ("complete", 0.2, 9)],
    })  # fmt: skip
    found = half_budget(results, ended_trials(results))
    rows = {row["loss"]: row for row in found["losses"]}
    assert rows["softmax"] == {"loss": "softmax", "configurations": 5, "half": 2, "number": 1, "score": 0.6,
                               "half_number": 1, "half_score": 0.6, "same": True, "gain": 0.0}  # fmt: skip
    assert (rows["sigmoid"]["number"], rows["sigmoid"]["half_number"], rows["sigmoid"]["same"]) == (2, 1, False)
    assert rows["sigmoid"]["gain"] == pytest.approx(0.2)
    assert rows["mae"]["half_number"] is None and rows["mae"]["gain"] is None and not rows["mae"]["same"]
    assert (found["leader"], found["half_leader"]) == ("sigmoid", "softmax")
    assert found["reversed"] == [["sigmoid", "softmax"]]


def test_half_the_budget_where_lower_is_better():
    results = searched({"softmax": done(2.0, 1.0), "sigmoid": done(1.5, 1.6)}, metric="nll", greater=False)
    found = half_budget(results, ended_trials(results))
    assert (found["leader"], found["half_leader"]) == ("softmax", "sigmoid")
    assert found["losses"][0]["gain"] == pytest.approx(1.0)


def test_what_was_confirmed_counts_as_the_choice_after_all():
    """Also where a trial that was added since would be chosen now."""
    results = searched({"softmax": done(0.5, 0.6, 0.7, 0.8)}, fresh={"softmax": [0.5, 0.6]})
    earlier = pd.DataFrame([{"loss": "softmax", "number": 1, "params": {}, "best_epoch": 9, "score": 0.6}])
    found = half_budget(dataclasses.replace(results, choices=earlier), ended_trials(results))["losses"][0]
    assert found["number"] == 1 and found["same"]


def test_losses_that_become_level_are_not_reversed():
    results = searched({"softmax": done(0.5, 0.6), "sigmoid": done(0.6, 0.1)})
    found = half_budget(results, ended_trials(results))
    assert found["reversed"] == [] and (found["leader"], found["half_leader"]) == ("softmax", "sigmoid")


# The whole


def test_spaces_and_failures_by_hand():
    losses = {"softmax": done(0.5, 0.6), "cot": [("failed", 0.1, 4), ("stopped", 0.3, 6)], "mine": done(0.5)}
    params = {"softmax": {"learning_rate": 0.1, "weight_decay": 0.0}, "cot": {"learning_rate": 0.1}, "mine": {}}
    found = search_honesty(searched(losses, params=params))
    assert found["spaces"] == [
        {"loss": "softmax", "hyperparameters": 2, "passes": 1, "configurations": 2, "member_epochs": 20},
        {"loss": "cot", "hyperparameters": 1, "passes": 2, "configurations": 2, "member_epochs": 10},
        {"loss": "mine", "hyperparameters": 0, "passes": 1, "configurations": 1, "member_epochs": 10},
    ]  # fmt: skip
    assert found["failures"][1] == {"loss": "cot", "ended": 2, "stopped": 1, "failed": 1, "crash_rate": 0.5}
    recorded = search_honesty(searched(losses, params=params, passes={"softmax": 1, "cot": 1, "mine": 3}))
    assert [row["passes"] for row in recorded["spaces"]] == [1, 1, 3]


def test_hyperparameters_of_any_trial_count():
    results = searched({"softmax": done(0.5, 0.6)})
    results.trials.at[1, "params"] = {"learning_rate": 0.1, "weight_decay": 0.1}
    assert search_honesty(results)["spaces"][0]["hyperparameters"] == 2


def test_the_audit_is_the_searches(results):
    audit = search_honesty(results)["budget_audit"]
    assert {row["phase"] for row in audit} == {"search"}
    assert [row["quantity"] for row in audit if row["flagged"]] == ["slot_seconds"]  # ce_el's, 1.4 times


EDGES = {
    "one trial": searched({"softmax": done(0.5)}, fresh={"softmax": [0.4, 0.5]}),
    "all failed": searched({"softmax": [("failed", 0.1, 1)] * 3, "mae": [("failed", np.nan, 0)] * 3}),
    "all failed, random": searched({"softmax": [("failed", 0.1, 1)] * 3}, "random"),
    "no score at all": searched({"softmax": [("failed", None, 0)] * 2, "mae": [("stopped", None, 1)] * 2}),
    "grid": searched({"softmax": done(0.5, 0.6), "mae": done(0.7)}, "grid"),
    "no search": dataclasses.replace(
        searched({"softmax": []}, fresh={"softmax": [0.4, 0.5]}), trials=pd.DataFrame(), budget=pd.DataFrame()
    ),
    "nothing ended": searched({"softmax": [("running", None, 0), ("cut", 0.5, 3)]}),
    "a loss without a complete trial": searched(
        {"softmax": done(0.5, 0.6), "mae": [("stopped", 0.3, 1), ("failed", 0.1, 1)]}, "random"
    ),
    "all level": searched({"softmax": done(0.5, 0.5), "mae": done(0.5, 0.5)}, fresh={"softmax": [0.5, 0.5]}),
    "lower": searched({"softmax": done(2.0, 1.0), "mae": done(1.5, 1.6)}, metric="nll", greater=False),
}


@pytest.mark.parametrize("name", EDGES)
def test_odd_searches_give_json_sentences_and_a_figure(name):
    results = EDGES[name]
    found = search_honesty(results)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    said = sentences(found, results.metric)
    assert said and all(text.endswith(".") and "nan" not in text.lower() and "None" not in text for text in said)
    with drawing.style():
        if found["curves"]:
            assert drawing.to_svg(search_figure(results, found)).count("<svg") == 1
        else:
            with pytest.raises(InputError, match="no trial has ended"):
                search_figure(results, found)


def said_of(name):
    results = EDGES[name]
    return " ".join(sentences(search_honesty(results), results.metric))


def test_what_is_said_of_odd_searches():
    assert said_of("no search") == said_of("nothing ended") == (
        "No search is recorded, so nothing is known of how the configurations were chosen.")  # fmt: skip
    assert "3 of 3 of softmax (100%) and 3 of 3 of mae (100%)" in said_of("all failed")
    assert "Not every loss had as many configurations: 1 (mae) to 2 (softmax)." in said_of("grid")
    assert "half" not in said_of("one trial").lower() and "per loss" not in said_of("one trial")
    assert "cross" not in said_of("all level")
    assert "softmax and mae from 1 on; compared up to 2" in said_of("all level")
    assert "softmax passes mae at 2" in said_of("lower") and "mae would have led instead of softmax" in said_of("lower")


def test_the_sentences_of_a_whole_study(make_results):
    results = make_results(losses={"softmax": 0.97, "squared_error": 0.96, "cot": 0.95}, trials=8, seeds=5)
    edge = {"loss": "cot", "hyperparameter": "learning_rate", "value": 3.1, "bound": 3.16, "side": "upper",
            "try": [0.00316, 100.0]}  # fmt: skip
    said = sentences(search_honesty(dataclasses.replace(results, edges=[edge])), "accuracy")
    for part in (
        "the path that this search took",
        "Best validation accuracy by member-epochs per loss: ",
        "search from 2 hyperparameters (softmax and cot) to 4 (squared_error)",
        "cot takes 2 passes per step, so an epoch of one seed counts as 2 member-epochs",
        "A chosen value of cot lies at an end of what was searched",
        "Trials of the search that failed, each counted as one of its loss's: 1 of 8 of squared_error (12%).",
        "than those of the same configurations' fresh seeds",
        "After half the configurations another one would have been chosen for ",
    ):
        assert sum(part in text for text in said) == 1, part


def test_the_bias_is_said_with_its_sign():
    up = searched({"softmax": done(0.8, 0.7)}, fresh={"softmax": [0.5, 0.6, 0.7]})
    down = searched({"softmax": done(0.4, 0.3)}, fresh={"softmax": [0.5, 0.6, 0.7]})
    assert any("20.00 points better than those" in text and "flatters most (80.00 against 60.00 %)" in text
               for text in sentences(search_honesty(up), "accuracy"))  # fmt: skip
    assert any("20.00 points worse than those" in text and "flatters" not in text
               for text in sentences(search_honesty(down), "accuracy"))  # fmt: skip


def test_expectations_say_what_stopped_trials_do(make_results):
    halved = make_results(losses={"softmax": 0.97, "sigmoid": 0.96}, trials=8, seeds=5)
    halved = dataclasses.replace(halved, study={**halved.study, "search": {"method": "random"}})
    plain = searched({"softmax": done(0.5, 0.6)}, "random")
    assert "a stopped trial counts with the score it had" in sentences(search_honesty(halved), "accuracy")[0]
    assert sentences(search_honesty(plain), "accuracy")[0].endswith("could have drawn its configurations.")


# The figure


def test_the_figure_has_a_panel_per_loss_in_the_order_asked_for(results):
    found = search_honesty(results)
    with drawing.style():
        figure = search_figure(results, found, ["ce_el", "unknown", "softmax"])
        assert [axes.get_title(loc="left") for axes in figure.axes] == ["ce_el", "softmax"]
        assert len(search_figure(results, found, quantity="member_epochs").axes) == 10


def test_the_figure_shows_the_path_and_the_choice():
    rows = [("complete", 0.5, 10), ("stopped", 0.9, 3), ("complete", 0.6, 10), ("complete", 0.7, 10)]
    results = searched({"softmax": rows, "mae": done(0.4, 0.4, 0.4, 0.4)})
    with drawing.style():
        axes = search_figure(results, search_honesty(results)).axes[0]
    lines = {line.get_color(): line for line in axes.lines if line.get_color() == drawing.BEST and line.get_lw() == 2}
    assert list(lines[drawing.BEST].get_ydata()) == [50, 50, 60, 70]
    assert lines[drawing.BEST].get_drawstyle() == "steps-post"
    ringed = [line for line in axes.lines if line.get_markeredgecolor() == drawing.CHOSEN]
    assert [(list(line.get_xdata()), list(line.get_ydata())) for line in ringed] == [([4], [70])]


def test_a_loss_that_ends_below_the_frame_says_where():
    """nll: higher is worse. Six losses near 1, one at 9; 1.15 is not cut off with it."""
    near = {f"loss{k}": done(1.3, 1 + k / 50) for k in range(5)}
    losses = {**near, "dropout": done(1.3, 1.15), "mae": done(9.5, 9.0)}
    results = searched(losses, metric="nll", greater=False)
    with drawing.style():
        axes = search_figure(results, search_honesty(results)).axes
    assert [[text.get_text() for text in panel.texts] for panel in axes[:7]] == [[]] * 6 + [["at 9.0000"]]
    assert axes[0].get_ylim()[0] < 1 and 1.15 < axes[0].get_ylim()[1] < 2


def test_the_figure_is_the_same_every_time_and_in_the_colours_of_the_page():
    results = searched({"softmax": done(0.5, 0.6), "mae": done(0.4, 0.3)})
    found = search_honesty(results)
    with drawing.style():
        first, second = (drawing.to_svg(search_figure(results, found)) for _ in range(2))
    assert first == second and set(re.findall(r"#[0-9a-f]{6}\b", first)) <= set(drawing.VARIABLES)
