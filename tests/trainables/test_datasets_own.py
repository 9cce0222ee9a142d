"""One's own data: arrays in an npz file or from a function, and every way they can be wrong."""

from pathlib import Path

import numpy as np
import pytest

from losstune.spaces.errors import InputError
from losstune.trainables.datasets import load_dataset, locate

RNG = np.random.default_rng(0)


def vectors(**changes) -> dict[str, np.ndarray]:
    arrays = {
        "x_train": RNG.normal(size=(12, 4)),
        "y_train": np.arange(12) % 3,
        "x_test": RNG.normal(size=(6, 4)),
        "y_test": np.arange(6) % 3,
    }
    return {name: array for name, array in (arrays | changes).items() if array is not None}


def images(x_train: np.ndarray, x_test: np.ndarray | None = None) -> dict[str, np.ndarray]:
    x_test = x_train[:6] if x_test is None else x_test
    return vectors(x_train=x_train, x_test=x_test)


def load(tmp_path: Path, arrays: dict[str, np.ndarray]):
    np.savez(tmp_path / "my.npz", **arrays)
    return load_dataset("npz:my.npz", None, tmp_path)


# --- npz ---


def test_feature_vectors(tmp_path):
    arrays = vectors(x_train=np.arange(48).reshape(12, 4), x_test=np.ones((6, 4), bool))
    data = load(tmp_path, arrays)
    assert data.train.x.dtype == data.test.x.dtype == np.float32 and data.input_shape == (4,)
    assert (data.train.x == arrays["x_train"]).all() and data.train.y.dtype == np.int64
    assert data.num_classes == 3 and data.class_names == ("0", "1", "2") and data.name == "npz:my.npz"


def test_paths_start_at_the_studys_folder_then_here(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    np.savez(tmp_path / "here" / "a.npz", **vectors())
    assert locate("npz:a.npz", None, tmp_path) == (tmp_path / "here" / "a.npz").resolve()
    np.savez(tmp_path / "a.npz", **vectors())
    assert locate("npz:a.npz", None, tmp_path) == (tmp_path / "a.npz").resolve()
    assert locate(f"npz:{tmp_path / 'a.npz'}", None, Path("/")) == (tmp_path / "a.npz").resolve()


@pytest.mark.parametrize("kind", [str, "S", object])
def test_names_as_labels(tmp_path, kind):
    names = np.array(["dog", "cat", "emu"])
    arrays = vectors(y_train=names[np.arange(12) % 3].astype(kind), y_test=names[np.arange(6) % 3].astype(kind))
    if kind is object:
        with pytest.raises(InputError, match="data: npz:my.npz: cannot be read: .*pickle"):
            load(tmp_path, arrays)
        return
    data = load(tmp_path, arrays)
    assert data.class_names == ("cat", "dog", "emu") and data.train.y[:3].tolist() == [1, 0, 2]


def test_labels_in_a_column_and_unsigned(tmp_path):
    data = load(tmp_path, vectors(y_train=(np.arange(12)[:, None] % 3).astype(np.uint8)))
    assert data.train.y.shape == (12,) and data.train.y.dtype == np.int64


PIXELS = RNG.integers(0, 256, size=(12, 3, 6, 5)).astype(np.uint8)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (PIXELS, PIXELS),
        (PIXELS.transpose(0, 2, 3, 1), PIXELS),
        (PIXELS[:, 0], PIXELS[:, :1]),
        (PIXELS[:, 0, :, :, None], PIXELS[:, :1]),
        (np.concatenate([PIXELS, PIXELS[:, :1]], 1), np.concatenate([PIXELS, PIXELS[:, :1]], 1)),
        (PIXELS.astype(np.int64), PIXELS),
        (PIXELS.astype(np.float64), PIXELS),
        (PIXELS / np.float32(255), PIXELS),
        (np.clip(PIXELS + 0.25, 0, 255), PIXELS),
        (PIXELS // 16, PIXELS // 16),
        (PIXELS > 127, (PIXELS > 127).astype(np.uint8)),
        ((PIXELS > 127).astype(float), (PIXELS > 127).astype(np.uint8)),
    ],
    ids=["NCHW", "NHWC", "NHW", "NHW1", "4 channels", "int64", "float", "0..1", "fractions", "0..15", "bool", "0/1"],
)
def test_images_become_uint8_channels_first(tmp_path, given, expected):
    data = load(tmp_path, images(given))
    assert data.train.x.dtype == np.uint8 and data.train.x.flags.c_contiguous
    assert data.input_shape == expected.shape[1:] and (data.train.x == expected).all()


HALF = np.full((12, 6, 6), 0.5)
NAN = np.where(np.arange(48).reshape(12, 4) == 13, np.nan, 1.0)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (vectors(y_test=None), "there is no array y_test; found: x_train, y_train, x_test; allowed: x_train, y_train"),
        (vectors(y_train=np.arange(11) % 3), "x_train has 12 examples, y_train has 11; allowed: as many labels"),
        (vectors(x_train=NAN), r"x_train: holds NaN or infinity \(first in example 3\); allowed: finite numbers"),
        (vectors(x_test=np.full((6, 4), np.inf)), "x_test: holds NaN or infinity"),
        (images(np.where(HALF > 1, 0.5, np.nan)), "x_train: holds NaN or infinity"),
        (vectors(x_train=np.full((12, 4), 1e300)), "x_train: holds values beyond float32"),
        (vectors(x_train=np.array([["a"] * 4] * 12)), "x_train: holds <U1; allowed: numbers"),
        (vectors(x_train=np.zeros(12)), r"x_train: has shape \(12,\); allowed: \(N, D\)"),
        (vectors(x_train=np.zeros((0, 4)), y_train=np.zeros(0, int)), "x_train: is empty"),
        (vectors(x_test=np.zeros((6, 5))), r"an example of x_train has shape \(4,\), of x_test \(5,\)"),
        (vectors(y_train=np.arange(12) / 4), "y_train: holds float64; allowed: whole numbers 0..K-1, or names"),
        (vectors(y_train=np.eye(12)[:, :3]), r"y_train: has shape \(12, 3\); allowed: \(N,\), one class per example"),
        (vectors(y_train=np.arange(12) % 3 - 1), "y_train: label -1 is negative; allowed: 0..K-1"),
        (vectors(y_train=np.arange(12) % 3 * 2), "y_train: class 1 has no example, though labels go up to 4"),
        (vectors(y_train=np.arange(12) % 3 + 1), "y_train: class 0 has no example, though labels go up to 3"),
        (vectors(y_test=np.arange(6)), "y_test: label 3 does not occur in y_train; allowed: 0..2"),
        (vectors(y_test=np.arange(6) - 1), "y_test: label -1 does not occur in y_train"),
        (vectors(y_train=np.zeros(12, int), y_test=np.zeros(6, int)), r"y_train holds one class \(0\); allowed: at"),
        (vectors(y_test=np.array(list("abcabc"))), "y_train holds int64, y_test <U1; allowed: both whole numbers"),
        (vectors(y_train=np.array(list("ab") * 6), y_test=np.array(list("abcabc"))), "label c does .*allowed: a, b$"),
        (images(np.zeros((12, 8, 8, 4), np.uint8)), r"x_train: has shape \(12, 8, 8, 4\); allowed: \(N, H, W\)"),
        (images(HALF - 1), "images hold values from -0.5 to -0.5; allowed: 0 to 255, or 0 to 1"),
        (images(HALF * 600), "images hold values from 300 to 300"),
        (images(HALF * 5), "images hold fractions from 2.5 to 2.5, too coarse"),
        (images(HALF * 400, HALF[:6]), "x_train goes up to 200, x_test up to 0.5; allowed: the same range"),
    ],
)  # fmt: skip
def test_bad_arrays(tmp_path, arrays, message):
    with pytest.raises(InputError, match=message) as error:
        load(tmp_path, arrays)
    assert str(error.value).startswith("data: npz:my.npz: ") and "\n" not in str(error.value)


def test_bad_files(tmp_path):
    with pytest.raises(InputError, match="data: npz:no.npz: there is no file no.npz; allowed: a path relative to the"):
        locate("npz:no.npz", None, tmp_path)
    (tmp_path / "text.npz").write_text("no archive")
    with pytest.raises(InputError, match="text.npz is not an npz file"):
        locate("npz:text.npz", None, tmp_path)
    np.savez(tmp_path / "part.npz", **vectors(x_test=None, y_test=None))
    with pytest.raises(InputError, match="there is no array x_test, y_test; found: x_train, y_train"):
        locate("npz:part.npz", None, tmp_path)
    np.savez(tmp_path / "damaged.npz", **vectors())
    damaged = bytearray((tmp_path / "damaged.npz").read_bytes())
    damaged[150] ^= 255
    (tmp_path / "damaged.npz").write_bytes(damaged)
    with pytest.raises(InputError, match="data: npz:damaged.npz: cannot be read: "):
        load_dataset("npz:damaged.npz", None, tmp_path)


# --- the user's function ---

RETURNS = """
import numpy as np
def load():
    x, y = np.arange(24.0).reshape(6, 4), np.arange(6) % 2
    return {}
"""


@pytest.mark.parametrize("result", ["dict(x_train=x, y_train=y, x_test=x, y_test=y)", "(x, y, x, y)"])
def test_the_users_function(tmp_path, result):
    (tmp_path / "my_data.py").write_text(RETURNS.format(result))
    data = load_dataset("my_data.py:load", None, tmp_path)
    assert data.train.x.shape == (6, 4) and data.num_classes == 2
    shipped = load_dataset("my_data.py:load", None, Path("/nowhere"), RETURNS.format(result))
    assert shipped.digest() == data.digest()


def test_names_from_pandas():
    result = "(x, np.array(['b', 'a'] * 3, dtype=object), x, np.array(['a'] * 6, dtype=object))"
    assert load_dataset("d.py:load", None, Path(), RETURNS.format(result)).class_names == ("a", "b")


def test_the_users_function_finds_files_beside_it(tmp_path):
    source = "from pathlib import Path\nhere = str(Path(__file__).parent)\n" + RETURNS.format("x, y, x + len(here), y")
    (tmp_path / "d.py").write_text(source)
    data = load_dataset("d.py:load", None, tmp_path)
    assert data.test.x[0, 0] == len(str(tmp_path))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("", "d.py defines no function load; found: none"),
        ("def load():\n    open('/nowhere')", r"d.py:load raised FileNotFoundError: .*\(line 2\)"),
        ("def load(): return 3", "d.py:load returned int; allowed: a dict with x_train"),
        ("def load(): return {'x_train': 1}", "there is no array y_train, x_test, y_test; found: x_train"),
        (RETURNS.format("(x, y - 1, x, y)"), "y_train: label -1 is negative"),
    ],
)
def test_bad_users_functions(source, message):
    with pytest.raises(InputError, match=message) as error:
        load_dataset("d.py:load", None, Path(), source)
    assert str(error.value).startswith("data: d.py:load")


def test_a_missing_python_file(tmp_path):
    with pytest.raises(InputError, match="data: no.py:load: there is no file no.py"):
        locate("no.py:load", None, tmp_path)
