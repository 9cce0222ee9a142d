"""What a model is scored by, each with its direction: METRICS, and the user's own. numpy only.

Predictions are argmaxes; of equal scores the class with the lowest number wins.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from losstune.spaces.errors import InputError
from losstune.trainables.user_files import call, load_function, read_text, split_reference

ECE_BINS = 15
SMALLEST, LARGEST = 1e-100, 1e100  # as in losstune.analysis.comparable, which knows nothing of training
Function = Callable[[np.ndarray, np.ndarray], float]


@dataclass(frozen=True)
class Metric:
    """A metric. function(outputs (N, K), targets (N,)) -> float, NaN where it is not defined.

    needs: what the outputs are. "labels": the logits. "scores": what ranks examples, the probabilities where the
    loss defines them (softmax logits do not compare across examples), else the logits. "probabilities": rows that
    sum to 1; not defined for a loss without them. min_classes: the fewest classes for which it says something.
    """

    name: str
    greater_is_better: bool
    needs: Literal["labels", "scores", "probabilities"]
    function: Function
    summary: str
    min_classes: int = 2

    def score(self, logits: np.ndarray, targets: np.ndarray, family: str | None) -> float:
        """The metric of logits (N, K), for a loss whose probabilities are of that family (see to_probabilities)."""
        if self.needs == "labels":
            return self.function(logits, targets)
        probabilities = to_probabilities(logits, family)
        if probabilities is not None:
            return self.function(probabilities, targets)
        return math.nan if self.needs == "probabilities" else self.function(logits, targets)


def to_probabilities(logits: np.ndarray, family: str | None) -> np.ndarray | None:
    """Probabilities (..., K), float64, of logits (..., K); None for a loss that defines none (family None).

    family "softmax"; "sigmoid": sigma(z), normalized over the classes (Kornblith Table 3).
    """
    if family is None:
        return None
    logits = np.asarray(logits, dtype=np.float64)
    if family == "sigmoid":
        logits = -np.logaddexp(0, -logits)  # log sigma(z), which stays finite where sigma(z) underflows
    elif family != "softmax":
        raise ValueError(f"unknown family of probabilities {family!r}; known: softmax, sigmoid, None")
    exponentials = np.exp(logits - logits.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)


def accuracy_of(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Accuracies (n,) of n members with logits (n, B, K) on the same targets (B,)."""
    return (np.asarray(logits).argmax(-1) == targets).mean(-1)


def accuracy(outputs: np.ndarray, targets: np.ndarray) -> float:
    return float((outputs.argmax(1) == targets).mean())


def top5_accuracy(outputs: np.ndarray, targets: np.ndarray) -> float:
    """Share of examples whose class is among the five highest outputs; NaN for K <= 5, where it would be 1."""
    if outputs.shape[1] <= 5:
        return math.nan
    own = np.take_along_axis(outputs, targets[:, None], 1)
    before = np.arange(outputs.shape[1]) < targets[:, None]
    rank = (outputs > own).sum(1) + ((outputs == own) & before).sum(1)
    return float((rank < 5).mean())


def balanced_accuracy(outputs: np.ndarray, targets: np.ndarray) -> float:
    """Mean over classes of the share of their examples that is recognized; classes without examples do not count."""
    confusion = confusion_matrix(outputs.argmax(1), targets, outputs.shape[1])
    present = confusion.sum(1) > 0
    return float((np.diag(confusion)[present] / confusion.sum(1)[present]).mean())


def macro_f1(outputs: np.ndarray, targets: np.ndarray) -> float:
    """Mean of 2 TP / (2 TP + FP + FN) over the classes that occur among targets or predictions."""
    confusion = confusion_matrix(outputs.argmax(1), targets, outputs.shape[1])
    total = confusion.sum(0) + confusion.sum(1)
    present = total > 0
    return float((2 * np.diag(confusion)[present] / total[present]).mean())


def auroc(outputs: np.ndarray, targets: np.ndarray) -> float:
    """Mean over classes of the area under the ROC curve of that class against the rest, ties counted half.

    Classes that have no example, or no example against them, do not count; NaN when none counts.
    """
    areas = []
    for label in range(outputs.shape[1]):
        positive = targets == label
        n = int(positive.sum())
        if 0 < n < len(targets):
            rank_sum = _ranks(outputs[:, label])[positive].sum()
            areas.append((rank_sum - n * (n + 1) / 2) / (n * (len(targets) - n)))
    return float(np.mean(areas)) if areas else math.nan


def nll(probabilities: np.ndarray, targets: np.ndarray) -> float:
    """Mean of -log p_y; p below 2.2e-308, the smallest normal double, counts as that."""
    own = np.take_along_axis(probabilities, targets[:, None], 1).astype(np.float64)
    return float(-np.log(np.maximum(own, np.finfo(np.float64).tiny)).mean())


def ece(probabilities: np.ndarray, targets: np.ndarray) -> float:
    """Expected calibration error (Guo et al. 2017, Eq. 3) of the predicted class, over 15 bins of equal width.

    Bin m is ((m-1)/15, m/15], as there: a confidence of exactly 1 falls in the last bin.
    """
    confidence = probabilities.max(1).astype(np.float64)
    correct = probabilities.argmax(1) == targets
    bins = np.digitize(confidence, np.arange(1, ECE_BINS) / ECE_BINS, right=True)
    gaps = np.bincount(bins, weights=correct - confidence, minlength=ECE_BINS)
    return float(np.abs(gaps).sum() / len(targets))


def confusion_matrix(predictions: np.ndarray, targets: np.ndarray, num_classes: int) -> np.ndarray:
    """(K, K) counts: row true class, column predicted class."""
    return np.bincount(targets * num_classes + predictions, minlength=num_classes**2).reshape(num_classes, num_classes)


def _ranks(scores: np.ndarray) -> np.ndarray:
    """Ranks from 1, (N,); equal scores share the mean of their ranks."""
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[inverse]


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("accuracy", True, "labels", accuracy, "share of examples whose highest logit is the true class"),
        Metric("top5_accuracy", True, "scores", top5_accuracy, "share whose class is among the five highest", 6),
        Metric("balanced_accuracy", True, "labels", balanced_accuracy, "mean over classes of their recall"),
        Metric("macro_f1", True, "labels", macro_f1, "mean over classes of the F1 score"),
        Metric("auroc", True, "scores", auroc, "area under the ROC curve, each class against the rest, macro mean"),
        Metric("nll", False, "probabilities", nll, "mean negative log likelihood"),
        Metric("ece", False, "probabilities", ece, "expected calibration error, 15 bins of equal width"),
    )
}

_COST = "cost:"


def source_of(spec: str, folder: Path) -> str | None:
    """The text of the file that a metric is made of, to be shipped with it; None for a metric of the table."""
    reference = split_reference(spec)
    if reference is None and not spec.startswith(_COST):
        return None
    return read_text(reference[0] if reference else spec.removeprefix(_COST), folder, "metric")


def resolve_metric(spec: str, folder: Path, source: str | None, num_classes: int) -> Metric:
    """The metric that spec names: one of METRICS, cost:FILE.csv or FILE.py:FUNCTION. InputError when it does not fit.

    cost: a K x K table without a header, row true class, column predicted class; the metric is the mean cost of the
    predictions, lower is better. FUNCTION(logits (N, K), targets (N,)) -> float; higher is better unless the
    function has an attribute greater_is_better = False. source: the file's text; without it the file is read.
    """
    if spec in METRICS:
        if num_classes < METRICS[spec].min_classes:
            raise InputError(f"metric: {spec} says nothing about {num_classes} classes; allowed: at least "
                             f"{METRICS[spec].min_classes} classes")  # fmt: skip
        return METRICS[spec]
    source = source_of(spec, folder) if source is None else source
    if source is None:
        raise InputError(f"metric: unknown metric {spec!r}; allowed: {', '.join(METRICS)}, cost:FILE.csv, "
                         f"or FILE.py:FUNCTION")  # fmt: skip
    if spec.startswith(_COST):
        costs = _costs(source, num_classes, f"metric: {spec}")
        return Metric(spec, False, "labels", lambda z, y: float(costs[y, z.argmax(1)].mean()), "mean cost")
    return _users_metric(spec, source, num_classes)


class NotScored(float):
    """NaN of a metric that raised on a member's logits; why: what it said."""

    def __new__(cls, why: str) -> NotScored:
        found = super().__new__(cls, math.nan)
        found.why = why
        return found

    def __reduce__(self) -> tuple:
        return NotScored, (self.why,)


def comparable(score: float) -> bool:
    """Whether the tests of significance can reckon with a score: no square of it may leave the range of floats."""
    return score == 0 or SMALLEST <= abs(score) <= LARGEST  # which NaN and infinity are not


def constant_score(metric: Metric, train_targets: np.ndarray, targets: np.ndarray, num_classes: int) -> float:
    """What a failed member scores on targets (N,): a constant predictor that has seen train_targets only.

    It ranks classes by how often they occur in training (so it predicts the majority class), and all its
    probabilities are 1/K: NLL is log K, and the calibration of such a model is not defined. InputError where the user's
    own metric raises.
    """
    if metric is METRICS["ece"]:
        return math.nan
    if metric.needs == "probabilities":
        constant = np.full(num_classes, 1 / num_classes)
    else:
        constant = np.bincount(train_targets, minlength=num_classes) / len(train_targets)
    found = metric.function(np.tile(constant, (len(targets), 1)), targets)
    if isinstance(found, NotScored):
        raise InputError(f"{found.why}, on the logits of a constant predictor")
    return found


def _costs(source: str, num_classes: int, where: str) -> np.ndarray:
    if not source.strip():
        raise InputError(f"{where}: is empty; allowed: {num_classes} x {num_classes} numbers separated by commas")
    try:
        costs = np.loadtxt(io.StringIO(source), delimiter=",", ndmin=2)
    except ValueError as error:
        message = " ".join(str(error).split()).rstrip(".;")
        raise InputError(f"{where}: {message}; allowed: numbers separated by commas, no header") from None
    if costs.shape != (num_classes, num_classes):
        raise InputError(f"{where}: has {costs.shape[0]} rows and {costs.shape[1]} columns; allowed: {num_classes} x "
                         f"{num_classes}, a row per true class, a column per predicted class")  # fmt: skip
    if not np.isfinite(costs).all():
        row, column = np.argwhere(~np.isfinite(costs))[0] + 1
        raise InputError(f"{where}: row {row}, column {column} is {costs[row - 1, column - 1]}; allowed: finite "
                         f"numbers")  # fmt: skip
    return costs


def _users_metric(spec: str, source: str, num_classes: int) -> Metric:
    function = load_function(spec, source, "metric")
    greater_is_better = getattr(function, "greater_is_better", True)
    if not isinstance(greater_is_better, bool):
        raise InputError(f"metric: {spec}: greater_is_better is {greater_is_better!r}; allowed: True or False")

    def called(logits: np.ndarray, targets: np.ndarray) -> float:
        result = call(function, spec, "metric", logits, targets)
        try:
            return float(result)
        except (TypeError, ValueError):
            raise InputError(f"metric: {spec} returned {type(result).__name__}; allowed: one number") from None

    def score(logits: np.ndarray, targets: np.ndarray) -> float:
        if not np.isfinite(logits).all():
            return math.nan  # of a model that has diverged, which many functions would refuse
        try:
            return called(logits, targets)
        except InputError as error:
            return NotScored(str(error))

    # So that what cannot work is said before anything is trained.
    called(np.eye(num_classes, dtype=np.float32), np.arange(num_classes))
    return Metric(spec, greater_is_better, "labels", score, "the user's function")
