"""What conductor and lanes say to each other.

A lane sends a Message and trains on; the Orders that answer it are followed at the boundary between epochs at which
they have come. A lane has at most one message without an answer, and what is ordered fits the places it had told of:

    places that a lane may be given = Message.free + those of the trials that the answer stops

A trial that has left the lane (Report.left) is in free already, and the conductor does not count it again. Between
message and answer more places may come free; the next message tells of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from losstune.trainables.trial import Trial


@dataclass(frozen=True)
class Saved:
    """A checkpoint: its path from the study's folder, the sha256 of its content, the epochs that were trained."""

    path: str
    digest: str
    epoch: int


@dataclass(frozen=True)
class Report:
    """News of one trial from a lane.

    curve: per epoch since the last report {"epoch", "train_loss": [..], "scores": {metric: [..]}}, a value per member;
    after some epochs of a confirm also "measures": {name: [..]}, of training examples.
    seconds: slot time it took since then. failure: why it failed, if so; metric_raised: the study's metric raised.
    results: what confirm measured at the end, files: the sha256 of what it wrote then, "predictions",
    "weights" and, where they could be recorded, "features", "robustness" and "transfer".
    left: the trial has left the lane, and its places are free: it has come to its end, has failed, was let go because
    it was asked to be stopped (then the epochs since the decision only cost), or is parked: let go unfinished.
    """

    trial: str
    attempt: int
    epoch: int
    curve: list[dict[str, Any]]
    seconds: float
    checkpoint: Saved | None = None
    failure: str | None = None
    results: dict[str, Any] | None = None
    files: dict[str, str] | None = None
    left: bool = False
    parked: bool = False
    metric_raised: bool = False


@dataclass(frozen=True)
class Message:
    """All news of a lane. A message that is sent again has its number again, and gets the answer that it got.

    number: counts the lane's messages from 1. free: places for members that are free as it is sent.
    training_seconds: of the lane so far. notes: what else happened, a sentence each, for the study's record.
    clock: the epochs that the lane has trained, see Order.joined.
    """

    lane: str
    number: int
    reports: list[Report]
    free: int
    training_seconds: float
    notes: list[str] = field(default_factory=list)
    clock: int = 0


@dataclass(frozen=True)
class Order:
    """A trial for a lane to take in. report_at: the epochs to report at.

    checkpoints: what it goes on from, the latest first; where none can be read it begins anew. joined: the lane's clock
    at its first epoch. A lane that is the only one takes a trial in when its clock has come to joined and the epochs
    that the trial has, so that after an interruption all meet again as they would have without it.
    """

    trial: Trial
    attempt: int
    report_at: tuple[int, ...]
    checkpoints: tuple[Saved, ...] = ()
    joined: int = 0


@dataclass
class Orders:
    """What a lane is to do now. park: let all trials go after a checkpoint. test: the sealed split, in confirm only;
    others: the OtherData that come with it, if any.

    leave: its machine is about to go; the lane ends, its trials parked, to be started again on another.

    stop: trials to let go; those that have left already are passed over. done: nothing more will come; the lane ends.
    Otherwise a lane without trials asks again soon.
    """

    start: list[Order] = field(default_factory=list)
    stop: list[str] = field(default_factory=list)
    park: bool = False
    done: bool = False
    leave: bool = False
    test: Any = None
    others: Any = None


class Exchange(Protocol):
    """How a lane speaks to the conductor. Every message is answered before the next one is sent."""

    def send(self, message: Message) -> None:
        """Send without waiting for the answer."""

    def answer(self, seconds: float | None) -> Orders | None:
        """The answer, waiting for it so long at most, or until it has come (None); None when it has not come."""
