"""How far the classes lie apart in the penultimate features: class separation R^2, cosine distances, angular hardness.

Means follow in closed form from FeatureStatistics, exactly as from all pairs of the N examples; how distances and
hardness are distributed, from the features of the examples that are kept.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from losstune.trainables.feature_statistics import FeatureStatistics

ROUNDING = 1e-13  # of sums of unit vectors: smaller differences of cosines are not told from 0
ONE_CLASS = "fewer than two classes have examples"
NO_LAYER = "the final layer is not linear"
DISTANCE_BINS = 100  # of cosine distances, from 0 to 2
MOST_PAIRED = 2000  # examples that are compared with each other: the time grows with their square


@dataclass(frozen=True)
class Measures:
    """values: numbers by name, NaN where one is not defined; reasons: why, by name, for exactly those."""

    values: dict[str, float] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, value: float, *undefined: tuple[bool, str]) -> None:
        """Take a value in, or NaN with the first reason (whether it holds, the reason) that holds."""
        reason = next((why for holds, why in undefined if holds), None)
        self.values[name] = float(value) if reason is None else math.nan
        if reason is not None:
            self.reasons[name] = reason


def class_separation(statistics: FeatureStatistics) -> Measures:
    """R^2 = 1 - (mean distance within classes) / (mean distance overall): Kornblith et al. 2020, Eq. 11.

    Pairs of an example with itself are included and classes weigh equally, as in Eq. 11; classes without examples are
    left out. In [0, 1]; three distances, as in Table E.1:
    cosine: 1 - sim(x, x'); a row of zeros has sim 0 to every row, itself included.
    cosine_mean_subtracted: the same after subtracting "the mean of the activations", that is, of all examples.
    squared_euclidean: |x - x'|^2. The table says "Euclidean distance"; the square is meant, for only the square comes
    to what the cosine does where features are unit vectors (0.6406 for cosine softmax in both columns).
    """
    found, present = Measures(), statistics.counts > 0
    few = present.sum() < 2
    for index, name in enumerate(("cosine", "cosine_mean_subtracted")):
        within = 1 - statistics.unit_squares[index, present].mean()
        total = 1 - statistics.unit_balanced[index]
        zeros = not statistics.unit_rows[index].any()
        all_zero = "all features are 0" if index == 0 else "all features are the same"
        found.add(name, _share(total - within, total), (few, ONE_CLASS), (zeros, all_zero),
                  (total <= ROUNDING, "all features point the same way"))  # fmt: skip
    offsets = statistics.class_offsets[present]
    between = np.square(offsets - offsets.mean(axis=0)).sum(axis=1).mean()
    total = between + statistics.within_squares[present].mean()
    found.add("squared_euclidean", _share(between, total), (few, ONE_CLASS), (total == 0, "all features are the same"))
    return found


def _share(part: float, whole: float) -> float:
    return min(max(part / whole, 0.0), 1.0) if whole > 0 else math.nan


def cosine_distances(statistics: FeatureStatistics) -> Measures:
    """Means of 1 - sim(x, x') over pairs of different examples: within, of the same class; between, of different ones.

    Every pair weighs the same, as in the densities of Kornblith et al. 2020, Figure E.3. A row of zeros has sim 0 to
    every row.
    """
    found, counts = Measures(), statistics.counts.astype(np.float64)
    present = counts > 0
    # Sums of sim over ordered pairs; of the rows with themselves it is 1, and 0 for rows of zeros.
    same = (counts[present] ** 2 * statistics.unit_squares[0, present]).sum()
    everything = counts.sum() ** 2 * statistics.unit_pooled[0]
    pairs, own = (counts * (counts - 1)).sum(), statistics.unit_rows[0].sum()
    found.add("within", _distance(same - own, pairs), (pairs == 0, "no class has two examples"))
    pairs = counts.sum() ** 2 - (counts**2).sum()
    found.add("between", _distance(everything - same, pairs), (pairs == 0, ONE_CLASS))
    return found


def _distance(similarity: float, pairs: float) -> float:
    return max(0.0, 1 - similarity / pairs) if pairs > 0 else math.nan


def distance_counts(features: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """How the cosine distances between examples are distributed (Kornblith et al. 2020, Figure E.3, as a histogram).

    Of features (n, d) and classes (n,), the first MOST_PAIRED of them: (2, DISTANCE_BINS) counts of unordered pairs of
    different examples by distance, [0] of the same class and [1] of different ones. Bins are equally wide, from 0 to 2,
    and closed below, the last one at both ends. A row of zeros has similarity 0 to every row.
    """
    x, y = features[:MOST_PAIRED].astype(np.float32), targets[:MOST_PAIRED]
    norms = np.linalg.norm(x, axis=1, keepdims=True)
    units = np.divide(x, norms, out=np.zeros_like(x), where=norms > 0)
    pairs = np.triu_indices(len(x), 1)
    # Single precision, without which it would take twice as long, is within 1e-6; kept features are within 1e-3.
    bins = ((1 - (units @ units.T)[pairs]) * (DISTANCE_BINS / 2)).astype(np.int64).clip(0, DISTANCE_BINS - 1)
    other = y[pairs[0]] != y[pairs[1]]
    return np.bincount(bins + DISTANCE_BINS * other, minlength=2 * DISTANCE_BINS).reshape(2, DISTANCE_BINS)


def hardness_values(features: np.ndarray, targets: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Angular visual hardness of each example that has one: features (n, d), classes (n,), weight (K, d) -> (m <= n,).

    See `angular_visual_hardness`, which is its mean over all examples of a split.
    """
    x, w = features.astype(np.float64), weight.astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        x, w = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (x, w))
        angles = np.arccos(np.clip(x @ w.T, -1, 1))
        hardness = angles[np.arange(len(x)), targets] / angles.sum(axis=1)
    return hardness[np.isfinite(hardness)]


def angular_visual_hardness(statistics: FeatureStatistics) -> Measures:
    """Mean over examples of angle(x, w_y) / sum_k angle(x, w_k) (Chen et al. 2020, Angular Visual Hardness).

    In [0, 1], lower is easier, 1/K where x is as far from all weights. Per class: `statistics.hardness`. Rows of zeros
    have no angle and are left out.
    """
    found = Measures()
    if statistics.hardness is None:
        found.add("angular_visual_hardness", math.nan, (True, NO_LAYER))
        return found
    rows = statistics.hardness_rows
    total = np.where(rows > 0, statistics.hardness * rows, 0.0).sum()
    found.add("angular_visual_hardness", total / max(rows.sum(), 1),
              (not rows.any(), "no example, or not every weight, has a direction"))  # fmt: skip
    return found
