"""Metrics by hand and against scikit-learn, the user's own, and the constant predictor."""

import math
import pickle
import subprocess
import sys

import numpy as np
import pytest
from sklearn import metrics as oracle

from losstune.spaces.errors import InputError
from losstune.trainables.metrics import (
    METRICS,
    NotScored,
    accuracy_of,
    constant_score,
    resolve_metric,
    source_of,
    to_probabilities,
)

RNG = np.random.default_rng(0)
N, K = 300, 7
TARGETS = np.concatenate([np.arange(K), RNG.integers(0, K, N - K)])
LOGITS = RNG.normal(size=(N, K)).astype(np.float32) + 1.5 * np.eye(K, dtype=np.float32)[TARGETS]
PROBABILITIES = to_probabilities(LOGITS, "softmax")


def value(name: str, outputs, targets) -> float:
    return METRICS[name].function(np.asarray(outputs, float), np.asarray(targets))


def test_listing_needs_neither_torch_nor_sklearn():
    code = "import sys; import losstune.trainables.metrics; print({'torch', 'sklearn'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("accuracy", oracle.accuracy_score(TARGETS, LOGITS.argmax(1))),
        ("top5_accuracy", oracle.top_k_accuracy_score(TARGETS, LOGITS, k=5)),
        ("balanced_accuracy", oracle.balanced_accuracy_score(TARGETS, LOGITS.argmax(1))),
        ("macro_f1", oracle.f1_score(TARGETS, LOGITS.argmax(1), average="macro")),
        ("auroc", oracle.roc_auc_score(TARGETS, PROBABILITIES, multi_class="ovr", average="macro")),
        ("nll", oracle.log_loss(TARGETS, PROBABILITIES)),
    ],
)
def test_agrees_with_scikit_learn(name, expected):
    assert METRICS[name].score(LOGITS, TARGETS, "softmax") == pytest.approx(expected, rel=1e-12)


def test_auroc_shares_ties_as_scikit_learn_does():
    coarse = np.round(PROBABILITIES, 1)
    expected = np.mean([oracle.roc_auc_score(TARGETS == k, coarse[:, k]) for k in range(K)])
    assert value("auroc", coarse, TARGETS) == pytest.approx(expected, rel=1e-12)


def test_auroc_of_two_classes_is_the_usual_one():
    y, z = TARGETS % 2, LOGITS[:, :2]
    expected = oracle.roc_auc_score(y, z[:, 1] - z[:, 0])
    assert METRICS["auroc"].score(z, y, "softmax") == pytest.approx(expected, rel=1e-12)


def test_softmax_scores_do_not_depend_on_shifts_of_the_logits():
    shifts = RNG.normal(size=(N, 1)) * 10
    assert METRICS["auroc"].score(LOGITS + shifts, TARGETS, "softmax") == pytest.approx(
        METRICS["auroc"].score(LOGITS, TARGETS, "softmax"), rel=1e-12
    )


def test_by_hand():
    outputs = np.array([[0.9, 0.1, 0.0], [0.6, 0.4, 0.0], [0.2, 0.8, 0.0], [0.0, 0.0, 1.0]])
    targets = np.array([0, 1, 1, 0])
    assert value("accuracy", outputs, targets) == 0.5
    assert value("balanced_accuracy", outputs, targets) == 0.5  # classes 0 and 1; no example of class 2
    assert value("macro_f1", outputs, targets) == pytest.approx((1 / 2 + 2 / 3 + 0) / 3)
    assert value("auroc", outputs, targets) == pytest.approx((2 / 4 + 4 / 4) / 2)  # pairs in order
    assert value("nll", outputs[:3], targets[:3]) == pytest.approx(-(math.log(0.9) + math.log(0.4) + math.log(0.8)) / 3)
    assert value("nll", outputs[3:], targets[3:]) == pytest.approx(708.396, abs=0.001)
    # Confidences .9, .6, .8, 1, alone in their bins: |1 - .9| + |0 - .6| + |1 - .8| + |0 - 1| over 4
    assert value("ece", outputs, targets) == pytest.approx(1.9 / 4)


def test_ece_bins():
    sure = np.array([[1.0, 0.0]] * 3 + [[0.97, 0.03]])
    # One bin, (14/15, 1]: mean confidence .9925, accuracy 3/4
    assert value("ece", sure, [0, 0, 1, 0]) == pytest.approx(0.9925 - 0.75)
    edge = np.array([[0.6, 0.4], [0.61, 0.39]])  # 9/15 belongs to the bin below it
    assert value("ece", edge, [0, 1]) == pytest.approx((0.4 + 0.61) / 2)


def test_ece_agrees_with_guos_definition():
    confidence, correct = PROBABILITIES.max(1), PROBABILITIES.argmax(1) == TARGETS
    expected = 0.0
    for m in range(15):
        inside = (confidence > m / 15) & (confidence <= (m + 1) / 15)
        if inside.any():
            expected += inside.mean() * abs(correct[inside].mean() - confidence[inside].mean())
    assert value("ece", PROBABILITIES, TARGETS) == pytest.approx(expected, rel=1e-12)


def test_top5_ties_go_to_the_lower_class_and_few_classes_have_none():
    assert value("top5_accuracy", np.zeros((7, 7)), np.arange(7)) == pytest.approx(5 / 7)
    assert math.isnan(value("top5_accuracy", np.eye(5), np.arange(5)))
    with pytest.raises(InputError, match="metric: top5_accuracy says nothing about 5 classes; allowed: at least 6"):
        resolve_metric("top5_accuracy", ".", None, 5)


def test_what_a_loss_without_probabilities_has():
    assert math.isnan(METRICS["nll"].score(LOGITS, TARGETS, None))
    assert math.isnan(METRICS["ece"].score(LOGITS, TARGETS, None))
    assert METRICS["auroc"].score(LOGITS, TARGETS, None) == value("auroc", LOGITS, TARGETS)
    assert to_probabilities(LOGITS, None) is None


def test_probabilities():
    z = np.array([[0.0, math.log(3.0)], [-1000.0, -999.0]], dtype=np.float32)
    second = [1 / (1 + math.e), 1 / (1 + 1 / math.e)]
    assert to_probabilities(z, "softmax") == pytest.approx(np.array([[0.25, 0.75], second]))
    # sigma(0) = 1/2, sigma(log 3) = 3/4; far below zero sigma is exp, so that the second row is the softmax again
    assert to_probabilities(z, "sigmoid") == pytest.approx(np.array([[0.4, 0.6], second]))
    big = to_probabilities(np.array([[[2000.0, -2000.0, 0.0]]]), "sigmoid")
    assert big.shape == (1, 1, 3) and big[0, 0] == pytest.approx([2 / 3, 0, 1 / 3])
    with pytest.raises(ValueError, match="unknown family"):
        to_probabilities(z, "hinge")


def test_accuracies_of_a_stack():
    stack = np.stack([LOGITS, -LOGITS, np.roll(LOGITS, 1, 1)])
    expected = [value("accuracy", z, TARGETS) for z in stack]
    assert accuracy_of(stack, TARGETS).tolist() == expected


def test_directions():
    assert {name for name, metric in METRICS.items() if not metric.greater_is_better} == {"nll", "ece"}


# --- costs ---

COSTS = "0,1,5\n1,0,1\n10,2,0\n"


def test_cost_matrix(tmp_path):
    (tmp_path / "costs.csv").write_text("\ufeff" + COSTS, encoding="utf-8")
    metric = resolve_metric("cost:costs.csv", tmp_path, None, 3)
    logits, targets = np.eye(3)[[0, 2, 0, 1]], np.array([0, 0, 2, 2])
    assert metric.function(logits, targets) == (0 + 5 + 10 + 2) / 4 and not metric.greater_is_better
    shipped = resolve_metric("cost:costs.csv", "/nowhere", source_of("cost:costs.csv", tmp_path), 3)
    assert shipped.function(logits, targets) == 4.25
    assert constant_score(metric, np.array([0, 1, 1]), targets, 3) == (1 + 1 + 2 + 2) / 4
    assert source_of("accuracy", tmp_path) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty; allowed: 3 x 3 numbers"),
        ("0,1\n1,0\n", "has 2 rows and 2 columns; allowed: 3 x 3, a row per true class"),
        ("0,1,2\n1,0\n2,1,0\n", "columns changed"),
        ("a,b,c\n" + COSTS, "could not convert string 'a' to float64 at row 0.*; allowed: numbers separated by commas"),
        (COSTS.replace("10", "nan"), "row 3, column 1 is nan; allowed: finite numbers"),
        (COSTS.replace("5", "inf"), "row 1, column 3 is inf"),
    ],
)
def test_bad_costs(text, message):
    with pytest.raises(InputError, match=message) as error:
        resolve_metric("cost:c.csv", ".", text, 3)
    assert str(error.value).startswith("metric: cost:c.csv: ") and "\n" not in str(error.value)


def test_a_missing_file_and_an_unknown_metric(tmp_path):
    with pytest.raises(InputError, match="metric: there is no file c.csv; allowed: a path relative"):
        resolve_metric("cost:c.csv", tmp_path, None, 3)
    with pytest.raises(InputError, match="unknown metric 'f1'; allowed: accuracy, .*ece, cost:FILE.csv, or FILE"):
        resolve_metric("f1", tmp_path, None, 3)


# --- the user's function ---

SCORE = "def score(logits, targets):\n    return {}\n"


def test_the_users_metric(tmp_path):
    error_rate = SCORE.format("(logits.argmax(1) != targets).mean()") + "score.greater_is_better = False"
    (tmp_path / "m.py").write_text(error_rate)
    metric = resolve_metric("m.py:score", tmp_path, None, K)
    assert not metric.greater_is_better and metric.name == "m.py:score"
    assert metric.score(LOGITS, TARGETS, None) == pytest.approx(1 - value("accuracy", LOGITS, TARGETS))
    assert resolve_metric("m.py:score", ".", SCORE.format("1"), K).greater_is_better


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (SCORE.format("logits.nothing"), r"m.py:score raised AttributeError: .*\(line 2\)"),
        (SCORE.format("logits"), "m.py:score returned ndarray; allowed: one number"),
        (SCORE.format("None"), "m.py:score returned NoneType; allowed: one number"),
        (SCORE.format("1") + "score.greater_is_better = 'no'", "greater_is_better is 'no'; allowed: True or False"),
        ("", "m.py defines no function score; found: none"),
    ],
)
def test_bad_users_metrics(source, message):
    with pytest.raises(InputError, match=message) as error:
        resolve_metric("m.py:score", ".", source, 3)
    assert str(error.value).startswith("metric: m.py")


RAISING = """
def score(logits, targets):
    if logits.max() > 100:
        raise ValueError("too large")
    if logits[0, 0] == logits[0, 1]:
        raise ValueError("constant")
    return 0.5
"""


def test_a_users_metric_that_raises_on_what_a_model_says_scores_nothing():
    """And says why; what has diverged it is not even asked about."""
    metric, right = resolve_metric("m.py:score", ".", RAISING, K), np.eye(K, dtype=np.float32)
    assert metric.score(right, np.arange(K), None) == 0.5
    found = pickle.loads(pickle.dumps(metric.score(200 * right, np.arange(K), None)))
    assert math.isnan(found) and found.why == "metric: m.py:score raised ValueError: too large (line 4)"
    for bad in (math.nan, math.inf):
        found = metric.score(np.where(right, bad, 0.0), np.arange(K), None)
        assert math.isnan(found) and not isinstance(found, NotScored)
    with pytest.raises(InputError, match="raised ValueError: constant .* on the logits of a constant predictor"):
        constant_score(metric, np.arange(K), np.arange(K), K)


# --- the constant predictor ---


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("accuracy", 3 / 8),
        ("balanced_accuracy", 1 / 6),
        ("macro_f1", 2 * 3 / (8 + 3) / 6),
        ("top5_accuracy", 6 / 8),
        ("auroc", 0.5),
        ("nll", math.log(7)),
        ("ece", math.nan),
    ],
)
def test_constant_predictor(name, expected):
    train = np.array([2, 2, 2, 2, 0, 0, 0, 1, 1, 3, 3, 4, 4, 5, 6])  # most often 2, 0, 1, 3, 4
    targets = np.array([2, 2, 2, 0, 1, 5, 6, 3])  # six classes
    assert constant_score(METRICS[name], train, targets, 7) == pytest.approx(expected, nan_ok=True)
