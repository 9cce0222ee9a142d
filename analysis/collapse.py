"""Neural collapse of the penultimate features and the final layer: NC1, NC2, NC3 (Zhou et al. 2022), and NC4."""

from __future__ import annotations

import math

import numpy as np

from losstune.analysis.separation import NO_LAYER, ONE_CLASS, ROUNDING, Measures
from losstune.analysis.spectra import center
from losstune.trainables.feature_statistics import FeatureStatistics

SAME_MEANS = "all class means are the same"


def neural_collapse(statistics: FeatureStatistics, center_classifier: bool = True) -> Measures:
    """NC1-NC3 as in Zhou et al. 2022 ("Three NC Metrics"), NC4, and what it compares; lower is more collapsed but NC4.

    nc1: trace(S_W pinv(S_B)) / K. S_W: mean over examples of (x - h_y)(x - h_y)^T; S_B: mean over classes of
    (h_k - h_G)(h_k - h_G)^T; h_G: mean of all examples. Classes without examples are left out, of K too. The
    pseudo-inverse takes eigenvalues of S_B below max(K, d) * 2.2e-16 of the largest for 0: within-class scatter in
    directions in which the class means do not differ does not count.
    nc2: |W W^T / |W W^T|_F - (I - 11^T / K) / sqrt(K - 1)|_F. The paper has W as it is; its authors' code subtracts the
    mean over classes from W, and so does center_classifier=True. With d < K - 1 it cannot be 0.
    nc3: the same of W H, H (d, K) being h_k - h_G, with W as in nc2.
    nc4: share of examples whose nearest class center is the class of the largest logit (the paper's fourth property,
    for which it has no formula); nearest_center_accuracy: whose nearest class center is their own class's.
    """
    found, total = Measures(), statistics.counts.sum()
    _add_nc1(found, statistics)
    _add_duality(found, statistics, center_classifier)
    agrees = statistics.nearest_agrees
    found.add("nc4", math.nan if agrees is None else agrees.sum() / total, (agrees is None, NO_LAYER))
    found.add("nearest_center_accuracy", statistics.nearest_right.sum() / total)
    return found


def _add_nc1(found: Measures, statistics: FeatureStatistics) -> None:
    present = statistics.counts > 0
    offsets = statistics.class_offsets[present]
    alike = not offsets.any()
    # S_B = V diag(s^2 / K) V^T, hence trace(S_W pinv(S_B)) / K = sum of v^T S_W v / s^2.
    _, s, directions = np.linalg.svd(offsets, full_matrices=False)
    kept = s**2 > max(offsets.shape) * np.finfo(np.float64).eps * s[0] ** 2
    scatter, directions = _symmetric(statistics.within_scatter, offsets.shape[1]), directions[kept]
    spread = ((directions @ scatter) * directions).sum(axis=1)
    found.add("nc1", (spread / s[kept] ** 2).sum(), (present.sum() < 2, ONE_CLASS), (alike, SAME_MEANS))


def _symmetric(upper: np.ndarray, width: int) -> np.ndarray:
    """The symmetric matrix (d, d) of an upper triangle, row by row."""
    whole = np.zeros((width, width))
    whole[np.triu_indices(width)] = upper
    return whole + np.triu(whole, 1).T


def _add_duality(found: Measures, statistics: FeatureStatistics, center_classifier: bool) -> None:
    weight, offsets, missing = statistics.weight, statistics.class_offsets, (statistics.counts == 0).any()
    if weight is None:
        for name in ("nc2", "nc3"):
            found.add(name, math.nan, (True, NO_LAYER))
        return
    weight = center(weight) if center_classifier else weight
    alike, few = (not weight.any(), "all weights are the same, or 0"), (len(weight) < 2, "there is one class")
    found.add("nc2", _from_simplex(weight @ weight.T), few, alike)
    offsets = np.nan_to_num(offsets)
    product = weight @ offsets.T
    orthogonal = np.linalg.norm(product) <= ROUNDING * np.linalg.norm(weight) * np.linalg.norm(offsets)
    found.add("nc3", _from_simplex(product), few, (missing, "a class has no examples"), (not offsets.any(), SAME_MEANS),
              alike, (orthogonal, "weights and class means are orthogonal"))  # fmt: skip


def _from_simplex(gram: np.ndarray) -> float:
    """Frobenius distance of a matrix (K, K), over its norm, to the simplex equiangular tight frame's Gram matrix."""
    classes, norm = len(gram), np.linalg.norm(gram)
    if norm == 0 or classes < 2:
        return math.nan
    simplex = (np.eye(classes) - 1 / classes) / math.sqrt(classes - 1)
    return float(np.linalg.norm(gram / norm - simplex))
