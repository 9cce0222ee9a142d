"""How good a model's probabilities are: NLL, Brier score, calibration errors and reliability diagrams.

A loss without probabilities (family None) has accuracies only; everything else is NaN for it, "not defined". All
calibration errors here are of the predicted class ("confidence calibration") and biased upwards where examples are
few: a perfectly calibrated model does not reach 0 on a finite test set, so compare only values of the same test set.
`calibration_interval` says what is left once that bias is taken off.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import sparse

from losstune.spaces import InputError
from losstune.trainables.metrics import ECE_BINS, accuracy, ece, nll, to_probabilities, top5_accuracy

OF_PROBABILITIES = ("nll", "brier", "ece", "adaptive_ece")
DRAWS = 500  # of pairs of opposite ones
HALVINGS, MOST_TIMES = 12, 64  # of the search for a bound, and how many times the estimate it may be


class Interval(NamedTuple):
    """The ends of an interval; NaN where it is not defined."""

    low: float
    high: float


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
    bins, shares = _bin_shares(confidence, adaptive)
    count = np.bincount(bins, minlength=shares.shape[1])
    size = np.where(count > 0, count, np.nan)
    return pd.DataFrame({"confidence": shares.T @ confidence / size, "accuracy": shares.T @ correct / size,
                         "count": count})  # fmt: skip


def _bin_shares(confidence: np.ndarray, adaptive: bool) -> tuple[np.ndarray, sparse.csr_array]:
    """The bin of each of n confidences in order of size, (n,), and which share of each falls in each bin, (n, bins)."""
    examples = len(confidence)
    if not adaptive:
        bins = np.digitize(confidence, np.arange(1, ECE_BINS) / ECE_BINS, right=True)
        ones = sparse.csr_array((np.ones(examples), (np.arange(examples), bins)), shape=(examples, ECE_BINS))
        return bins, ones
    _, group, sizes = np.unique(confidence, return_inverse=True, return_counts=True)
    number = min(ECE_BINS, examples)
    bins, ordered = np.arange(examples) * number // max(examples, 1), np.sort(group)
    # Equal confidences fall in the bins of all of them together, each by the same shares.
    shares = sparse.csr_array((1 / sizes[ordered], (ordered, bins)), shape=(len(sizes), number))
    return bins, shares[group]


def calibration_interval(
    members: Sequence[tuple[np.ndarray, np.ndarray]], adaptive: bool = False, alpha: float = 0.05, draws: int = DRAWS,
    seed: int = 0,
) -> Interval:  # fmt: skip
    """The calibration error that the seeds of a loss would have on endlessly many test examples, on average.

    members: confidence (N,) and correctness (N,) of each seed, of the same N examples. With g_sb = mean over examples
    of (correct - confidence) in bin b of seed s, or 0 outside, ECE is the mean over s of sum_b |g_sb|: above the true
    one, because noise e in g does not cancel in |g|, and without a bootstrap that is valid as g comes near 0.

    low: by a test that is inverted (test inversion bootstrap, Carpenter 1999, J. R. Statist. Soc. B 61): the errors
    t g, t >= 0, with the observed noise added, give ECEs that are the larger the larger t is (Anderson 1955, Proc. AMS
    6); low is t ECE for the t under which alpha / 2 of them reach the observed ECE. high: with the signs s of the true
    errors, sum |g - e| = sum s (g - e) <= sum |g| - sum s e, whose noise has a variance of at most the sum of all
    absolute covariances. So the interval reaches further down from the observed ECE than up. The bins are those of the
    sample.

    Noise: test examples weighted as in losstune.analysis.crossed, the same for every seed, so that g is normal with
    a covariance that is known without drawing examples; and seeds, by Student's t with what their ECEs vary by beyond
    it. NaN for fewer than 2 seeds or examples. Coverage in simulations: tests/analysis/test_calibration_interval.py.
    """
    if len(members) < 2 or len(members[0][0]) < 2:
        return Interval(math.nan, math.nan)
    rng = np.random.default_rng(seed)
    gaps, covariance = _gaps(members, adaptive)
    noise = _noise(covariance, draws, rng).reshape(-1, *gaps.shape)
    observed = np.abs(gaps).sum(1)

    def drawn(times: float) -> np.ndarray:
        return np.abs(times * gaps + noise).sum(2)

    middle = _times(lambda times: (drawn(times).mean(1) <= observed.mean()).mean(), 0.5)
    spread = rng.standard_t(len(members) - 1, len(noise)) * _error_of_seeds(observed, drawn(middle))
    low = _times(lambda times: (drawn(times).mean(1) + spread <= observed.mean()).mean(), 1 - alpha / 2)
    most = rng.standard_normal(len(noise)) * math.sqrt(np.abs(covariance).sum()) / len(members) + spread
    above = max(0.0, float(np.quantile(most, 1 - alpha / 2)))
    return Interval(float(min(low, 1.0) * observed.mean()), float(observed.mean()) + above)


def _gaps(members: Sequence[tuple[np.ndarray, np.ndarray]], adaptive: bool) -> tuple[np.ndarray, np.ndarray]:
    """g (S, bins), and the covariance (S bins, S bins) of its noise, for the choice of test examples."""
    rows = []
    for confidence, correct in members:
        difference = (np.asarray(correct, dtype=np.float64) - confidence) / len(confidence)
        rows.append((sparse.diags_array(difference) @ _bin_shares(np.asarray(confidence, np.float64), adaptive)[1]).T)
    parts = sparse.vstack(rows, format="csr")
    gaps = parts.sum(axis=1)
    return gaps.reshape(len(members), -1), (parts @ parts.T).toarray() - np.outer(gaps, gaps) / parts.shape[1]


def _noise(covariance: np.ndarray, draws: int, rng: np.random.Generator) -> np.ndarray:
    """(2 draws, n) of that covariance (n, n), each draw with its opposite."""
    values, directions = np.linalg.eigh(covariance)
    half = rng.standard_normal((draws, len(values))) @ (directions * np.sqrt(np.maximum(values, 0))).T
    return np.concatenate([half, -half])


def _error_of_seeds(observed: np.ndarray, drawn: np.ndarray) -> float:
    """The standard error of the mean of S errors (S,) for the choice of seeds; drawn (draws, S): the noise of examples,
    which they share in part, and which makes them vary too."""
    seeds, covariance = len(observed), np.cov(drawn, rowvar=False)
    shared = (covariance.sum() - np.trace(covariance)) / (seeds * (seeds - 1))
    return math.sqrt(max(observed.var(ddof=1) - (np.trace(covariance) / seeds - shared), 0.0) / seeds)


def _times(share: Callable[[float], float], level: float) -> float:
    """Where a share that falls in t >= 0 comes down to a level; 0 where it starts below, MOST_TIMES at most."""
    low, high = 0.0, 1.0
    if share(low) <= level:
        return low
    while share(high) > level and high < MOST_TIMES:
        low, high = high, 2 * high
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if share(middle) > level else (low, middle)
    return (low + high) / 2


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
