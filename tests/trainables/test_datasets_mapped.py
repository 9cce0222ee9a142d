"""Memory-mapped arrays: small ones are an npz file's, large ones are read as they are used."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from losstune.spaces.errors import InputError
from losstune.trainables.datasets import OnDisk, load_dataset, locate

DATASET = "losstune.trainables.datasets.dataset"
RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (12, 3, 6, 5), np.uint8)
VECTORS = RNG.normal(size=(12, 4))


def arrays(x: np.ndarray = VECTORS, **changes) -> dict[str, np.ndarray]:
    return {"x_train": x, "y_train": np.arange(12) % 3, "x_test": x[6:], "y_test": np.arange(6) % 3} | changes


def saved(folder: Path, given: dict[str, np.ndarray]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, array in given.items():
        np.save(folder / f"{name}.npy", array)
    return folder


def load(folder: Path):
    return load_dataset(f"npy:{folder.name}", None, folder.parent)


@pytest.fixture
def large(monkeypatch):
    """As if nothing fitted in memory."""
    monkeypatch.setattr(f"{DATASET}.IN_MEMORY", 0)


@pytest.mark.parametrize("x", [VECTORS, PIXELS, PIXELS / np.float32(255), PIXELS[:, 0] > 100])
def test_small_ones_are_what_an_npz_file_with_them_is(tmp_path, x):
    data = load(saved(tmp_path / "small", arrays(x)))
    np.savez(tmp_path / "small.npz", **arrays(x))
    expected = load_dataset("npz:small.npz", None, tmp_path)
    assert isinstance(data.train.x, np.ndarray) and not isinstance(data.train.x, np.memmap)
    assert data.digest() == expected.digest() and data.class_names == expected.class_names


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        (PIXELS, PIXELS),
        (PIXELS.transpose(0, 2, 3, 1).copy(), PIXELS),
        (np.asfortranarray(PIXELS), PIXELS),
        (PIXELS[:, 0], PIXELS[:, :1]),
        (PIXELS[:, 0] > 100, (PIXELS[:, :1] > 100).astype(np.uint8)),
        (VECTORS, VECTORS.astype(np.float32)),
        (np.arange(48).reshape(12, 4), np.arange(48, dtype=np.float32).reshape(12, 4)),
    ],
    ids=["NCHW", "NHWC", "Fortran", "NHW", "bool", "float64", "int64"],
)
def test_large_ones_are_read_as_they_are_used(tmp_path, large, x, expected):
    names = np.array(["emu", "cat", "dog"])[np.arange(12) % 3]
    data = load(saved(tmp_path / "large", arrays(x, y_train=names, y_test=names[:6])))
    assert data.class_names == ("cat", "dog", "emu") and data.train.y[:3].tolist() == [2, 0, 1]
    assert isinstance(data.train.x, OnDisk) and data.input_shape == expected.shape[1:]
    assert data.train.x.dtype == expected.dtype and data.train.x.shape == expected.shape
    read = data.train.x.read(np.array([7, 0, 7]))
    assert read.flags.c_contiguous and read.flags.writeable and np.array_equal(read, expected[[7, 0, 7]])
    part = pickle.loads(pickle.dumps(data.train.take(np.array([9, 2, 4]))))
    assert np.array_equal(part.x.read(np.array([2, 0])), expected[[4, 9]]) and part.y.tolist() == [2, 1, 0]
    assert np.array_equal(part.joined(data.train).x.read(np.array([0, 3])), expected[[9, 0]])


def test_pickling_costs_the_path_and_the_index(tmp_path, large):
    data = load(saved(tmp_path / "large", arrays(np.zeros((12, 3, 200, 200), np.uint8))))
    data.train.x.read(np.arange(12))
    assert len(pickle.dumps(data.train)) < 2_000


def test_the_digest_reads_every_kth_part_of_more_than_it_can_read_whole(tmp_path, large, monkeypatch):
    x = np.zeros((12, 1, 1024, 512), np.uint8)
    first = load(saved(tmp_path / "a", arrays(x))).digest()
    assert load(saved(tmp_path / "b", arrays(x))).digest() == first
    for example, sampled in ((4, True), (2, False)):
        changed = x.copy()
        changed[example, 0, 5, 5] = 1
        folder = saved(tmp_path / "b", arrays(changed, x_test=x[6:]))
        with monkeypatch.context() as patch:
            assert load(folder).digest() != first
            patch.setattr(f"{DATASET}.HASHED", x.nbytes // 2)
            changed_digest = load(folder).digest()
            assert (changed_digest != load(tmp_path / "a").digest()) == sampled


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (arrays(y_train=np.arange(11) % 3), "x_train has 12 examples, y_train has 11; allowed: as many labels"),
        (arrays(y_test=np.arange(6)), "y_test: label 3 does not occur in y_train; allowed: 0..2"),
        (arrays(y_train=np.arange(12) % 3 + 1), "y_train: class 0 has no example"),
        (arrays(y_train=np.arange(12) / 3), "y_train: holds float64; allowed: whole numbers"),
        (arrays(x_test=VECTORS[6:, :3]), r"an example of x_train has shape \(4,\), of x_test \(3,\)"),
        (arrays(x_test=PIXELS[6:]), r"an example of x_train has shape \(4,\), of x_test \(3, 6, 5\)"),
        (arrays(VECTORS.astype("U5")), "x_train: holds <U5; allowed: numbers"),
        (arrays(VECTORS[:, 0]), r"x_train: has shape \(12,\); allowed: \(N, D\)"),
        (arrays(x_test=VECTORS[:0], y_test=np.arange(0)), r"x_test: is empty"),
        (arrays(np.zeros((12, 8, 8, 4), np.uint8)), r"x_train: has shape \(12, 8, 8, 4\); allowed: \(N, H, W\)"),
    ],
)
@pytest.mark.parametrize("held", [True, False])
def test_bad_arrays(tmp_path, monkeypatch, given, message, held):
    monkeypatch.setattr(f"{DATASET}.IN_MEMORY", 10**9 if held else 0)
    with pytest.raises(InputError, match=message) as error:
        load(saved(tmp_path / "bad", given))
    assert str(error.value).startswith("data: npy:bad: ") and "\n" not in str(error.value)


def test_what_large_arrays_cannot_be(tmp_path, large):
    with pytest.raises(InputError, match="x_train: holds images of float64 and is too large .*allowed: uint8"):
        load(saved(tmp_path / "large", arrays(PIXELS / 255)))
    for bad in (np.nan, np.inf, 1e300):
        x = VECTORS.copy()
        x[5, 2] = bad
        part = load(saved(tmp_path / "large", arrays(x))).train.take(np.array([1, 5, 7]))
        assert np.isfinite(part.x.read(np.array([0, 2]))).all()
        with pytest.raises(InputError, match=r"x_train: holds NaN, infinity or .* \(in example 5\); allowed: finite"):
            part.x.read(np.array([0, 1]))
    (tmp_path / "large" / "x_train.npy").unlink()
    with pytest.raises(InputError, match="x_train.npy cannot be read: .*; allowed: a file that every node"):
        pickle.loads(pickle.dumps(part)).x.read(np.array([0]))


def test_bad_files(tmp_path):
    with pytest.raises(InputError, match="data: npy:no: there is no folder no; allowed: "):
        locate("npy:no", None, tmp_path)
    saved(tmp_path / "part", {"x_train": VECTORS})
    with pytest.raises(InputError, match="there is no file y_train.npy, x_test.npy, y_test.npy in part; found: x_"):
        locate("npy:part", None, tmp_path)
    folder = saved(tmp_path / "bad", arrays())
    (folder / "y_train.npy").write_bytes(b"no array")
    with pytest.raises(InputError, match="y_train: y_train.npy cannot be read: .*; allowed: an array as numpy.save"):
        load(folder)
    np.save(folder / "y_train.npy", np.array(["a", "b", None] * 4, dtype=object))
    with pytest.raises(InputError, match="y_train: y_train.npy cannot be read: .*; allowed: an array"):
        load(folder)
