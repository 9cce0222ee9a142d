"""Measures of probabilities: by hand on four examples, and against scikit-learn and a plain loop over bins."""

import math

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, log_loss, top_k_accuracy_score

from losstune.analysis.calibration import (
    adaptive_ece,
    brier,
    confidences,
    prediction_measures,
    probability_measures,
    reliability,
)
from losstune.spaces import InputError
from losstune.trainables.metrics import to_probabilities

# Confidences 0.95, 1, 0.6, 0.6; right, wrong, right, wrong.
P = np.array([[0.95, 0.05], [1.0, 0.0], [0.4, 0.6], [0.4, 0.6]])
Y = np.array([0, 1, 1, 0])


def drawn(n=500, classes=7, seed=0):
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, classes, n)
    logits = rng.normal(0, 2, (n, classes))
    logits[np.arange(n), targets] += 1.5
    return logits.astype(np.float32), targets


def loop_over_bins(confidence, correct, bins):
    """sum |B|/n |acc(B) - conf(B)| for bins given as lists of example numbers."""
    gaps = [len(b) * abs(np.mean([correct[i] for i in b]) - np.mean([confidence[i] for i in b])) for b in bins if b]
    return sum(gaps) / len(confidence)


def test_four_examples_by_hand():
    found = probability_measures(P, Y)
    # (0.05^2 + 0.05^2) + (1 + 1) + (0.4^2 + 0.4^2) + (0.6^2 + 0.6^2), over 4.
    assert found["brier"] == pytest.approx((0.005 + 2 + 0.32 + 0.72) / 4)
    # The two 0.6 share a bin (accuracy 0.5, gap 0.1); 0.95 and 1.0 both lie in (14/15, 1] (0.5, gap 0.475).
    assert found["ece"] == pytest.approx((2 * 0.1 + 2 * 0.475) / 4)
    # Bins of one example each; the equal confidences count as half right, whichever bin they are in.
    assert found["adaptive_ece"] == pytest.approx((0.1 + 0.1 + 0.05 + 1.0) / 4)
    assert probability_measures(P[[0, 2]], Y[[0, 2]])["nll"] == pytest.approx(-(math.log(0.95) + math.log(0.6)) / 2)


def test_reliability_diagram_by_hand():
    bins = reliability(*confidences(P, Y))
    assert bins["count"].tolist() == [0] * 8 + [2] + [0] * 5 + [2]  # 0.6 = 9/15 closes its bin
    assert bins["confidence"].dropna().tolist() == pytest.approx([0.6, 0.975])
    assert bins["accuracy"].dropna().tolist() == [0.5, 0.5]
    adaptive = reliability(*confidences(P, Y), adaptive=True)
    assert adaptive["count"].tolist() == [1, 1, 1, 1]
    assert adaptive["confidence"].tolist() == [0.6, 0.6, 0.95, 1.0]
    assert adaptive["accuracy"].tolist() == [0.5, 0.5, 1.0, 0.0]


@pytest.mark.parametrize("family", ["softmax", "sigmoid"])
def test_equals_scikit_learn_and_a_loop(family):
    logits, targets = drawn()
    p, found = to_probabilities(logits, family), prediction_measures(logits, targets, family)
    assert found["accuracy"] == (logits.argmax(1) == targets).mean()
    assert found["top5_accuracy"] == pytest.approx(top_k_accuracy_score(targets, logits, k=5))
    assert found["nll"] == pytest.approx(log_loss(targets, p), rel=1e-12)
    assert found["brier"] == pytest.approx(brier_score_loss(targets, p), rel=1e-12)
    confidence, correct = p.max(1), p.argmax(1) == targets
    wide = [[i for i in range(500) if m / 15 < confidence[i] <= (m + 1) / 15] for m in range(15)]
    assert found["ece"] == pytest.approx(loop_over_bins(confidence, correct, wide), rel=1e-12)
    # 500 = 15 * 33 + 5: five of the bins of equal mass hold 34 examples.
    masses = reliability(confidence, correct, adaptive=True)["count"].tolist()
    assert sorted(masses) == [33] * 10 + [34] * 5
    ordered, ends = np.argsort(confidence), np.cumsum([0, *masses])
    mass = [list(ordered[a:b]) for a, b in zip(ends, ends[1:], strict=False)]
    assert found["adaptive_ece"] == pytest.approx(loop_over_bins(confidence, correct, mass), rel=1e-12)


def test_the_diagram_adds_up_to_the_ece():
    logits, targets = drawn(seed=1)
    p = to_probabilities(logits, "softmax")
    bins = reliability(*confidences(p, targets))
    gaps = (bins["count"] * (bins["accuracy"] - bins["confidence"]).abs()).sum() / len(targets)
    assert gaps == pytest.approx(probability_measures(p, targets)["ece"], rel=1e-12)


def test_adaptive_ece_does_not_depend_on_the_order_of_equal_confidences():
    confidence = np.repeat([0.5, 0.7, 1.0], [40, 35, 25])
    correct = np.random.default_rng(0).random(100) < confidence
    order = np.random.default_rng(1).permutation(100)
    shuffled = adaptive_ece(confidence[order], correct[order])
    assert shuffled == pytest.approx(adaptive_ece(confidence, correct), rel=1e-12)


def test_a_loss_without_probabilities_has_accuracies_only():
    logits, targets = drawn()
    found = prediction_measures(logits, targets, None)
    assert found["accuracy"] > 0.2 and found["top5_accuracy"] > found["accuracy"]
    assert all(math.isnan(found[name]) for name in ("nll", "brier", "ece", "adaptive_ece"))


def test_edges():
    assert brier(np.eye(3), np.arange(3)) == 0 and brier(np.eye(3), np.array([1, 2, 0])) == 2
    one = prediction_measures(np.array([[1.0, 0.0]]), np.array([0]), "softmax")
    assert one["accuracy"] == 1 and math.isnan(one["top5_accuracy"])
    assert one["ece"] == one["adaptive_ece"] == pytest.approx(1 - 1 / (1 + math.exp(-1)))
    certain = prediction_measures(np.array([[1e30, 0.0]], np.float32), np.array([1]), "softmax")
    assert certain["ece"] == 1 and certain["brier"] == 2 and math.isfinite(certain["nll"])


@pytest.mark.parametrize(
    ("logits", "targets", "message"),
    [
        (np.zeros((3, 2)), np.zeros(2, int), r"targets: int64 of shape \(2,\); needed: whole numbers \(3,\)"),
        (np.zeros((3, 2)), np.zeros(3), r"targets: float64"),
        (np.zeros((3, 2)), np.array([0, 1, 2]), r"targets: classes 0 to 2; allowed: 0 to 1"),
        (np.zeros((3, 2)), np.array([0, 1, -1]), r"targets: classes -1 to 1"),
        (np.array([[0, np.nan], [np.inf, 0]]), np.zeros(2, int), r"logits: 2 values are NaN or infinite"),
        (np.zeros((0, 2)), np.zeros(0, int), r"logits: float64 of shape \(0, 2\)"),
        (np.zeros((3, 1)), np.zeros(3, int), r"logits: float64 of shape \(3, 1\)"),
        (np.zeros((3, 2), int), np.zeros(3, int), r"logits: int64"),
    ],
)
def test_bad_input_is_one_line(logits, targets, message):
    with pytest.raises(InputError, match=message) as raised:
        prediction_measures(logits, targets, "softmax")
    assert "\n" not in str(raised.value)
