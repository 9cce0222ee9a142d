"""What is kept of a confirmed member's outputs: transformed logits on validation and test."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from losstune.trainables.checkpoint import write_bytes


@dataclass(frozen=True)
class Predictions:
    """Logits (N, K) in float32 and targets (N,) of the validation and the test split, and the family that turns the
    logits into probabilities ("softmax", "sigmoid", or None where the loss defines none)."""

    validation_logits: np.ndarray
    validation_targets: np.ndarray
    test_logits: np.ndarray
    test_targets: np.ndarray
    probabilities: str | None


def write(path: Path, predictions: Predictions) -> str:
    """Write an .npz of the four arrays and the family, whole or not at all; its sha256 in hex."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **{**vars(predictions), "probabilities": predictions.probabilities or "none"})
    return write_bytes(path, buffer.getvalue())


def read(path: Path) -> Predictions:
    """Read what write wrote; nothing in it is unpickled."""
    with np.load(path, allow_pickle=False) as arrays:
        values = {name: arrays[name] for name in arrays.files}
    family = str(values.pop("probabilities"))
    return Predictions(**values, probabilities=None if family == "none" else family)
