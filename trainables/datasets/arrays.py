"""The user's own data: four arrays from an npz file or a Python function, checked and converted."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from losstune.spaces.errors import InputError
from losstune.trainables.datasets.dataset import Dataset, Split
from losstune.trainables.datasets.images import as_images
from losstune.trainables.user_files import call, load_function

ARRAYS = ("x_train", "y_train", "x_test", "y_test")


def from_npz(spec: str, path: Path) -> Dataset:
    """The data set of an npz file with the four arrays; InputError when it cannot be read without pickle."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in ARRAYS if name in archive.files}
            found = list(archive.files)
    except Exception as error:  # a damaged zip raises anything from zlib.error to EOFError
        message = " ".join(str(error).split())
        raise InputError(f"data: {spec}: cannot be read: {message}; allowed: numeric arrays and arrays of strings, "
                         f"as numpy.savez writes them") from error  # fmt: skip
    return from_arrays(arrays, spec, found)


def from_function(spec: str, source: str, path: Path) -> Dataset:
    """The data set that FILE.py:FUNCTION returns: a mapping with the four arrays, or the four in a tuple."""
    result = call(load_function(spec, source, f"data: {spec}", path), spec, "data")
    if isinstance(result, tuple | list) and len(result) == len(ARRAYS):
        result = dict(zip(ARRAYS, result, strict=True))
    if not isinstance(result, Mapping):
        raise InputError(f"data: {spec} returned {type(result).__name__}; allowed: a dict with {', '.join(ARRAYS)}, "
                         f"or these four as a tuple")  # fmt: skip
    return from_arrays(result, spec, [str(name) for name in result])


def from_arrays(arrays: Mapping[str, Any], spec: str, found: list[str]) -> Dataset:
    """A data set from x_train, y_train, x_test, y_test; InputError names the array and what is wrong with it.

    x with 3 or 4 dimensions are images, see as_images; (N, D) are feature vectors and become float32.
    y: (N,) or (N, 1); whole numbers 0..K-1, each of which occurs in y_train, or names, which are sorted.
    """
    where = f"data: {spec}"
    missing = [name for name in ARRAYS if name not in arrays]
    if missing:
        raise InputError(f"{where}: there is no array {', '.join(missing)}; found: {', '.join(found) or 'none'}; "
                         f"allowed: {', '.join(ARRAYS)}")  # fmt: skip
    x_train, x_test = (np.asarray(arrays[name]) for name in ("x_train", "x_test"))
    for x, name in ((x_train, "x_train"), (x_test, "x_test")):
        check_numeric(x, f"{where}: {name}")
        _check_finite(x, f"{where}: {name}")
    y_train, y_test = (flat(arrays[name], f"{where}: {name}") for name in ("y_train", "y_test"))
    check_pair(x_train, y_train, x_test, y_test, where)
    x_train, x_test = _inputs(x_train, x_test, where)
    labels_train, labels_test, class_names = encoded(y_train, y_test, where)
    return Dataset(spec, Split(x_train, labels_train), Split(x_test, labels_test), len(class_names), class_names)


def check_pair(x_train: np.ndarray, y_train: np.ndarray, x_test: np.ndarray, y_test: np.ndarray, where: str) -> None:
    """Whether there is a label for each example, and examples of both splits have one shape."""
    for x, y, part in ((x_train, y_train, "train"), (x_test, y_test, "test")):
        if len(x) != len(y):
            raise InputError(f"{where}: x_{part} has {len(x)} examples, y_{part} has {len(y)}; allowed: as many labels "
                             f"as examples")  # fmt: skip
    if x_train.shape[1:] != x_test.shape[1:]:
        raise InputError(f"{where}: an example of x_train has shape {x_train.shape[1:]}, of x_test {x_test.shape[1:]}; "
                         f"allowed: the same shape")  # fmt: skip


def check_numeric(array: np.ndarray, where: str) -> None:
    """Whether an array holds numbers, in a shape of feature vectors or images, and at least one example."""
    if array.dtype.kind not in "buif":
        raise InputError(f"{where}: holds {array.dtype}; allowed: numbers")
    if array.ndim not in (2, 3, 4):
        raise InputError(f"{where}: has shape {array.shape}; allowed: (N, D), (N, H, W), (N, H, W, C) or (N, C, H, W)")
    if array.size == 0:
        raise InputError(f"{where}: is empty (shape {array.shape}); allowed: at least one example")


def _check_finite(array: np.ndarray, where: str) -> None:
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        bad = int(np.flatnonzero(~np.isfinite(array.reshape(len(array), -1)).all(1))[0])
        raise InputError(f"{where}: holds NaN or infinity (first in example {bad}); allowed: finite numbers")


def flat(array: Any, where: str) -> np.ndarray:
    """Labels (N,) from (N,) or (N, 1): whole numbers or names."""
    array = np.asarray(array)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise InputError(f"{where}: has shape {array.shape}; allowed: (N,), one class per example")
    if array.size == 0:
        raise InputError(f"{where}: is empty; allowed: at least one example")
    if array.dtype.kind == "O" and all(isinstance(label, str) for label in array):
        array = array.astype(str)  # how pandas hands out names
    if array.dtype.kind not in "buiUST":
        raise InputError(f"{where}: holds {array.dtype}; allowed: whole numbers 0..K-1, or names of classes")
    return array


def _inputs(x_train: np.ndarray, x_test: np.ndarray, where: str) -> tuple[np.ndarray, np.ndarray]:
    if x_train.ndim > 2:
        return as_images(x_train, x_test, where)
    with np.errstate(over="ignore"):  # what does not fit is reported, in the next line
        vectors = [np.ascontiguousarray(x, dtype=np.float32) for x in (x_train, x_test)]
    for x, name in zip(vectors, ("x_train", "x_test"), strict=True):
        if not np.isfinite(x).all():
            raise InputError(f"{where}: {name}: holds values beyond float32; allowed: up to 3.4e38")
    return vectors[0], vectors[1]


def encoded(y_train: np.ndarray, y_test: np.ndarray, where: str) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Both splits' labels as int64 classes 0..K-1, and the names of the classes."""
    named = [y.dtype.kind in "UST" for y in (y_train, y_test)]
    if named[0] != named[1]:
        raise InputError(f"{where}: y_train holds {y_train.dtype}, y_test {y_test.dtype}; allowed: both whole numbers, "
                         f"or both names")  # fmt: skip
    classes = np.unique(y_train)
    if not named[0]:
        _check_whole_numbers(classes, where)
    if len(classes) < 2:
        raise InputError(f"{where}: y_train holds one class ({_text(classes[0])}); allowed: at least 2")
    unknown = np.setdiff1d(y_test, classes)
    if len(unknown):
        raise InputError(f"{where}: y_test: label {_text(unknown[0])} does not occur in y_train; allowed: "
                         f"{_listing(classes, named[0])}")  # fmt: skip
    train, test = (np.searchsorted(classes, y).astype(np.int64) for y in (y_train, y_test))
    return train, test, tuple(map(_text, classes))


def _check_whole_numbers(classes: np.ndarray, where: str) -> None:
    classes = classes.astype(object)  # uint64 and int64 alike, exactly
    if classes[0] < 0:
        raise InputError(f"{where}: y_train: label {classes[0]} is negative; allowed: 0..K-1")
    if classes[-1] != len(classes) - 1:
        gap = next((k for k, label in enumerate(classes) if k != label), 0)
        raise InputError(f"{where}: y_train: class {gap} has no example, though labels go up to {classes[-1]}; "
                         f"allowed: 0..K-1, each at least once")  # fmt: skip


def _text(label: Any) -> str:
    if isinstance(label, bytes):
        return label.decode("utf-8", "replace")
    return str(int(label)) if isinstance(label, np.bool_ | bool) else str(label)


def _listing(classes: np.ndarray, named: bool) -> str:
    if not named:
        return f"0..{len(classes) - 1}"
    return ", ".join(map(_text, classes[:10])) + (" ..." if len(classes) > 10 else "")
