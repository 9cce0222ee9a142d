"""Stratified splits, the same on every machine and with every version of numpy."""

from __future__ import annotations

import math

import numpy as np

from losstune.spaces.errors import InputError
from losstune.trainables.datasets.dataset import Split


def hold_out(split: Split, share: float, seed: int) -> tuple[Split, Split]:
    """(train, validation): ceil(share N) examples held out, every class in proportion, in the split's order.

    InputError when share is not in (0, 1), or leaves a class without an example on either side.
    """
    train, validation = hold_out_indices(split.y, share, seed)
    return split.take(train), split.take(validation)


def hold_out_indices(y: np.ndarray, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The same as ascending indices into y (N,): of the examples that stay, and of those held out."""
    if not 0 < share < 1:
        raise InputError(f"split.validation: {share:g} is out of bounds; allowed: (0, 1)")
    counts = np.bincount(y)
    held_out = _counts_held_out(counts, share)
    # RandomState's stream is frozen (NEP 19); a Generator's may change with numpy. Doubles, sorted, because what
    # permutations are made of has differed between platforms.
    keys = np.random.RandomState(seed).random_sample(len(y))
    is_held_out = np.zeros(len(y), dtype=bool)
    for label, n in enumerate(held_out):
        members = np.flatnonzero(y == label)
        is_held_out[members[np.argsort(keys[members], kind="stable")[:n]]] = True
    return np.flatnonzero(~is_held_out), np.flatnonzero(is_held_out)


def _counts_held_out(counts: np.ndarray, share: float) -> np.ndarray:
    """How many of each class (K,) are held out: largest remainders, at least one and at most all but one."""
    total = int(counts.sum())
    target = math.ceil(share * total - 1e-9)
    present = counts > 0
    _check_target(counts, target, share)
    most = np.where(present, counts - 1, 0)
    quota = counts * target  # in units of 1 / total, so that ties are exact
    held_out = np.clip(quota // total, present.astype(int), most)
    while (missing := target - int(held_out.sum())) != 0:
        remainder = quota - held_out * total
        if missing > 0:
            held_out[np.argmax(np.where(held_out < most, remainder, np.iinfo(np.int64).min))] += 1
        else:
            held_out[np.argmin(np.where(held_out > 1, remainder, np.iinfo(np.int64).max))] -= 1
    return held_out


def _check_target(counts: np.ndarray, target: int, share: float) -> None:
    total, classes = int(counts.sum()), int((counts > 0).sum())
    rarest = int(np.argmin(np.where(counts > 0, counts, np.iinfo(np.int64).max)))
    if counts[rarest] < 2:
        raise InputError(f"split.validation: {share:g} leaves class {rarest} without a validation example: it has 1 "
                         f"training example; allowed: at least 2 of every class")  # fmt: skip
    low, high = math.ceil(classes / total * 1e4) / 1e4, math.floor((1 - classes / total) * 1e4) / 1e4
    for n, side in ((target, "validation"), (total - target, "training")):
        if n < classes:
            raise InputError(f"split.validation: {share:g} leaves class {rarest} without a {side} example: {n} of "
                             f"{total} examples for {classes} classes; allowed: {low:g} to {high:g}")  # fmt: skip
