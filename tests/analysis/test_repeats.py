"""Searches that are joined: rows are their means, the verdict counts them, and the variance is by hand."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from losstune.analysis.repeats import detectable, join_searches, repeats_verdict
from losstune.analysis.repeats_report import choices_table, write_repeats_report
from losstune.analysis.tables import results_frame, results_table
from losstune.spaces import InputError

LOSSES = {"softmax": 0.97, "sigmoid": 0.96, "cosine_softmax": 0.98}


@pytest.fixture
def search(make_results):
    """search(scores): a search whose confirmed accuracies are given, loss -> one per seed."""

    def of(scores, **facts):
        seeds = len(next(iter(scores.values())))
        base = make_results(dict.fromkeys(scores, 0.9), seeds=seeds, trials=4, baseline=None, rope=None)
        members = base.members.copy()
        for loss, values in scores.items():
            members.loc[members["loss"] == loss, "accuracy"] = values
        return replace(base, members=members, facts={"data_digest": "d", **facts})

    return of


@pytest.fixture
def two(search):
    """softmax: search means 0.5 and 0.7; sigmoid: 0.3 and 0.4."""
    return [search({"softmax": [0.4, 0.6], "sigmoid": [0.2, 0.4]}),
            search({"softmax": [0.6, 0.8], "sigmoid": [0.3, 0.5]})]  # fmt: skip


@pytest.fixture
def many(make_results):
    """Nine searches of three losses, each with other draws."""
    return [make_results(LOSSES, seeds=4, trials=4, seed=seed) for seed in range(9)]


def test_a_row_is_the_mean_of_a_search(two):
    """Two searches, numbered from 1."""
    joined = join_searches(two, "my", 2)
    scores = joined.results.score_matrix()
    assert scores.index.tolist() == [1, 2]
    assert np.allclose(scores["softmax"], [0.5, 0.7]) and np.allclose(scores["sigmoid"], [0.3, 0.4])
    assert joined.results.study["name"] == "my" and joined.results.rows == "searches"


def test_the_verdict_tests_searches_and_not_seeds(two):
    """The paired t-test on the differences 0.2 and 0.3 of two searches: mean 0.25, standard error 0.05, t = 5."""
    verdict = repeats_verdict(join_searches(two, "my", 2))
    (pair,) = verdict["undecided_pairs"]
    assert verdict["n_seeds"] == 2 and pair["losses"] == ["softmax", "sigmoid"]
    assert pair["difference"] == pytest.approx(0.25) and pair["p"] == pytest.approx(2 * stats.t.sf(5, 1))


def test_variance_by_hand(two):
    """softmax: means 0.5 and 0.7, MSB = 2 * 0.02 = 0.04, MSW = 0.02, so between^2 = 0.01, and half of it is search.

    The differences are 0.2, 0.2 and 0.3, 0.3: no seed differs from another of its search.
    """
    found = repeats_verdict(join_searches(two, "my", 2))["searches"]
    softmax = found["losses"][0]
    assert softmax["loss"] == "softmax" and softmax["between"] == pytest.approx(0.1)
    assert softmax["within"] == pytest.approx(np.sqrt(0.02)) and softmax["share"] == pytest.approx(0.5)
    (difference,) = found["differences"]
    assert difference["losses"] == ["softmax", "sigmoid"] and difference["mean"] == pytest.approx(0.25)
    assert difference["within"] == pytest.approx(0, abs=1e-12) and difference["share"] == pytest.approx(1)
    assert difference["between"] == pytest.approx(np.sqrt(0.005))


def test_what_so_many_searches_can_find(two):
    """The smallest difference has power 80% in a t-test on that many searches, by scipy's noncentral t."""
    rows = detectable(join_searches(two, "my", 2))
    assert [row["searches"] for row in rows] == [2, 8, 16]
    for row in rows:
        n = row["searches"]
        shift = row["difference"] / np.sqrt(0.005) * np.sqrt(n)
        assert stats.nct.sf(stats.t.isf(0.025, n - 1), n - 1, shift) == pytest.approx(0.8, abs=1e-4)


def test_the_variance_is_no_longer_said_to_be_unmeasured(two):
    """What it is, is said instead; and nothing that counts searches calls them seeds."""
    verdict = repeats_verdict(join_searches(two, "my", 2))
    assert "unmeasured" not in verdict["conditional_on"] and "2 independent searches" in verdict["conditional_on"]
    assert "seed" not in verdict["headline"] and "fewer than 8 searches" in verdict["method"]
    said = verdict["searches"]["sentences"]
    assert said[0] == ("softmax: a standard deviation of 10.00 points between searches and 14.14 points between seeds "
                       "of one search; of the variance of a search's mean over 2 seeds 50% is the search's (95% "
                       "interval 0% to 100%).")  # fmt: skip
    assert said[2] == ("softmax minus sigmoid has a standard error of 5.00 points with 2 searches of 2 seeds; it would "
                       "be about 3.54 with 4 searches, and about 5.00 with 4 seeds in each.")  # fmt: skip


def test_from_eight_searches_on_signs_are_flipped(many):
    """The design's procedure, on searches."""
    verdict = repeats_verdict(join_searches(many, "my", 9))
    assert verdict["method"] == ("paired sign-flip test of whole searches, step-down max-T over all pairs (all 256 "
                                 "sign patterns)")  # fmt: skip
    assert verdict["n_seeds"] == 9 and verdict["best_set"] == ["cosine_softmax"]


def test_lower_is_better_is_kept(two):
    """Of a metric where lower is better the means come in its own direction, differences say how much better."""
    lower = [replace(part, greater_is_better=False) for part in two]
    found = repeats_verdict(join_searches(lower, "my", 2))["searches"]
    assert [row["mean"] for row in found["losses"]] == pytest.approx([0.6, 0.35])
    (difference,) = found["differences"]
    assert difference["losses"] == ["sigmoid", "softmax"] and difference["mean"] == pytest.approx(0.25)


def test_failed_runs_count_and_are_said(two):
    """As the constant predictor; a search of which every seed failed is a failed row."""
    members = two[1].members.copy()
    of_sigmoid = members["loss"] == "sigmoid"
    members.loc[of_sigmoid, ["state", "reason", "accuracy"]] = ["failed", "NaN", 0.1]
    verdict = repeats_verdict(join_searches([two[0], replace(two[1], members=members)], "my", 2))
    assert [(one["search"], one["loss"], one["seed"]) for one in verdict["failed_members"]] == [
        (2, "sigmoid", 0), (2, "sigmoid", 1)]  # fmt: skip
    assert any(text.startswith("2 of 4 confirmed runs of sigmoid failed") for text in verdict["warnings"])


def test_a_loss_that_lacks_a_search_leaves_the_others_paired(search):
    """sigmoid is not confirmed in the second search; softmax and dropout are compared as if it were not there."""
    scores = {"softmax": [0.4, 0.6], "dropout": [0.2, 0.4], "sigmoid": [0.9, 0.9]}
    rise = {"softmax": [0.6, 0.8], "dropout": [0.3, 0.5], "sigmoid": [0.9, 0.9]}
    parts = [search(scores), search(rise)]
    whole = parts[1]
    parts[1] = replace(whole, members=whole.members[whole.members["loss"] != "sigmoid"])
    joined = join_searches(parts, "my", 2)
    assert joined.lacking == {"sigmoid": [2]} and joined.losses == ["softmax", "dropout"]
    verdict = repeats_verdict(joined)
    (pair,) = verdict["undecided_pairs"]
    # As in `two`: differences of 0.2 and 0.3, t = 5 with one degree of freedom. Welch's t would be 2.2.
    assert verdict["paired"] and pair["p"] == pytest.approx(2 * stats.t.sf(5, 1))
    assert verdict["searches"]["lacking"] == {"sigmoid": [2]} and verdict["unconfirmed"] == []
    said = [text for text in verdict["warnings"] if "sigmoid" in text]
    assert said == ["sigmoid is not compared, because search 2 confirmed no configuration of it; what each search made "
                    "of it is in the table of what they chose"]  # fmt: skip
    table = results_table(joined.results, results_frame(joined.results))
    assert table.rows[-1][:2] == ["sigmoid", "not in each search"]
    chosen = {(row[0], row[1]): row[-1] for row in choices_table(joined).rows}
    assert chosen["sigmoid", "1"] == "90.00" and chosen["sigmoid", "2"] == "not defined"


def test_one_loss_in_each_search_is_no_comparison(search):
    parts = [search({"softmax": [0.4], "sigmoid": [0.2]}), search({"softmax": [0.6], "sigmoid": [0.3]})]
    parts[0] = replace(parts[0], members=parts[0].members[parts[0].members["loss"] == "softmax"])
    verdict = repeats_verdict(join_searches(parts, "my", 2))
    assert verdict["headline"] == ("No comparison is possible: 1 loss was confirmed in each search, and it takes two.")
    assert any(text.startswith("sigmoid is not compared, because search 1 confirmed") for text in verdict["warnings"])


def test_one_seed_per_search_measures_no_share(search):
    """Searches can be compared all the same."""
    parts = [search({"softmax": [0.5 + by], "sigmoid": [0.4 - by]}) for by in (0.0, 0.1, 0.15)]
    verdict = repeats_verdict(join_searches(parts, "my", 3))
    assert verdict["n_seeds"] == 3 and verdict["searches"]["losses"][0]["share"] is None
    assert "cannot be told from" in verdict["searches"]["sentences"][0]


def test_unplanned_looks_are_said(two, many):
    """Fewer searches than planned, and searches added after a report."""
    few = join_searches(two, "my", 3).results.notes
    assert any(note.startswith("2 of the 3 planned searches are in") for note in few)
    more = join_searches(many, "my", 9, reported=(2, 5, 9)).results.notes
    assert any(note.startswith("There was a report on 2 or 5 searches before") for note in more)
    assert not any("guaranteed" in note for note in join_searches(two, "my", 2, reported=(2,)).results.notes)


def test_searches_of_different_budgets_are_pointed_out(two):
    """A cut by hours may come earlier in one."""
    budget = two[1].budget.copy()
    budget.loc[budget["phase"] == "search", "asked"] = 3
    notes = join_searches([two[0], replace(two[1], budget=budget)], "my", 2).results.notes
    assert any("(4 in search 1, 3 in search 2)" in note for note in notes)


def test_what_cannot_be_joined(two, search):
    """One line each."""
    with pytest.raises(InputError, match=r"^my: 1 search is confirmed; needed: at least 2$"):
        join_searches(two[:1], "my", 2)
    other = search({"softmax": [0.1, 0.2, 0.3], "sigmoid": [0.1, 0.2, 0.3]})
    with pytest.raises(InputError, match="differs from search 1 in confirm"):
        join_searches([two[0], other], "my", 2)
    with pytest.raises(InputError, match="differs from search 1 in data digest"):
        join_searches([two[0], replace(two[1], facts={"data_digest": "other"})], "my", 2)
    part = replace(two[1], members=two[1].members.iloc[1:])
    with pytest.raises(InputError, match="confirmed with 1 and 2 seeds"):
        join_searches([two[0], part], "my", 2)


def test_the_report_is_written(many, tmp_path):
    """Page, tables, figures and verdict; the same bytes again."""
    repeated = join_searches(many, "my", 9)
    page = write_repeats_report(repeated, tmp_path / "report").read_text()
    assert 'id="variance"' in page and "searched 9 times" in page and "unmeasured" not in page
    table = pd.read_csv(tmp_path / "report" / "table.csv")
    assert (table["n_searches"] == 9).all() and (table["n_seeds"] == 4).all()
    runs = pd.read_csv(tmp_path / "report" / "runs.csv")
    assert len(runs) == 9 * 4 * 3 and set(runs["search"]) == set(range(1, 10))
    assert runs.groupby("loss")["accuracy"].mean().to_dict() == pytest.approx(dict(zip(table["loss"], table["mean"],
                                                                                      strict=True)))  # fmt: skip
    assert json.loads((tmp_path / "report" / "verdict.json").read_text())["searches"]["count"] == 9
    assert (tmp_path / "report" / "tables" / "variance.tex").is_file()
    assert "searches" in (tmp_path / "report" / "figures" / "score.svg").read_text()
    assert write_repeats_report(repeated, tmp_path / "again").read_text() == page
