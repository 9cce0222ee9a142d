"""Reading from disk by several threads, and ahead of its use. Decoders and copies leave Python's lock meanwhile."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from losstune.trainables.datasets.dataset import OnDisk

BLOCK = 16  # the most examples that a thread reads at a time
T = TypeVar("T")


class Readers:
    """A pool of threads that read or decode examples; it ends when nothing holds it any more."""

    def __init__(self, threads: int):
        self.threads = max(1, threads)
        self._pool = ThreadPoolExecutor(self.threads, "losstune-reader")

    def each_block(
        self, count: int, work: Callable[[slice], None], stop: threading.Event | None = None, least: int = 1
    ) -> None:  # fmt: skip
        """work(block) for consecutive blocks of range(count); raises what the first of them raised.

        stop: once it is set, what has not begun is left out, and CancelledError is raised. least: the fewest that are
        worth handing to a thread.
        """
        size = max(least, min(BLOCK, count // (4 * self.threads)))

        def guarded(start: int) -> None:
            if stop is not None and stop.is_set():
                raise CancelledError
            work(slice(start, min(start + size, count)))

        if size >= count:
            return guarded(0) if count else None
        pending = [self._pool.submit(guarded, start) for start in range(0, count, size)]
        try:
            for block in pending:
                block.result()
        finally:
            for block in pending:
                block.cancel()

    def read_into(
        self, out: np.ndarray, x: OnDisk, indices: np.ndarray, stop: threading.Event | None = None
    ) -> None:  # fmt: skip
        """Write the examples at indices (m,) to the first m rows of out."""

        def read(block: slice) -> None:
            out[block] = x.read(indices[block])

        self.each_block(len(indices), read, stop, x.worth_a_thread)


def read_all(x: OnDisk) -> np.ndarray:
    """All examples, by as many threads as this process has cores."""
    out = np.empty(x.shape, x.dtype)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    Readers(cores).read_into(out, x, np.arange(len(x)))
    return out


def ahead(make: Callable[[int], T], count: int, depth: int, stop: threading.Event) -> Iterator[T]:
    """make(0), ..., make(count - 1) in turn, made in a background thread, at most depth of them ahead.

    What make raises is raised where its result is due. When the iterator is closed, stop is set and the thread ends.
    """
    thread = ThreadPoolExecutor(1, "losstune-ahead")
    try:
        pending = deque(thread.submit(make, number) for number in range(min(depth, count)))
        for number in range(count):
            result = pending.popleft().result()
            if number + depth < count:
                pending.append(thread.submit(make, number + depth))
            yield result
    finally:
        stop.set()
        thread.shutdown(cancel_futures=True)
