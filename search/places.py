"""What the free places of a lane are given: trials that were running before, then new ones, a fair share for each lane.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

from losstune.search.confirming import Confirm
from losstune.search.ledger.book import Book, checkpoints
from losstune.search.searching import Search
from losstune.search.study import Study
from losstune.trainables.messages import Order
from losstune.trainables.trial import Trial

SUSPECT = 2  # deaths of lanes from which on a trial runs alone, so that the guilty one shows
STARTING_SECONDS = 60.0  # for so long lanes that have not come yet are reckoned with
Row = dict[str, Any]


class Places:
    """Fills free places of lanes. lanes: how many there are now; slots: how many there are to be."""

    def __init__(self, study: Study, book: Book, search: Search, confirm: Confirm, lanes: Callable[[], int],
                 slots: int):  # fmt: skip
        self.study, self.book, self.search, self.confirm = study, book, search, confirm
        self.lanes, self.slots, self.began = lanes, slots, time.monotonic()
        self.reached = book.reached()  # the latest that any lane's clock has shown
        self.waiting: list[str] = []  # trials that were running, and are to go on

    def offer_again(self, row: Row) -> None:
        """A trial that no lane has any more goes on, as a new attempt, where there is room first."""
        self.book.alter(row, attempt=row["attempt"] + 1, lane=None)
        self.waiting.append(row["id"])

    def withdraw(self, row: Row) -> None:
        """A trial that is to end does not wait any more."""
        if row["id"] in self.waiting:
            self.waiting.remove(row["id"])

    def fill(self, lane: str, free: int) -> list[Order]:
        """Trials for a lane, as fit its free places; recorded as its own."""
        if free <= 0:
            return []  # most messages of most lanes: what follows looks at all that runs
        holds, share, orders = self.book.held_by(lane), self._share(), []
        if any(row["crashes"] >= SUSPECT for row in holds):
            return []  # it runs alone
        while free > 0 and sum(len(row["seeds"]) for row in holds) < share:
            room = free if holds else None
            row = self._next_waiting(room) or self._next_new(room)
            if row is None:
                break
            self.book.alter(row, lane=lane)
            holds.append(row)
            free -= len(row["seeds"])
            orders.append(self._order(row))
            if row["crashes"] >= SUSPECT:
                break
        return orders

    def _share(self) -> int:
        """How many members are a lane's part of those that are left in this phase: at its end none is to idle."""
        phase, seeds = ("confirm", 1) if self.search.chosen else ("search", self.study.search.seeds)
        to_ask = self.confirm.left if self.search.chosen else self.search.left
        left = sum(len(row["seeds"]) for row in self.book.running.values() if row["phase"] == phase) + seeds * to_ask
        starting = time.monotonic() - self.began < STARTING_SECONDS
        return math.ceil(left / max(self.lanes(), self.slots if starting else 1))

    def _next_waiting(self, room: int | None) -> Row | None:
        for trial in self.waiting:
            row = self.book.trials[trial]
            if row["phase"] == "confirm" and not self.search.chosen:
                continue
            if room is None or not (row["crashes"] >= SUSPECT or len(row["seeds"]) > room):
                self.waiting.remove(trial)
                return row
        return None

    def _next_new(self, room: int | None) -> Row | None:
        """Ask only for what there is room for: what is asked ahead of results is asked blindly."""
        if not self.search.chosen and room is not None and room < self.study.search.seeds:
            return None
        values = self.confirm.next() if self.search.chosen else self.search.next()
        return None if values is None else self.book.add({**values, "joined": self.reached})

    def _order(self, row: Row) -> Order:
        report_at = self.study.rungs() if row["phase"] == "search" else [row["epochs"]]
        return Order(trial_of(row), row["attempt"], tuple(report_at), checkpoints(row), row["joined"])


def trial_of(row: Row) -> Trial:
    """A row of the ledger as the trainer takes it."""
    configuration = dict(row["configuration"])
    rates = configuration.pop("learning_rate"), configuration.pop("weight_decay")
    # What seeds derive from; every round of confirm has fresh ones.
    phase = row["phase"] if row["round"] == 0 else f"{row['phase']}-{row['round']}"
    return Trial(row["id"], row["loss"], configuration, *rates, phase, tuple(row["seeds"]), row["epochs"])
