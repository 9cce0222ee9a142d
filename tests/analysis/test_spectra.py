"""Spectra against singular value decompositions of the whole matrices, by hand, and the ranks of matrices one knows."""

import math

import numpy as np
import pytest
from feature_data import HAND, examples, record
from scipy import linalg

from losstune.analysis.spectra import effective_rank, effective_ranks, participation_ratio, singular_values

pytestmark = pytest.mark.filterwarnings("error")


@pytest.mark.parametrize("width", [3, 8, 40], ids=["d < K", "d > K", "d > N"])
@pytest.mark.parametrize("centered", [False, True])
def test_spectra_are_those_of_the_whole_matrices(width, centered):
    x, y = examples((9, 2, 14, 0, 5), width)
    weight = np.random.default_rng(6).normal(size=(5, width))
    means = np.array([x[y == k].mean(axis=0) for k in (0, 1, 2, 4)])
    statistics = record(x, y, 5, weight)
    for of, matrix in (("activations", x / math.sqrt(len(x))), ("weights", weight), ("centroids", means)):
        expected = linalg.svdvals(matrix - matrix.mean(axis=0) if centered else matrix)
        np.testing.assert_allclose(singular_values(statistics, of, centered), expected, rtol=1e-10, atol=1e-10)


def test_by_hand():
    """X^T X / 4 = diag(5, 2) / 4; shares of the variance 5/7, 2/7."""
    statistics = record(*HAND, 2, np.eye(2))
    values = singular_values(statistics, "activations")
    assert values == pytest.approx([math.sqrt(5 / 4), math.sqrt(2 / 4)], abs=1e-15)
    assert participation_ratio(values) == pytest.approx(49 / 29, abs=1e-14)
    # Centered: X^T X / 4 - mean mean^T = diag(1.25 - .0625, .5); means (1, .5), (-.5, -.5)
    values = singular_values(statistics, "activations", centered=True)
    assert values == pytest.approx([math.sqrt(1.1875), math.sqrt(0.5)], abs=1e-15)
    values = singular_values(statistics, "centroids", centered=True)
    assert values == pytest.approx([math.sqrt(2 * (0.75**2 + 0.5**2)), 0], abs=1e-15)


def test_ranks_of_spectra_that_one_knows():
    assert effective_rank(np.ones(6)) == pytest.approx(6)
    assert participation_ratio(np.ones(6)) == pytest.approx(6)
    assert effective_rank(np.array([5.0, 0, 0])) == 1 == participation_ratio(np.array([5.0, 0, 0]))
    assert effective_rank(np.array([3.0, 1])) == pytest.approx(4 / 3**0.75)
    assert participation_ratio(np.array([3e-200, 1e-200])) == pytest.approx(100 / 82)
    assert math.isnan(effective_rank(np.zeros(3))) and math.isnan(participation_ratio(np.zeros(3)))


def test_a_spectrum_of_few_directions_ends_in_zeros():
    """The square root of what rounding leaves in a Gram matrix would be 1e-8 of the largest value, and no zero."""
    rng = np.random.default_rng(7)
    x = rng.normal(size=(50, 3)) @ rng.normal(size=(3, 20))
    values = singular_values(record(x, np.arange(50) % 2, 2), "activations")
    assert (values[:3] > 0.1).all() and (values[3:] == 0).all() and len(values) == 20


def test_ranks_by_name():
    x, y = examples((9, 2, 14, 5), 6)
    weight = np.random.default_rng(8).normal(size=(4, 6))
    statistics = record(x, y, 4, weight)
    found = effective_ranks(statistics)
    assert found.reasons == {}
    for of in ("activations", "weights", "centroids"):
        values = singular_values(statistics, of)
        assert found.values[f"{of}_effective_rank"] == effective_rank(values)
        assert found.values[f"{of}_participation_ratio"] == participation_ratio(values)


def test_what_is_not_defined_is_nan_with_its_reason():
    found = effective_ranks(record(np.full((6, 3), 0.1), np.arange(6) % 3, 3), centered=True)
    kinds = ("effective_rank", "participation_ratio")
    assert found.reasons == {
        **{f"{of}_{kind}": "all singular values are 0" for of in ("activations", "centroids") for kind in kinds},
        **{f"weights_{kind}": "the final layer is not linear" for kind in kinds},
    }
    assert all(math.isnan(value) for value in found.values.values()) and len(found.values) == 6


@pytest.mark.parametrize("value", [0.1, 0.7, 1e-9])
def test_equal_weights_have_no_spectrum_once_centered(value):
    """Their mean may differ from them in the last digit, and that digit has a spectrum."""
    statistics = record(np.eye(3), np.arange(3), 3, np.full((3, 3), value))
    assert (singular_values(statistics, "weights", centered=True) == 0).all()
