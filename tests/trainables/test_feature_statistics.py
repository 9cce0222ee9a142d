"""Statistics of features from two passes over batches, and their file."""

import io
import subprocess
import sys
import weakref
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid

from losstune.spaces import InputError
from losstune.trainables.feature_statistics import feature_statistics, read, write

pytestmark = pytest.mark.filterwarnings("error")


def drawn(n=60, classes=4, width=6, seed=0):
    """Features (n, d) with a class mean each, their classes, and a final layer."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, n)
    x = rng.normal(size=(n, width)) + 1.5 * rng.normal(size=(classes, width))[y] + 1
    return x, y, rng.normal(size=(classes, width)), rng.normal(size=classes)


def in_batches(x, y, size=16):
    x, y = torch.as_tensor(x), torch.as_tensor(y)
    return lambda: zip(x.split(size), y.split(size), strict=True)


def recorded(x, y, weight=None, bias=None, classes=4, size=16, **more):
    weight, bias = (None if a is None else torch.as_tensor(a) for a in (weight, bias))
    return feature_statistics(in_batches(x, y, size), classes, weight, bias, **more)


def assert_close(found, expected, rtol=1e-12, atol=1e-12):
    for name, value in vars(expected).items():
        np.testing.assert_allclose(getattr(found, name), value, rtol, atol, err_msg=name)


def test_means_and_scatter_are_those_of_the_definitions():
    x, y, weight, bias = drawn()
    found = recorded(x, y, weight, bias)
    means = np.array([x[y == k].mean(axis=0) for k in range(4)])
    np.testing.assert_array_equal(found.counts, [(y == k).sum() for k in range(4)])
    np.testing.assert_allclose(found.mean, x.mean(axis=0), atol=1e-13)
    np.testing.assert_allclose(found.class_means, means, atol=1e-13)
    scatter = sum(np.outer(a, a) for a in x - means[y]) / len(x)
    np.testing.assert_allclose(found.within_scatter, scatter[np.triu_indices(6)], atol=1e-13)
    np.testing.assert_allclose(found.within_squares @ found.counts / len(x), np.trace(scatter), atol=1e-12)
    np.testing.assert_array_equal(found.weight, weight)


@pytest.mark.parametrize("size", [1, 7, 60])
def test_batches_of_any_size_give_the_same(size):
    x, y, weight, bias = drawn()
    assert_close(recorded(x, y, weight, bias, size=size), recorded(x, y, weight, bias))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_low_precision_is_summed_in_double(dtype):
    x, y, weight, bias = drawn()
    x, weight = torch.as_tensor(x).to(dtype), torch.as_tensor(weight).to(dtype)
    assert_close(recorded(x, y.astype(np.int32), weight, bias), recorded(x.double(), y, weight.double(), bias))


def test_what_varies_little_around_a_large_mean_is_not_lost():
    """A second moment minus the square of a mean of 1e6 would have lost 12 of 16 digits."""
    x, y, *_ = drawn()
    near, far = recorded(x, y), recorded(x + 1e6, y)
    for name in ("class_offsets", "within_squares", "within_scatter", "centered_singular_values", "nearest_right"):
        np.testing.assert_allclose(getattr(far, name), getattr(near, name), rtol=1e-7, atol=1e-8, err_msg=name)
    np.testing.assert_allclose(far.unit_squares[1], near.unit_squares[1], rtol=1e-7)


def test_batches_are_let_go():
    """No more than the batch at hand and the one before it is alive at a time."""
    x, y, weight, bias = (torch.as_tensor(a) for a in drawn())
    alive, most = [], []

    def batches():
        for start in range(0, 60, 5):
            features = x[start : start + 5].clone()
            alive.append(weakref.ref(features))
            most.append(sum(reference() is not None for reference in alive))
            yield features, y[start : start + 5]
            del features

    feature_statistics(batches, 4, weight, bias)
    assert len(most) == 24 and max(most) <= 2


def test_the_nearest_center_is_scikit_learns():
    x, y, weight, bias = drawn(200)
    model = NearestCentroid().fit(x, y)
    found = recorded(x, y, weight, bias)
    said = model.predict(x)
    np.testing.assert_array_equal(found.nearest_right, [(said[y == k] == k).sum() for k in range(4)])
    agrees = said == (x @ weight.T + bias).argmax(axis=1)
    np.testing.assert_array_equal(found.nearest_agrees, [agrees[y == k].sum() for k in range(4)])
    assert 0 < agrees.sum() < 200 and found.nearest_right.sum() < 200


def test_centers_of_another_split():
    """A class that has no center is nearest to nothing."""
    x, y, *_ = drawn(200)
    centers = torch.as_tensor(np.random.default_rng(1).normal(size=(4, 6)))
    centers[2] = torch.nan
    model = KNeighborsClassifier(1).fit(centers[[0, 1, 3]].numpy(), [0, 1, 3])
    said = model.predict(x)
    found = recorded(x, y, centers=centers)
    np.testing.assert_array_equal(found.nearest_right, [(said[y == k] == k).sum() for k in range(4)])


def test_of_equally_near_centers_the_first_wins():
    """Also where rounding has made the distances differ in their last digits."""
    x = np.full((6, 3), 0.1)
    found = recorded(x, np.array([0, 1, 1, 2, 2, 2]), np.eye(4, 3))
    np.testing.assert_array_equal(found.nearest_right, [1, 0, 0, 0])
    np.testing.assert_array_equal(found.nearest_agrees, [1, 2, 3, 0])
    np.testing.assert_array_equal(found.within_scatter, np.zeros(6))
    x = np.random.default_rng(2).normal(size=(50, 1)) * np.ones(3)
    centers = torch.tensor([[0.1, 0.7, 0.3], [0.3, 0.1, 0.7], [0.7, 0.3, 0.1], [9.0, 9, 9]]).double()
    assert recorded(x, np.zeros(50, int), centers=centers).nearest_right[0] == 50


def test_features_along_a_weight_have_an_angle():
    """Of 0, or nearly, where rounding makes a cosine more than 1."""
    weight = np.random.default_rng(3).normal(size=(4, 6))
    found = recorded(np.repeat(weight, 5, axis=0) * np.arange(1, 21)[:, None], np.repeat(np.arange(4), 5), weight)
    np.testing.assert_array_equal(found.hardness_rows, [5, 5, 5, 5])
    np.testing.assert_allclose(found.hardness, 0, atol=1e-7)


def test_a_class_without_examples_is_nan():
    x, y, weight, bias = drawn()
    found = recorded(x[y != 1], y[y != 1], weight, bias)
    for by_class in (found.class_offsets.T, found.within_squares, found.unit_squares, found.hardness):
        assert np.isnan(by_class[..., 1]).all() and not np.isnan(by_class[..., [0, 2, 3]]).any()
    assert found.counts[1] == found.nearest_right[1] == found.hardness_rows[1] == 0
    assert np.isfinite(found.singular_values).all() and np.isfinite(found.unit_balanced).all()


FEATURES, TARGETS = torch.ones(4, 3), torch.tensor([0, 1, 2, 3])


@pytest.mark.parametrize(
    ("x", "y", "more", "said"),
    [
        (FEATURES / 0, TARGETS, {}, "finite"),
        (FEATURES * torch.nan, TARGETS, {}, "finite"),
        (FEATURES.double() * 1e200, TARGETS, {}, "too large"),
        (FEATURES, TARGETS + 1, {}, r"\[0, 4\)"),
        (FEATURES, TARGETS - 1, {}, r"\[0, 4\)"),
        (FEATURES, TARGETS[:, None], {}, r"\(4, 1\)"),
        (FEATURES[:, :, None], TARGETS, {}, r"\(4, 3, 1\)"),
        (FEATURES[:0], TARGETS[:0], {}, "no examples"),
        (FEATURES, TARGETS, {"weight": torch.ones(4, 2)}, r"weight: shape \(4, 2\); allowed: \(4, 3\)"),
        (FEATURES, TARGETS, {"weight": torch.ones(4, 3), "bias": torch.ones(3)}, r"bias: .*\(4,\)"),
        (FEATURES, TARGETS, {"weight": torch.ones(4, 3) / 0}, "weight and bias"),
        (FEATURES, TARGETS, {"centers": torch.ones(3, 3)}, r"centers: .*\(4, 3\)"),
        (FEATURES, TARGETS, {"centers": torch.ones(4, 3) / 0}, "centers"),
    ],
)
def test_bad_input_is_said_in_a_line(x, y, more, said):
    with pytest.raises(InputError, match=said) as error:
        recorded(x, y, **more)
    assert "\n" not in str(error.value)


def test_batches_that_cannot_be_had_twice():
    for second in ([], [(FEATURES, TARGETS.flip(0) // 2)], [(FEATURES[:, :2], TARGETS)]):
        passes = iter([[(FEATURES, TARGETS)], second])
        with pytest.raises(InputError, match="the second time"):
            feature_statistics(lambda given=passes: next(given), 4, None, None)
    with pytest.raises(InputError, match="there are no examples"):
        feature_statistics(lambda: [], 4, None, None)
    with pytest.raises(InputError, match="shape"):
        feature_statistics(lambda: [(FEATURES, TARGETS), (FEATURES[:, :2], TARGETS)], 4, None, None)


@pytest.fixture
def statistics():
    x, y, weight, bias = drawn()
    return {"train": recorded(x, y, weight, bias), "test": recorded(x[y != 1][:20] + 1, y[y != 1][:20], weight, bias)}


def test_the_file_gives_back_what_was_written(tmp_path, statistics):
    digest = write(tmp_path / "a.npz", statistics)
    found = read(tmp_path / "a.npz")
    assert list(found) == ["train", "test"]
    for split, expected in statistics.items():
        for name, value in vars(expected).items():
            tolerance = 6e-8 if name in ("class_offsets", "within_scatter", "weight") else 0
            largest = np.nanmax(np.abs(value))
            np.testing.assert_allclose(getattr(found[split], name), value, 0, tolerance * largest, err_msg=name)
            assert getattr(found[split], name).dtype == value.dtype
    assert write(tmp_path / "b.npz", statistics) == digest


def test_the_file_holds_a_triangle_and_one_weight_in_float32(tmp_path):
    x, y, weight, bias = drawn(400, width=200)
    found = recorded(x, y, weight, bias)
    write(tmp_path / "a.npz", {"train": found, "test": found})
    triangle, table, spectra = 4 * 200 * 201 // 2, 4 * 4 * 200, 2 * 8 * 200
    assert (tmp_path / "a.npz").stat().st_size < 2 * (triangle + table + spectra + 8 * 200) + table + 15_000


def test_without_a_linear_layer(tmp_path, statistics):
    x, y, *_ = drawn()
    found = recorded(x, y)
    write(tmp_path / "a.npz", {"train": found})
    again = read(tmp_path / "a.npz")["train"]
    assert again.weight is again.nearest_agrees is again.hardness is again.hardness_rows is None
    with pytest.raises(ValueError, match="different final layers"):
        write(tmp_path / "a.npz", {**statistics, "train": found})


@pytest.mark.parametrize("factor", [1e-30, 1e30])
def test_squares_beyond_float32_are_kept(tmp_path, factor):
    x, y, *_ = drawn()
    write(tmp_path / "a.npz", {"train": recorded(x * factor, y)})
    found, plain = read(tmp_path / "a.npz")["train"], recorded(x, y)
    np.testing.assert_allclose(found.within_scatter / factor**2, plain.within_scatter, atol=1e-6)
    np.testing.assert_allclose(found.unit_squares, plain.unit_squares, rtol=1e-12)


def arrays_in(path):
    with np.load(path) as file:
        return dict(file)


@pytest.mark.parametrize(
    "change",
    [
        lambda arrays: arrays.pop("train/counts"),
        lambda arrays: arrays.pop("weight_scale"),
        lambda arrays: arrays.update({"train/other": np.zeros(3)}),
        lambda arrays: arrays.update({"train/mean": np.zeros(5)}),
        lambda arrays: arrays.update({"train/mean": np.zeros(6, int)}),
        lambda arrays: arrays.update({"train/counts": np.zeros(4)}),
        lambda arrays: arrays.update({"train/class_offsets": np.zeros((4, 6))}),
    ],
    ids=["no counts", "no scale", "more", "shape", "kind", "not whole", "double"],
)
def test_arrays_that_are_not_statistics(tmp_path, statistics, change):
    write(tmp_path / "a.npz", statistics)
    arrays = arrays_in(tmp_path / "a.npz")
    change(arrays)
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(InputError, match="not a member's feature statistics") as error:
        read(tmp_path / "a.npz")
    assert "\n" not in str(error.value)


class Trap:
    """What touches a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_nothing_is_unpickled(tmp_path, statistics):
    write(tmp_path / "a.npz", statistics)
    trapped = arrays_in(tmp_path / "a.npz") | {"train/counts": np.array([Trap(tmp_path / "touched")] * 4)}
    np.savez(tmp_path / "a.npz", **trapped)
    with pytest.raises(InputError, match="allow_pickle"):
        read(tmp_path / "a.npz")
    assert not (tmp_path / "touched").exists()


def test_damage_is_noticed(tmp_path, statistics):
    path = tmp_path / "a.npz"
    with pytest.raises(InputError, match="No such file"):
        read(path)
    write(path, statistics)
    whole = path.read_bytes()
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        start = archive.getinfo("train/within_scatter.npy").header_offset
    flipped = bytearray(whole)
    flipped[start + 250] ^= 1  # within the array's values
    for content in (b"", b"not an archive", whole[:-30], whole[: len(whole) // 2], bytes(flipped)):
        path.write_bytes(content)
        with pytest.raises(InputError, match="not a member's feature statistics"):
            read(path)


def test_reading_and_measuring_need_no_torch():
    """So that a report starts at once."""
    code = ("import sys, losstune.analysis.collapse, losstune.analysis.spectra, losstune.analysis.separation; "
            "sys.exit('torch' in sys.modules)")  # fmt: skip
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
