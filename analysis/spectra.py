"""Singular value spectra of activations, weights and class centroids (Kornblith et al. 2020, Figure E.2), and ranks."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from scipy import linalg

from losstune.analysis.separation import NO_LAYER, ROUNDING, Measures
from losstune.trainables.feature_statistics import FeatureStatistics

Matrix = Literal["activations", "weights", "centroids"]
MATRICES: tuple[Matrix, ...] = ("activations", "weights", "centroids")


def singular_values(statistics: FeatureStatistics, of: Matrix, centered: bool = False) -> np.ndarray | None:
    """Singular values, descending: min(N, d) of the activations, min(K, d) of the others. None without such a matrix.

    activations: features (N, d) over sqrt(N), so that splits of different sizes compare; those below about 1e-7 of the
    largest are given as 0. weights: (K, d), None where the final layer is not linear. centroids: class means (K, d),
    of the classes that have examples. centered: the mean over rows is subtracted first (of activations, over examples).
    """
    if of == "activations":
        return statistics.centered_singular_values if centered else statistics.singular_values
    rows = statistics.weight if of == "weights" else statistics.class_means[statistics.counts > 0]
    if rows is None:
        return None
    return linalg.svdvals(center(rows) if centered else rows)


def center(rows: np.ndarray) -> np.ndarray:
    """Rows (n, d) minus their mean; exactly 0 where only rounding is left."""
    centered = rows - rows.mean(axis=0)
    return centered if np.linalg.norm(centered) > ROUNDING * np.linalg.norm(rows) else np.zeros_like(rows)


def effective_rank(values: np.ndarray) -> float:
    """exp of the entropy of s / sum(s) for singular values s (Roy and Vetterli 2007); NaN where all are 0."""
    if not values.any():
        return math.nan
    shares = values[values > 0] / values.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def participation_ratio(values: np.ndarray) -> float:
    """(sum of s^2)^2 / sum of s^4 for singular values s; NaN where all are 0."""
    if not values.any():
        return math.nan
    squares = (values / values.max()) ** 2
    return float(squares.sum() ** 2 / (squares**2).sum())


def effective_ranks(statistics: FeatureStatistics, centered: bool = False) -> Measures:
    """<matrix>_effective_rank and <matrix>_participation_ratio of the three matrices, each between 1 and their rank."""
    found = Measures()
    for of in MATRICES:
        values = singular_values(statistics, of, centered)
        missing = (values is None, NO_LAYER)
        values = np.zeros(1) if values is None else values
        zero = (not values.any(), "all singular values are 0")
        found.add(f"{of}_effective_rank", effective_rank(values), missing, zero)
        found.add(f"{of}_participation_ratio", participation_ratio(values), missing, zero)
    return found
