"""What a data set is, once it is in memory."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Split:
    """x: (N, C, H, W) uint8 images or (N, D) float32 feature vectors; y: (N,) int64 classes 0..K-1."""

    x: np.ndarray
    y: np.ndarray

    def __len__(self) -> int:
        return len(self.y)

    def take(self, indices: np.ndarray) -> Split:
        """The examples at indices (n,), as copies."""
        return Split(self.x[indices], self.y[indices])


@dataclass(frozen=True, eq=False)
class Dataset:
    """A training and a test split. class_names: K names, in the order of the labels."""

    name: str
    train: Split
    test: Split
    num_classes: int
    class_names: tuple[str, ...]

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one example: (C, H, W) or (D,)."""
        return tuple(self.train.x.shape[1:])

    def digest(self) -> str:
        """SHA-256 over type, shape and bytes of the four arrays: 64 hexadecimal digits."""
        digest = hashlib.sha256()
        for array in (self.train.x, self.train.y, self.test.x, self.test.y):
            digest.update(f"{array.dtype.str} {array.shape} ".encode())
            digest.update(memoryview(np.ascontiguousarray(array)).cast("B"))
        return digest.hexdigest()


@dataclass(frozen=True)
class Sizes:
    """What is known of a data set before it is read. input_shape: (C, H, W)."""

    n_train: int
    n_test: int
    num_classes: int
    input_shape: tuple[int, ...]


@dataclass(frozen=True)
class Source:
    """A data set of the table.

    loader: "module:function"; function(data_root) returns a Dataset. files: what must be below the data root (empty:
    the data are embedded). legacy_files: an older layout that torchvision reads as well.
    """

    summary: str
    source: str
    licence: str
    loader: str
    sizes: Sizes
    files: tuple[str, ...] = ()
    legacy_files: tuple[str, ...] = ()
