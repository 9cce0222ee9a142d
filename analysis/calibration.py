"""How far predicted probabilities can be trusted: negative log-likelihood and expected calibration error."""

from __future__ import annotations

import numpy as np


def nll(probabilities: np.ndarray, targets: np.ndarray) -> float:
    """Mean negative log-likelihood in nats: -log of the probability of the true class; infinite where that is 0.

    probabilities: (N, K), rows sum to 1; targets: (N,) integer classes. Raises ValueError on other shapes.
    """
    probabilities, targets = _checked(probabilities, targets)
    with np.errstate(divide="ignore"):
        # Adding zero turns the -0.0 of certain and right predictions into 0.0.
        return float(-np.log(probabilities[np.arange(len(targets)), targets]).mean() + 0.0)


def ece(probabilities: np.ndarray, targets: np.ndarray, bins: int = 15) -> float:
    """Expected calibration error in [0, 1] (Guo et al. 2017, Eq. 3).

    The sum over equal-width bins of confidence, weighted by the share of examples in a bin, of |accuracy - mean
    confidence|. Bins are (low, high] as in Guo's Eq. 2; confidence is the largest probability, and 1.0 falls
    in the last bin. probabilities: (N, K); targets: (N,) integer classes. Raises ValueError on other shapes.
    """
    probabilities, targets = _checked(probabilities, targets)
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == targets
    place = np.clip(np.searchsorted(np.linspace(0, 1, bins + 1), confidence, side="left") - 1, 0, bins - 1)
    gaps = np.bincount(place, weights=right - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(targets))


def _checked(probabilities: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    probabilities, targets = np.asarray(probabilities, dtype=np.float64), np.asarray(targets)
    if probabilities.ndim != 2 or targets.shape != probabilities.shape[:1] or not len(targets):
        raise ValueError(f"probabilities {probabilities.shape} and targets {targets.shape}; needed: (N, K) and (N,)")
    return probabilities, targets
