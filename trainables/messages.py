"""What conductor and lanes say to each other."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from losstune.trainables.trial import Trial


@dataclass(frozen=True)
class Report:
    """News of one trial from a lane.

    curve: per epoch since the last report {"epoch", "train_loss": [..], "scores": {metric: [..]}}, a value per member.
    seconds: slot time it took since then. failure: why it failed, if so. results: what confirm measured at the end.
    parked: the lane lets it go unfinished, because it was asked to.
    """

    trial: str
    attempt: int
    epoch: int
    curve: list[dict[str, Any]]
    seconds: float
    checkpoint: str | None = None
    checkpoint_digest: str | None = None
    failure: str | None = None
    results: dict[str, Any] | None = None
    parked: bool = False


@dataclass(frozen=True)
class Order:
    """A trial for a lane to take in, from its start or a checkpoint. report_at: the epochs to report at."""

    trial: Trial
    attempt: int
    report_at: tuple[int, ...]
    checkpoint: str | None = None
    checkpoint_digest: str | None = None


@dataclass
class Orders:
    """What a lane is to do now. park: let all trials go after a checkpoint. test: the sealed split, in confirm only.

    done: nothing more will come; the lane ends. Otherwise a lane without trials asks again soon.
    """

    start: list[Order] = field(default_factory=list)
    stop: list[str] = field(default_factory=list)
    park: bool = False
    done: bool = False
    test: Any = None
