"""Which trials are to blame for the deaths of lanes: one that has taken down three is failed, with the reason."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

from losstune.search.ledger.book import Book
from losstune.search.roster import Death

MOST_CRASHES = 3  # lanes that a trial may take down before it is failed
SETTLED_SECONDS = 120.0  # after so long a death is not its machine's fault any more
DOUBTFUL_SECONDS = 30.0  # within which Ray finds out that a machine is lost
Row = dict[str, Any]


class Blame:
    """Keeps the count. home: the machine that this runs on, in Ray's terms; offer_again: gives a trial to other lanes.

    A lane that dies with its machine is no trial's fault; that the machine is lost Ray may know only later.
    """

    def __init__(self, book: Book, home: str | None, offer_again: Callable[[Row], None]):
        self.book, self.home, self.offer_again = book, home, offer_again
        self.unsettled: list[tuple[str, float, list[str]]] = []  # node, time and trials of deaths that may be its fault
        self.doubtful: dict[str, tuple[float, Death]] = {}  # trials with the last death that they may have caused

    def lay(self, death: Death, held: Iterable[Row]) -> list[Row]:
        """What a dead lane held is offered again; but for the trials that are to be failed for it."""
        guilty, held = [], list(held)
        for row in held:
            row["crashes"] += not death.blameless
            if death.blameless or row["crashes"] < MOST_CRASHES:
                self.offer_again(row)
            elif death.node in (None, self.home):
                guilty.append(row)
            else:  # whether it was the machine, Ray may not know yet
                self.book.alter(row, lane=None)
                self.doubtful[row["id"]] = time.monotonic(), death
        if death.node and not death.blameless:
            self.unsettled.append((death.node, time.monotonic(), [row["id"] for row in held]))
        return guilty

    def lift(self, node: str) -> bool:
        """A machine turns out to be lost: what its lanes held when they died is not to blame. Whether there was such.
        """
        now = time.monotonic()
        guiltless = [trial for lost, died, trials in self.unsettled if lost == node and now - died < SETTLED_SECONDS
                     for trial in trials]  # fmt: skip
        self.unsettled = [one for one in self.unsettled if one[0] != node and now - one[1] < SETTLED_SECONDS]
        for row in map(self.book.trials.__getitem__, guiltless):
            self.book.alter(row, crashes=max(0, row["crashes"] - 1))
            if self.doubtful.pop(row["id"], None) and row["state"] == "running":
                self.offer_again(row)
        return bool(guiltless)

    def settled(self) -> list[tuple[Row, Death]]:
        """The trials that still run whose last death was in doubt, and is their own: the machine is still there."""
        now = time.monotonic()
        over = {trial: death for trial, (died, death) in self.doubtful.items() if now - died >= DOUBTFUL_SECONDS}
        for trial in over:
            del self.doubtful[trial]
        found = [(self.book.trials[trial], death) for trial, death in over.items()]
        return [(row, death) for row, death in found if row["state"] == "running"]
