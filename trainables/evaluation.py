"""Logits of a stack's members on a split, as many examples at a time as memory allows."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from losstune.trainables.chunk import Chunk, Member
from losstune.trainables.inputs import Inputs
from losstune.trainables.memory import is_out_of_memory

T = TypeVar("T")
Score = Callable[[np.ndarray, str, np.ndarray], dict[str, list[float]]]  # (n, N, K), loss, targets (N,) -> per member
EVALUATION_BATCH, EVALUATION_BYTES = 1024, 2**27  # examples at a time, and how much their inputs may take


def scored(members: dict[str, list[Member]], chunks: list[Chunk], validation: Inputs, score: Score, averages: bool,
           moved: Callable[[], None]) -> dict[str, dict[str, list[float]]]:  # fmt: skip
    """Metrics of every trial on validation, a value per member; of averaged weights, if any, and apart of the last."""
    scores = _scored(members, evaluated(chunks, validation, averages, moved), validation, score, moved)
    if averages:
        last = _scored(members, evaluated(chunks, validation, False, moved), validation, score, moved)
        for trial_id, own in scores.items():
            own |= {f"last_weights_{name}": values for name, values in last[trial_id].items()}
    return scores


def _scored(members: dict[str, list[Member]], logits: dict[int, np.ndarray], validation: Inputs, score: Score,
            moved: Callable[[], None]) -> dict[str, dict[str, list[float]]]:  # fmt: skip
    targets, scores = validation.y.cpu().numpy(), {}
    for trial_id, own in members.items():
        moved()
        scores[trial_id] = score(np.stack([logits[id(m)] for m in own]), own[0].trial.loss, targets)
    return scores


def evaluated(chunks: list[Chunk], inputs: Inputs, averages: bool, moved: Callable[[], None]) -> dict[int, np.ndarray]:
    """Transformed logits (N, K) of every member of some chunks, by its identity; of averaged weights or of the last.

    moved is called at every batch.
    """
    if len(inputs) == 0 or not chunks:
        return {}
    return as_memory_allows(inputs, lambda size: _evaluated(chunks, inputs, averages, size, moved))


def as_memory_allows(inputs: Inputs, work: Callable[[int], T]) -> T:
    """work(size), with so many examples at a time as memory allows."""
    each = 4 * inputs.normalized(0, 1).numel()
    size = max(1, min(EVALUATION_BATCH, EVALUATION_BYTES // each))
    while True:
        try:
            return work(size)
        except (RuntimeError, MemoryError) as error:
            if size == 1 or not is_out_of_memory(error):
                raise
            size = -(-size // 2)


def _evaluated(
    chunks: list[Chunk], inputs: Inputs, averages: bool, size: int, moved: Callable[[], None]
) -> dict[int, np.ndarray]:
    parts: list[list[Tensor]] = [[] for _ in chunks]
    with contextlib.ExitStack() as stack:
        for chunk in chunks if averages else ():
            stack.enter_context(chunk.averaged())
        for start in range(0, len(inputs), size):
            moved()
            x = inputs.normalized(start, min(start + size, len(inputs)))  # of data on disk read once, for all chunks
            for chunk, own in zip(chunks, parts, strict=True):
                own.append(chunk.logits(x))
    return {id(member): z for chunk, own in zip(chunks, parts, strict=True)
            for member, z in zip(chunk.members, torch.cat(own, 1).float().cpu().numpy(), strict=True)}  # fmt: skip
