"""Temperature scaling (Guo et al. 2017): one number per model, fitted on validation, that sharpens or flattens it.

The scaled probabilities are p_k^(1/T) / sum_j p_j^(1/T). For the softmax family this is the softmax of z / T, as in Guo
et al. For sigmoid, p is sigma(z) normalized over the classes (Kornblith Table 3, which scales "the temperature of the
probability distribution"), so that log sigma(z) takes the place of the logits. Dividing z by T before sigma, as one
might, is not a temperature of that distribution: where several classes have z > 0 a small T makes them equal
instead of picking the larger one, confidence does not fall steadily with T, and NLL can have several minima. As it
is, NLL is convex in 1/T in both families, so that the minimum is the only one, and T never changes a prediction.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq

from losstune.analysis.calibration import OF_PROBABILITIES, check_outputs, prediction_measures
from losstune.spaces import InputError

LOWEST, HIGHEST = 1e-3, 1e3


@dataclass(frozen=True)
class Temperature:
    """value: T > 0, NaN where nothing can be fitted, and the bound (1e-3 or 1e3) where NLL has no minimum between
    the bounds. reason: why T is not defined (a clause to follow "not defined: "), None where it is."""

    value: float
    reason: str | None = None


def fit_temperature(
    logits: np.ndarray, targets: np.ndarray, family: str | None, train_on: str = "train"
) -> Temperature:
    """T that minimizes the NLL of logits (N, K) on targets (N,), both of the validation split, in [1e-3, 1e3].

    family: "softmax", "sigmoid" or None. train_on: the study's confirm.train_on; with "all" the model has seen the
    validation split, and T is refused. Raises InputError for logits and targets that do not fit.
    """
    check_outputs(logits, targets)
    if train_on != "train":
        return Temperature(math.nan, f"the model was trained on the validation split (train_on: {train_on})")
    if family is None:
        return Temperature(math.nan, "the loss defines no probabilities")
    scores = log_scores(logits, family)
    above = scores - np.take_along_axis(scores, targets[:, None], 1)
    if not above.any():
        return Temperature(math.nan, "T changes nothing, as every class has the same probability")
    if _slope(-math.log(LOWEST), above) <= 0:
        return Temperature(LOWEST, f"validation NLL falls down to T = {LOWEST:g}, as it does where every validation "
                                   "example is classified correctly")  # fmt: skip
    if _slope(-math.log(HIGHEST), above) >= 0:
        return Temperature(HIGHEST, f"validation NLL falls up to T = {HIGHEST:g}: the validation targets favor equal "
                                    "probabilities")  # fmt: skip
    root = brentq(_slope, -math.log(HIGHEST), -math.log(LOWEST), args=(above,), xtol=1e-12, rtol=1e-12)
    return Temperature(math.exp(-root))


def scaled_measures(
    logits: np.ndarray, targets: np.ndarray, family: str | None, temperature: Temperature
) -> dict[str, float]:
    """`prediction_measures` of logits (N, K) on test targets (N,) after scaling.

    NaN for nll, brier, ece and adaptive_ece where T is not defined: at a bound they would measure the bound.
    """
    if temperature.reason is None:
        return prediction_measures(scaled_logits(logits, family, temperature), targets, "softmax")
    unscaled = prediction_measures(logits, targets, None)
    return {**unscaled, **dict.fromkeys(OF_PROBABILITIES, math.nan)}


def scaled_logits(logits: np.ndarray, family: str, temperature: Temperature) -> np.ndarray:
    """(N, K) float64, the softmax of which are the scaled probabilities, also for sigmoid. InputError where T is not
    defined."""
    if temperature.reason is not None:
        raise InputError(f"temperature: not defined: {temperature.reason}")
    return log_scores(logits, family) / temperature.value


def log_scores(logits: np.ndarray, family: str) -> np.ndarray:
    """(N, K) float64, the softmax of which are the probabilities of logits (N, K) of a family."""
    scores = np.asarray(logits, dtype=np.float64)
    return -np.logaddexp(0, -scores) if family == "sigmoid" else scores


def _slope(log_sharpness: float, above: np.ndarray) -> float:
    """d NLL / d(1/T) at log(1/T), which rises with 1/T: the mean of E_p[a], a (N, K) the scores less the targets'."""
    weights = np.exp(math.exp(log_sharpness) * (above - above.max(1, keepdims=True)))
    return float((np.einsum("nk,nk->n", weights, above) / weights.sum(1)).mean())
