"""What is kept of a confirmed member's outputs: transformed logits on validation and test."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass

import numpy as np

from losstune.spaces import InputError
from losstune.trainables.checkpoint import write_bytes
from losstune.trainables.storage import Place


@dataclass(frozen=True)
class Predictions:
    """Logits (N, K) in float32 and targets (N,) of the validation and the test split, and the family that turns the
    logits into probabilities ("softmax", "sigmoid", or None where the loss defines none)."""

    validation_logits: np.ndarray
    validation_targets: np.ndarray
    test_logits: np.ndarray
    test_targets: np.ndarray
    probabilities: str | None


def write(path: Place, predictions: Predictions) -> str:
    """Write an .npz of the four arrays and the family, whole or not at all; its sha256 in hex."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **{**vars(predictions), "probabilities": predictions.probabilities or "none"})
    return write_bytes(path, buffer.getvalue())


def read(path: Place) -> Predictions:
    """Read what write wrote; nothing in it is unpickled. InputError when it is missing, damaged or something else."""
    try:
        with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as archive:
            # Whole, which holds it to its checksum; numpy alone stops where the array should end.
            parts = {name.removesuffix(".npy"): archive.read(name) for name in archive.namelist()}
        values = {name: np.lib.format.read_array(io.BytesIO(part), allow_pickle=False) for name, part in parts.items()}
        family = str(values.pop("probabilities"))
        found = Predictions(**values, probabilities=None if family == "none" else family)
        _check(found)
    except Exception as error:  # zipfile, zlib and numpy raise whatever Python does on odd bytes
        reason = getattr(error, "strerror", None) or f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise InputError(f"{path}: not a confirmed member's predictions ({reason[:200]}); "
                         "allowed: predictions/NAME.npz of a study") from None  # fmt: skip
    return found


def _check(found: Predictions) -> None:
    """ValueError for arrays that cannot be logits and targets."""
    for part in ("validation", "test"):
        logits, targets = getattr(found, f"{part}_logits"), getattr(found, f"{part}_targets")
        if logits.ndim != 2 or logits.dtype != np.float32:
            raise ValueError(f"{part}_logits are {logits.dtype} of shape {logits.shape}")
        if targets.shape != logits.shape[:1] or targets.dtype.kind != "i":
            raise ValueError(f"{part}_targets are {targets.dtype} of shape {targets.shape}")
    if found.probabilities not in (None, "softmax", "sigmoid"):
        raise ValueError(f"probabilities are {found.probabilities[:20]!r}")
