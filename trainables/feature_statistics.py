"""What is kept of a member's penultimate features on a split: sums, not the features, from two passes over batches.

losstune.analysis computes class separation, neural collapse, spectra, angular visual hardness and cosine distances from
it in closed form. torch is needed to compute a record, not to read one.

The file: an .npz of arrays named SPLIT/FIELD, the fields being those of FeatureStatistics, and "weight", once, for all
splits. Everything is float64 or int64 as in memory, but class_offsets, within_scatter and weight are float32 in units
of NAME_scale (float64), their largest absolute value, hence within 6e-8 of it: sums of the entries stand, while small
singular values of a scatter would not, which is why those are kept as such. A field that is None is left out.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

from losstune.spaces import InputError
from losstune.trainables.checkpoint import write_bytes
from losstune.trainables.storage import Place

if TYPE_CHECKING:
    from torch import Tensor

Batches = Callable[[], Iterable[tuple["Tensor", "Tensor"]]]
IN_FLOAT32 = ("class_offsets", "within_scatter", "weight")


@dataclass(frozen=True)
class FeatureStatistics:
    """Features x (d) of N examples of K classes; N_k of class k. Of a class without examples, NaN, and 0 for counts.

    counts (K,): N_k. mean (d,): of all examples. class_offsets (K, d): class means minus mean.
    within_squares (K,): mean of the squared distance to the own class mean. within_scatter (d (d + 1) / 2,): upper
    triangle, row by row, of S_W = 1/N sum (x - m_y)(x - m_y)^T.
    singular_values, centered_singular_values (min(N, d),): of the matrix of all x, and of all x - mean, over sqrt(N);
    descending. Those below sqrt(d * 2.2e-16) of the largest cannot be told from 0 and are 0.
    The next four, index 0: of the rows x; index 1: of the rows x - mean; both made unit vectors u, 0 where the row is.
    unit_rows (2, K): rows that are not 0. unit_squares (2, K): squared norm of the class mean of u.
    unit_balanced (2,): squared norm of the mean of these class means. unit_pooled (2,): of the mean of all u.
    nearest_right (K,): examples whose nearest class center is their own class's.
    With a linear final layer: weight (K, d), as given. nearest_agrees (K,): examples whose nearest class center is the
    class of the largest logit. hardness (K,): mean angular visual hardness of the hardness_rows (K,) examples that
    have one, which those with x = 0 have not.
    """

    counts: np.ndarray
    mean: np.ndarray
    class_offsets: np.ndarray
    within_squares: np.ndarray
    within_scatter: np.ndarray
    singular_values: np.ndarray
    centered_singular_values: np.ndarray
    unit_rows: np.ndarray
    unit_squares: np.ndarray
    unit_balanced: np.ndarray
    unit_pooled: np.ndarray
    nearest_right: np.ndarray
    weight: np.ndarray | None = None
    nearest_agrees: np.ndarray | None = None
    hardness: np.ndarray | None = None
    hardness_rows: np.ndarray | None = None

    @property
    def class_means(self) -> np.ndarray:
        """(K, d); NaN for a class without examples."""
        return self.mean + self.class_offsets


def feature_statistics(
    batches: Batches, num_classes: int, weight: Tensor | None, bias: Tensor | None, centers: Tensor | None = None
) -> FeatureStatistics:
    """The statistics of (features (B, d), targets (B,)) of any floating dtype, in float64 on the features' device.

    batches: gives the same batches at each of two calls. weight (K, d), bias (K,): of a linear final layer, or None.
    centers (K, d): what examples are nearest to, of another split for example, NaN for classes without one; by default
    this split's class means. Of equally near centers and equal logits the class with the lowest number wins.
    Angular visual hardness: the angle between x and w_y over the sum of the angles between x and all w_k (Chen et al.
    2020, Angular Visual Hardness). Memory: O(d^2 + K d) and a batch. InputError for features that are not finite or
    too large to be squared, targets outside [0, K), shapes that do not fit, no examples, and batches that differ the
    second time.
    """
    from losstune.trainables.feature_passes import recorded

    return FeatureStatistics(**recorded(batches, num_classes, weight, bias, centers))


def write(path: Place, statistics: dict[str, FeatureStatistics]) -> str:
    """Write the statistics of a member's splits, by name, whole or not at all; the file's sha256 in hex. ValueError."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays_of(statistics))
    return write_bytes(path, buffer.getvalue())


def arrays_of(statistics: dict[str, FeatureStatistics]) -> dict[str, np.ndarray]:
    """The arrays of the file by name.

    The splits have the same weight, or none has one; else ValueError.
    """
    weights = [found.weight for found in statistics.values()]
    if any((w is None) != (weights[0] is None) or not np.array_equal(w, weights[0]) for w in weights):
        raise ValueError("the splits have different final layers")
    arrays: dict[str, np.ndarray] = {}
    for split, found in statistics.items():
        for name, value in vars(found).items():
            if value is not None:
                key = name if name == "weight" else f"{split}/{name}"
                arrays |= _in_float32(key, value) if name in IN_FLOAT32 else {key: value}
    return arrays


def _in_float32(key: str, value: np.ndarray) -> dict[str, np.ndarray]:
    # In units of the largest, because squares of small or large features leave the range of float32.
    scale = np.max(np.abs(value), initial=0.0, where=~np.isnan(value)) or 1.0
    return {key: (value / scale).astype(np.float32), f"{key}_scale": np.float64(scale)}


def read(path: Place) -> dict[str, FeatureStatistics]:
    """Read what write wrote; nothing in it is unpickled. InputError when it is missing, damaged or something else."""
    try:
        with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as archive:
            # Whole, which holds it to its checksum; numpy alone stops where the array should end.
            parts = {name.removesuffix(".npy"): archive.read(name) for name in archive.namelist()}
        arrays = {name: np.lib.format.read_array(io.BytesIO(part), allow_pickle=False) for name, part in parts.items()}
        return from_arrays(arrays)
    except Exception as error:  # zipfile, zlib and numpy raise whatever Python does on odd bytes
        reason = getattr(error, "strerror", None) or f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise InputError(f"{path}: not a member's feature statistics ({reason[:200]}); "
                         "allowed: what a study's confirm has written") from None  # fmt: skip


def from_arrays(arrays: dict[str, np.ndarray]) -> dict[str, FeatureStatistics]:
    """What arrays_of was given. ValueError, KeyError or TypeError for arrays that it has not made."""
    arrays = dict(arrays)
    for key in [key for key in arrays if key.rpartition("/")[2] in IN_FLOAT32]:
        if arrays[key].dtype != np.float32:
            raise ValueError(f"{key} is {arrays[key].dtype}")
        arrays[key] = arrays[key] * np.float64(arrays.pop(f"{key}_scale"))
    weight, splits = arrays.pop("weight", None), {}
    for key, value in arrays.items():
        split, _, name = key.rpartition("/")
        splits.setdefault(split, {"weight": weight} if weight is not None else {})[name] = value
    found = {split: FeatureStatistics(**values) for split, values in splits.items()}
    for split, statistics in found.items():
        _check(split, statistics)
    return found


def _check(split: str, found: FeatureStatistics) -> None:
    """ValueError for arrays that do not fit each other."""
    classes, width = found.class_offsets.shape
    spectrum = (min(int(found.counts.sum()), width),)
    shapes = {
        "mean": (width,), "class_offsets": (classes, width), "weight": (classes, width),
        "within_scatter": (width * (width + 1) // 2,), "singular_values": spectrum,
        "centered_singular_values": spectrum, "unit_rows": (2, classes), "unit_squares": (2, classes),
        "unit_balanced": (2,), "unit_pooled": (2,),
    }  # fmt: skip
    whole = ("counts", "unit_rows", "nearest_right", "nearest_agrees", "hardness_rows")
    for name in (field.name for field in fields(found)):
        value, kind = getattr(found, name), "i" if name in whole else "f"
        if value is None and name in ("weight", "nearest_agrees", "hardness", "hardness_rows"):
            continue
        if value.shape != shapes.get(name, (classes,)) or value.dtype.kind != kind:
            raise ValueError(f"{split}/{name} is {value.dtype} of shape {value.shape}")
