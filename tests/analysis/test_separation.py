"""Class separation, cosine distances and angular hardness against all pairs, one by one, and by hand."""

import math

import numpy as np
import pytest
from feature_data import HAND, examples, record
from scipy.spatial.distance import cdist

from losstune.analysis.separation import (
    MOST_PAIRED,
    angular_visual_hardness,
    class_separation,
    cosine_distances,
    distance_counts,
    hardness_values,
)

pytestmark = pytest.mark.filterwarnings("error")
UNEVEN = (9, 2, 14, 1, 5)
SAME = dict.fromkeys(("cosine_mean_subtracted", "squared_euclidean"), "are the same")


def eq_11(distance, y):
    """Kornblith's Eq. 11, sum by sum, of distances (N, N)."""
    classes = np.unique(y)
    mean = {(j, k): distance[np.ix_(y == j, y == k)].mean() for j in classes for k in classes}
    within = sum(mean[k, k] for k in classes) / len(classes)
    return 1 - within / (sum(mean.values()) / len(classes) ** 2)


def cosines(x):
    return cdist(x, x, "cosine")


@pytest.mark.parametrize("counts", [(4, 4), (6, 6, 6), UNEVEN, (3, 0, 8)], ids=str)
@pytest.mark.parametrize("width", [2, 11])
def test_r_squared_is_that_of_all_pairs(counts, width):
    x, y = examples(counts, width)
    found = class_separation(record(x, y, len(counts)))
    assert found.reasons == {}
    assert found.values["cosine"] == pytest.approx(eq_11(cosines(x), y), abs=1e-10)
    assert found.values["cosine_mean_subtracted"] == pytest.approx(eq_11(cosines(x - x.mean(axis=0)), y), abs=1e-10)
    assert found.values["squared_euclidean"] == pytest.approx(eq_11(cdist(x, x, "sqeuclidean"), y), abs=1e-10)


def test_r_squared_is_the_ratio_of_variances_that_the_paper_names():
    """Of unit vectors: the mean within-class variance over the variance weighted inversely to class sizes."""
    x, y = examples(UNEVEN, 6)
    u = x / np.linalg.norm(x, axis=1, keepdims=True)
    within = np.mean([np.var(u[y == k], axis=0).sum() for k in range(len(UNEVEN))])
    weights = 1 / np.array(UNEVEN)[y]
    mean = np.average(u, axis=0, weights=weights)
    total = np.average(np.square(u - mean).sum(axis=1), weights=weights)
    assert class_separation(record(x, y, len(UNEVEN))).values["cosine"] == pytest.approx(1 - within / total, abs=1e-12)


def test_r_squared_by_hand():
    """Cosine: within .5, overall 1. Squared distances: within (2.5 + 1) / 2 = 1.75, overall 3.375."""
    found = class_separation(record(*HAND, 2)).values
    assert found["cosine"] == pytest.approx(1 / 2, abs=1e-15)
    assert found["squared_euclidean"] == pytest.approx(13 / 27, abs=1e-15)
    assert found["cosine_mean_subtracted"] == pytest.approx(eq_11(cosines(HAND[0] - [0.25, 0]), HAND[1]), abs=1e-14)


def test_cosine_distances_are_means_over_pairs_of_different_examples():
    x, y = examples(UNEVEN, 4)
    distance, pairs = cosines(x), ~np.eye(len(y), dtype=bool)
    same = y[:, None] == y
    found = cosine_distances(record(x, y, len(UNEVEN))).values
    assert found["within"] == pytest.approx(distance[same & pairs].mean(), abs=1e-12)
    assert found["between"] == pytest.approx(distance[~same].mean(), abs=1e-12)
    by_hand = cosine_distances(record(*HAND, 2)).values
    assert by_hand == pytest.approx({"within": 1, "between": 1.5}, abs=1e-15)


def test_a_row_of_zeros_is_similar_to_none():
    x, y = examples((4, 3), 5)
    x[0] = 0
    distance = np.ones((7, 7))
    distance[1:, 1:] = cosines(x[1:])
    statistics = record(x, y, 2)
    assert class_separation(statistics).values["cosine"] == pytest.approx(eq_11(distance, y), abs=1e-12)
    same, pairs = y[:, None] == y, ~np.eye(7, dtype=bool)
    found = cosine_distances(statistics).values
    assert found["within"] == pytest.approx(distance[same & pairs].mean(), abs=1e-12)
    assert found["between"] == pytest.approx(distance[~same].mean(), abs=1e-12)


def hardness(x, y, weight):
    """Angles by the law of cosines, one by one; None for a row of zeros."""
    shares = []
    for row, label in zip(x, y, strict=True):
        a, sides = np.linalg.norm(row), [(np.linalg.norm(w), np.linalg.norm(row - w)) for w in weight]
        angles = [math.acos((a * a + b * b - c * c) / (2 * a * b)) for b, c in sides] if a else None
        shares.append(angles[label] / sum(angles) if a else None)
    return shares


def test_angular_visual_hardness():
    x, y = examples(UNEVEN, 6)
    x[3] = 0
    weight = np.random.default_rng(1).normal(size=(5, 6))
    shares = hardness(x, y, weight)
    defined = np.array([share is not None for share in shares])
    values = np.array(shares)[defined].astype(float)
    statistics = record(x, y, 5, weight)
    found = angular_visual_hardness(statistics)
    assert found.values["angular_visual_hardness"] == pytest.approx(values.mean(), abs=1e-10)
    of_class = [values[y[defined] == k].mean() for k in range(5)]
    np.testing.assert_allclose(statistics.hardness, of_class, atol=1e-10)
    # By hand: 0, (pi/2) / (pi/2), (pi/2) / (3 pi/2), (pi/2 + pi/2) / (3 pi/2)
    statistics = record(*HAND, 2, np.eye(2))
    assert statistics.hardness == pytest.approx([(0 + 1) / 2, (1 / 3 + 2 / 3) / 2], abs=1e-15)


def test_hardness_does_not_heed_the_length_of_weights_or_the_bias():
    x, y = examples((5, 5, 5), 4)
    weight = np.random.default_rng(2).normal(size=(3, 4))
    plain, other = (angular_visual_hardness(record(x, y, 3, w, b)).values["angular_visual_hardness"]
                    for w, b in ((weight, None), (weight * [[1], [5], [0.1]], np.array([0, 3.0, -1]))))  # fmt: skip
    assert plain == pytest.approx(other, abs=1e-14)


@pytest.mark.parametrize(
    ("x", "y", "undefined"),
    [
        (np.full((6, 3), 0.1), [0, 0, 1, 1, 2, 2], {"cosine": "point the same way", **SAME}),
        (np.zeros((4, 3)), [0, 0, 1, 1], {"cosine": "are 0", **SAME}),
        (np.outer([1.0, 2, 3, 5], [1.0, 3]), [0, 0, 1, 1], {"cosine": "point the same way"}),
        (np.eye(4), [1, 1, 1, 1],
         dict.fromkeys(("cosine", *SAME), "fewer than two classes")),
    ],
    ids=["constant", "zeros", "one direction", "one class"],
)  # fmt: skip
def test_what_is_not_defined_is_nan_with_its_reason(x, y, undefined):
    found = class_separation(record(x, np.array(y), 3))
    assert {name: math.isnan(value) for name, value in found.values.items()} == {
        name: name in undefined for name in found.values
    }
    assert found.reasons.keys() == undefined.keys()
    assert all(part in found.reasons[name] for name, part in undefined.items())


def test_distances_and_hardness_without_pairs_or_directions_are_nan_with_their_reason():
    single = cosine_distances(record(np.eye(3), np.arange(3), 3))
    assert single.reasons == {"within": "no class has two examples"} and single.values["between"] == 1
    alone = cosine_distances(record(np.eye(3), np.zeros(3, int), 3))
    assert alone.reasons == {"between": "fewer than two classes have examples"} and alone.values["within"] == 1
    name = "angular_visual_hardness"
    for weight, reason in ((None, "not linear"), (np.eye(3)[[0, 1, 1]] * [[1], [1], [0]], "not every weight")):
        found = angular_visual_hardness(record(np.eye(3), np.arange(3), 3, weight))
        assert math.isnan(found.values[name]) and reason in found.reasons[name]


def test_collapsed_classes_are_wholly_separated():
    x = np.repeat(np.eye(3), 4, axis=0)
    statistics = record(x, np.repeat(np.arange(3), 4), 3)
    assert class_separation(statistics).values == pytest.approx(
        {"cosine": 1, "cosine_mean_subtracted": 1, "squared_euclidean": 1}, abs=1e-12
    )
    assert cosine_distances(statistics).values == pytest.approx({"within": 0, "between": 1}, abs=1e-12)


def test_distances_are_counted_pair_by_pair():
    """By hand: within classes twice 1; between them twice 1 and twice 2. Bin 50 begins at 1, the last one holds 2."""
    within, between = distance_counts(*HAND)
    assert dict(enumerate(within[[50, 99]])) == {0: 2, 1: 0} and within.sum() == 2
    assert dict(enumerate(between[[50, 99]])) == {0: 2, 1: 2} and between.sum() == 4
    x, y = examples(UNEVEN, 4)
    x[3] = 0
    expected = np.zeros((2, 100), dtype=int)
    for i in range(len(x)):
        for j in range(i):
            a, b = np.linalg.norm(x[i]), np.linalg.norm(x[j])
            distance = 1 - x[i] @ x[j] / (a * b) if a and b else 1.0
            expected[int(y[i] != y[j]), min(int(50 * distance), 99)] += 1
    np.testing.assert_array_equal(distance_counts(x, y), expected)
    found = distance_counts(x.astype(np.float16), y)
    assert np.abs(np.cumsum(found - expected, axis=1)).max() <= 2  # a pair near the end of a bin may change sides


def test_only_the_first_examples_are_paired():
    x = np.ones((MOST_PAIRED + 5, 1), dtype=np.float16)
    counts = distance_counts(x, np.zeros(len(x), dtype=int))
    assert counts[0, 0] == counts.sum() == MOST_PAIRED * (MOST_PAIRED - 1) // 2
    assert not distance_counts(x[:1], np.zeros(1, dtype=int)).any()


def test_hardness_of_each_example_has_the_recorded_mean():
    x, y = examples(UNEVEN, 6)
    x[3] = 0
    weight = np.random.default_rng(1).normal(size=(5, 6))
    values = hardness_values(x, y, weight)
    assert values == pytest.approx([share for share in hardness(x, y, weight) if share is not None], abs=1e-10)
    mean = angular_visual_hardness(record(x, y, 5, weight)).values["angular_visual_hardness"]
    assert values.mean() == pytest.approx(mean, abs=1e-12)
    assert hardness_values(*HAND, np.eye(2)) == pytest.approx([0, 1, 1 / 3, 2 / 3], abs=1e-15)
    assert len(hardness_values(*HAND, np.array([[1.0, 0], [0, 0]]))) == 0
