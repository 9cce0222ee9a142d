"""The data as a lane uses them: batches of all its members, augmented and normalized on the device."""

from __future__ import annotations

import copy
import threading
import warnings
from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from losstune.trainables.datasets import OnDisk, Split
from losstune.trainables.datasets.reading import Readers
from losstune.trainables.datasets.streaming import Generators, Stream, draws_of

if TYPE_CHECKING:
    from losstune.trainables.augmentation.pipeline import Pipeline

SAMPLE = 2048  # training examples that the normalization of data on disk is computed from
_COPY = 2**28  # bytes of a normalized copy
_EXACT = 2**28  # bytes of images in memory whose deviation numpy computes, with eight times as many for a moment


class Normalization:
    """Mean and standard deviation of the training inputs: per channel of images (C, 1, 1), per feature (D,).

    Of data on disk they are those of 2048 examples, evenly spaced over the split: a mean is then within about 1 of 255
    grey levels of the whole split's. InputError when one of these cannot be read.
    """

    def __init__(self, x: np.ndarray | OnDisk):
        images = len(x.shape) == 4
        if isinstance(x, OnDisk):
            x = x.take(np.unique(np.linspace(0, len(x) - 1, SAMPLE).astype(np.int64)))
        if images and (isinstance(x, OnDisk) or x.nbytes > _EXACT):
            mean, std = _moments(_histograms(x))
        else:
            x, axes = x.read(np.arange(len(x))) if isinstance(x, OnDisk) else x, (0, 2, 3) if images else (0,)
            mean, std = x.mean(axes, dtype=np.float64), x.std(axes, dtype=np.float64)
        shape = (-1, 1, 1) if images else (-1,)
        self.mean = torch.tensor(mean, dtype=torch.float32).reshape(shape)
        self.scale = torch.tensor(1 / np.where(std > 0, std, 1.0), dtype=torch.float32).reshape(shape)

    def __call__(self, x: Tensor) -> Tensor:
        return x.to(torch.float32, copy=True).sub_(self.mean.to(x.device)).mul_(self.scale.to(x.device))

    def to(self, device: torch.device) -> Normalization:
        """The same with its numbers on a device, where each step would otherwise copy them anew."""
        moved = copy.copy(self)
        moved.mean, moved.scale = self.mean.to(device), self.scale.to(device)
        return moved


class Inputs:
    """A split on a device: in memory as one tensor there, or read from disk ahead of its use.

    augmentation: what training sees and, by its at_test, evaluation; None: inputs as they are stored. y: (N,) int64.
    resident: whether the examples are in memory. Batches have the same bits either way, but for random resized crops
    of files that differ in size, which are cut from the files' own resolution.
    """

    def __init__(
        self, split: Split, normalization: Normalization, device: torch.device | str = "cpu",
        augmentation: Pipeline | None = None,
    ):  # fmt: skip
        self.device = torch.device(device)
        self.normalization = normalization.to(self.device)
        self.augmentation = None if augmentation is None or augmentation.is_identity else augmentation
        self.y = _as_tensor(split.y).to(self.device)
        self.resident = not isinstance(split.x, OnDisk)
        # The arrays may lie read-only in shared memory; torch wants to be told that nothing writes to them.
        self._stored = _as_tensor(split.x).to(self.device) if self.resident else None
        self._stream = None if self.resident else Stream(split.x, self.device, self.augmentation)
        self._copy: Tensor | None = None

    def __len__(self) -> int:
        return len(self.y)

    def batches(self, order: Tensor, generators: Generators) -> Iterator[tuple[Tensor, Tensor]]:
        """For each step the inputs (u, B, *shape), float32, augmented and normalized, and the targets (u, B) int64.

        order: (u, steps, B) int64 on the CPU, the examples of u streams of batches. generators(step): u generators on
        the CPU, from which a step's augmentation is drawn; called only where there is some, for data on disk in
        another thread. Of data on disk the next two to four steps are read meanwhile; InputError names what cannot be
        read.
        """
        shape = order.shape[0], order.shape[2]
        flat = order.transpose(0, 1).flatten(1)  # (steps, u B)
        on_device = flat.to(self.device)
        for step, x in enumerate(self._inputs(flat, on_device, shape, generators)):
            yield x.unflatten(0, shape), self.y.index_select(0, on_device[step]).unflatten(0, shape)

    def _inputs(
        self, flat: Tensor, on_device: Tensor, shape: tuple[int, int], generators: Generators
    ) -> Iterator[Tensor]:  # fmt: skip
        """The inputs of each step, (u B, *shape)."""
        if not self.resident:
            with closing(self._stream.steps(flat.numpy(), shape[0], generators)) as steps:
                for stored, draws in steps:
                    yield self.normalization(stored if draws is None else self._stream.pipeline(stored, draws))
            return
        normalized = None if self.augmentation else self._normalized_copy()
        for step, indices in enumerate(on_device):
            if normalized is not None:
                yield normalized.index_select(0, indices)
                continue
            stored = self._stored.index_select(0, indices)
            if self.augmentation:
                stored = self.augmentation(stored, draws_of(self.augmentation, generators(step), shape[1]))
            yield self.normalization(stored)

    def normalized(self, start: int, stop: int) -> Tensor:
        """The inputs (n, *shape) from start up to stop, as evaluation sees them. InputError as batches.

        Of data on disk the next so many are read meanwhile.
        """
        normalized = self._normalized_copy()
        if normalized is not None:
            return normalized[start:stop]
        return self.evaluated(self._stored[start:stop] if self.resident else self._stream.range(start, stop))

    def at(self, indices: Tensor) -> Tensor:
        """The inputs (n, *shape) at indices (n,) int64 on the CPU, as evaluation sees them. InputError as batches."""
        if self._copy is not None:
            return self._copy.index_select(0, indices.to(self.device))
        return self.evaluated(self.stored(indices))

    def stored(self, indices: Tensor) -> Tensor:
        """The examples (n, *shape) at indices (n,) int64 on the CPU as they are stored. InputError as batches."""
        if not self.resident:
            return self._stream.at(indices.numpy())
        return self._stored.index_select(0, indices.to(self.device))

    def evaluated(self, stored: Tensor) -> Tensor:
        """Examples (n, *shape) on the device, as they are stored, as evaluation sees them."""
        return self.normalization(self.augmentation.at_test(stored) if self.augmentation else stored)

    def _normalized_copy(self) -> Tensor | None:
        """All inputs as evaluation sees them, where they are few: without augmentation a step is a single gather."""
        if self._copy is None and self.resident and 4 * self._stored.numel() <= _COPY:
            self._copy = self.evaluated(self._stored)
        return self._copy


def _histograms(x: np.ndarray | OnDisk) -> np.ndarray:
    """How often each grey level occurs in each channel of images: (C, 256) int64."""
    counts, lock = np.zeros((x.shape[1], 256), np.int64), threading.Lock()

    def count(block: slice) -> None:
        images = x.read(np.arange(block.start, block.stop)) if isinstance(x, OnDisk) else x[block]
        own = [np.bincount(images[:, channel].ravel(), minlength=256) for channel in range(x.shape[1])]
        with lock:
            counts[:] += own

    Readers(torch.get_num_threads()).each_block(len(x), count)
    return counts


def _moments(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each channel (C,) from its histogram, in exact sums of whole numbers."""
    levels, moments = np.arange(256), []
    for own in counts:
        n, first, second = (int(own @ levels**power) for power in (0, 1, 2))  # Python's whole numbers do not overflow
        moments.append((first / n, ((n * second - first**2) / n**2) ** 0.5))
    return tuple(np.array(moments).T)


def _as_tensor(array: np.ndarray) -> Tensor:
    if array.flags.writeable:
        return torch.from_numpy(array)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return torch.from_numpy(array)
