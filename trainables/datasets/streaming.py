"""Examples on disk as the steps of training want them: read ahead, each once, in order. Imports torch."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from losstune.trainables.datasets.dataset import OnDisk
from losstune.trainables.datasets.image_files import ImageFiles
from losstune.trainables.datasets.reading import Readers, ahead

if TYPE_CHECKING:
    from losstune.trainables.augmentation.pipeline import Pipeline

_AHEAD = 2**28  # bytes of steps that are read ahead, within 2 to 4 steps
Generators = Callable[[int], list[torch.Generator]]
Draws = dict[str, Tensor]


def draws_of(pipeline: Pipeline, generators: list[torch.Generator], batch: int) -> Draws:
    """What is drawn for `batch` images of each generator, all in one: first dimension len(generators) * batch."""
    return _joined([pipeline.draw(generator, batch) for generator in generators])


class Stream:
    """Examples on disk for a device. pipeline: what the caller augments them by, None: nothing.

    Where it begins with a random resized crop and the images' files differ in size, the crops are cut here, from the
    files' own resolution, and `pipeline` is what is left to the caller. One thread prepares steps, others read and
    decode, as many as torch computes with. All work on the device is done by the caller's thread.
    """

    def __init__(self, x: OnDisk, device: torch.device, pipeline: Pipeline | None):
        self._x, self._device = x, device
        self._crop = pipeline.crop if pipeline and isinstance(x, ImageFiles) and not x.native else None
        self.pipeline = pipeline.without_crop if self._crop else pipeline
        self._shape = (x.shape[1], *self._crop.size) if self._crop else x.shape[1:]
        self._readers = Readers(torch.get_num_threads())
        self._sizes = np.zeros((len(x), 2), np.int64)  # of the files, as far as they are known
        self._next: tuple[int, int, Future] | None = None
        self._thread = ThreadPoolExecutor(1, "losstune-evaluation")

    def steps(self, order: np.ndarray, streams: int, generators: Generators) -> Iterator[tuple[Tensor, Draws | None]]:
        """For each step its examples on the device, (n, *shape) as stored or cropped, and what was drawn for them.

        order: (steps, n), of so many streams one after another. A step is to be used before the next one is asked for.
        """
        stop, (count, n) = threading.Event(), order.shape
        depth = max(2, min(4, _AHEAD // max(1, n * int(np.prod(self._shape)) * self._x.dtype.itemsize)))
        # As many as can be out at a time, so that the thread never waits for one.
        free: queue.SimpleQueue[Tensor] = queue.SimpleQueue()
        for _ in range(min(depth, count) + 1):
            free.put(self._buffer(n))

        def make(step: int) -> tuple[Tensor, Tensor | None, Draws | None]:
            buffer = free.get()
            return buffer, *self._prepared(order[step], buffer, generators, step, streams, stop)

        with closing(ahead(make, count, depth, stop)) as made:
            for buffer, inverse, draws in made:
                rows = buffer if inverse is None else buffer[: int(inverse.max()) + 1]
                examples = rows.to(self._device, non_blocking=True)
                copied = _copied(self._device)
                if inverse is not None:
                    examples = examples.index_select(0, inverse.to(self._device, non_blocking=True))
                yield examples, draws
                if copied:
                    copied.synchronize()
                free.put(buffer)

    def range(self, start: int, stop: int) -> Tensor:
        """The examples from start to stop as stored, on the device; the range that follows is read meanwhile."""
        width, end = stop - start, min(stop, len(self._x))
        known, self._next = self._next, None
        here = known[2].result() if known and known[:2] == (start, end) else self._read(np.arange(start, end))
        if end < len(self._x):
            following = (end, min(end + width, len(self._x)))
            self._next = (*following, self._thread.submit(self._read, np.arange(*following)))
        return here.to(self._device)

    def at(self, indices: np.ndarray) -> Tensor:
        """The examples at indices (n,) as stored, on the device."""
        return self._read(indices).to(self._device)

    def _read(self, indices: np.ndarray) -> Tensor:
        out = np.empty((len(indices), *self._x.shape[1:]), self._x.dtype)
        self._readers.read_into(out, self._x, indices)
        return torch.from_numpy(out)

    def _buffer(self, n: int) -> Tensor:
        dtype = torch.from_numpy(np.empty(0, self._x.dtype)).dtype
        return torch.empty((n, *self._shape), dtype=dtype, pin_memory=self._device.type == "cuda")

    def _prepared(
        self, indices: np.ndarray, buffer: Tensor, generators: Generators, step: int, streams: int,
        stop: threading.Event,
    ) -> tuple[Tensor | None, Draws | None]:  # fmt: skip
        """Fill the buffer with a step's distinct examples, and say which is where; crops are all in their places."""
        distinct, inverse = np.unique(indices, return_inverse=True)
        drawn = generators(step) if self.pipeline or self._crop else []
        batch = len(indices) // streams
        if self._crop:
            self._cut(distinct, inverse, self._boxes(drawn, distinct, inverse), buffer.numpy(), stop)
        else:
            self._readers.read_into(buffer.numpy(), self._x, distinct, stop)
        draws = draws_of(self.pipeline, drawn, batch) if self.pipeline else None
        return None if self._crop else torch.from_numpy(inverse), draws

    def _boxes(self, generators: list[torch.Generator], distinct: np.ndarray, inverse: np.ndarray) -> np.ndarray:
        """The box (n, 4) of each example of a step in its image's own resolution."""
        unknown = distinct[self._sizes[distinct, 0] == 0]
        self._sizes[unknown] = self._x.sizes(unknown)
        sizes = torch.from_numpy(self._sizes[distinct][inverse]).view(len(generators), -1, 2)
        return torch.cat([self._crop.boxes(g, own) for g, own in zip(generators, sizes, strict=True)]).numpy()

    def _cut(
        self, distinct: np.ndarray, inverse: np.ndarray, boxes: np.ndarray, out: np.ndarray, stop: threading.Event
    ) -> None:  # fmt: skip
        """Write each example's crop to its place in out; an image is decoded once, however many are cut from it."""
        places = np.split(np.argsort(inverse, kind="stable"), np.cumsum(np.bincount(inverse))[:-1])

        def cut(block: slice) -> None:
            for index, own in zip(distinct[block], places[block], strict=True):
                out[own] = self._x.crops(int(index), boxes[own], self._crop.size)

        self._readers.each_block(len(distinct), cut, stop)


def _joined(parts: list[Draws]) -> Draws:
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _copied(device: torch.device) -> torch.cuda.Event | None:
    """An event at the end of what the device has been given so far; None where everything is done at once."""
    if device.type != "cuda":
        return None
    event = torch.cuda.Event()
    event.record(torch.cuda.current_stream(device))
    return event
