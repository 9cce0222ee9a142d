"""Best validation score against budget: expectation, realized path, and who leads where."""

import dataclasses
import math
from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest
from searches import done, searched

from losstune.analysis.search_curves import budget_curves, ended_trials, expected_best, overtakings


def curves_of(results):
    return budget_curves(results, ended_trials(results))


# The expectation of the best of n


def test_expected_best_by_hand():
    """Of 1, 2, 4 the pairs' best are 2, 4, 4."""
    assert expected_best(np.array([4.0, 1.0, 2.0])) == pytest.approx([7 / 3, 10 / 3, 4])
    assert expected_best(np.array([4.0, 1.0, 2.0]), first=2.0) == pytest.approx([2, 8 / 3, 10 / 3, 4])
    assert expected_best(np.array([]), first=3.0) == pytest.approx([3.0])


@pytest.mark.parametrize("first", [None, 0.3])
def test_expected_best_is_the_mean_over_all_subsets(first):
    values = np.round(np.random.default_rng(0).normal(size=8), 1)  # with ties
    start = [] if first is None else [first]
    brute = [np.mean([max([*start, *some]) for some in combinations(values, n)])
             for n in range(1 - len(start), len(values) + 1)]  # fmt: skip
    assert expected_best(values, first) == pytest.approx(brute, abs=1e-12)


def test_expected_best_of_very_many_as_with_exact_binomials():
    """C(1500, 750) is beyond the range of floats."""
    size = 1500
    found = expected_best(np.arange(1.0, size + 1)[::-1])
    for n in (1, 2, 700, size):
        exact = sum(Fraction(j * math.comb(j - 1, n - 1), math.comb(size, n)) for j in range(n, size + 1))
        assert found[n - 1] == pytest.approx(float(exact), rel=1e-12)


def test_expected_best_is_unbiased():
    """The best of n uniform draws is n / (n + 1) on average, also where it is estimated from B = 6."""
    rng = np.random.default_rng(1)
    mean = np.mean([expected_best(rng.uniform(size=6)) for _ in range(4000)], axis=0)
    assert mean == pytest.approx([n / (n + 1) for n in range(1, 7)], abs=0.01)


# Curves


def test_the_realized_path_by_hand():
    """Stopped trials cannot be chosen, failed ones are the constant predictor, cut and running ones are not counted."""
    rows = [("stopped", 0.9, 3), ("failed", 0.1, 2), ("complete", 0.7, 9), ("running", 0.99, 1), ("complete", 0.6, 9),
            ("stopped", 0.95, 3), ("cut", 0.99, 1), ("complete", 0.8, 9)]  # fmt: skip
    curve = curves_of(searched({"softmax": rows}))["softmax"]
    assert curve == {"kind": "realized", "exact": True, "open_ended": False, "configurations": [1, 2, 3, 4, 5, 6],
                     "member_epochs": [3, 5, 14, 23, 26, 35], "best": [None, 0.1, 0.7, 0.7, 0.7, 0.8]}  # fmt: skip


def test_the_path_is_in_order_of_number_whatever_that_of_the_rows():
    results = searched({"softmax": done(0.3, 0.2, 0.9, 0.4)})
    turned = dataclasses.replace(results, trials=results.trials.iloc[::-1])
    assert curves_of(turned)["softmax"]["best"] == [0.3, 0.3, 0.9, 0.9]


@pytest.mark.parametrize("method", ["grid", "coarse_to_fine", None])
def test_only_random_search_has_an_expectation(method):
    assert curves_of(searched({"softmax": done(0.3, 0.2, 0.9)}, method))["softmax"]["kind"] == "realized"


def test_random_search_keeps_its_default_first():
    """0.2 always, then any of 0.1, 0.6, 0.4: mean best 0.2, (0.2 + 0.6 + 0.4) / 3, (0.6 + 0.4 + 0.6) / 3, 0.6."""
    rows = [("complete", 0.2, 12), ("failed", 0.1, 3), ("complete", 0.6, 6), ("complete", 0.4, 9)]
    curve = curves_of(searched({"softmax": rows}, "random"))["softmax"]
    assert curve["kind"] == "expected" and curve["exact"]
    assert curve["best"] == pytest.approx([0.2, 0.4, 1.6 / 3, 0.6])
    assert curve["member_epochs"] == pytest.approx([12, 18, 24, 30])  # 12, then 6 on average each


def test_random_search_without_its_default_is_exchangeable():
    results = searched({"softmax": done(0.2, 0.1, 0.6)}, "random")
    kept = dataclasses.replace(results, trials=results.trials[results.trials["number"] > 0])
    assert curves_of(kept)["softmax"]["best"] == pytest.approx([0.35, 0.6])


def test_a_stopped_trial_cannot_carry_an_expectation_beyond_what_could_be_chosen():
    """The default 0.2, then any of 0.5 (complete), 0.7 (stopped, counts as 0.5) and 0.3 (stopped)."""
    rows = [("complete", 0.2, 9), ("complete", 0.5, 9), ("stopped", 0.7, 3), ("stopped", 0.3, 3)]
    curve = curves_of(searched({"softmax": rows}, "random"))["softmax"]
    assert curve["best"] == pytest.approx([0.2, 1.3 / 3, 0.5, 0.5]) and not curve["exact"]


def test_lower_is_better():
    rows = done(2.0, 1.5, 1.8)
    path = curves_of(searched({"softmax": rows}, metric="nll", greater=False))["softmax"]["best"]
    mean = curves_of(searched({"softmax": rows}, "random", metric="nll", greater=False))["softmax"]["best"]
    assert path == [2.0, 1.5, 1.5] and mean == pytest.approx([2.0, 1.65, 1.5])


@pytest.mark.parametrize("bad", [np.nan, np.inf, None])
@pytest.mark.parametrize("method", ["tpe", "random"])
def test_a_score_that_is_no_number_counts_as_the_worst(bad, method):
    rows = [("failed", bad, 1), ("complete", 0.4, 9), ("complete", bad, 9), ("complete", 0.3, 9)]
    curve = curves_of(searched({"softmax": rows, "sigmoid": done(0.2)}, method))["softmax"]
    assert curve["best"][0] == 0.2 and curve["best"][-1] == 0.4


# Who leads where


def test_leaders_and_crossings_by_hand():
    """softmax 0.5 0.5 0.6 0.6, sigmoid 0.4 0.5 0.5 0.7: level at 2, sigmoid ahead at 4."""
    results = searched({"softmax": done(0.5, 0.1, 0.6, 0.1), "sigmoid": done(0.4, 0.5, 0.2, 0.7)})
    found = overtakings(curves_of(results), "configurations", 1)
    assert found["leaders"] == [
        {"from": 1, "to": 1, "losses": ["softmax"]}, {"from": 2, "to": 2, "losses": ["softmax", "sigmoid"]},
        {"from": 3, "to": 3, "losses": ["softmax"]}, {"from": 4, "to": 4, "losses": ["sigmoid"]},
    ]  # fmt: skip
    assert found["crossings"] == [{"at": 4, "ahead": "sigmoid", "behind": "softmax"}]


def test_twice_as_many_member_epochs_move_the_crossing():
    """cot has 0.5 from 20 member-epochs on and 0.7 from 40 on, softmax 0.4 from 10 on and 0.6 from 30 on."""
    results = searched({"softmax": [("complete", s, 10) for s in (0.4, 0.4, 0.6, 0.6)],
                        "cot": [("complete", s, 20) for s in (0.5, 0.7, 0.7, 0.7)]})  # fmt: skip
    curves = curves_of(results)
    assert overtakings(curves, "configurations", 1)["leaders"] == [{"from": 1, "to": 4, "losses": ["cot"]}]
    found = overtakings(curves, "member_epochs", 1)
    assert [(span["from"], span["to"], span["losses"]) for span in found["leaders"]] == [
        (10, 10, ["softmax"]), (20, 20, ["cot"]), (30, 30, ["softmax"]), (40, 40, ["cot"])]  # fmt: skip
    assert found["crossings"] == [
        {"at": 30, "ahead": "softmax", "behind": "cot"}, {"at": 40, "ahead": "cot", "behind": "softmax"}]  # fmt: skip


def test_lower_is_better_for_leaders_too():
    results = searched({"softmax": done(2.0, 2.0), "sigmoid": done(3.0, 1.0)}, metric="nll", greater=False)
    found = overtakings(curves_of(results), "configurations", -1)
    assert [span["losses"] for span in found["leaders"]] == [["softmax"], ["sigmoid"]]
    assert found["crossings"] == [{"at": 2, "ahead": "sigmoid", "behind": "softmax"}]


def test_scores_that_differ_by_rounding_are_level():
    results = searched({"softmax": done(0.1 + 0.2, 0.5), "sigmoid": done(0.3, 0.6)})
    found = overtakings(curves_of(results), "configurations", 1)
    assert found["leaders"][0]["losses"] == ["softmax", "sigmoid"] and found["crossings"] == []


def test_losses_are_compared_as_far_as_all_went_except_where_there_is_nothing_to_search():
    losses = {"softmax": done(0.5), "sigmoid": done(0.4, 0.6, 0.7)}
    tuned = curves_of(searched(losses))
    fixed = curves_of(searched(losses, params={"softmax": {}, "sigmoid": {"learning_rate": 0.1}}))
    assert overtakings(tuned, "configurations", 1)["leaders"][-1] == {"from": 1, "to": 1, "losses": ["softmax"]}
    assert overtakings(fixed, "configurations", 1)["leaders"][-1] == {"from": 2, "to": 3, "losses": ["sigmoid"]}
