"""How good a model's probabilities are: NLL, Brier score, calibration errors and reliability diagrams.

A loss without probabilities (family None) has accuracies only; everything else is NaN for it, "not defined". All
calibration errors here are of the predicted class ("confidence calibration") and biased upwards where examples are
few: a perfectly calibrated model does not reach 0 on a finite test set, so compare only values of the same test set.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from losstune.spaces import InputError
from losstune.trainables.metrics import ECE_BINS, accuracy, ece, nll, to_probabilities, top5_accuracy

OF_PROBABILITIES = ("nll", "brier", "ece", "adaptive_ece")


def prediction_measures(logits: np.ndarray, targets: np.ndarray, family: str | None) -> dict[str, float]:
    """Every measure of one model's logits (N, K) on targets (N,): accuracy, top5_accuracy (NaN for K <= 5), nll
    (nats), brier (in [0, 2]), ece and adaptive_ece (in [0, 1]).

    family: how the logits become probabilities (see `metrics.to_probabilities`); NaN for nll and all after it where
    it is None. Raises InputError for logits and targets that do not fit.
    """
    check_outputs(logits, targets)
    shares = {"accuracy": accuracy(logits, targets), "top5_accuracy": top5_accuracy(logits, targets)}
    return {**shares, **probability_measures(to_probabilities(logits, family), targets)}


def probability_measures(probabilities: np.ndarray | None, targets: np.ndarray) -> dict[str, float]:
    """nll, brier, ece and adaptive_ece of probabilities (N, K), rows that sum to 1; NaN each where they are None."""
    if probabilities is None:
        return dict.fromkeys(OF_PROBABILITIES, math.nan)
    confidence, correct = confidences(probabilities, targets)
    return {"nll": nll(probabilities, targets), "brier": brier(probabilities, targets),
            "ece": ece(probabilities, targets), "adaptive_ece": adaptive_ece(confidence, correct)}  # fmt: skip


def brier(probabilities: np.ndarray, targets: np.ndarray) -> float:
    """Mean over examples of sum_k (p_k - t_k)^2, t one-hot (Brier 1950): 0 to 2, half of it for two classes where
    others count one class only."""
    gaps = np.array(probabilities, dtype=np.float64)
    gaps[np.arange(len(targets)), targets] -= 1
    return float(np.einsum("nk,nk->", gaps, gaps) / len(targets))


def confidences(probabilities: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of probabilities (N, K): those of the predicted classes (N,), and whether these are right (N,) bool."""
    return probabilities.max(1).astype(np.float64), probabilities.argmax(1) == targets


def adaptive_ece(confidence: np.ndarray, correct: np.ndarray) -> float:
    """Expected calibration error over 15 bins of equal mass: the sum over the bins of `reliability` with adaptive
    bins of their share of examples times |accuracy - confidence|."""
    bins = reliability(confidence, correct, adaptive=True)
    return float((bins["count"] * (bins["accuracy"] - bins["confidence"]).abs()).sum() / len(confidence))


def reliability(confidence: np.ndarray, correct: np.ndarray, adaptive: bool = False) -> pd.DataFrame:
    """A reliability diagram (Guo et al. 2017): of predictions' confidence (n,) and correctness (n,), a row per bin.

    Columns confidence and accuracy (means within the bin, NaN where it is empty) and count. Bins: 15 of equal width,
    bin m is ((m-1)/15, m/15], so that a confidence of exactly 1 falls in the last; adaptive: 15 of equal mass (sizes
    differ by one at most; fewer where n < 15), examples of equal confidence shared out so that their order does not
    matter. Several seeds are pooled by joining their arrays.
    """
    confidence, correct = np.asarray(confidence, dtype=np.float64), np.asarray(correct, dtype=np.float64)
    if adaptive:
        # Each of several equal confidences counts as their mean correctness, whichever bin it is sorted into.
        _, group, sizes = np.unique(confidence, return_inverse=True, return_counts=True)
        correct = (np.bincount(group, weights=correct) / sizes)[group]
        order = np.argsort(confidence, kind="stable")
        bins = np.empty(len(order), dtype=np.intp)
        bins[order] = np.arange(len(order)) * min(ECE_BINS, len(order)) // max(len(order), 1)
        number = min(ECE_BINS, len(order))
    else:
        bins, number = np.digitize(confidence, np.arange(1, ECE_BINS) / ECE_BINS, right=True), ECE_BINS
    count = np.bincount(bins, minlength=number)
    size = np.where(count > 0, count, np.nan)
    sums = [np.bincount(bins, weights=values, minlength=number) / size for values in (confidence, correct)]
    return pd.DataFrame({"confidence": sums[0], "accuracy": sums[1], "count": count})


def check_outputs(logits: np.ndarray, targets: np.ndarray) -> None:
    """InputError (one line) unless logits are (N, K) finite floats, K >= 2, and targets (N,) classes below K."""
    if logits.ndim != 2 or logits.dtype.kind != "f" or logits.shape[0] < 1 or logits.shape[1] < 2:
        raise InputError(f"logits: {logits.dtype} of shape {logits.shape}; needed: floats (N, K), N >= 1, K >= 2")
    if not np.isfinite(logits).all():
        raise InputError(f"logits: {int((~np.isfinite(logits)).sum())} values are NaN or infinite; needed: finite")
    check_targets(targets, *logits.shape)


def check_targets(targets: np.ndarray, examples: int, num_classes: int) -> None:
    """InputError (one line) unless targets are whole numbers (examples,), from 0 to num_classes - 1."""
    if targets.shape != (examples,) or targets.dtype.kind not in "iu":
        raise InputError(f"targets: {targets.dtype} of shape {targets.shape}; needed: whole numbers ({examples},)")
    if targets.min() < 0 or targets.max() >= num_classes:
        raise InputError(f"targets: classes {targets.min()} to {targets.max()}; allowed: 0 to {num_classes - 1}")
