"""Per class: how much of it each loss recognizes, and against a reference loss where they differ. Exploratory.

A study is run for one metric, and its verdict is about that one; these tables look at many numbers for what stands
out. Their p-values and intervals are adjusted over all classes and losses of a table together, so that within the
table the chance of any false difference is at most alpha; but they come on top of the verdict's tests, are not
corrected for those, and are about these test examples: a class of 30 examples has a recall that another test set would
move by several points. What stands out is a hypothesis for new seeds and new test data.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from losstune.analysis.pairtests import family_of_pairs
from losstune.spaces import InputError


def right_answers(classes: np.ndarray, targets: np.ndarray, num_classes: int) -> np.ndarray:
    """(K,) counts: of each class's examples, how many a model with predicted classes (N,) gets right."""
    return np.bincount(targets[classes == targets], minlength=num_classes)


def class_recalls(right: np.ndarray, examples: np.ndarray, losses: Sequence[str]) -> pd.DataFrame:
    """Recall (the accuracy on the examples of one class), a row per loss and class: loss, class, examples, recall (the
    mean over seeds), standard_error (sd / sqrt(seeds), NaN for one seed), n_seeds.

    right: (S, L, K) right answers of `right_answers`, NaN for a member without predictions. examples: (K,) test
    examples of each class; recall is NaN where there is none. Raises InputError for arrays that do not fit.
    """
    right = _check(right, examples, losses, least_seeds=1)
    size = np.where(examples > 0, examples, np.nan)
    rows = []
    for k, loss in enumerate(losses):
        recalls = right[~np.isnan(right[:, k]).any(1), k] / size
        seeds = len(recalls)
        error = recalls.std(axis=0, ddof=1) / np.sqrt(seeds) if seeds > 1 else np.full(len(examples), np.nan)
        rows.append(pd.DataFrame({"loss": loss, "class": np.arange(len(examples)), "examples": examples,
                                  "recall": recalls.mean(axis=0), "standard_error": error, "n_seeds": seeds}))
    return pd.concat(rows, ignore_index=True)  # fmt: skip


def class_differences(
    right: np.ndarray, examples: np.ndarray, losses: Sequence[str], reference: str, alpha: float = 0.05
) -> pd.DataFrame:
    """Recall of every other loss less that of the reference, paired by seed, a row per loss and class.

    Columns loss, class, examples, difference, ci_low, ci_high (simultaneous over the table, cut off at -1 and 1,
    which no difference of recalls exceeds), p (adjusted over the table: step-down max-T of sign flips from 8 seeds
    on, t-tests with Holm below, Welch's where members are missing, as in `pairtests.family_of_pairs`), differs (p <=
    alpha and a difference). Below 8 seeds no standard deviation counts as smaller than one example. right, examples,
    losses: see `class_recalls`. Classes without a test example are left out. Raises InputError for arrays that do not
    fit, an unknown reference, and a loss with fewer than two seeds.
    """
    right = _check(right, examples, losses, least_seeds=2)
    if reference not in losses or len(losses) < 2:
        raise InputError(f"reference: {reference!r}, losses: {', '.join(losses)}; needed: one of at least 2 losses")
    base, present = list(losses).index(reference), np.flatnonzero(examples > 0)
    others = [k for k in range(len(losses)) if k != base]
    # Counts, not shares, so that one example is the step between possible scores in every class.
    x = right[:, :, present].reshape(len(right), -1)
    columns = np.arange(x.shape[1]).reshape(len(losses), -1)
    first, second = columns[others].ravel(), np.tile(columns[base], len(others))
    family = family_of_pairs(x, first, second, alpha, resolution=1.0)
    size = np.tile(examples[present], len(others)).astype(float)
    difference, width = family.difference / size, family.half_width / size
    return pd.DataFrame({
        "loss": np.repeat([losses[k] for k in others], len(present)), "class": np.tile(present, len(others)),
        "examples": size.astype(int), "difference": difference,
        "ci_low": np.maximum(difference - width, -1.0), "ci_high": np.minimum(difference + width, 1.0),
        "p": family.p, "differs": (family.p <= alpha) & (difference != 0),
    })  # fmt: skip


def _check(right: np.ndarray, examples: np.ndarray, losses: Sequence[str], least_seeds: int) -> np.ndarray:
    right = np.asarray(right, dtype=float)
    if right.ndim != 3 or right.shape[1:] != (len(losses), len(examples)):
        raise InputError(f"right answers: shape {right.shape}; needed: (seeds, {len(losses)} losses, "
                         f"{len(examples)} classes)")  # fmt: skip
    right = right[~np.isnan(right).all(axis=(1, 2))]
    if (right < 0).any() or (right > examples).any():
        raise InputError("right answers: fewer than 0, or more than the class has examples")
    seeds = (~np.isnan(right).any(axis=2)).sum(axis=0)
    if (seeds < least_seeds).any():
        k = int(np.argmin(seeds))
        number = "1 seed" if seeds[k] == 1 else f"{seeds[k]} seeds"
        raise InputError(f"right answers: {losses[k]} has {number}; needed: at least {least_seeds}")
    return right
