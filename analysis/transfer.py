"""How far fixed features serve another data set: L2-regularized multinomial logistic regression on them.

The protocol is that of Kornblith et al. 2021, Appendix A.2. lambda is chosen on a validation set held out of the
training set, from 45 logarithmically spaced values between 1e-6 and 1e5, "applied to the sum of the per-example
losses", with warm starts; the classifier is then retrained on training and validation set together and meets the test
set once. Features of other data sets measure transfer; features of the network's own training data measure how well
its last layer can be learned again ("relearned weights"; the paper's IN(50k), Table 5).

    minimize over W, b:   sum_i -log softmax(W x_i + b)[y_i] + lambda / 2 |W|^2

What the paper leaves open, as it is here: the penalty has the factor 1/2, b is not penalized, features are not
standardized, and of several best lambda the strongest is taken. One thing differs: the path goes from strong to weak,
the paper's from weak to strong. Every optimum is the same, but a solver that starts with the weakest penalty stops
further away from it (on random ReLU features of the digits: validation accuracies up to 2.3 points off, against 0.3).

The solver sees features minus their mean, over their overall root mean square, and lambda to match. That is the
same problem, but its stopping rule is about the gradient, which is as small as the features are: given pixels of
the digits, scaled to 1e-4, as they are, it stops near its start with 10% right, and says that it converged.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

from losstune.spaces import InputError

PENALTIES = np.logspace(5, -6, 45)
HELD_OUT = 0.2
HELD_OUT_SEED = 0
TOLERANCE = 1e-6
MAX_ITERATIONS = 1000


class Labelled(NamedTuple):
    """Features (n, d) of one model, and the labels (n,) of the same examples."""

    features: np.ndarray
    labels: np.ndarray


class Splits(NamedTuple):
    """A data set through one model's eyes. Without validation, 20% of train are held out: by class, and the same
    examples for every model."""

    train: Labelled
    test: Labelled
    validation: Labelled | None = None


@dataclass(frozen=True)
class LinearProbe:
    """A classifier on fixed features, and how it was found.

    classes: (K,) labels; weights (K, d) and bias (K,): of the features as they were given. accuracy: on the test set,
    in [0, 1]. penalty: the chosen lambda; at_end: "strongest" or "weakest" where it is the end of the range, so that a
    better one may lie beyond, otherwise "". path: a row per lambda, from strong to weak: penalty, accuracy (on
    validation), iterations, converged. converged: of the final fit. n_train: examples of the final fit.
    """

    classes: np.ndarray
    weights: np.ndarray
    bias: np.ndarray
    accuracy: float
    penalty: float
    at_end: str
    path: pd.DataFrame
    converged: bool
    n_train: int


def linear_probe(splits: Splits, reduction: Literal["sum", "mean"] = "sum") -> LinearProbe:
    """Train, choose lambda, retrain and test as the module says.

    reduction: what of the per-example losses lambda is added to. "sum" is the paper's; "mean" is equal to lambda times
    the number of examples there. Takes memory of about 32 bytes per number in the training features. Raises
    InputError (one line) for features that are not finite or do not fit their labels or each other, fewer than two
    classes, and classes in validation or test that training lacks.
    """
    _check_reduction(reduction)
    train, test, validation = _checked(splits)
    origin = train.features.mean(axis=0)
    spread = _root_mean_square(train.features - origin)
    train, validation = (Labelled((part.features - origin) / spread, part.labels) for part in (train, validation))
    model = LogisticRegression(solver="lbfgs", warm_start=True, tol=TOLERANCE, max_iter=MAX_ITERATIONS)
    path, chosen = _follow_path(model, train, validation, spread, reduction)
    whole = Labelled(*(np.concatenate(parts) for parts in zip(train, validation, strict=True)))
    converged = _fit(model, whole, chosen, spread, reduction)
    weights, bias = _as_multinomial(model, origin, spread)
    right = model.classes_[np.argmax(test.features @ weights.T + bias, axis=1)] == test.labels
    return LinearProbe(
        classes=model.classes_, weights=weights, bias=bias, accuracy=float(np.mean(right)), penalty=chosen, path=path,
        at_end={PENALTIES[0]: "strongest", PENALTIES[-1]: "weakest"}.get(chosen, ""), converged=converged,
        n_train=len(whole.labels),
    )  # fmt: skip


def transfer_table(
    models: Iterable[tuple[str, int, str, Splits]], reduction: Literal["sum", "mean"] = "sum"
) -> pd.DataFrame:
    """`linear_probe` of every (loss, seed, data set, splits), one at a time, so that a generator may load them.

    A row each: loss, seed, data, accuracy (test), penalty, at_end, converged (every fit of the path and the final one),
    n_train, reason. Features that cannot be used give a row with accuracy NaN and the reason, "" otherwise.
    """
    _check_reduction(reduction)
    columns = ["loss", "seed", "data", "accuracy", "penalty", "at_end", "converged", "n_train", "reason"]
    return pd.DataFrame([(*names, *_row(splits, reduction)) for *names, splits in models], columns=columns)


def _row(splits: Splits, reduction: Literal["sum", "mean"]) -> tuple[float, float, str, bool, int, str]:
    try:
        probe = linear_probe(splits, reduction)
    except InputError as error:
        return np.nan, np.nan, "", False, len(splits.train.labels), str(error)
    converged = probe.converged and bool(probe.path["converged"].all())
    return probe.accuracy, probe.penalty, probe.at_end, converged, probe.n_train, ""


def _follow_path(
    model: LogisticRegression, train: Labelled, validation: Labelled, spread: float, reduction: str
) -> tuple[pd.DataFrame, float]:
    """Fit every lambda, strong to weak; returns the path and the chosen lambda, where the model stands afterwards."""
    rows, best = [], -1.0
    for penalty in PENALTIES:
        converged = _fit(model, train, penalty, spread, reduction)
        accuracy = float(np.mean(model.predict(validation.features) == validation.labels))
        rows.append((penalty, accuracy, int(model.n_iter_[0]), converged))
        if accuracy > best:
            best, chosen, place = accuracy, float(penalty), (model.coef_.copy(), model.intercept_.copy())
    model.coef_, model.intercept_ = place
    return pd.DataFrame(rows, columns=["penalty", "accuracy", "iterations", "converged"]), chosen


def _fit(model: LogisticRegression, data: Labelled, penalty: float, spread: float, reduction: str) -> bool:
    """Fit in place from where the model is; returns whether the solver reached its tolerance."""
    weight = spread**2 / penalty / (len(data.labels) if reduction == "mean" else 1)
    # Of two classes scikit-learn fits u = w_1 - w_2 with |u|^2 / 2, where |w_1|^2 / 2 + |w_2|^2 / 2 = |u|^2 / 4.
    model.set_params(C=2 * weight if len(np.unique(data.labels)) == 2 else weight)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        model.fit(data.features, data.labels)
    return not any(issubclass(warning.category, ConvergenceWarning) for warning in caught)


def _as_multinomial(model: LogisticRegression, origin: np.ndarray, spread: float) -> tuple[np.ndarray, np.ndarray]:
    """Weights (K, d) and bias (K,) on the original features; two classes get half of their difference each."""
    weights, bias = model.coef_ / spread, model.intercept_
    if len(weights) == 1:
        weights, bias = (np.concatenate([-part / 2, part / 2]) for part in (weights, bias))
    return weights, bias - weights @ origin


def _root_mean_square(centered: np.ndarray) -> float:
    """1 for features that never vary, of which the classifier learns the shares of the classes."""
    with np.errstate(over="ignore"):
        spread = float(np.sqrt(np.square(centered).mean()))
    if not np.isfinite(spread):
        raise InputError("train: the features are too large to be squared")
    return spread or 1.0


def _check_reduction(reduction: str) -> None:
    if reduction not in ("sum", "mean"):
        raise InputError(f"reduction: {reduction!r}; allowed: sum, mean")


def _checked(splits: Splits) -> tuple[Labelled, Labelled, Labelled]:
    """Train, test and validation as double-precision arrays that fit each other."""
    train, test = _check_part("train", splits.train), _check_part("test", splits.test)
    if splits.validation is None:
        train, validation = _held_out(train)
    else:
        validation = _check_part("validation", splits.validation)
    known = np.unique(train.labels)
    if len(known) < 2:
        raise InputError(f"train: two or more classes are needed, all labels are {known[0]}")
    for name, part in (("validation", validation), ("test", test)):
        if part.features.shape[1] != train.features.shape[1]:
            raise InputError(f"{name}: {part.features.shape[1]} features, but train has {train.features.shape[1]}")
        unknown = np.setdiff1d(part.labels, known)
        if len(unknown):
            raise InputError(f"{name}: no example of class {unknown[0]} in train ({len(unknown)} such classes)")
    return train, test, validation


def _check_part(name: str, part: Labelled) -> Labelled:
    features, labels = (np.asarray(array) for array in part)
    if features.ndim != 2 or features.dtype.kind not in "fiub" or not features.size:
        raise InputError(f"{name}: features have to be (n, d) numbers, not {features.dtype} of shape {features.shape}")
    if labels.shape != (len(features),):
        raise InputError(f"{name}: labels of shape {labels.shape} for {len(features)} examples")
    if pd.isna(labels).any():
        raise InputError(f"{name}: a label is missing")
    broken = ~np.isfinite(features).all(axis=1)
    if broken.any():
        raise InputError(f"{name}: features of {broken.sum()} of {len(features)} examples are not finite")
    return Labelled(features.astype(np.float64, copy=False), labels)


def _held_out(train: Labelled) -> tuple[Labelled, Labelled]:
    try:
        parts = train_test_split(*train, test_size=HELD_OUT, random_state=HELD_OUT_SEED, stratify=train.labels)
    except ValueError as error:
        reason = " ".join(str(error).split())
        raise InputError(f"train: {len(train.labels)} examples: no validation set can be held out: {reason}") from None
    return Labelled(parts[0], parts[2]), Labelled(parts[1], parts[3])


__all__ = ["Labelled", "LinearProbe", "Splits", "linear_probe", "transfer_table"]
