"""What is kept of a confirmed member to measure how its features transfer: transfer/NAME.npz, its format."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass

import numpy as np

from losstune.spaces import InputError
from losstune.trainables.checkpoint import write_bytes
from losstune.trainables.features import Examples
from losstune.trainables.storage import Place

SPLITS = ("train", "test")


@dataclass(frozen=True, eq=False)
class Transferred:
    """Penultimate features of a data set's training and test examples; its digest, "" of the study's own."""

    train: Examples
    test: Examples
    digest: str


def write(path: Place, found: dict[str, Transferred]) -> str:
    """Write what is kept by data set, whole or not at all; the sha256 of the file in hex.

    An .npz of "names" (m,) and "digests" (m,), of the data sets, and "K/SPLIT/FIELD" of the k-th, fields as Examples'.
    """
    arrays = {"names": np.array(list(found)), "digests": np.array([own.digest for own in found.values()])}
    for number, own in enumerate(found.values()):
        for split in SPLITS:
            arrays |= {f"{number}/{split}/{name}": value for name, value in vars(getattr(own, split)).items()}
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return write_bytes(path, buffer.getvalue())


def read(path: Place) -> dict[str, Transferred]:
    """Read what write wrote; nothing in it is unpickled. InputError when it is missing, damaged or something else."""
    try:
        with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as archive:
            # Whole, which holds it to its checksum; numpy alone stops where the array should end.
            parts = {name.removesuffix(".npy"): archive.read(name) for name in archive.namelist()}
        arrays = {name: np.lib.format.read_array(io.BytesIO(part), allow_pickle=False) for name, part in parts.items()}
        return {
            str(name): Transferred(*(_examples(arrays, f"{number}/{split}/") for split in SPLITS), str(digest))
            for number, (name, digest) in enumerate(zip(arrays["names"], arrays["digests"], strict=True))
        }
    except Exception as error:  # zipfile, zlib and numpy raise whatever Python does on odd bytes
        reason = getattr(error, "strerror", None) or f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise InputError(f"{path}: not a confirmed member's features of other data sets ({reason[:200]}); "
                         "allowed: transfer/NAME.npz of a study") from None  # fmt: skip


def _examples(arrays: dict[str, np.ndarray], prefix: str) -> Examples:
    found = Examples(*(arrays[prefix + name] for name in ("features", "targets", "indices")))
    if found.features.ndim != 2 or found.features.dtype.kind != "f" or found.targets.shape != found.features.shape[:1]:
        raise ValueError(f"{prefix}features are {found.features.dtype} of shape {found.features.shape}")
    return found
