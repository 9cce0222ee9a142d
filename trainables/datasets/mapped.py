"""Four .npy files in a folder, memory-mapped: data that are larger than memory."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from losstune.spaces.errors import InputError
from losstune.trainables.datasets import dataset
from losstune.trainables.datasets.arrays import ARRAYS, check_numeric, check_pair, encoded, flat, from_arrays
from losstune.trainables.datasets.dataset import Dataset, OnDisk, Split
from losstune.trainables.datasets.images import as_uint8, channels_first

_CHUNK = 2**20  # bytes


@dataclass(frozen=True, eq=False)
class MappedArray(OnDisk):
    """Examples of a .npy file: images of uint8 or bool in any layout of channels_first, or feature vectors."""

    path: str

    @cached_property
    def _rows(self) -> np.ndarray:
        """The file's array, mapped by each process for itself."""
        try:
            return np.load(self.path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise InputError(f"{self.where}: {self.path} cannot be read: {error}; allowed: a file that every node of "
                             f"the cluster sees under this path") from None  # fmt: skip

    @property
    def worth_a_thread(self) -> int:
        return 1 + _CHUNK // max(1, self._rows[:1].nbytes)

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in vars(self).items() if key != "_rows"}

    def read(self, indices: np.ndarray) -> np.ndarray:
        """See OnDisk. InputError where a feature is not finite."""
        rows = self._rows[self.index[indices]]
        if len(self.example_shape) == 3:
            return as_uint8(channels_first(rows, self.where))
        with np.errstate(over="ignore"):
            vectors = np.asarray(rows, dtype=np.float32)
        finite = np.isfinite(vectors).all(1)
        if not finite.all():
            example = int(self.index[indices][np.flatnonzero(~finite)[0]])
            raise InputError(f"{self.where}: holds NaN, infinity or values beyond float32 (in example {example}); "
                             f"allowed: finite numbers up to 3.4e38")  # fmt: skip
        return vectors

    def hash_into(self, digest: Any) -> None:
        """The index, and every k-th MiB of the file's examples."""
        digest.update(np.ascontiguousarray(self.index))
        per_chunk = max(1, _CHUNK // max(1, self._rows[:1].nbytes))
        step = -(-self._rows.nbytes // dataset.HASHED)
        for start in range(0, len(self._rows), per_chunk * step):
            digest.update(np.ascontiguousarray(self._rows[start : start + per_chunk]).tobytes())


def from_npy(spec: str, path: Path) -> Dataset:
    """The data set of a folder with x_train.npy, y_train.npy, x_test.npy and y_test.npy; InputError as from_arrays.

    Up to IN_MEMORY it is read into memory, exactly as from an npz file. Larger arrays stay mapped: images must then be
    uint8 or bool, and feature vectors are checked for NaN where they are read.
    """
    where = f"data: {spec}"
    arrays = {name: _load(path / f"{name}.npy", f"{where}: {name}") for name in ARRAYS}
    if sum(array.nbytes for array in arrays.values()) <= dataset.IN_MEMORY:
        return from_arrays({name: np.array(array) for name, array in arrays.items()}, spec, list(ARRAYS))
    for name in ("x_train", "x_test"):
        check_numeric(arrays[name], f"{where}: {name}")
    y_train, y_test = (flat(np.array(arrays[name]), f"{where}: {name}") for name in ("y_train", "y_test"))
    check_pair(arrays["x_train"], y_train, arrays["x_test"], y_test, where)
    mapped = partial(_mapped, arrays, path, where)
    y_train, y_test, names = encoded(y_train, y_test, where)
    return Dataset(spec, Split(mapped("x_train"), y_train), Split(mapped("x_test"), y_test), len(names), names)


def _load(path: Path, where: str) -> np.ndarray:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # a damaged header raises anything
        message = " ".join(str(error).split())
        raise InputError(f"{where}: {path.name} cannot be read: {message}; allowed: an array as numpy.save writes it, "
                         f"of numbers or strings") from None  # fmt: skip
    return array


def _mapped(arrays: dict[str, np.ndarray], folder: Path, where: str, name: str) -> MappedArray:
    array, where = arrays[name], f"{where}: {name}"
    if array.ndim > 2 and array.dtype not in (np.uint8, np.bool_):
        raise InputError(f"{where}: holds images of {array.dtype} and is too large to be converted in memory; "
                         f"allowed: uint8")  # fmt: skip
    examples = array if array.ndim == 2 else channels_first(array, where)
    return MappedArray(np.arange(len(array)), where, examples.shape[1:], str(folder / f"{name}.npy"))
