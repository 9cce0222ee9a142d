"""What is recorded of a confirmed member's network: features/NAME.npz, its format, written and read."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from losstune.spaces import InputError
from losstune.trainables import feature_statistics
from losstune.trainables.checkpoint import write_bytes
from losstune.trainables.feature_statistics import FeatureStatistics
from losstune.trainables.storage import Place


@dataclass(frozen=True)
class Curves:
    """What is measured of the training examples that are looked at, over the epochs of a confirm.

    every: after every so many epochs, and after the last one. measures: of the examples' statistics -> values by name,
    NaN where one is not defined; a function that can be pickled.
    """

    every: int
    measures: Callable[[FeatureStatistics], dict[str, float]]


@dataclass(frozen=True)
class Recording:
    """What is to be recorded of each member of a confirm.

    features: of how many examples of each split the penultimate features are kept; None: of all.
    layers: of how many test examples the layers' Gram matrices are kept.
    train_examples: how many training examples are looked at, for statistics and features.
    With none of these there are no features; else statistics of all test examples are among them.
    curves: what is reported with epochs, no part of the record; needs train_examples.
    corruptions: by name, of so many test examples at most, corruption_examples. elsewhere: whether other data come
    with the test split: shifted test sets, or data sets to transfer to.
    """

    features: int | None = 1000
    layers: int = 256
    train_examples: int = 10_000
    curves: Curves | None = None
    corruptions: tuple[str, ...] = ()
    corruption_examples: int = 10_000
    elsewhere: bool = False

    @property
    def looks_inside(self) -> bool:
        """Whether there is a record of features, features/NAME.npz."""
        return self.features != 0 or self.layers > 0 or self.train_examples > 0

    def __bool__(self) -> bool:
        return self.looks_inside or bool(self.corruptions) or self.elsewhere


@dataclass(frozen=True, eq=False)
class Examples:
    """Some examples of a split: penultimate features (n, d) in float16, or float32 where they exceed its range,
    targets (n,), and indices (n,) into the split, int64; the same ones for every loss and seed."""

    features: np.ndarray
    targets: np.ndarray
    indices: np.ndarray


@dataclass(frozen=True, eq=False)
class Layers:
    """What the layers of a network, m of them in their order, make of n test examples.

    names (m,): "PATH TYPE" of the modules; the last one is "features", the penultimate ones. grams
    (m, n (n + 1) / 2) float32: the upper triangle, row by row as numpy.triu_indices has it, of the matrix of inner
    products of a layer's outputs, each flattened, their mean over the n examples subtracted. (CKA is the same with or
    without the mean; without it float32 keeps more digits.) sparsity (m,) float32: the share of outputs that are
    exactly 0. indices (n,) int64, into the test split.
    """

    names: np.ndarray
    grams: np.ndarray
    sparsity: np.ndarray
    indices: np.ndarray


@dataclass(frozen=True, eq=False)
class Features:
    """The record of a member. Its network is in evaluation mode, of averaged weights where there are any, and inputs
    are not augmented.

    statistics, examples: by split, "train" and "test"; of train as many examples as were wanted, or nothing. Test
    examples are nearest to the class centers of train, where there are statistics of it. The final layer is statistics'
    weight (K, d) and bias (K,) float32: of a linear one as it is; of a cosine one unit rows and no bias, since it goes
    by angles; None of others.
    """

    statistics: dict[str, FeatureStatistics]
    examples: dict[str, Examples] = field(default_factory=dict)
    layers: Layers | None = None
    bias: np.ndarray | None = None


def write(path: Place, found: Features) -> str:
    """Write a record, whole or not at all; the sha256 of the file in hex.

    An .npz of the arrays "examples/SPLIT/FIELD", "layers/FIELD", "bias", and "statistics/NAME" with the NAMEs of
    feature_statistics.py; not compressed, since that costs more time than it saves room.
    """
    buffer = io.BytesIO()
    np.savez(buffer, **_arrays_of(found))
    return write_bytes(path, buffer.getvalue())


def _arrays_of(found: Features) -> dict[str, np.ndarray]:
    arrays = {f"statistics/{name}": value for name, value in feature_statistics.arrays_of(found.statistics).items()}
    for split, own in found.examples.items():
        arrays |= {f"examples/{split}/{name}": value for name, value in vars(own).items()}
    if found.layers is not None:
        arrays |= {f"layers/{name}": value for name, value in vars(found.layers).items()}
    return arrays if found.bias is None else arrays | {"bias": found.bias}


def read(path: Place) -> Features:
    """Read what write wrote; nothing in it is unpickled. InputError when it is missing, damaged or something else."""
    try:
        with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as archive:
            # Whole, which holds it to its checksum; numpy alone stops where the array should end.
            parts = {name.removesuffix(".npy"): archive.read(name) for name in archive.namelist()}
        arrays = {name: np.lib.format.read_array(io.BytesIO(part), allow_pickle=False) for name, part in parts.items()}
        found = _from_arrays(arrays)
        _check(found)
    except Exception as error:  # zipfile, zlib and numpy raise whatever Python does on odd bytes
        reason = getattr(error, "strerror", None) or f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise InputError(f"{path}: not a confirmed member's features ({reason[:200]}); "
                         "allowed: features/NAME.npz of a study") from None  # fmt: skip
    return found


def _from_arrays(arrays: dict[str, np.ndarray]) -> Features:
    """ValueError, KeyError or TypeError for arrays that write has not written."""
    groups: dict[str, dict[str, np.ndarray]] = {"statistics": {}, "examples": {}, "layers": {}, "": {}}
    for name, value in arrays.items():
        group, _, rest = name.partition("/") if "/" in name else ("", "", name)
        groups[group][rest] = value
    examples: dict[str, dict[str, np.ndarray]] = {}
    for name, value in groups["examples"].items():
        split, _, part = name.partition("/")
        examples.setdefault(split, {})[part] = value
    return Features(
        feature_statistics.from_arrays(groups["statistics"]),
        {split: Examples(**own) for split, own in examples.items()},
        Layers(**groups["layers"]) if groups["layers"] else None, **groups[""],
    )  # fmt: skip


def _check(found: Features) -> None:
    """ValueError for arrays that do not fit each other, or are of other types."""
    classes, width = found.statistics["test"].class_offsets.shape
    for split, own in found.examples.items():
        n = len(own.targets)
        _must_be(f"examples/{split}/features", own.features, (n, width), "f")
        _must_be(f"examples/{split}/targets", own.targets, (n,), "i")
        _must_be(f"examples/{split}/indices", own.indices, (n,), "i")
    if found.bias is not None:
        _must_be("bias", found.bias, (classes,), "f")
    if found.layers is not None:
        m, n = len(found.layers.names), len(found.layers.indices)
        _must_be("layers/names", found.layers.names, (m,), "U")
        _must_be("layers/grams", found.layers.grams, (m, n * (n + 1) // 2), "f")
        _must_be("layers/sparsity", found.layers.sparsity, (m,), "f")
        _must_be("layers/indices", found.layers.indices, (n,), "i")


def _must_be(name: str, value: np.ndarray, shape: tuple[int, ...], kind: str) -> None:
    if value.shape != shape or value.dtype.kind != kind:
        raise ValueError(f"{name} is {value.dtype} of shape {value.shape}")
