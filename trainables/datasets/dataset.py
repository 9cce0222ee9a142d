"""What a data set is: in memory, or on disk and read as it is used."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

IN_MEMORY = 2**30  # bytes of both splits; what takes more stays on disk
HASHED = 2**30  # bytes of a split on disk that its digest reads; of more it reads evenly spaced parts


@dataclass(frozen=True, eq=False)
class OnDisk(ABC):
    """Examples that are read when they are used. Pickled as paths and indices, so that it costs nothing to hand on.

    index: (n,) int64, which of the stored examples these are. where: what errors begin with. example_shape: (C, H, W)
    or (D,), as read returns it.
    """

    index: np.ndarray
    where: str
    example_shape: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.index)

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, C, H, W) or (n, D)."""
        return (len(self.index), *self.example_shape)

    @property
    def dtype(self) -> np.dtype:
        """uint8 of images, float32 of feature vectors."""
        return np.dtype(np.uint8 if len(self.example_shape) == 3 else np.float32)

    @property
    def nbytes(self) -> int:
        """Bytes that all of them take in memory."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    @property
    def worth_a_thread(self) -> int:
        """How many examples it takes to be worth handing to another thread."""
        return 1

    def take(self, indices: Any) -> OnDisk:
        """The examples at indices (m,) or a slice; nothing is read."""
        return replace(self, index=self.index[indices])

    def joined(self, other: OnDisk) -> OnDisk:
        """These and then the other's, which are examples of the same files."""
        if self.where != other.where:
            raise ValueError(f"{self.where} and {other.where} are different data")
        return replace(self, index=np.concatenate([self.index, other.index]))

    @abstractmethod
    def read(self, indices: np.ndarray) -> np.ndarray:
        """The examples at indices (m,): (m, C, H, W) uint8 or (m, D) float32. InputError names what cannot be read."""

    @abstractmethod
    def hash_into(self, digest: Any) -> None:
        """Update a digest of hashlib with what the examples hold, as far as HASHED goes."""


@dataclass(frozen=True, eq=False)
class Split:
    """x: (N, C, H, W) uint8 images or (N, D) float32 feature vectors, or the same on disk; y: (N,) int64 classes."""

    x: np.ndarray | OnDisk
    y: np.ndarray

    def __len__(self) -> int:
        return len(self.y)

    def take(self, indices: np.ndarray) -> Split:
        """The examples at indices (n,): copies of arrays; of data on disk nothing is read."""
        x = self.x.take(indices) if isinstance(self.x, OnDisk) else self.x[indices]
        return Split(x, self.y[indices])

    def joined(self, other: Split) -> Split:
        """These examples and then the other's, of the same data set."""
        x = self.x.joined(other.x) if isinstance(self.x, OnDisk) else np.concatenate([self.x, other.x])
        return Split(x, np.concatenate([self.y, other.y]))


@dataclass(frozen=True, eq=False)
class Dataset:
    """A training and a test split. class_names: K names, in the order of the labels.

    known_digest: what digest returns, where the arrays were read from files that it covers.
    """

    name: str
    train: Split
    test: Split
    num_classes: int
    class_names: tuple[str, ...]
    known_digest: str | None = None

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one example: (C, H, W) or (D,)."""
        return tuple(self.train.x.shape[1:])

    def digest(self) -> str:
        """SHA-256 over type, shape and content of the four arrays: 64 hexadecimal digits.

        Content is every byte of an array in memory. Of image files it is all names and lengths, and the bytes of every
        k-th file; of a memory-mapped array it is every k-th MiB. k is 1 up to 1 GiB, and such that about 1 GiB is read
        of more.
        """
        if self.known_digest:
            return self.known_digest
        digest = hashlib.sha256()
        for array in (self.train.x, self.train.y, self.test.x, self.test.y):
            digest.update(f"{array.dtype.str} {array.shape} ".encode())
            if isinstance(array, OnDisk):
                array.hash_into(digest)
            else:
                digest.update(memoryview(np.ascontiguousarray(array)).cast("B"))
        return digest.hexdigest()

    def in_memory(self) -> Dataset:
        """This data set with what is on disk read into memory, where that takes at most IN_MEMORY; else as it is."""
        on_disk = [split.x for split in (self.train, self.test) if isinstance(split.x, OnDisk)]
        if not on_disk or sum(x.nbytes for x in on_disk) > IN_MEMORY:
            return self
        from losstune.trainables.datasets.reading import read_all

        known, splits = self.digest(), [Split(read_all(split.x), split.y) for split in (self.train, self.test)]
        return replace(self, train=splits[0], test=splits[1], known_digest=known)


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


@dataclass(frozen=True)
class Format:
    """A form of the user's own data, "PREFIX:PATH". loader: "module:function"; function(spec, path) returns a Dataset.

    names: what the part after the prefix is called where the forms are listed.
    """

    names: str
    summary: str
    loader: str
