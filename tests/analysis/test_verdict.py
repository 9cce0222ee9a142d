"""What a verdict says, and what it must not say."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest

from losstune.analysis.verdict import audit_budget, make_verdict
from losstune.analysis.wording import CONDITIONAL_ON


def test_verdict_is_plain_json_and_complete(results):
    verdict = make_verdict(results)
    assert json.loads(json.dumps(verdict, allow_nan=False)) == verdict
    assert verdict["highest_mean"] == "cosine_softmax" == verdict["best_set"][0]
    assert verdict["conditional_on"] == CONDITIONAL_ON
    assert len(verdict["separated_pairs"]) + len(verdict["undecided_pairs"]) == 45
    assert verdict["failed_trials"] == [
        {"loss": "squared_error", "number": 5, "reason": "the loss became NaN in epoch 4"}
    ]
    beaten = {pair["worse"] for pair in verdict["separated_pairs"]}
    assert set(verdict["best_set"]) == set(results.study["losses"]) - beaten
    assert set(verdict["paper_rule"]["only_in_best_set"]) <= set(verdict["best_set"])


@pytest.mark.parametrize(
    ("losses", "start"),
    [
        ({"softmax": 0.93, "sigmoid": 0.97}, "sigmoid wins: the best accuracy, 97.03 %, and the other loss is behind"),
        ({"softmax": 0.97, "sigmoid": 0.971}, "No winner: the 2 losses are not shown to differ with 10 seeds."),
        ({"softmax": 0.97}, "No comparison is possible: 1 loss was confirmed, and it takes two."),
    ],
)
def test_headlines(losses, start, make_results):
    assert make_verdict(make_results(losses=losses))["headline"].startswith(start)


def test_gain_over_the_baseline(results, make_results):
    gain = make_verdict(results)["baseline"]
    means = results.members.groupby("loss")["accuracy"].mean()
    assert gain["loss"] == "softmax" and gain["gain_of"] == "cosine_softmax" and gain["separated"]
    assert gain["gain"] == pytest.approx(means["cosine_softmax"] - means["softmax"])
    assert gain["ci_low"] < gain["gain"] < gain["ci_high"]
    own = make_verdict(make_results(losses={"softmax": 0.98, "sigmoid": 0.97}))
    assert own["baseline"]["gain"] == 0 and own["headline"].endswith("That is the baseline itself.")


def test_never_says_equal(results, make_results):
    for one in (results, make_results(losses={"softmax": 0.97, "sigmoid": 0.97})):
        assert "equal" not in json.dumps(make_verdict(one)).replace("practically_equivalent", "")


def test_one_seed_allows_no_comparison(make_results):
    verdict = make_verdict(make_results(seeds=1))
    assert verdict["best_set"] == [] and "one confirmed seed" in verdict["headline"]


def test_lower_is_better(results):
    members = results.members.assign(nll=1 - results.members["accuracy"])
    study = {**results.study, "metric": "nll"}
    flipped = dataclasses.replace(results, study=study, greater_is_better=False, members=members)
    ours, theirs = make_verdict(results), make_verdict(flipped)
    assert theirs["best_set"] == ours["best_set"]
    assert theirs["baseline"]["gain"] == pytest.approx(ours["baseline"]["gain"])
    assert "0.0192" in theirs["headline"]


def test_failed_undefined_and_missing_losses_are_named(results):
    members = results.members.copy()
    members.loc[3, ["state", "reason", "accuracy"]] = ["failed", "the loss became NaN in epoch 2", 0.1]
    members.loc[members["loss"] == "sigmoid", "accuracy"] = np.nan
    members = members[members["loss"] != "dropout"]
    verdict = make_verdict(dataclasses.replace(results, members=members, notes=["cut after 2 hours"]))
    assert verdict["failed_members"] == [{"loss": "softmax", "seed": 3, "reason": "the loss became NaN in epoch 2"}]
    assert verdict["unconfirmed"] == ["dropout"] and verdict["notes"] == ["cut after 2 hours"]
    text = " ".join(verdict["warnings"])
    assert "1 confirmed seed of softmax failed" in text and "was confirmed: dropout" in text
    assert "not defined for it: sigmoid" in text


def test_unequal_seeds_are_compared_unpaired(results):
    members = results.members[(results.members["loss"] != "softmax") | (results.members["seed"] < 6)]
    verdict = make_verdict(dataclasses.replace(results, members=members))
    assert verdict["n_seeds"] == 6 and not verdict["paired"] and "Welch" in verdict["method"]
    assert verdict["realized_correlation"] is None


def test_budget_audit_by_hand():
    budget = pd.DataFrame({
        "loss": ["a", "b", "a", "b"], "phase": ["search", "search", "confirm", "confirm"],
        "member_epochs": [100, 120, 0, 10], "slot_seconds": [10.0, 13.0, 1.0, 1.0],
    })  # fmt: skip
    rows = {(row["phase"], row["quantity"]): row for row in audit_budget(budget)}
    assert rows["search", "member_epochs"]["ratio"] == 1.2 and not rows["search", "member_epochs"]["flagged"]
    assert rows["search", "slot_seconds"]["ratio"] == 1.3 and rows["search", "slot_seconds"]["flagged"]
    assert rows["search", "slot_seconds"]["highest_loss"] == "b"
    assert rows["confirm", "member_epochs"]["ratio"] is None and rows["confirm", "member_epochs"]["flagged"]
