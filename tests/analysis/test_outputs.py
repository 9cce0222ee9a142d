"""What the report says of recorded predictions and features, from synthetic members."""

import dataclasses
import json

import numpy as np
import pytest
from outputs import damaged, features, predictions, with_outputs

from losstune.analysis import drawing, predicted
from losstune.analysis.calibration import calibration_interval, confidences, prediction_measures
from losstune.analysis.predicted import measure_predictions
from losstune.analysis.prediction_tables import prediction_tables
from losstune.analysis.report import write_report
from losstune.analysis.representation_figures import distances_figure, hardness_figure
from losstune.analysis.representation_tables import representation_tables
from losstune.analysis.represented import measure_features
from losstune.analysis.separation import class_separation, distance_counts, hardness_values
from losstune.trainables.metrics import to_probabilities

THREE = {"softmax": 0.97, "sigmoid": 0.975, "squared_error": 0.98}


@pytest.fixture(scope="module")
def results(make_results):
    return with_outputs(make_results(losses=THREE, seeds=4))


def table(tables, name):
    return next(one for one in tables if one.name == name)


def test_every_member_is_measured_by_its_own_predictions(results):
    found = measure_predictions(results)
    assert len(found.members) == 12 and not found.left_out
    row = found.members.query("loss == 'sigmoid' and seed == 2").iloc[0]
    one = predictions("sigmoid", 2)
    for name, value in prediction_measures(one.test_logits, one.test_targets, "sigmoid").items():
        assert row[name] == pytest.approx(value, nan_ok=True)
    assert row["scaled_nll"] <= row["nll"] + 0.05 and np.isfinite(row["temperature"])


def test_what_a_loss_does_not_define_is_not_made_up(results):
    tables = prediction_tables(results, measure_predictions(results))
    for name in ("calibration", "probabilities"):
        cells = table(tables, name).rows[2]
        assert cells[0] == "squared_error" and set(cells[1:]) == {"not defined"}


def test_calibration_errors_come_with_their_intervals(results):
    found = measure_predictions(results)
    ones = [predictions("sigmoid", seed) for seed in range(4)]
    members = [confidences(to_probabilities(one.test_logits, "sigmoid"), one.test_targets) for one in ones]
    for name, adaptive in (("ece", False), ("adaptive_ece", True)):
        assert found.intervals["sigmoid", name] == calibration_interval(members, adaptive)
    assert {loss for loss, _ in found.intervals} == {"softmax", "sigmoid"} and len(found.intervals) == 8
    shown = table(prediction_tables(results, found), "calibration")
    low, high = (100 * end for end in found.intervals["sigmoid", "ece"])
    mean = 100 * found.members.query("loss == 'sigmoid'")["ece"].mean()
    assert shown.rows[1][shown.columns.index("ECE (%)")] == f"{mean:.2f} ({low:.2f} to {high:.2f})"
    assert "In brackets" in shown.caption


def test_an_alpha_that_draws_cannot_reach_has_no_intervals(results):
    study = {**results.study, "confirm": {**results.study["confirm"], "alpha": 1e-4}}
    found = measure_predictions(dataclasses.replace(results, study=study))
    shown = table(prediction_tables(results, found), "calibration")
    assert not found.intervals and " ± " in shown.rows[0][1] and "In brackets" not in shown.caption


def test_ensembles_agree_by_their_votes(results):
    found = measure_predictions(results)
    votes = {}
    for loss in ("softmax", "sigmoid"):
        classes = np.array([predictions(loss, seed).test_logits.argmax(1) for seed in range(4)])
        votes[loss] = np.array([np.bincount(own, minlength=10).argmax() for own in classes.T])
    share = (votes["softmax"] == votes["sigmoid"]).mean()
    assert found.voted.loc["softmax", "sigmoid"] == found.voted.loc["sigmoid", "softmax"] == share
    shown = table(prediction_tables(results, found), "agreement_ensembles")
    assert shown.rows[0][1:3] == ["100.00", f"{100 * share:.2f}"]


def test_two_seeds_are_no_majority(make_results):
    few = with_outputs(make_results(losses=THREE, seeds=2))
    assert "agreement_ensembles" not in [one.name for one in prediction_tables(few, measure_predictions(few))]


def test_ensembles_that_would_take_too_much_memory_are_left_out_and_said(results, monkeypatch):
    monkeypatch.setattr(predicted, "MOST_BYTES", 3 * 120 * 10 * 36 - 1)
    found = measure_predictions(results)
    assert found.ensembles.empty and found.mixed.empty and found.voted.empty and len(found.members) == 12
    (said,) = found.left_out
    assert said.startswith("ensembles are not measured: 120 test examples of 10 classes would take 0.0 GiB")
    assert not {"ensembles", "mixed_ensembles", "agreement_ensembles"} & {
        one.name for one in prediction_tables(results, found)
    }
    monkeypatch.setattr(predicted, "MOST_BYTES", 3 * 120 * 10 * 36)
    assert len(measure_predictions(results).ensembles) == 3


def test_agreement_is_counted_over_the_same_examples(results):
    found = measure_predictions(results)
    a, b = predictions("softmax", 0), predictions("sigmoid", 1)
    share = (a.test_logits.argmax(1) == b.test_logits.argmax(1)).mean()
    models = found.agreement.models
    assert found.agreement.same_class[models.index(("softmax", 0)), models.index(("sigmoid", 1))] == share


def test_differences_are_those_of_the_accuracies(results):
    found = measure_predictions(results)
    means = found.members.groupby("loss")["accuracy"].mean()
    for row in found.crossed.to_dict("records"):
        assert row["difference"] == pytest.approx(means[row["loss_a"]] - means[row["loss_b"]])


def test_nll_as_the_metric_is_crossed_in_nats(results):
    members = results.members.assign(nll=results.members["nll"].fillna(1.0))
    study = {**results.study, "metric": "nll"}
    found = measure_predictions(dataclasses.replace(results, study=study, greater_is_better=False, members=members))
    means = found.members.groupby("loss")["nll"].mean()
    row = found.crossed.iloc[0]
    assert found.of == "nll"
    assert row["difference"] == pytest.approx(means[row["loss_b"]] - means[row["loss_a"]], rel=1e-5)
    assert set(found.crossed["loss_a"]) | set(found.crossed["loss_b"]) == {"softmax", "sigmoid"}


def test_temperature_is_refused_where_validation_was_trained_on(results):
    study = {**results.study, "confirm": {**results.study["confirm"], "train_on": "all"}}
    found = measure_predictions(dataclasses.replace(results, study=study))
    assert found.members["temperature"].isna().all() and not found.scaled_reliability
    caption = table(prediction_tables(results, found), "probabilities").caption
    assert "trained on the validation split" in caption


def test_members_that_cannot_be_read_or_compared_are_left_out_and_said(results, tmp_path):
    other = with_outputs(results, predictions={
        ("softmax", 1): damaged, ("sigmoid", 3): lambda: predictions("sigmoid", 3, shift=1),
        ("sigmoid", 0): lambda: predictions("sigmoid", 0, test=77),
    })  # fmt: skip
    found = measure_predictions(other)
    assert len(found.members) == 9
    named = [text.partition(":")[0] for text in found.left_out]
    assert named == ["softmax, seed 1", "sigmoid, seed 0", "sigmoid, seed 3"]
    assert "one.npz is damaged; losstune doctor digits" in found.left_out[0] and "another test set" in found.left_out[1]
    page = write_report(other, tmp_path).read_text(encoding="utf-8")
    assert "Not in these measures" in page and "another test set than most" in page


def test_nothing_recorded_is_no_section(make_results, tmp_path):
    page = write_report(make_results(losses=THREE, seeds=4), tmp_path).read_text(encoding="utf-8")
    for title in ("Calibration", "Class separation", "Not in these measures", "Another test set"):
        assert f"<h2>{title}</h2>" not in page


def test_features_are_measured_by_split_and_loss(results):
    found = measure_features(results)
    assert len(found.members) == 24 and not found.left_out
    row = found.members.query("loss == 'softmax' and seed == 1 and split == 'test'").iloc[0]
    wanted = class_separation(features("softmax", 1).statistics["test"]).values
    assert {name: row[name] for name in wanted} == wanted
    names = [one.name for one in representation_tables(found)]
    assert names == ["separation_test", "separation_train", "collapse_test", "collapse_train", "spectra_test",
                     "spectra_train", "similarity", "sparsity"]  # fmt: skip


def test_distributions_are_of_the_kept_examples_of_the_first_seeds(make_results):
    found = measure_features(with_outputs(make_results(losses=THREE, seeds=6)))
    own = [features("sigmoid", seed) for seed in range(6)]
    assert (found.distances.split, found.distances.examples) == ("test", 60)  # no training examples are kept
    assert len(found.distances.by_loss["sigmoid"]) == len(found.hardness.by_loss["sigmoid"]) == 5
    kept = own[1].examples["test"]
    wanted = distance_counts(kept.features, kept.targets)
    np.testing.assert_array_equal(found.distances.by_loss["sigmoid"][1], wanted)
    values = hardness_values(kept.features, kept.targets, own[1].statistics["test"].weight)
    np.testing.assert_array_equal(found.hardness.by_loss["sigmoid"][1], values)
    with drawing.style():
        apart, hard = (drawing.to_svg(draw(of)) for draw, of in ((distances_figure, found.distances),
                                                                (hardness_figure, found.hardness)))  # fmt: skip
    assert "pairs of 60 test examples, 5 seeds" in apart and "sigmoid, the same class: mean distance" in apart
    assert f"{5 * 10 * 15:,} pairs" in apart and "sigmoid: mean" in hard and "300 examples" in hard


def test_features_of_another_number_of_examples_are_no_part_of_distributions(results):
    odd = features("softmax", 1, count=40)
    none = dataclasses.replace(features("softmax", 2), examples={})
    changed = {("softmax", 1): lambda: odd, ("softmax", 2): lambda: none}
    found = measure_features(with_outputs(results, features=changed))
    assert len(found.distances.by_loss["softmax"]) == 2 and len(found.distances.by_loss["sigmoid"]) == 4
    nothing = {model: lambda: none for model in results.features}
    found = measure_features(with_outputs(results, features=nothing))
    assert found.distances is None and found.hardness is None


def test_the_ceiling_of_similarity_is_on_its_diagonal(results):
    found = measure_features(results)
    cells = table(representation_tables(found), "similarity")
    own = found.similarity.query("layer == 'features' and loss_a == 'sigmoid' and loss_b == 'sigmoid'").iloc[0]
    assert cells.rows[1][2] == f"{own['cka']:.3f}" and found.by_layer["sigmoid"].shape == (2, 2)


def test_layers_of_other_examples_are_not_compared(results):
    odd = features("softmax", 2)
    odd = dataclasses.replace(odd, layers=dataclasses.replace(odd.layers, indices=odd.layers.indices[::-1]))
    found = measure_features(with_outputs(results, features={("softmax", 2): lambda: odd}))
    assert found.left_out == ["softmax, seed 2: its layers were recorded on other test examples"]


@pytest.mark.parametrize("seeds, losses", [(1, THREE), (2, {"softmax": 0.97}), (1, {"squared_error": 0.9})])
def test_few_seeds_and_few_losses_make_a_page(make_results, tmp_path, seeds, losses):
    """One seed, one loss, no probabilities: what can be said is, and the verdict is JSON."""
    page = write_report(with_outputs(make_results(losses=losses, seeds=seeds)), tmp_path).read_text(encoding="utf-8")
    assert "<h2>Class separation</h2>" in page and "nan" not in page.replace("nanos", "")
    json.loads((tmp_path / "verdict.json").read_text(), parse_constant=pytest.fail)


def test_constant_predictions_and_constant_features_make_a_page(make_results, tmp_path):
    """A network that has collapsed: every class as likely, every feature the same."""
    results = make_results(losses=THREE, seeds=3)
    flat = dataclasses.replace(predictions("softmax", 0), test_logits=np.zeros((120, 10), np.float32),
                               validation_logits=np.zeros((90, 10), np.float32))  # fmt: skip
    dead = features("softmax", 0, width=1)
    read = {(loss, seed): lambda: flat for loss in THREE for seed in range(3)}
    page = write_report(
        with_outputs(results, predictions=read, features=dict.fromkeys(read, lambda: dead)), tmp_path
    ).read_text(encoding="utf-8")
    assert "<h2>Calibration</h2>" in page and "every class has the same probability" in page


def test_tables_are_files_in_three_formats(results, tmp_path):
    write_report(results, tmp_path)
    assert all((tmp_path / "figures" / f"{name}.svg").is_file() for name in ("cosine_distances", "reliability"))
    for name in ("calibration", "test_set", "ensembles", "agreement_ensembles", "agreement_same_class",
                 "separation_test", "similarity"):  # fmt: skip
        assert {path.suffix for path in (tmp_path / "tables").glob(f"{name}.*")} == {".csv", ".md", ".tex"}
    assert len((tmp_path / "prediction_measures.csv").read_text().splitlines()) == 1 + 12
    assert len((tmp_path / "feature_measures.csv").read_text().splitlines()) == 1 + 24
    lines = (tmp_path / "tables" / "ensembles.csv").read_text().splitlines()
    assert lines[0].startswith("loss,members,one member (%)") and len(lines) == 4


def test_nothing_that_can_be_read_is_said_and_leaves_nothing_of_earlier_reports(results, tmp_path):
    write_report(results, tmp_path)
    none = {(loss, seed): damaged for loss in THREE for seed in range(4)}
    write_report(with_outputs(results, predictions=none, features=none), tmp_path)
    page, verdict = (tmp_path / "report.html").read_text(), json.loads((tmp_path / "verdict.json").read_text())
    for kind, reason in zip(("predictions", "features"), verdict["left_out_of_measures"], strict=True):
        assert reason.startswith(f"nothing is measured of {kind}: those of all 12 confirmed members are no good")
        assert f"nothing is measured of {kind}" in page.lower()
    left = {path.stem for path in tmp_path.rglob("*") if path.is_file()}
    assert not left & {"calibration", "separation_test", "reliability", "prediction_measures", "feature_measures"}
    assert {"results", "score", "table"} <= left
