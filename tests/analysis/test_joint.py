"""Several studies as blocks: what is joined, what is said, and what must not be said."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest

from losstune.analysis import drawing
from losstune.analysis import joint as joint_module
from losstune.analysis.joint import join, joint_verdict
from losstune.analysis.joint_report import write_joint_report
from losstune.analysis.joint_tables import studies_table
from losstune.analysis.ranking import rank_losses
from losstune.spaces import InputError

MEANS = {"softmax": 0.95, "sigmoid": 0.951, "cosine_softmax": 0.97}


@pytest.fixture(scope="module")
def study(make_results):
    """study(name, ...): results of a study under another name, data set and network."""

    def make(name, losses=MEANS, data=None, network="mlp", seed=0, seeds=4, **changed):
        results = make_results(losses=losses, seeds=seeds, trials=2, epochs=2, seed=seed)
        return dataclasses.replace(results, study={**results.study, "name": name, "data": data or name,
                                                   "network": network, **changed})  # fmt: skip

    return make


@pytest.fixture(scope="module")
def ten(study):
    return [study(f"set{k}", seed=k) for k in range(10)]


def test_join_takes_means_over_seeds_of_the_common_losses(study):
    one = study("one", losses={"dropout": 0.9, **MEANS})
    two = study("two", losses={**MEANS, "ce_el": 0.9}, seed=1)
    joint = join([one, two])
    assert list(joint.means.columns) == list(MEANS) and list(joint.means.index) == ["one", "two"]
    assert joint.left_out == {"one": ["dropout"], "two": ["ce_el"]} and joint.datasets == {"one": "one", "two": "two"}
    for block, results in (("one", one), ("two", two)):
        expected = results.members.groupby("loss")["accuracy"].mean()
        assert joint.means.loc[block].to_dict() == pytest.approx(expected[list(MEANS)].to_dict())
    assert len(joint.scores) == 2 * 3 * 4 and joint.baseline == "softmax"
    warnings = joint_verdict(joint)["warnings"]
    assert "not compared, because not every study has them: dropout (of one)" in warnings


def test_verdict_over_ten_data_sets_is_plain_json(ten):
    verdict = joint_verdict(join(ten))
    assert json.loads(json.dumps(verdict, allow_nan=False)) == verdict
    assert verdict["best_set"] == ["cosine_softmax"]
    assert verdict["headline"] == (
        "cosine_softmax wins: it is shown to beat every other loss over 10 data sets. "
        "The best average rank, 1.00, is that of cosine_softmax."
    )
    means = pd.DataFrame({k: results.members.groupby("loss")["accuracy"].mean() for k, results in enumerate(ten)})
    gain = 100 * (means.loc["cosine_softmax"] - means.loc["softmax"]).mean()
    # Ten of ten blocks: p = 2 / 2^10, times 3 pairs.
    said = ("cosine_softmax beats softmax: better on 10 of 10 data sets, "
            f"{gain:.2f} points better on average (p = 0.006).")  # fmt: skip
    assert said in verdict["sentences"]
    assert len(verdict["pairs"]) == 3 and verdict["friedman"]["p"] < 0.01 and len(verdict["iqm"]) == 3


def test_networks_on_one_data_set_count_once(study):
    studies = [study("same", data="digits", network=f"net{k}", seed=k) for k in range(8)]
    alone = joint_verdict(join(studies))
    assert alone["headline"].startswith("All 8 studies use the data set digits: nothing can be said about other data")
    assert alone["best_set"] == [] and alone["pairs"] == [] and alone["friedman"] is None
    assert alone["studies"][0]["block"] == "same (digits, net0)"
    joint = join([*studies, study("other", seed=9)])
    verdict = joint_verdict(joint)
    assert verdict["datasets"] == ["digits", "other"]
    assert verdict["headline"].startswith("No winner: the 3 losses are not shown to differ over 2 data sets.")
    table = {row["loss"]: row["mean"] for row in verdict["table"]}
    digits, other = joint.means.iloc[:8].mean(), joint.means.iloc[8]
    assert table == pytest.approx(((digits + other) / 2).to_dict())
    assert "2 blocks cannot separate anything" in verdict["warnings"][0]
    assert any("networks on one data set are not independent blocks" in text for text in verdict["warnings"])


def of_data(results, digest):
    return dataclasses.replace(results, facts={"data_digest": digest})


def test_two_names_of_one_data_set_are_one_block(study):
    """A copy of digits under another name, and another set: two data sets, by their digests."""
    joint = join([of_data(study("a", data="digits"), "d" * 64),
                  of_data(study("b", data="npz:copy.npz", seed=1), "d" * 64),
                  of_data(study("c", data="fashion_mnist", seed=2), "f" * 64)])  # fmt: skip
    assert joint.datasets == {"a": "digits", "b": "digits", "c": "fashion_mnist"}
    verdict = joint_verdict(joint)
    assert verdict["datasets"] == ["digits", "fashion_mnist"]
    assert "a and b use the data set digits" in " ".join(verdict["warnings"])
    said = "digits and npz:copy.npz are the same data, by their digest, and count as one data set"
    assert said in verdict["warnings"]
    assert studies_table(verdict).rows[1][1] == "npz:copy.npz, counted as digits"
    assert joint.sets.loc["digits"].to_dict() == pytest.approx(joint.means.loc[["a", "b"]].mean().to_dict())


def test_two_data_sets_of_one_name_are_two(study):
    joint = join([of_data(study("a", data="npz:my.npz"), "0123456789"),
                  of_data(study("b", data="npz:my.npz", seed=1), "abcdefabcd")])  # fmt: skip
    assert joint.datasets == {"a": "npz:my.npz (01234567)", "b": "npz:my.npz (abcdefab)"}
    verdict = joint_verdict(joint)
    assert len(verdict["datasets"]) == 2 and verdict["friedman"] is not None
    assert any(text.startswith("2 data sets have the name npz:my.npz: their digests differ")
               for text in verdict["warnings"])  # fmt: skip
    assert not any("not independent" in text for text in verdict["warnings"])


def test_without_a_digest_the_name_decides_and_that_is_said(study):
    joint = join([study("old", data="digits"), of_data(study("new", data="digits", seed=1), "d" * 64),
                  of_data(study("other", seed=2), "e" * 64)])  # fmt: skip
    assert joint.datasets == {"old": "digits", "new": "digits", "other": "other"}
    assert ("the data of old are known by name only: whether they are those of another study is not checked"
            in joint_verdict(joint)["warnings"])  # fmt: skip
    # Of two data sets of its name it is taken for the first.
    joint = join([of_data(study("b", data="digits"), "d" * 64), study("old", data="digits", seed=1),
                  of_data(study("a", data="digits", seed=2), "e" * 64)])  # fmt: skip
    assert joint.datasets == {"b": "digits (dddddddd)", "old": "digits (dddddddd)", "a": "digits (eeeeeeee)"}


def test_losses_are_ranked_once(ten, monkeypatch, tmp_path):
    calls = []
    monkeypatch.setattr(joint_module, "rank_losses", lambda *given: calls.append(given) or rank_losses(*given))
    monkeypatch.setattr(drawing, "to_pdf", lambda figure: b"")
    write_joint_report(ten, tmp_path)
    assert len(calls) == 1


def test_a_metric_where_lower_is_better(study):
    studies = [
        dataclasses.replace(study(f"set{k}", seed=k, metric="nll"), greater_is_better=False) for k in range(8)
    ]
    verdict = joint_verdict(join(studies))
    best = next(row for row in verdict["table"] if row["loss"] == "cosine_softmax")
    assert best["average_rank"] == 1 and 0 < best["mean"] < 0.2 and best["mean_difference"] > 0
    iqm = next(row for row in verdict["iqm"] if row["loss"] == "cosine_softmax")
    assert 0 < iqm["ci_low"] <= iqm["iqm"] <= iqm["ci_high"]
    profile = join(studies).profile()
    nll = {k: results.members.groupby("loss")["nll"].mean() for k, results in enumerate(studies)}
    assert profile.ratios.loc["set0", "softmax"] == pytest.approx(nll[0]["softmax"] / nll[0].min())


def test_profile_of_accuracies_is_of_errors(ten):
    joint = join(ten)
    error = 1 - joint.means.loc["set0"]
    assert joint.profile().ratios.loc["set0", "softmax"] == pytest.approx(error["softmax"] / error.min())


def test_failed_and_missing_runs_are_counted(study):
    one, two = study("one"), study("two", seed=1)
    members = one.members.copy()
    members.loc[0, "state"] = "failed"
    missing = dataclasses.replace(two, members=two.members.iloc[1:])
    warnings = joint_verdict(join([dataclasses.replace(one, members=members), missing]))["warnings"]
    assert "1 confirmed runs of one failed and score as the constant predictor" in warnings
    assert any(text.startswith("losses or studies have different numbers of seeds") for text in warnings)


def test_alpha_and_baseline_of_studies_that_differ(study):
    confirm = {"seeds": 4, "alpha": 0.01}
    joint = join([study("one"), study("two", confirm=confirm, baseline="sigmoid")])
    assert joint.alpha == 0.01 and joint.baseline is None


def test_what_cannot_be_joined(study):
    one = study("one")
    with pytest.raises(InputError, match="1 study; needed: at least 2"):
        join([one])
    with pytest.raises(InputError, match=r"the study one \(one, mlp\) is given twice"):
        join([one, study("one")])
    with pytest.raises(InputError, match="the metric of one is accuracy, that of two nll"):
        join([one, dataclasses.replace(study("two", metric="nll"), greater_is_better=False)])
    with pytest.raises(InputError, match="have 1 confirmed losses in common"):
        join([one, study("two", losses={"softmax": 0.9, "dropout": 0.9})])
    assert np.isfinite(join([one, study("two")]).means).all(axis=None)
