"""How alike the predictions of models are, in the three forms of Kornblith et al. 2020 (section 3.2, Figures 1, D.1).

Models of one loss differ in their seed. Seed k means the same initial weights and order of the data for every loss, so
two models of different losses and the same seed have more in common than their losses' agreement: means between losses
are over pairs of different seeds, as those within a loss are, and pairs of the same seed stand apart.
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.cluster import hierarchy
from scipy.spatial.distance import squareform

from losstune.spaces import InputError

FORMS = ("same_class", "same_outcome", "same_error")
BLOCK = 1 << 16


@dataclass(frozen=True)
class Agreement:
    """Agreement of M models, each form an (M, M) symmetric array of shares in [0, 1].

    models: (loss, seed) of each. same_class: share of examples for which both predict the same class. same_outcome:
    share on which both are right or both wrong. same_error: of the examples that both get wrong, the share with the
    same class; NaN where there is none.
    """

    models: list[tuple[str, Hashable]]
    same_class: np.ndarray
    same_outcome: np.ndarray
    same_error: np.ndarray


def agreement(models: Sequence[tuple[str, Hashable]], classes: np.ndarray, targets: np.ndarray) -> Agreement:
    """Agreement of all pairs of M models, given as (loss, seed), with predicted classes (M, N) on targets (N,).

    The predicted class is the argmax of the logits. Takes M^2 N / 2 comparisons of integers, whatever the number of
    classes, so small integer types are faster. Raises InputError for arrays that do not fit.
    """
    _check(models, classes, targets)
    size, examples = classes.shape
    same, right_in_both, right = np.zeros((size, size)), np.zeros((size, size)), np.zeros(size)
    for start in range(0, examples, BLOCK):
        block = np.ascontiguousarray(classes[:, start : start + BLOCK])
        correct = (block == targets[start : start + BLOCK]).astype(np.float32)  # counts are exact up to 2^24
        right_in_both += correct @ correct.T
        right += correct.sum(1)
        for row in range(size):
            same[row, row:] += np.count_nonzero(block[row:] == block[row], axis=1)
    same = np.triu(same) + np.triu(same, 1).T
    wrong_in_both = examples - right[:, None] - right[None, :] + right_in_both
    # Where both are right they agree, so what is left of the agreement is on common errors.
    same_error = np.divide(same - right_in_both, wrong_in_both, out=np.full_like(same, np.nan),
                           where=wrong_in_both > 0)  # fmt: skip
    return Agreement(list(models), same / examples, (right_in_both + wrong_in_both) / examples, same_error)


def agreement_of_losses(found: Agreement) -> pd.DataFrame:
    """Means over pairs of models: a row per pair of losses, each loss with itself included, in order of appearance.

    Columns loss_a, loss_b; same_class, same_outcome, same_error: means over pairs of models of different seeds (for a
    loss with itself: all pairs of its seeds), pairs: how many; and the same three with "_same_seed", the means over
    pairs of the same seed (NaN for a loss with itself). Means leave out pairs that share no error; NaN where none is
    left.
    """
    rows_of = {loss: [k for k, model in enumerate(found.models) if model[0] == loss] for loss, _ in found.models}
    seeds = [seed for _, seed in found.models]
    rows = []
    for a, b in itertools.combinations_with_replacement(rows_of, 2):
        every = itertools.combinations(rows_of[a], 2) if a == b else itertools.product(rows_of[a], rows_of[b])
        pairs = np.array(list(every), dtype=np.intp).reshape(-1, 2)
        alike = np.array([seeds[i] == seeds[j] for i, j in pairs], dtype=bool)
        row = {"loss_a": a, "loss_b": b, "pairs": int((~alike).sum())}
        for form, name in itertools.product(FORMS, ("", "_same_seed")):
            chosen = pairs[alike if name else ~alike]
            row[form + name] = _mean(getattr(found, form)[chosen[:, 0], chosen[:, 1]])
        rows.append(row)
    return pd.DataFrame(rows)


def linkage(similarity: np.ndarray) -> np.ndarray:
    """The dendrogram of models: (M - 1, 4), as `scipy.cluster.hierarchy.linkage` returns it.

    similarity: (M, M), one of an Agreement's forms. The distance is 1 - similarity, linked by averages (UPGMA; the
    paper does not name its linkage), leaves ordered so that neighbors are alike. Raises InputError for fewer than two
    models, and for NaN: same_error of models that share no error.
    """
    if len(similarity) < 2:
        raise InputError(f"agreement: {len(similarity)} model; needed for a dendrogram: at least 2")
    if np.isnan(similarity).any():
        raise InputError("agreement: some models share no error, so that a dendrogram of same_error is not defined")
    distances = squareform(1 - similarity, checks=False)
    return hierarchy.linkage(distances, method="average", optimal_ordering=True)


def _mean(values: np.ndarray) -> float:
    values = values[~np.isnan(values)]
    return float(values.mean()) if len(values) else float("nan")


def _check(models: Sequence[tuple[str, Hashable]], classes: np.ndarray, targets: np.ndarray) -> None:
    if classes.ndim != 2 or classes.dtype.kind not in "iu" or not classes.size:
        raise InputError(f"classes: {classes.dtype} of shape {classes.shape}; needed: whole numbers (M, N)")
    if len(models) != len(classes) or len(set(models)) != len(models):
        raise InputError(f"models: {len(set(models))} different names for {len(classes)} models; needed: one each")
    if targets.shape != classes.shape[1:] or targets.dtype.kind not in "iu":
        raise InputError(f"targets: {targets.dtype} of shape {targets.shape}; needed: whole numbers "
                         f"({classes.shape[1]},)")  # fmt: skip
