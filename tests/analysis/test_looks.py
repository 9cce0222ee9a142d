"""Planned looks: what each tests, what stays separated, and how often equal losses are separated by any of them."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest

from losstune.analysis import signflips
from losstune.analysis.looks import look_at
from losstune.analysis.seen import LooksAtTestSet
from losstune.analysis.significance import analyse
from losstune.analysis.verdict import make_verdict
from losstune.analysis.wording import separated_sentence

# With these signs the sum of the differences is 34, 30 and 36: of the 128 patterns of 8 seeds, 2, 5 and 1 reach that.
ONE_AGAINST = [-1, 2, 3, 4, 5, 6, 7, 8]
THREE_AGAINST = [1, 2, -3, 4, 5, 6, 7, 8]
ALL_FOR = [1, 2, 3, 4, 5, 6, 7, 8]
# Eight more whose own sum is -28, so that the mean of all 16 is as good as nothing, and on the side of the first.
AGAINST = [-8, -7, -6, -5, -4, 1, 1, 0]


@pytest.fixture
def looks(make_results):
    """Results of losses whose scores are 50 and 50 plus the given numbers; looks: as planned."""

    some = make_results(losses={"softmax": 0.9}, seeds=2)

    def make(planned, baseline=None, **columns):
        columns = {"base": [0] * len(next(iter(columns.values()))), **columns}
        members = pd.DataFrame([
            {"loss": loss, "seed": seed, "state": "complete", "reason": "", "epochs": 3, "auroc": 50.0 + value}
            for loss, column in columns.items() for seed, value in enumerate(column)
        ])  # fmt: skip
        confirm = {**some.study["confirm"], "seeds": len(columns["base"]), "looks": planned, "rope": None}
        study = {**some.study, "metric": "auroc", "losses": list(columns), "baseline": baseline, "confirm": confirm}
        return dataclasses.replace(some, study=study, members=members)

    return make


def test_each_look_is_tested_at_its_share_of_alpha(looks):
    """p = 2/128 is below 0.05 / 3 and p = 5/128 is not, although below 0.05."""
    found = look_at(looks([8, 16, 32], a=ONE_AGAINST))
    assert found.comparison.pairs["p"].tolist() == [0.015625] and found.comparison.best_set == ["a"]
    assert found.comparison.alpha == found.plan["level"] == pytest.approx(0.05 / 3)
    assert (found.plan["look"], found.plan["next"], found.plan["enough"]) == (1, None, True)
    found = look_at(looks([8, 16, 32], a=THREE_AGAINST))
    assert found.comparison.pairs["p"].tolist() == [0.0390625] and found.comparison.best_set == ["a", "base"]
    assert (found.plan["look"], found.plan["next"], found.plan["enough"]) == (1, 16, False)


def test_without_a_plan_it_is_the_procedure_itself(looks):
    for planned in ([], None):
        found, results = look_at(looks(planned, a=THREE_AGAINST)), looks(planned, a=THREE_AGAINST)
        assert found.plan is None and found.comparison.best_set == ["a"]
        assert found.comparison.pairs.equals(analyse(results.score_matrix(), 0.05).pairs)
        assert make_verdict(results)["looks"] is None and make_verdict(results)["alpha"] == 0.05


def test_what_was_separated_stays_separated(looks):
    """With the p of the look that did it: 1/128 of the first 8 seeds, of which the other 8 leave little."""
    results = looks([8, 16], a=ALL_FOR + AGAINST)
    assert not analyse(results.score_matrix(), 0.025).pairs["separated"].any()
    found = look_at(results)
    (pair,) = found.comparison.pairs.to_dict("records")
    assert pair["separated"] and pair["a_beats_b"] and (pair["p"], pair["separated_with"]) == (0.0078125, 8)
    assert pair["seeds_needed_low"] is None and found.comparison.best_set == ["a"]
    assert found.table.in_best_set.to_dict() == {"a": True, "base": False} and found.table.p["base"] == 0.0078125
    assert found.plan["carried"] == [{"better": "a", "worse": "base", "seeds": 8, "p": 0.0078125}]


def test_an_interval_of_a_carried_pair_is_told_from_the_test_that_separated_it(looks):
    """The interval is of all 16 seeds and covers zero; p and the finding are of the first 8."""
    verdict = make_verdict(looks([8, 16], baseline="base", a=ALL_FOR + AGAINST))
    (pair,) = verdict["separated_pairs"]
    said = separated_sentence(pair, "auroc", verdict["alpha"], verdict["n_seeds"])
    assert pair["ci_low"] < 0 and said.endswith(
        "of all seeds so far, which covers zero: the look with 8 seeds separated them, and that stays; p = 0.008 with "
        "8 seeds)."
    )
    assert verdict["baseline"]["carried"] and verdict["headline"].count("an earlier look separated them") == 1
    first = make_verdict(looks([8, 16], baseline="base", a=ALL_FOR))
    assert not first["baseline"]["carried"] and "earlier look" not in first["headline"]
    assert "seeds)" not in separated_sentence(first["separated_pairs"][0], "auroc", 0.025, 8)


def test_nothing_is_remembered(looks):
    """The first seeds decide what an early look has found, in whatever order rows come."""
    results = looks([8, 16], a=AGAINST + ALL_FOR)
    assert look_at(results).plan["carried"] == []
    shuffled = dataclasses.replace(looks([8, 16], a=ALL_FOR + AGAINST))
    shuffled = dataclasses.replace(shuffled, members=shuffled.members.sample(frac=1, random_state=0))
    assert len(look_at(shuffled).plan["carried"]) == 1


def test_a_separation_that_the_means_contradict_is_withdrawn(looks):
    """It is said, and nobody is called better than a loss with a higher mean."""
    results = looks([8, 16], a=ALL_FOR + [-9] * 8)
    found = look_at(results)
    assert not found.comparison.pairs["separated"].any() and set(found.comparison.best_set) == {"a", "base"}
    assert found.plan["withdrawn"] == [{"better": "a", "worse": "base", "seeds": 8, "p": 0.0078125}]
    said = " ".join(make_verdict(results)["notes"])
    assert "a was separated from base with 8 seeds, but no longer has the higher mean" in said


def test_the_baselines_own_family_is_carried_too(looks):
    """p is 2/128: one pattern more than for a alone turns all of b's differences to one side."""
    found = look_at(looks([8, 16], baseline="base", a=ALL_FOR + AGAINST, b=[0.5, -0.5] * 8))
    assert found.table.baseline_p["a"] == 0.015625 and found.table.baseline_p["b"] == 1
    assert found.table.baseline_p["base"] == 1
    verdict = make_verdict(looks([8, 16], baseline="base", a=ALL_FOR + AGAINST, b=[0.5, -0.5] * 8))
    assert verdict["baseline"]["separated"] and verdict["baseline"]["gain_of"] == "a"


def test_more_losses_are_carried_pair_by_pair(looks):
    """b is separated by the second look alone; its p is that of all 16 seeds."""
    b = [-x for x in [1, -2, 3, -4, 5, 6, 7, 8, 8, 7, 6, 9, 9, 9, 9, 9]]
    found = look_at(looks([8, 16], a=ALL_FOR + AGAINST, b=b))
    with_ = {(row.loss_a, row.loss_b): row.separated_with for row in found.comparison.pairs.itertuples()}
    assert with_["base", "b"] == 16 and with_["a", "b"] in (8, 16) and found.comparison.best_set[0] == "a"


def test_a_look_that_was_not_planned_says_so(looks):
    """More seeds than the plan has at that point, or not all of them."""
    verdict = make_verdict(looks([8, 32], a=ALL_FOR + AGAINST, b=[0.5, -0.5] * 8))
    assert verdict["looks"]["look"] is None and verdict["looks"]["next"] == 32
    assert "with 16 seeds, is none of them: the error rate is no longer guaranteed" in " ".join(verdict["notes"])
    assert "This look, with 16 seeds, was not planned" in verdict["headline"]
    assert {pair["worse"] for pair in verdict["looks"]["carried"]} == {"base", "b"}
    whole = looks([16, 32], a=ALL_FOR + AGAINST)
    part = dataclasses.replace(whole, members=whole.members[whole.members["seed"] < 12])
    assert make_verdict(part)["looks"]["look"] is None and make_verdict(part)["looks"]["seeds"] == 12
    assert make_verdict(whole)["looks"]["look"] == 1


def test_the_verdict_of_a_look(looks):
    verdict = make_verdict(looks([8, 16, 32], a=ALL_FOR))
    assert json.loads(json.dumps(verdict, allow_nan=False)) == verdict
    assert verdict["headline"].endswith(
        "Look 1 of 3, with 8 seeds: every pair is separated, and the seeds that are planned beyond are not needed."
    )
    assert verdict["notes"] == [
        "3 looks are planned, at 8, 16 and 32 seeds: each is tested at alpha / 3 = 0.0167, which holds the chance of a "
        "false separation in any of them at 0.05 as long as the plan is kept."
    ]
    assert verdict["separated_pairs"][0]["separated_with"] == 8
    later = make_verdict(looks([8, 16], a=ALL_FOR + AGAINST))
    assert later["headline"].endswith("Look 2 of 2, with 16 seeds.")
    assert later["notes"][1] == "a beats base since the look with 8 seeds (p = 0.008); that stays."
    assert make_verdict(looks([8, 16], a=THREE_AGAINST))["headline"].endswith("seeds; the next is planned with 16.")


def test_an_early_look_at_which_nothing_can_be_compared_separates_nothing(looks):
    results = looks([8, 16], a=ALL_FOR + AGAINST)
    gaps = (results.members["loss"] == "a") & (results.members["seed"] < 7)
    members = results.members.assign(auroc=results.members["auroc"].where(~gaps))
    assert look_at(dataclasses.replace(results, members=members)).plan["carried"] == []


def test_equal_losses_are_rarely_separated_by_any_look(looks):
    """2,000 studies of 3 equal losses with looks at 10, 20 and 40 seeds: at most 5% within Monte-Carlo error.

    By the design's words on arrays; 99.9% of binomials of 2,000 with 5% are at most 131. A test at the whole alpha in
    each look is above that.
    """
    rng, planned, first, second = np.random.default_rng(1), (10, 20, 40), [0, 0, 1], [1, 2, 2]
    draws = {seeds: signflips.sign_patterns(seeds)[:500] for seeds in planned}
    strict, loose = 0, 0
    for _ in range(2000):
        x = rng.normal(size=(40, 3)) * [1, 2, 3] + rng.normal(size=(40, 1))
        smallest = min(signflips.step_down((x[:, first] - x[:, second])[:n], draws[n]).min() for n in planned)
        strict, loose = strict + (smallest <= 0.05 / 3), loose + (smallest <= 0.05)
    assert strict <= 131 < loose


def test_the_code_separates_what_the_arrays_do(looks):
    """The same rule, written on arrays, finds the same pairs in 10 studies in which losses differ a little."""
    rng, planned, separated = np.random.default_rng(2), [8, 10, 12], 0
    for _ in range(10):
        a, b = rng.normal(size=(2, 12)) + [[1.5], [0.5]]
        columns = {"base": np.zeros(12), "a": a, "b": b}
        pairs, expected = [("base", "a"), ("base", "b"), ("a", "b")], set()
        for n in planned:
            differences = np.array([columns[one] - columns[other] for one, other in pairs]).T
            p = signflips.step_down(differences[:n], signflips.sign_patterns(n))
            for (one, other), value, mean in zip(pairs, p, differences[:n].mean(axis=0), strict=True):
                expected |= {(one, other) if mean > 0 else (other, one)} if value <= 0.05 / 3 else set()
        means = {name: column.mean() for name, column in columns.items()}
        expected = {(one, other) for one, other in expected if means[one] > means[other]}
        found = look_at(looks(planned, a=a, b=b)).comparison.pairs
        assert {(row.loss_a, row.loss_b) for row in found.itertuples() if row.separated} == expected
        separated += len(expected)
    assert 3 < separated < 25


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        (LooksAtTestSet(1, 1, True, 0), "This test set has been looked at 1 time by 1 study here (a look: a report "
                                        "from newly confirmed seeds)."),
        (LooksAtTestSet(5, 2, False, 0), "This test set has been looked at at least 5 times by 2 studies here (a look: "
                                         "a report from newly confirmed seeds)."),
        (LooksAtTestSet(0, 0, True, 1), "No look at this test set is recorded here; of 1 further study here it is not "
                                        "known."),
    ],
)  # fmt: skip
def test_how_often_a_test_set_was_looked_at_is_said(seen, said):
    assert str(seen) == said


def test_other_looks_at_the_test_set_are_pointed_out(looks):
    """One's own is no news, but a fact of the verdict all the same."""
    results = looks([], a=ALL_FOR)
    alone = dataclasses.replace(results, facts={"test_set_looks": LooksAtTestSet(1, 1, True, 0)})
    assert make_verdict(alone)["notes"] == [] and make_verdict(alone)["test_set_looks"]["looks"] == 1
    among = dataclasses.replace(results, facts={"test_set_looks": LooksAtTestSet(4, 2, True, 3)})
    assert "4 times by 2 studies here" in make_verdict(among)["notes"][0]
    assert "of 3 further studies" in make_verdict(among)["notes"][0]
    assert make_verdict(results)["test_set_looks"] is None
