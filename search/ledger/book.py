"""The trials of a ledger in the memory of its one writer, and what a transaction writes of them at its end."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from losstune.search.ledger import read, write
from losstune.search.ledger.copies import brought_note
from losstune.search.ledger.database import Ledger
from losstune.search.locations import files_of
from losstune.trainables.messages import Report, Saved
from losstune.trainables.storage import Place, files_in

Row = dict[str, Any]
KEPT = 2  # checkpoints of a trial


def checkpoints(row: Row) -> tuple[Saved, ...]:
    """What a trial can go on from, the latest first."""
    return tuple(Saved(**saved) for saved in row["checkpoints"] or ())


def resumable(row: Row) -> bool:
    """Whether a trial may still be trained on: what was cut of a search is, when the study is given more hours."""
    return row["state"] == "running" or (row["state"] == "cut" and row["phase"] == "search")


class Book:
    """Rows of trials as the ledger has them, by id. Whoever alters a row says so (alter), within a transaction."""

    def __init__(self, ledger: Ledger):
        self.ledger, self.folder, self.stored = ledger, ledger.folder, files_of(ledger.folder)
        # An object store answers in tenths of a second, for which no lane is to wait.
        self._behind = None if isinstance(self.stored, Path) else ThreadPoolExecutor(1)
        # Another machine that goes on with the ledger's copy in a storage needs what that copy names.
        self._brought = brought_note(ledger.at) if isinstance(ledger.at, Path) and self.stored != self.folder else None
        self._unneeded: dict[Place, int] = {}  # since when, in ns
        self.trials: dict[str, Row] = {}
        self.running: dict[str, Row] = {}
        self.decisions: dict[tuple[str, int], str] = {}  # by trial and epoch
        self.recorded: dict[str, int] = {}  # by trial, the last epoch of its reports
        self._last_asked = 0.0
        self._counted: dict[str, tuple[int, int]] = {}  # attempt, and the epoch up to which its cost is counted
        self._added: list[Row] = []  # to be written, as are the next two
        self._altered: dict[str, Row] = {}
        self._reports: list[Row] = []

    def load(self, tx: Connection, losses: Collection[str]) -> None:
        """Read the trials of some losses, and what was decided."""
        self.learn(tx, None, losses)
        self.running = {trial: row for trial, row in self.trials.items() if row["state"] == "running"}
        self.decisions = read.decisions(tx)
        for trial, epoch in self.decisions:
            self.recorded[trial] = max(epoch, self.recorded.get(trial, 0))

    def learn(self, tx: Connection, phase: str | None, losses: Collection[str]) -> None:
        """Read the trials of a phase that are not here yet."""
        for row in read.all_trials(tx, phase):
            if row["loss"] in losses:
                self.trials.setdefault(row["id"], row)
                self._last_asked = max(self._last_asked, row["asked"])

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Connection]:
        """A transaction of the ledger, at whose end is written what has changed: a statement per table, not per row."""
        with self.ledger.transaction() as tx:
            yield tx
            added = {row["id"] for row in self._added}
            write.add_trials(tx, self._added)
            write.set_trials(tx, [row for trial, row in self._altered.items() if trial not in added])
            write.add_reports(tx, self._reports)
        self._added, self._altered, self._reports = [], {}, []

    def add(self, values: Row) -> Row:
        """A new trial that runs from now on; its row. Each is asked after the one before, whatever the clock does."""
        self._last_asked = max(time.time(), self._last_asked + 1e-6)
        row = {"attempt": 1, "crashes": 0, "lane": None, "epoch": 0, "trained": 0, "score": None, "best_epoch": None,
               "reason": None, "slot_seconds": 0.0, "checkpoints": [], "joined": 0, "asked": self._last_asked,
               "ended": None, "results": None, "files": None, **values}  # fmt: skip
        self.trials[row["id"]] = self.running[row["id"]] = row
        self._added.append(row)
        return row

    def alter(self, row: Row, **values: Any) -> None:
        row.update(values)
        self._altered[row["id"]] = row

    def keep(self, row: Row, saved: Saved, crashes: int) -> None:
        """A trial's latest checkpoint; the one before it stays, for a disk may damage one."""
        self.alter(row, checkpoints=[asdict(saved), *row["checkpoints"]][:KEPT], crashes=crashes)

    def reached(self) -> int:
        """The latest time, on a lane's clock, at which something was reported in the search."""
        return max((row["joined"] + row["epoch"] for row in self.trials.values() if row["phase"] == "search"),
                   default=0)  # fmt: skip

    def end(self, row: Row, state: str, **values: Any) -> None:
        if values.get("reason"):
            values["reason"] = values["reason"].replace("\0", "")  # which is no text for PostgreSQL
        self.alter(row, state=state, ended=time.time(), lane=None, **values)
        del self.running[row["id"]]

    def record(self, row: Row, report: Report, decision: str, score: float | None) -> None:
        """A report with the decision on it."""
        self.alter(row, epoch=max(row["epoch"], report.epoch))
        self.decisions[row["id"], report.epoch] = decision
        self.recorded[row["id"]] = report.epoch
        self._reports.append({"trial": row["id"], "epoch": report.epoch, "attempt": report.attempt, "score": score,
                              "decision": decision, "curve": report.curve, "time": time.time()})  # fmt: skip

    def count(self, row: Row, report: Report) -> None:
        """Add to a trial's cost what a report tells for the first time."""
        start = report.epoch - len(report.curve)
        attempt, epoch = self._counted.get(row["id"], (0, 0))
        new = report.epoch - (max(start, epoch) if attempt == report.attempt else start)
        if new > 0:
            self.alter(row, slot_seconds=row["slot_seconds"] + report.seconds, trained=row["trained"] + new)
            self._counted[row["id"]] = report.attempt, report.epoch

    def held_by(self, lane: str) -> list[Row]:
        """The running trials that a lane has."""
        return [row for row in self.running.values() if row["lane"] == lane]

    def discard_checkpoints(self, report: Report) -> None:
        """Remove the files that no restart can need after a report: all of an ended trial, all but two of others."""
        row = self.trials.get(report.trial)
        if row is None or (report.checkpoint is None and row["state"] == "running"):
            return
        needed = {Path(saved.path).name for saved in checkpoints(row)} if resumable(row) else set()
        if self._behind is None:
            self._discard(row["id"], needed)
        else:
            self._behind.submit(self._discard, row["id"], needed)

    def _discard(self, trial: str, needed: set[str]) -> None:
        for path, _ in list(files_in(self.stored / "checkpoints" / trial)):
            # Names are in order; of a later one the message may be on its way.
            if path.name not in needed and (not needed or path.name < max(needed)):
                self._unneeded.setdefault(path, time.time_ns())
        brought = None if self._brought is None else self._brought.stat().st_mtime_ns if self._brought.exists() else 0
        for path, since in list(self._unneeded.items()):
            if brought is None or since < brought:
                path.unlink(missing_ok=True)
                del self._unneeded[path]
