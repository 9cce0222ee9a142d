"""How a confirmed member fares on corrupted and shifted test sets: robustness/NAME.json, its format."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from typing import TypeVar

from losstune.spaces import InputError
from losstune.trainables.checkpoint import write_bytes
from losstune.trainables.corruptions import SEVERITIES
from losstune.trainables.storage import Place


@dataclass(frozen=True)
class Scores:
    """accuracy in [0, 1]; nll in nats and ece in [0, 1], NaN where a loss defines no probabilities."""

    accuracy: float
    nll: float
    ece: float


@dataclass(frozen=True)
class ShiftedScores(Scores):
    """On a shifted test set. constant_accuracy: of who always gives the most frequent class of training, as a failed
    member is scored. digest: of the data set. examples: in its test split."""

    constant_accuracy: float
    digest: str
    examples: int


@dataclass(frozen=True)
class Robustness:
    """clean: scores on the first so many examples of the test split in the records' order, uncorrupted; corrupted: by
    corruption, of the same examples at severities 1 to 5. shifted: by name."""

    examples: int = 0
    clean: Scores | None = None
    corrupted: dict[str, list[Scores]] = field(default_factory=dict)
    shifted: dict[str, ShiftedScores] = field(default_factory=dict)


S = TypeVar("S", bound=Scores)


def write(path: Place, found: Robustness) -> str:
    """Write a record as JSON, NaN as null, whole or not at all; the sha256 of the file in hex."""
    return write_bytes(path, (json.dumps(_plain(asdict(found)), indent=1, allow_nan=False) + "\n").encode())


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_plain(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read(path: Place) -> Robustness:
    """Read what write wrote. InputError when it is missing, damaged or something else."""
    try:
        known = json.loads(path.read_bytes())
        clean = None if known["clean"] is None else _scores(Scores, known["clean"])
        corrupted = {name: [_scores(Scores, own) for own in each] for name, each in known["corrupted"].items()}
        if any(len(each) != len(SEVERITIES) for each in corrupted.values()) or (clean is None and corrupted):
            raise ValueError("severities are missing")
        shifted = {name: _scores(ShiftedScores, own) for name, own in known["shifted"].items()}
        return Robustness(int(known["examples"]), clean, corrupted, shifted)
    except Exception as error:  # whatever odd bytes and other JSON make Python raise
        reason = getattr(error, "strerror", None) or f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise InputError(f"{path}: not a confirmed member's scores on other test sets ({reason[:200]}); "
                         "allowed: robustness/NAME.json of a study") from None  # fmt: skip


def _scores(kind: type[S], known: dict) -> S:
    found = kind(**{name: math.nan if value is None else value for name, value in known.items()})
    if not 0 <= found.accuracy <= 1:
        raise ValueError(f"accuracy is {found.accuracy}")
    return found
