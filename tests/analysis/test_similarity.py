"""CKA against Google's printed values, numbers worked out by hand, and the definitions with their n x n matrices."""

import tracemalloc
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest

from losstune.analysis.similarity import (
    cka,
    cka_matrix,
    gram_vector,
    loss_similarity,
    seed_averages,
    streaming_cka,
)
from losstune.spaces import InputError

pytestmark = pytest.mark.filterwarnings("error")

# Four examples with one feature; see `test_by_hand`.
HALVES, OTHER_HALVES, ONE_ALONE = (np.array([column]).T for column in ([0.0, 0, 1, 1], [0.0, 1, 0, 1], [0.0, 0, 1, 0]))


def hsic_0(x, y):
    """The definition: tr(K H L H), up to its factor."""
    count = len(x)
    h = np.eye(count) - np.ones((count, count)) / count
    return np.trace(x @ x.T @ h @ y @ y.T @ h) / (count - 1) ** 2


def hsic_1(x, y):
    """The definition with explicit zero diagonals (Song et al. 2012, Eq. 5; Nguyen et al. 2021, Eq. 3)."""
    count, one = len(x), np.ones(len(x))
    k, m = (a @ a.T * (1 - np.eye(count)) for a in (x, y))
    middle = (one @ k @ one) * (one @ m @ one) / ((count - 1) * (count - 2))
    return (np.trace(k @ m) + middle - 2 * one @ k @ m @ one / (count - 2)) / (count * (count - 3))


def by_definition(x, y, hsic):
    return hsic(x, y) / np.sqrt(hsic(x, x) * hsic(y, y))


def batches_of(size, *features):
    return [[x[start : start + size] for x in features] for start in range(0, len(features[0]), size)]


@pytest.fixture
def features():
    """Three representations of 60 examples, related, of different widths, two narrower and one wider than 60."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 7)) * np.arange(1, 8) + 3
    rectified = np.maximum(x @ rng.normal(size=(7, 20)) + 1, 0)
    return [x, rectified, x @ rng.normal(size=(7, 90)) + rng.normal(size=(60, 90))]


def test_google_s_printed_values():
    """The cells of Demo.ipynb in google-research/representation_similarity."""
    random = np.random.RandomState(1337)
    x = random.randn(100, 10)
    y = random.randn(100, 10) + x
    assert round(cka(x, y, debiased=False), 5) == 0.55761
    assert round(cka(x, y), 5) == 0.51346
    grams = [gram_vector(x), gram_vector(y)]
    assert cka_matrix(grams)[0, 1] == pytest.approx(0.51346, abs=6e-6)
    assert cka_matrix(grams, debiased=False)[0, 1] == pytest.approx(0.55761, abs=6e-6)


def test_by_hand():
    """n = 4: HSIC_1 is, up to a factor, (x.y)^2 - 2 sum k l + (sum k)(sum l) / 6 of the centered columns.

    Halves: x = (-1, -1, 1, 1)/2 and y = (-1, 1, -1, 1)/2 have x.y = 0, every k and l 1/4: 0 - 2/4 + 1/6 = -1/3, and
    1 - 2/4 + 1/6 = 2/3 of each with itself. One alone: z = (-1, -1, 3, -1)/4, l = (1, 1, 9, 1)/16, x.z = 1/2: biased
    (1/4) / sqrt(1 x 9/16) = 1/3; with itself 9/16 - 21/32 + 3/32 = 0, so that the debiased one is not defined.
    """
    assert cka(HALVES, OTHER_HALVES) == pytest.approx(float(Fraction(-1, 3) / Fraction(2, 3)), abs=1e-15)
    assert cka(HALVES, OTHER_HALVES, debiased=False) == 0
    assert cka(HALVES, ONE_ALONE, debiased=False) == pytest.approx(1 / 3, abs=1e-15)
    assert np.isnan(cka(HALVES, ONE_ALONE))


@pytest.mark.parametrize("debiased", [True, False])
def test_every_way_is_the_definition(features, debiased):
    expected = [[by_definition(x, y, hsic_1 if debiased else hsic_0) for x in features] for y in features]
    found = [[cka(x, y, debiased) for x in features] for y in features]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10)
    np.testing.assert_allclose(streaming_cka(batches_of(13, *features), debiased), expected, rtol=0, atol=1e-10)
    upper = [(x @ x.T)[np.triu_indices(60)] for x in features]
    np.testing.assert_allclose(cka_matrix(upper, debiased), expected, rtol=0, atol=1e-10)
    recorded = np.array([gram_vector(x) for x in features])
    assert recorded.dtype == np.float32 and recorded.shape == (3, 60 * 61 // 2)
    np.testing.assert_allclose(cka_matrix(recorded, debiased), expected, rtol=0, atol=2e-6)


def test_independent_features_are_unlike_when_debiased():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 200, 512))
    assert abs(cka(x, y)) < 0.03
    assert cka(x, y, debiased=False) == pytest.approx(0.72, abs=0.01)


@pytest.mark.parametrize("debiased", [True, False])
def test_rotation_scale_and_shift_change_nothing(features, debiased):
    x, y, wide = features
    rotation = np.linalg.qr(np.random.default_rng(1).normal(size=(20, 20)))[0]
    assert cka(x, 1e-3 * y @ rotation, debiased) == pytest.approx(cka(x, y, debiased), abs=1e-12)
    assert cka(x + 1e5, y - 1e5, debiased) == pytest.approx(cka(x, y, debiased), abs=1e-9)
    assert cka(x + 1e5, wide - 1e5, debiased) == pytest.approx(cka(x, wide, debiased), abs=1e-9)
    recorded = [gram_vector(x.astype(np.float32)), gram_vector((y + 50).astype(np.float32))]
    assert cka_matrix(recorded, debiased)[0, 1] == pytest.approx(cka(x, y, debiased), abs=1e-5)
    extreme = [gram_vector(1e9 * x), gram_vector(1e-9 * y)]
    assert cka_matrix(extreme, debiased)[0, 1] == pytest.approx(cka(x, y, debiased), abs=2e-6)


def test_maps_of_activations_are_flattened(features):
    maps = features[1].reshape(60, 5, 2, 2)
    assert cka(maps, features[0]) == cka(features[1], features[0])


def test_streaming_holds_no_examples():
    """40,000 examples of 2 x 32 features are 20 MB; one batch and the moments are a fifth of 1 MB."""
    rng = np.random.default_rng(2)
    mix = rng.normal(size=(32, 32))
    tracemalloc.start()
    found = streaming_cka((x, x @ mix) for x in (rng.normal(size=(200, 32)) for _ in range(200)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # x is isotropic, so that CKA is |mix|_F^2 / sqrt(32 |mix' mix|_F^2) but for the noise of 40,000 examples.
    assert found[0, 1] == pytest.approx((mix**2).sum() / np.sqrt(32) / np.linalg.norm(mix.T @ mix), abs=0.005)
    assert peak < 1e6


def test_streaming_in_the_order_of_the_classes():
    """The first batch lies far from all others."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(90, 4)) + np.repeat([1000.0, 0, -3], 30)[:, None]
    y = x @ rng.normal(size=(4, 6)) + rng.normal(size=(90, 6))
    expected = by_definition(x - x.mean(axis=0), y - y.mean(axis=0), hsic_1)
    assert streaming_cka(batches_of(30, x, y))[0, 1] == pytest.approx(expected, abs=1e-10)


CONSTANT = {
    "one value": np.full((60, 5), 0.1),
    "a large value": np.full((60, 5), 1e8 + 0.1),
    "zero": np.zeros((60, 5)),
    "rounding": 0.1 + np.random.default_rng(4).integers(-1, 2, size=(60, 5)) * np.spacing(0.1),
    "rounding in single precision": (1 + np.random.default_rng(4).integers(-1, 2, size=(60, 5)) * 1e-7).astype("f4"),
    "wider than long": np.full((60, 80), 0.3),
    "not a number": np.full((60, 5), np.nan),
    "infinite": np.full((60, 5), np.inf),
    "infinite once": np.where(np.arange(300).reshape(60, 5) == 7, np.inf, np.random.default_rng(4).random((60, 5))),
}


@pytest.mark.parametrize("debiased", [True, False])
@pytest.mark.parametrize("name", CONSTANT)
def test_what_is_not_defined_is_nan_and_spoils_nothing_else(features, name, debiased):
    x, y = features[:2]
    flat = CONSTANT[name]
    defined = cka(x, y, debiased)
    assert np.isnan(cka(x, flat, debiased)) and np.isnan(cka(flat, flat, debiased))
    for found in (
        cka_matrix([gram_vector(a) for a in (x, flat, y)], debiased),
        streaming_cka(batches_of(20, x, flat, y), debiased),
    ):
        assert np.isnan(found[1]).all() and np.isnan(found[:, 1]).all()
        np.testing.assert_allclose(found[::2, ::2], [[1, defined], [defined, 1]], atol=2e-6)


def test_a_small_spread_beside_a_level_is_defined():
    """A thousandth of the level is no rounding, even in single precision."""
    x = np.random.default_rng(5).normal(size=(50, 3))
    assert cka((1 + 1e-3 * x).astype(np.float32), x) == pytest.approx(1, abs=1e-4)


def made_models():
    """Losses a and b, seeds 0 and 1, layers first and last: CKA as numbers that tell every pair apart."""
    models = pd.DataFrame(
        [(loss, seed, layer) for loss in "ab" for seed in (0, 1) for layer in ("first", "last")],
        columns=["loss", "seed", "layer"],
    )
    numbers = np.array([2.0**k for k in range(8)])  # a0f a0l a1f a1l b0f b0l b1f b1l
    return models, numbers[:, None] + numbers


def test_averages_are_over_pairs_of_different_seeds():
    models, similarity = made_models()
    averages = seed_averages(similarity, models)
    # a-first is 1 (seed 0) and 4 (seed 1); a-last 2 and 8; b-first 16 and 64; b-last 32 and 128.
    assert averages.loc["a"]["a"].to_numpy().tolist() == [[5, (9 + 6) / 2], [(6 + 9) / 2, 10]]
    assert averages.loc["a"]["b"].to_numpy().tolist() == [[(65 + 20) / 2, (129 + 36) / 2], [(66 + 24) / 2, 85]]
    within = seed_averages(similarity, models, same_seed=True)
    assert within.loc["a"]["b"].to_numpy().tolist() == [[(17 + 68) / 2, (33 + 132) / 2], [(18 + 72) / 2, 85]]
    assert list(averages.loc["a"]["b"].index) == ["first", "last"]


def test_losses_beside_the_ceiling_of_their_seeds():
    models, similarity = made_models()
    similarity[0, 6] = similarity[6, 0] = np.nan  # a, seed 0, with b, seed 1, in the first layer: left out
    table = loss_similarity(similarity, models)
    assert list(table.columns) == ["layer", "loss_a", "loss_b", "cka", "ceiling", "same_seed"]
    assert [tuple(row) for row in table[["layer", "loss_a", "loss_b"]].to_numpy()] == [
        ("first", "a", "a"), ("first", "a", "b"), ("first", "b", "b"),
        ("last", "a", "a"), ("last", "a", "b"), ("last", "b", "b"),
    ]  # fmt: skip
    assert table["cka"].tolist() == [5, 20, 80, 10, 85, 160]
    np.testing.assert_allclose(table["ceiling"], [5, 20, 80, 10, 40, 160])
    np.testing.assert_array_equal(table["same_seed"], [np.nan, 42.5, np.nan, np.nan, 85, np.nan])


def test_losses_with_one_seed_or_a_layer_of_their_own():
    models, similarity = made_models()
    kept = [0, 1, 3, 4]  # a: seed 0 both layers, seed 1 last; b: seed 0 first
    table = loss_similarity(similarity[np.ix_(kept, kept)], models.iloc[kept])
    assert table[["layer", "loss_a", "loss_b"]].to_numpy().tolist() == [
        ["first", "a", "a"], ["first", "a", "b"], ["first", "b", "b"], ["last", "a", "a"],
    ]  # fmt: skip
    np.testing.assert_array_equal(table["cka"], [np.nan, np.nan, np.nan, 10])
    np.testing.assert_array_equal(table["ceiling"], [np.nan, np.nan, np.nan, 10])
    np.testing.assert_array_equal(table["same_seed"], [np.nan, 17, np.nan, np.nan])


def test_networks_of_one_loss_are_more_alike_than_those_of_two():
    """Seeds as rotations with noise of one representation per loss: between losses lies below the ceiling."""
    rng = np.random.default_rng(6)
    shared, models, grams = rng.normal(size=(64, 8)), [], []
    for loss in ("a", "b"):
        own = shared + rng.normal(size=(64, 8))
        for seed in range(4):
            turned = own @ np.linalg.qr(rng.normal(size=(8, 8)))[0]
            models.append((loss, seed, "last"))
            grams.append(gram_vector(turned + 0.3 * rng.normal(size=turned.shape)))
    table = loss_similarity(cka_matrix(np.array(grams)), pd.DataFrame(models, columns=["loss", "seed", "layer"]))
    between = table[table["loss_a"] != table["loss_b"]].iloc[0]
    assert 0.1 < between["cka"] < 0.6 < 0.8 < between["ceiling"] < 1


BAD = {
    "debiased CKA needs 4": lambda x: cka(x[:3], x[:3]),
    "CKA needs 2": lambda x: cka(x[:1], x[:1], debiased=False),
    "same examples, in the same order; found 59 and 60": lambda x: cka(x, x[1:]),
    "not float64 of shape (60,)": lambda x: cka(x[:, 0], x),
    "not object of shape": lambda x: cka(x.astype(object), x),
    "of shape (0, 7)": lambda x: gram_vector(x[:0]),
    "5 numbers are no upper triangle": lambda x: cka_matrix(np.ones((2, 5))),
    "upper triangles as vectors": lambda x: cka_matrix([np.ones(6), np.ones(10)]),
    "grams: have to be": lambda x: cka_matrix([]),
    "debiased CKA needs 4 examples, not 3": lambda x: cka_matrix(np.ones((2, 6))),
    "there is no batch": lambda x: streaming_cka([]),
    "found 30 and 60": lambda x: streaming_cka([(x, x[:30])]),
    "as wide as before": lambda x: streaming_cka([(x, x), (x, x[:, :3])]),
    "CKA needs 4 examples, not 3": lambda x: streaming_cka([(x[:2], x[:2]), (x[:1], x[:1])]),
    "found none": lambda x: streaming_cka([[]]),
    "columns loss, seed and layer": lambda x: seed_averages(np.eye(1), pd.DataFrame({"loss": ["a"], "seed": [0]})),
    "similarity: is (1, 1), but there are 8 models": lambda x: loss_similarity(np.eye(1), made_models()[0]),
    "twice the same loss, seed and layer, in row 1": lambda x: loss_similarity(
        np.eye(2), pd.DataFrame({"loss": ["a", "a"], "seed": [0, 0], "layer": ["l", "l"]})
    ),
}


@pytest.mark.parametrize("said", BAD)
def test_bad_input_is_one_line(features, said):
    with pytest.raises(InputError) as refused:
        BAD[said](features[0])
    assert said in str(refused.value) and "\n" not in str(refused.value)
