"""What a verdict says, and what it must not say."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest

from losstune.analysis.tables import results_frame
from losstune.analysis.verdict import audit_budget, make_verdict
from losstune.analysis.wording import (
    CONDITIONAL_ON,
    audit_sentence,
    headline,
    seeds_cell,
    seeds_range,
    separated_sentence,
    undecided_sentence,
)


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
        ({"softmax": 0.93, "sigmoid": 0.97}, "sigmoid wins: the best mean accuracy, 97.03 %, and the other loss is"),
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
    assert own["baseline"]["gain"] == 0 and own["headline"].startswith("softmax, the baseline, wins: the best mean")
    assert own["headline"].count("baseline") == 1


def finding(**changed):
    """A verdict's part that a headline needs: a wins over b and c; baseline b."""
    pair = {"difference": 0.01, "ci_low": 0.002, "ci_high": 0.018, "p": 0.01, "practically_equivalent": False}
    baseline = {"loss": "b", "gain_of": "a", "gain": 0.0094, "ci_low": -0.0001, "ci_high": 0.0188, "p": 0.08,
                "separated": False}  # fmt: skip
    plain = {
        "metric": "accuracy", "alpha": 0.05, "best_set": ["a"], "highest_mean": "a", "n_seeds": 10,
        "most_seeds": 10, "baseline": baseline, "families": "two",
        "separated_pairs": [{"better": "a", "worse": worse, **pair} for worse in "bc"],
    }  # fmt: skip
    return {**plain, **changed}


MEANS = {"a": 0.98, "b": 0.97, "c": 0.96}


def test_headline_names_the_family_of_the_baseline():
    said = headline(finding(best_set=["a", "b", "c"]), MEANS)
    assert said.startswith("No winner: the 3 losses are not shown to differ with 10 seeds.")
    assert said.endswith("Tested against the baseline alone, a is not shown to gain over the baseline b: +0.94 points "
                         "(95% interval −0.01 to +1.88 points).")  # fmt: skip
    sharper = {**finding()["baseline"], "separated": True, "p": 0.04}
    assert headline(finding(baseline=sharper), MEANS).endswith(
        "a gains 0.94 points over the baseline b (95% interval −0.01 to +1.88 points, which covers zero: the step-down "
        "test is sharper than the interval)."
    )
    assert "alone" not in headline(finding(families=None), MEANS)


def test_headline_calls_a_winner_only_what_beats_every_other_loss():
    assert headline(finding(), MEANS).startswith("a wins: the best mean accuracy, 98.00 %, and each of the other 2")
    pairs = finding()["separated_pairs"]
    indirect = [pairs[0], {**pairs[1], "better": "b"}]
    said = headline(finding(separated_pairs=indirect), MEANS)
    assert "wins" not in said and said.startswith("No loss is shown to beat a, and every other loss is beaten by some")
    several = headline(finding(best_set=["a", "c"], separated_pairs=pairs[:1]), MEANS)
    assert several.startswith("No single winner: no loss is shown to beat a or c, and b is beaten by a.")
    assert "lead" not in several


def test_intervals_that_seem_to_contradict_their_test_are_explained():
    wide = {**finding()["separated_pairs"][0], "ci_low": -0.001}
    assert "covers zero: the step-down test is sharper" in separated_sentence(wide, "accuracy", 0.05)
    assert "zero" not in separated_sentence(finding()["separated_pairs"][0], "accuracy", 0.05)
    open_pair = {**wide, "losses": ["a", "b"], "seeds_needed_low": 20, "seeds_needed_high": None}
    assert "zero" not in undecided_sentence(open_pair, "accuracy", 0.05)
    assert "excludes zero, but the test decides" in undecided_sentence({**open_pair, "ci_low": 0.001}, "accuracy", 0.05)


ALL_FAIL = [("softmax", "sigmoid"), "All seeds of every loss failed and count as the constant predictor."]
BASELINE_FAILS = [("softmax",), "All 10 seeds of softmax, the baseline, failed and count as the constant predictor."]


@pytest.mark.parametrize(("failing", "said"), [ALL_FAIL, BASELINE_FAILS])
def test_a_headline_about_losses_that_failed_wholly_says_so(make_results, failing, said):
    results = make_results(losses={"softmax": 0.97, "sigmoid": 0.975})
    members, failed = results.members, results.members["loss"].isin(failing)
    members = members.assign(state=np.where(failed, "failed", "complete"), reason="the loss became NaN in epoch 2",
                             accuracy=members["accuracy"].where(~failed, 0.1))  # fmt: skip
    headline = make_verdict(dataclasses.replace(results, members=members))["headline"]
    assert headline.endswith(said) and headline.count("failed") == 1
    assert "failed" not in make_verdict(results)["headline"]


def test_one_seed_of_every_loss_is_not_blamed_on_one(make_results):
    results = make_results(losses={"softmax": 0.97, "sigmoid": 0.975}, seeds=2)
    first = results.members["seed"] == 0
    alone = dataclasses.replace(results, members=results.members[first])
    assert "each loss has one confirmed seed" in make_verdict(alone)["headline"]
    lacking = dataclasses.replace(results, members=results.members[first | (results.members["loss"] == "softmax")])
    assert "sigmoid has one confirmed seed" in make_verdict(lacking)["headline"]


def test_seeds_to_decide_are_rough_numbers():
    assert seeds_range(22, 12_518) == "22 to more than 1,000 seeds"
    assert seeds_range(104, 187, "searches") == "110 to 190 searches"
    assert seeds_range(1200, None) == seeds_range(1200, 5000) == "more than 1,000 seeds"
    assert seeds_range(101, 109) == "110 seeds" and seeds_range(1000, 1000) == "1,000 seeds"
    assert seeds_range(22, None) == "at least 22 seeds, perhaps without limit"
    assert seeds_range(None, None) == "more seeds than is practical"
    assert [seeds_cell(*ends) for ends in ((22, 12_518), (22, None), (None, None), (2000, None))] == [
        "22 to more than 1,000", "22 to no limit", "no limit", "more than 1,000",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (8.0, 8.0, "Search: 8 slot-seconds for each loss."),
        (0.2, 0.34, "Search: between 0.2 (a) and 0.34 (b) slot-seconds per loss, a ratio of 1.70, more than 1.25 "
                    "times as many."),
        (1000.1, 1000.3, "Search: 1,000 slot-seconds for each loss."),
        (100.0, 110.0, "Search: between 100 (a) and 110 (b) slot-seconds per loss, a ratio of 1.10."),
    ],
)  # fmt: skip
def test_the_audit_says_numbers_that_differ_where_losses_do(low, high, said):
    row = {"phase": "search", "quantity": "slot_seconds", "lowest_loss": "a", "highest_loss": "b", "lowest": low,
           "highest": high, "ratio": high / low, "flagged": high / low > 1.25}  # fmt: skip
    assert audit_sentence(row) == said


def test_a_difference_that_never_varies_has_no_ends():
    pair = {**finding()["separated_pairs"][0], "difference": 0.3333, "ci_low": 0.3333, "ci_high": 0.3333}
    assert separated_sentence(pair, "accuracy", 0.05) == (
        "a beats b by 33.33 points (the difference never varies; p = 0.010)."
    )


def test_both_families_are_pointed_out(results, make_results):
    assert "7.7% to 9.5%" in make_verdict(results)["families"]
    assert make_verdict(dataclasses.replace(results, study={**results.study, "baseline": None}))["families"] is None
    assert make_verdict(make_results(losses={"softmax": 0.98, "sigmoid": 0.97}))["families"] is None


def test_few_seeds_of_accuracy_are_never_taken_as_without_any_spread(make_results):
    results = make_results(losses={"softmax": 0.9, "sigmoid": 0.9, "ce_el": 0.9}, seeds=3)
    counts = {"softmax": 340, "sigmoid": 341, "ce_el": 339}
    members = results.members.assign(accuracy=results.members["loss"].map(counts) / 360)
    same = dataclasses.replace(results, members=members)
    verdict, table = make_verdict(same), results_frame(same)
    assert verdict["separated_pairs"] == [] and len(verdict["best_set"]) == 3
    assert "no standard deviation below one step" in verdict["method"] and not verdict["baseline"]["separated"]
    assert table["in_best_set"].all() and table["baseline_p"].min() > 0.05
    other = dataclasses.replace(same, study={**same.study, "metric": "macro_f1"},
                                members=members.assign(macro_f1=members["accuracy"]))  # fmt: skip
    verdict = make_verdict(other)
    assert verdict["best_set"] == ["sigmoid"] and any("chance alone" in text for text in verdict["warnings"])


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
    assert "1 confirmed seed of softmax failed" in text and "far more frequent than alpha" in text
    assert "was confirmed: dropout" in text
    assert "not defined for it: sigmoid" in text


def test_unequal_seeds_are_compared_unpaired(results):
    members = results.members[(results.members["loss"] != "softmax") | (results.members["seed"] < 6)]
    verdict = make_verdict(dataclasses.replace(results, members=members))
    assert (verdict["n_seeds"], verdict["most_seeds"], verdict["paired"]) == (6, 10, False)
    assert "paired t-tests of the losses that have the same seeds, Welch" in verdict["method"]
    two = members["loss"].isin(["softmax", "sigmoid"])
    study = {**results.study, "losses": ["softmax", "sigmoid"]}
    verdict = make_verdict(dataclasses.replace(results, study=study, members=members[two]))
    assert verdict["realized_correlation"] is None and "no two losses have the same seeds" in verdict["method"]
    assert "2 losses are not shown to differ with 6 to 10 seeds" in verdict["headline"]


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
