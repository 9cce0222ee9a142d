"""What the page says of measures that some members, seeds or forms have no part in."""

import dataclasses
import re

import numpy as np
import pandas as pd
import pytest
from outputs import predictions, with_outputs

from losstune.analysis.measure_sections import MEASURES
from losstune.analysis.predicted import measure_predictions
from losstune.analysis.prediction_tables import agreement_tables, mean_of, prediction_tables
from losstune.analysis.represented import measure_features
from losstune.spaces import InputError

THREE = {"softmax": 0.97, "sigmoid": 0.975, "squared_error": 0.98}
BOTH_LACK = "failed, so that there are no predictions and no features of"


def failing(results, members):
    """The results with these members failed and nothing recorded of them."""
    frame = results.members.copy()
    for loss, seed in members:
        own = (frame["loss"] == loss) & (frame["seed"] == seed)
        frame.loc[own, ["state", "accuracy", "reason"]] = ["failed", 0.1, "NaN"]
    return with_outputs(dataclasses.replace(results, members=frame, predictions={}, features={}))


def captions(results):
    tables = prediction_tables(results, measure_predictions(results))
    return {table.name: table.caption for table in tables}


def test_a_failed_seed_is_said_where_it_is_not_counted(make_results):
    results = failing(make_results(losses=THREE, seeds=5), [("softmax", 3), ("sigmoid", 3), ("softmax", 1)])
    found = measure_predictions(results)
    assert found.left_out == [f"softmax, seeds 1, 3: {BOTH_LACK} them", f"sigmoid, seed 3: {BOTH_LACK} it"]
    assert found.crossed_without == ["seed 1 of every loss (softmax failed)",
                                     "seed 3 of every loss (softmax and sigmoid failed)"]  # fmt: skip
    said = captions(results)["test_set"]
    assert "Not in it: seed 1 of every loss (softmax failed); seed 3 of every loss" in said
    assert "the results count it as the constant predictor" in said
    assert captions(results)["mixed_ensembles"].endswith("are missing: softmax and sigmoid.")
    whole = with_outputs(make_results(losses=THREE, seeds=5))
    assert "missing" not in captions(whole)["mixed_ensembles"]
    assert measure_predictions(whole).crossed_without == [] and "Not in it" not in captions(whole)["test_set"]


def test_a_loss_that_failed_wholly_is_named(make_results):
    results = failing(make_results(losses=THREE, seeds=3), [("softmax", seed) for seed in range(3)])
    found = measure_predictions(results)
    assert found.left_out == [f"softmax: all its seeds {BOTH_LACK} it"]
    assert found.crossed_without == ["softmax (all its seeds failed)"] and len(found.crossed) == 1


def test_failed_members_are_said_once_of_predictions_and_features(make_results):
    results = failing(make_results(losses=THREE, seeds=3), [("softmax", 1)])
    assert measure_features(results).left_out == []
    alone = dataclasses.replace(results, predictions={})
    assert measure_features(alone).left_out == [f"softmax, seed 1: {BOTH_LACK} it"]


def test_other_reasons_why_a_seed_is_not_in_it(make_results):
    odd = {("sigmoid", 2): lambda: predictions("sigmoid", 2, shift=1)}
    results = with_outputs(make_results(losses=THREE, seeds=4), predictions=odd)
    assert measure_predictions(results).crossed_without == ["seed 2 of every loss (sigmoid cannot be used)"]
    members = results.members.assign(nll=results.members["accuracy"])
    study = {**results.study, "metric": "nll"}
    of_nll = dataclasses.replace(with_outputs(results), members=members, study=study, greater_is_better=False)
    assert measure_predictions(of_nll).crossed_without == ["squared_error (not defined)"]


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        ("/home/me/runs/my/predictions/t1.npz: not a confirmed member's predictions (BadZipFile: no zip); allowed: x",
         "predictions/t1.npz is damaged; losstune doctor digits looks into it"),
        ("s3://b/my/features/t1.npz: not a confirmed member's features (FileNotFoundError: No such file or directory)",
         "features/t1.npz is missing; losstune doctor digits looks into it"),
        ("logits: 3 classes; needed: 10", "logits: 3 classes; needed: 10"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_read_is_called_by_its_name(results, raised, said):
    def read():
        raise InputError(raised)

    left_out = []
    assert list(results.readable({("softmax", 1): read}, left_out)) == []
    assert left_out == [f"softmax, seed 1: {said}"]


def test_a_mean_over_some_seeds_says_of_how_many():
    assert mean_of(pd.Series([0.1, 0.3, np.nan]), "nll") == "0.2000 ± 0.1000 (2 of 3 seeds)"
    assert mean_of(pd.Series([0.1, 0.3]), "nll") == "0.2000 ± 0.1000"
    assert mean_of(pd.Series([np.nan, np.nan]), "nll") == "not defined"


def test_calibration_says_where_a_seed_has_no_temperature(make_results):
    """Validation of one seed is all right by far, so that no temperature is defined."""
    sure = predictions("softmax", 1)
    logits = 20 * np.eye(10, dtype=np.float32)[sure.validation_targets]
    read = {("softmax", 1): lambda: dataclasses.replace(sure, validation_logits=logits)}
    results = with_outputs(make_results(losses=THREE, seeds=4), predictions=read)
    tables = {table.name: table for table in prediction_tables(results, measure_predictions(results))}
    for name in ("probabilities", "calibration"):
        cells = dict(zip(tables[name].columns, tables[name].rows[0], strict=True))
        few = {head for head, cell in cells.items() if cell.endswith("(3 of 4 seeds)")}
        assert few == {head for head in cells if "scaled" in head or head == "temperature"}


MEANS = pd.DataFrame({"loss_a": ["a", "a", "b"], "loss_b": ["a", "b", "b"], "same_class": [0.9, 0.8, 0.7],
                      "same_outcome": [0.9, 0.8, 0.7], "same_error": 1.0})  # fmt: skip


def test_of_two_classes_one_form_of_agreement_says_everything():
    (one,) = agreement_tables(MEANS, ["a", "b"], 2)
    assert one.name == "agreement_same_class" and "both wrong predict the same one" in one.caption
    three = agreement_tables(MEANS, ["a", "b"], 3)
    assert [table.caption.partition(";")[0] for table in three] == [
        "Share of test examples (%) for which two models of different seeds predict the same class",
        "Share of test examples (%) that two models of different seeds both get right, or both get wrong",
        "Of the test examples that two models of different seeds both get wrong, the share (%) for which they predict "
        "the same class",
    ]


def test_one_seed_has_no_agreement_and_one_temperature(make_results):
    results = with_outputs(make_results(losses=THREE, seeds=1))
    tables = {table.name: table for table in prediction_tables(results, measure_predictions(results))}
    assert not [name for name in tables if name.startswith("agreement")]
    assert re.fullmatch(r"\d\.\d\d", tables["probabilities"].rows[0][-1])
    body = {name: body for name, _, body in MEASURES}["agreement"]
    assert body(results, {}, tables, []) == ""
