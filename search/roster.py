"""Which lane has which slot, and of what lanes died."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from losstune.search.ledger import write
from losstune.trainables.messages import Message, Orders
from losstune.trainables.stall import stall_path, stalled_at

Row = dict[str, Any]

MOST_FALSE_STARTS = 3  # lanes in a row that may die before they ask for anything
SEEN_SECONDS = 5.0  # between commits that lanes which have nothing to report live
_LEAVES = "the lane of slot {slot} leaves its machine, which is about to go, and is started again on another"


@dataclass(frozen=True)
class Death:
    """A lane that has died: why, in words, and whether its machine went with it, for which no trial is to blame.

    node: the machine's, in Ray's terms, of which it may become known later that it is lost; None: not known.
    """

    lane: str
    why: str
    blameless: bool
    node: str | None = None


class Roster:
    """The lanes of a run. folder: the study's. patience: minutes after which a lane that stands still is ended."""

    def __init__(self, folder: Path, patience: float):
        self.folder, self.patience = folder, patience
        self.lanes: dict[str, str] = {}  # slot -> the id of the lane that has it now
        self.answered: dict[str, tuple[int, Orders]] = {}  # lane -> its last message's number, and the answer
        self.false_starts: dict[str, int] = {}  # by slot, lanes in a row that died before they asked for anything
        self.last_death = ""
        self.ended: set[str] = set()  # lanes that were told that nothing more will come
        self.leaving: set[str] = set()  # lanes that were told that their machine is about to go
        self.known: set[str] = set()  # slots that were heard of
        self._node: dict[str, str | None] = {}  # lane -> the machine that it is on
        self._entered: dict[str, float] = {}  # lane -> when it was first heard of, by this machine's monotonic clock
        self._silent: set[str] = set()  # lanes that have not asked for anything yet
        self._errors: dict[str, str] = {}  # lane -> what it died of, as far as it is known
        self._heard: dict[str, Row] = {}  # lane -> what the ledger is to be told: when it was heard of, what it trained
        self._told_at = -SEEN_SECONDS  # when the ledger was last told of those without reports (time.monotonic)

    def __len__(self) -> int:
        """How many there are that train, or may."""
        return len(set(self.lanes.values()) - self.ended)

    def enter(
        self, tx: Connection, slot: str, lane: str, started: float, device: str, node: str | None = None
    ) -> Death | None:
        """A lane's process has started; the death of the one that had the slot before, if nobody has told of it yet."""
        death = self.leave(tx, slot) if slot in self.lanes else None
        self.known.add(slot)
        self.lanes[slot], self._node[lane], self._entered[lane] = lane, node, time.monotonic()
        self._silent.add(lane)
        write.add_lane(tx, id=lane, slot=slot, started=started, device=device)
        return death

    def leaves(self, lane: str, draining: set[str]) -> bool:
        """Whether a lane is to leave its machine; once it was told so that stays, whatever becomes of the machine."""
        if self._node.get(lane) in draining:
            self.leaving.add(lane)
        return lane in self.leaving

    def move(self, tx: Connection, lane: str) -> None:
        """A lane ends without a trial, because its machine is about to go."""
        slot = next(slot for slot, id_ in self.lanes.items() if id_ == lane)
        del self.lanes[slot], self._node[lane]
        self._silent.discard(lane)
        write.add_event(tx, "lane", _LEAVES.format(slot=slot))

    def leave(self, tx: Connection, slot: str, why: str | None = None, with_machine: bool = False) -> Death:
        """A slot's lane has died. why: what Ray says of it; with_machine: it says that the machine is lost."""
        gone = self.lanes.pop(slot)
        self.answered.pop(gone, None)
        death = Death(gone, self._why(gone, why), with_machine, self._node.pop(gone, None))
        self.last_death = death.why
        if gone in self._silent and not with_machine:
            self.false_starts[slot] = self.false_starts.get(slot, 0) + 1
        left = gone in self.leaving and why is None  # and had nothing to say any more
        died = f"the lane of slot {slot} died ({death.why}) and is started again"
        write.add_event(tx, "lane", _LEAVES.format(slot=slot) if left else died)
        return death

    def failed_to_start(self, tx: Connection, slot: str, why: str) -> None:
        """A process of a slot ended before its lane could say that it is there."""
        self.known.add(slot)
        self.last_death = why
        self.false_starts[slot] = starts = self.false_starts.get(slot, 0) + 1
        if starts <= MOST_FALSE_STARTS:  # Tune goes on with it, as another machine may have joined by then
            write.add_event(tx, "lane", f"a lane of slot {slot} could not start ({why})")

    def hopeless(self) -> bool:
        """Whether no lane lives that may train, and those of no slot come to train anything."""
        ended = {slot for slot, lane in self.lanes.items() if lane in self.ended}
        left = self.known - ended
        return not len(self) and all(self.false_starts.get(slot, 0) >= MOST_FALSE_STARTS for slot in left)

    def dismiss(self, tx: Connection, slot: str, useless: bool) -> None:
        """A lane is not wanted; useless: its slot's lanes die before they train anything."""
        lane = self.lanes.pop(slot)
        self._silent.discard(lane)
        if useless:
            write.add_event(tx, "lane", f"slot {slot} is given up: its lanes die at their start ({self.last_death})")

    def is_of(self, slot: str, died: float) -> bool:
        """Whether the lane that a slot has now is the one that died then (time.monotonic); not if it came later."""
        lane = self.lanes.get(slot)
        return lane is not None and self._entered[lane] <= died

    def _why(self, lane: str, why: str | None) -> str:
        """Where it stood still, else what it said itself, else what Ray says of its process."""
        path = stall_path(self.folder, lane)
        where = stalled_at(path)
        path.unlink(missing_ok=True)
        if where is not None:
            return f"nothing moved for {self.patience:g} minutes, {where}"
        return self._errors.pop(lane, why or "its process was gone")

    def has_failed(self, lane: str, error: str) -> None:
        """What a lane says that it is dying of."""
        self._errors[lane] = error

    def says_only_that_it_lives(self, message: Message) -> bool:
        """Whether a message holds nothing to record or to answer now; that is kept in mind.

        With hundreds of lanes most messages are such: a transaction for each would keep the conductor busy, and one
        for all every SEEN_SECONDS does.
        """
        if message.reports or message.notes or message.free or message.lane in self._silent:
            return False
        self._hear(message)
        return time.monotonic() - self._told_at < SEEN_SECONDS

    def _hear(self, message: Message) -> None:
        self._heard[message.lane] = {"of": message.lane, "seen": time.time(),
                                     "training_seconds": message.training_seconds}  # fmt: skip

    def hears(self, tx: Connection, message: Message) -> None:
        """Record that a lane lives, and what else it says."""
        lane, now = message.lane, time.monotonic()
        first = lane in self._silent
        self._silent.discard(lane)
        self.false_starts = {slot: n for slot, n in self.false_starts.items() if self.lanes.get(slot) != lane}
        self._hear(message)
        if now - self._told_at >= SEEN_SECONDS:
            self._told_at = now
            write.seen_lanes(tx, list(self._heard.values()))
            self._heard = {}
        elif message.reports or first:
            write.seen_lanes(tx, [self._heard.pop(lane)])
        for note in message.notes:
            slot = next(slot for slot, id_ in self.lanes.items() if id_ == lane)
            write.add_event(tx, "lane", f"the lane of slot {slot}: {note}")
