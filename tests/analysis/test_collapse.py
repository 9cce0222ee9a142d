"""Neural collapse against its definitions with pseudo-inverses and loops, by hand, and where it is total."""

import math

import numpy as np
import pytest
from feature_data import HAND, examples, record
from scipy import linalg

from losstune.analysis.collapse import neural_collapse
from losstune.analysis.spectra import center

pytestmark = pytest.mark.filterwarnings("error")


def scatters(x, y):
    """S_W, S_B and the class means minus the mean of all, example by example, class by class."""
    classes, overall = np.unique(y), x.mean(axis=0)
    means = {k: x[y == k].mean(axis=0) for k in classes}
    within = sum(np.outer(row - means[k], row - means[k]) for row, k in zip(x, y, strict=True)) / len(x)
    between = sum(np.outer(m - overall, m - overall) for m in means.values()) / len(classes)
    return within, between, np.array([means[k] - overall for k in classes])


def to_simplex(gram):
    """|A/|A| - B| from |A/|A|| = |B| = 1 and the inner product of the two, entry by entry."""
    classes = len(gram)
    inner = sum(gram[i, j] * ((i == j) - 1 / classes) for i in range(classes) for j in range(classes))
    cosine = inner / math.sqrt(classes - 1) / math.sqrt((gram**2).sum())
    return math.sqrt(max(0.0, 2 - 2 * cosine))


@pytest.mark.parametrize("counts", [(5, 5), (6, 6, 6, 6), (9, 2, 14, 1, 5)], ids=str)
@pytest.mark.parametrize("width", [2, 9])
@pytest.mark.parametrize("center_classifier", [True, False])
def test_nc1_to_nc3_are_the_papers(counts, width, center_classifier):
    """Also with d < K - 1, where the class means fill the space, and with d > K - 1, where S_B has no inverse."""
    x, y = examples(counts, width)
    weight = np.random.default_rng(3).normal(size=(len(counts), width)) + 0.5
    within, between, offsets = scatters(x, y)
    used = weight - weight.mean(axis=0) if center_classifier else weight
    found = neural_collapse(record(x, y, len(counts), weight), center_classifier)
    assert found.reasons == {}
    expected = np.trace(within @ linalg.pinvh(between)) / len(counts)
    assert found.values["nc1"] == pytest.approx(expected, rel=1e-10)
    assert found.values["nc2"] == pytest.approx(to_simplex(used @ used.T), abs=1e-7 if len(counts) == 2 else 1e-10)
    assert found.values["nc3"] == pytest.approx(to_simplex(used @ offsets.T), abs=1e-7 if len(counts) == 2 else 1e-10)


def test_nc_by_hand():
    """Means (1, .5), (-.5, -.5) and (.25, 0); S_W = [[.625, -.375], [-.375, .25]], S_B = (.75, .5)(.75, .5)^T."""
    statistics = record(*HAND, 2, np.eye(2))
    found = neural_collapse(statistics, center_classifier=False).values
    assert found["nc1"] == pytest.approx(17 / 169, abs=1e-15)
    assert found["nc2"] == pytest.approx(math.sqrt(2 - math.sqrt(2)), abs=1e-14)
    assert found["nc3"] == pytest.approx(math.sqrt(2 - 0.5 / math.sqrt(1.625)), abs=1e-14)
    # Of the logits (2, 0), (0, 1), (-1, 0), (0, -1) the largest are 0, 1, 1, 0; the nearest means 0, 0, 1, 1.
    assert (found["nc4"], found["nearest_center_accuracy"]) == (0.5, 1.0)
    # Two centered weights are opposite, and so are two means: a simplex.
    centered = neural_collapse(statistics).values
    assert (centered["nc2"], centered["nc3"]) == pytest.approx((0, 0), abs=1e-14)


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_total_collapse_is_zero(classes):
    simplex = np.eye(classes) - 1 / classes
    x, y = np.repeat(simplex, 5, axis=0) + 7, np.repeat(np.arange(classes), 5)
    found = neural_collapse(record(x, y, classes, 3 * simplex)).values
    assert [found[name] for name in ("nc1", "nc2", "nc3")] == pytest.approx([0, 0, 0], abs=1e-7)
    assert (found["nc4"], found["nearest_center_accuracy"]) == (1, 1)


def test_too_few_dimensions_for_a_simplex():
    """Four weights in the plane: at the best, W W^T has two equal eigenvalues, and sqrt(2 - 2 sqrt(2/3)) is left."""
    square = np.array([[1.0, 0], [0, 1], [-1, 0], [0, -1]])
    found = neural_collapse(record(square, np.arange(4), 4, square))
    assert found.values["nc2"] == pytest.approx(math.sqrt(2 - 2 * math.sqrt(2 / 3)), abs=1e-14)


def test_scatter_where_class_means_do_not_differ_does_not_count():
    """Three means on a line: S_B has rank 1 of the 2 that three classes can have."""
    rng = np.random.default_rng(4)
    y = np.repeat(np.arange(3), 20)
    spread = rng.normal(size=(60, 3))
    for k in range(3):
        spread[y == k] -= spread[y == k].mean(axis=0)
    x = spread + np.outer(y, [1.0, 0, 0])
    line = np.var([0, 1, 2])
    assert neural_collapse(record(x, y, 3)).values["nc1"] == pytest.approx(np.var(spread[:, 0]) / line / 3, rel=1e-10)


def test_a_class_without_examples():
    x, y = examples((6, 0, 8, 5), 4)
    weight = np.random.default_rng(5).normal(size=(4, 4))
    found = neural_collapse(record(x, y, 4, weight))
    within, between, _ = scatters(x, y)
    assert found.values["nc1"] == pytest.approx(np.trace(within @ linalg.pinvh(between)) / 3, rel=1e-10)
    assert found.values["nc2"] == pytest.approx(to_simplex(center(weight) @ center(weight).T), abs=1e-10)
    assert math.isnan(found.values["nc3"]) and found.reasons == {"nc3": "a class has no examples"}


@pytest.mark.parametrize(
    ("x", "y", "weight", "reasons"),
    [
        (np.full((4, 3), 0.1), [0, 0, 1, 1], np.eye(2, 3), {"nc1": "means are the same", "nc3": "means are the same"}),
        (np.zeros((4, 3)), [0, 0, 1, 1], np.eye(2, 3), {"nc1": "means are the same", "nc3": "means are the same"}),
        (np.eye(4, 3), [0, 0, 1, 1], None, dict.fromkeys(("nc2", "nc3", "nc4"), "not linear")),
        (np.eye(4, 3), [0, 0, 1, 1], np.full((2, 3), 0.1), dict.fromkeys(("nc2", "nc3"), "weights are the same")),
        (np.eye(4), [0, 0, 1, 1], np.array([[1.0, -1, 0, 0], [-1, 1, 0, 0]]), {"nc3": "orthogonal"}),
        (np.eye(4, 3), [1, 1, 1, 1], np.eye(2, 3), {"nc1": "fewer than two classes", "nc3": "no examples"}),
        (np.eye(4, 3), [0, 0, 0, 0], np.eye(1, 3),
         {"nc1": "fewer than two classes", "nc2": "one class", "nc3": "one class"}),
    ],
    ids=["constant", "zeros", "no linear layer", "equal weights", "orthogonal", "one class present", "one class"],
)  # fmt: skip
def test_what_is_not_defined_is_nan_with_its_reason(x, y, weight, reasons):
    found = neural_collapse(record(x, np.array(y), 2 if weight is None else len(weight), weight))
    assert {name for name, value in found.values.items() if math.isnan(value)} == reasons.keys()
    assert found.reasons.keys() == reasons.keys()
    assert all(part in found.reasons[name] for name, part in reasons.items())
