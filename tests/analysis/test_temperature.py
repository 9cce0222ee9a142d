"""Temperature scaling: by hand, against scikit-learn's, and where there is nothing to fit."""

import math

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import expit
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator

from losstune.analysis.calibration import prediction_measures
from losstune.analysis.temperature import fit_temperature, scaled_logits, scaled_measures
from losstune.spaces import InputError
from losstune.trainables.metrics import to_probabilities


class Logits(ClassifierMixin, BaseEstimator):
    """A classifier whose inputs are its logits."""

    def __init__(self, classes=3):
        self.classes = classes

    def fit(self, X, y):
        self.classes_, self.n_features_in_ = np.arange(self.classes), self.classes
        return self

    def decision_function(self, X):
        return X

    def predict(self, X):
        return X.argmax(1)


def drawn(sharpness, n=400, classes=5, seed=0):
    """Targets drawn from the softmax of z, and sharpness * z as float32: T is about the sharpness."""
    rng = np.random.default_rng(seed)
    z = rng.normal(0, 2, (n, classes))
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    targets = (p.cumsum(1) < rng.random((n, 1))).sum(1)
    return (sharpness * z).astype(np.float32), targets


def test_three_in_four_by_hand():
    """Margin 2 for class 0, which is right three times in four: e^(2/T) = 3."""
    logits = np.tile(np.array([[2.0, 0.0]], np.float32), (4, 1))
    found = fit_temperature(logits, np.array([0, 0, 1, 0]), "softmax")
    assert found.reason is None and found.value == pytest.approx(2 / math.log(3), rel=1e-9)
    scaled = scaled_measures(logits, np.array([0, 0, 1, 0]), "softmax", found)
    assert scaled["nll"] == pytest.approx(-(3 * math.log(0.75) + math.log(0.25)) / 4)
    assert scaled["ece"] == pytest.approx(0, abs=1e-9) and scaled["accuracy"] == 0.75


@pytest.mark.parametrize("sharpness", [0.05, 0.7, 1, 5, 200])
def test_equals_scikit_learn(sharpness):
    logits, targets = drawn(sharpness)
    model = Logits(5).fit(logits, targets)
    oracle = CalibratedClassifierCV(FrozenEstimator(model), method="temperature").fit(logits.astype(float), targets)
    found = fit_temperature(logits, targets, "softmax")
    assert found.reason is None
    assert 1 / found.value == pytest.approx(float(oracle.calibrated_classifiers_[0].calibrators[0].beta_), rel=1e-6)
    assert to_probabilities(scaled_logits(logits, "softmax", found), "softmax") == pytest.approx(
        oracle.predict_proba(logits.astype(float)), abs=1e-7)
    assert found.value == pytest.approx(sharpness, rel=0.2)


def test_sigmoid_takes_the_power_of_its_normalized_probabilities():
    logits, targets = drawn(3, seed=1)
    q = expit(logits.astype(float))
    p = q / q.sum(1, keepdims=True)
    assert to_probabilities(logits, "sigmoid") == pytest.approx(p, rel=1e-9)

    def powered(log_t):
        r = p ** math.exp(-log_t)
        return r / r.sum(1, keepdims=True)

    def nll(log_t):
        return -np.log(powered(log_t)[np.arange(len(targets)), targets]).mean()

    best = minimize_scalar(nll, bounds=(-3, 3), options={"xatol": 1e-9})
    found = fit_temperature(logits, targets, "sigmoid")
    assert math.log(found.value) == pytest.approx(best.x, abs=1e-6)
    assert to_probabilities(scaled_logits(logits, "sigmoid", found), "softmax") == pytest.approx(
        powered(best.x), abs=1e-6)
    measures = scaled_measures(logits, targets, "sigmoid", found)
    assert measures["nll"] == pytest.approx(best.fun, rel=1e-9)
    assert measures["nll"] < prediction_measures(logits, targets, "sigmoid")["nll"]


def test_sigmoid_confidence_falls_with_t_also_where_two_classes_are_above_zero():
    logits, tops = np.array([[10.0, 1.0, -5.0]], np.float32), []
    right_twice = np.array([0, 0, 1])
    for rights in (right_twice, np.array([0, 0, 0, 0, 1])):
        t = fit_temperature(np.repeat(logits, len(rights), 0), rights, "sigmoid")
        tops.append((t.value, to_probabilities(scaled_logits(logits, "sigmoid", t), "softmax").max()))
    assert tops[1][0] < tops[0][0] and tops[1][1] > tops[0][1]


@pytest.mark.parametrize("family", ["softmax", "sigmoid"])
def test_scaling_moves_nll_down_on_validation_and_leaves_predictions(family):
    logits, targets = drawn(4, seed=2)
    found = fit_temperature(logits, targets, family)
    before, after = prediction_measures(logits, targets, family), scaled_measures(logits, targets, family, found)
    assert after["nll"] < before["nll"] - 0.03
    assert family == "sigmoid" or after["ece"] < before["ece"] / 2
    assert after["accuracy"] == before["accuracy"]
    again = fit_temperature(scaled_logits(logits, family, found).astype(np.float32), targets, "softmax")
    assert again.value == pytest.approx(1, abs=1e-5)


def not_defined(found, reason, value):
    assert reason in found.reason and found.value == pytest.approx(value, nan_ok=True)
    logits = np.eye(3, dtype=np.float32)
    measures = scaled_measures(logits, np.array([0, 1, 1]), "softmax", found)
    assert measures["accuracy"] == pytest.approx(2 / 3)
    assert all(math.isnan(measures[name]) for name in ("nll", "brier", "ece", "adaptive_ece"))
    with pytest.raises(InputError, match="temperature: not defined: "):
        scaled_logits(logits, "softmax", found)


def test_where_nothing_can_be_fitted_a_reason_is_given():
    z, y = np.eye(4, dtype=np.float32), np.arange(4)
    not_defined(fit_temperature(z, y, "softmax"), "falls down to T = 0.001", 1e-3)
    not_defined(fit_temperature(z, (y + 1) % 4, "softmax"), "falls up to T = 1000", 1e3)
    not_defined(fit_temperature(z, (y + 1) % 4, "sigmoid"), "falls up to T = 1000", 1e3)
    not_defined(fit_temperature(0 * z, y, "softmax"), "T changes nothing", math.nan)
    not_defined(fit_temperature(z, y, None), "no probabilities", math.nan)
    not_defined(fit_temperature(*drawn(1), "softmax", train_on="all"), "trained on the validation split", math.nan)


def test_separable_stays_so_at_any_scale():
    z, y = np.eye(4), np.arange(4)
    for scale in (1e-6, 1e6, 1e30):
        assert "falls down to" in fit_temperature((scale * z).astype(np.float32), y, "softmax").reason


def test_bad_input():
    with pytest.raises(InputError, match="logits: 1 values are NaN"):
        fit_temperature(np.array([[0, np.nan]]), np.array([0]), "softmax")
