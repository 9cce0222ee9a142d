"""The one place that asks, decides and commits. exchange(lane, reports, free places) -> orders.

A report, the decision on it and the asks that follow are one transaction, committed before the lane hears of them.
All state is rebuilt from the ledger, at the start of any run.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from losstune.search.confirming import Confirm
from losstune.search.ledger import read, write
from losstune.search.ledger.database import Ledger
from losstune.search.searching import Search
from losstune.search.study import Study
from losstune.trainables.messages import Order, Orders, Report
from losstune.trainables.trial import Trial

MOST_CRASHES = 3  # lanes that a trial may take down before it is failed
MOST_FALSE_STARTS = 3  # lanes in a row that may die before they ask for anything
Row = dict[str, Any]


class Conductor:
    """Conducts the lanes of one study.

    floor: the constant predictor's metrics, which a failed member scores: {"validation": {..}, "test": {..}}.
    test: what gives a lane the sealed test split; it is handed out with confirm's first order.
    """

    def __init__(self, study: Study, ledger: Ledger, floor: dict[str, dict[str, float]], greater_is_better: bool,
                 test: Any = None):  # fmt: skip
        self.study, self.ledger, self.test = study, ledger, test
        self.lanes: dict[str, str] = {}  # slot -> the id of the lane that has it now
        self.stopping = False
        self.untold: dict[str, list[str]] = {}  # lane -> trials that were cut while it trains them
        self.silent: set[str] = set()  # lanes that have not asked for anything yet
        self.false_starts = 0
        self.broken: str | None = None  # why the study cannot go on, if so
        self.errors: dict[str, str] = {}  # a lane's id -> what it died of, where it could still say so
        with ledger.transaction() as tx:
            self.search = Search(study, greater_is_better, floor["validation"], tx)
            self.confirm = Confirm(study, floor, tx)
            rows = [row for row in read.all_trials(tx) if row["loss"] in study.spaces]
            self.trials: dict[str, Row] = {row["id"]: row for row in rows}
            # Whatever was running when the last run ended has no lane any more.
            self.waiting = [row["id"] for row in rows if row["state"] == "running"]
            for trial in self.waiting:
                self.trials[trial].update(lane=None, attempt=self.trials[trial]["attempt"] + 1)
                self._save(tx, self.trials[trial])

    def register(self, slot: str, lane: str, started: float, device: str) -> None:
        """A lane's process has started. What the slot's last lane still held is offered again, as a new attempt."""
        with self.ledger.transaction() as tx:
            gone = self.lanes.get(slot)
            self.lanes[slot] = lane
            self.silent.add(lane)
            write.add_lane(tx, id=lane, slot=slot, started=started, device=device)
            if gone is None:
                return
            error = self.errors.pop(gone, "its process was gone")
            if gone in self.silent:
                self.false_starts += 1
            if self.false_starts >= MOST_FALSE_STARTS:
                self.broken = f"lanes die before they train anything: {error}"
            write.add_event(tx, "lane", f"the lane of slot {slot} died ({error}) and was started again")
            for row in list(self.trials.values()):
                if row["lane"] == gone and row["state"] == "running":
                    self._release(tx, row, error)

    def give_up(self, reason: str) -> None:
        """End the study: what a lane met would meet every other."""
        self.broken = reason

    def lane_error(self, lane: str, error: str) -> None:
        """What a lane is dying of, for the reason of trials that it takes down."""
        self.errors[lane] = error

    def exchange(self, lane: str, reports: list[Report], free: int, training_seconds: float) -> Orders:
        """Take a lane's reports, and say what it is to stop and to start in its free places."""
        orders = Orders()
        if lane not in self.lanes.values():
            orders.done = True  # its slot has a newer lane
            return orders
        self.silent.discard(lane)
        self.false_starts = 0
        with self.ledger.transaction() as tx:
            write.seen_lane(tx, lane, training_seconds)
            for report in reports:
                free += self._take(tx, report, orders)
            self._advance(tx)
            for trial in self.untold.pop(lane, ()):
                orders.stop.append(trial)
                free += len(self.trials[trial]["seeds"])
            if not self.stopping:
                self._fill(tx, lane, free, orders)
        for report in reports:
            self._discard_checkpoints(report)
        held = any(row["lane"] == lane and row["state"] == "running" for row in self.trials.values())
        orders.park = self.stopping and held
        orders.done = not held and (self.stopping or self._finished())
        return orders

    def stop(self) -> None:
        """End gently: lanes park their trials after a checkpoint and end."""
        if not self.stopping:
            self.stopping = True
            with self.ledger.transaction() as tx:
                write.add_event(tx, "stop", "stopped by the user")

    def _finished(self) -> bool:
        return self.search.chosen and self.confirm.finished(self.trials) and not self.waiting

    def _take(self, tx: Connection, report: Report, orders: Orders) -> int:
        """Commit one report with the decision on it; the places that this frees on the lane."""
        row = self.trials.get(report.trial)
        if row is None or report.attempt != row["attempt"] or row["state"] != "running":
            orders.stop.append(report.trial)
            return 0
        row["slot_seconds"] += report.seconds
        if report.failure is not None:
            orders.stop.append(row["id"])
            row["epoch"] = max(row["epoch"], report.epoch)
            return self._end(tx, row, "failed", reason=report.failure)
        decision = self._committed(tx, row, report)
        self._keep_checkpoint(row, report)
        if report.checkpoint is not None and not report.parked:
            row["crashes"] = 0  # it has come further, alone: what killed its lanes was not it
        if report.parked:
            row["lane"] = None
            self.waiting.append(row["id"])
        if decision == "go":
            self._save(tx, row)
            return 0
        orders.stop.append(row["id"])
        return self._end(tx, row, {"stop": "stopped", "end": "complete"}[decision], results=report.results)

    def _committed(self, tx: Connection, row: Row, report: Report) -> str:
        """The decision on a report; one that the ledger has already, from an earlier attempt, stands."""
        known = write.decision_at(tx, row["id"], report.epoch)
        if known is not None or not report.curve:
            return known or "go"
        decision = self._decide(row, report)
        row["epoch"] = max(row["epoch"], report.epoch)
        write.add_report(tx, trial=row["id"], epoch=report.epoch, attempt=report.attempt, decision=decision,
                         score=self.search.score_at(report.curve[-1]), curve=report.curve)  # fmt: skip
        return decision

    def _decide(self, row: Row, report: Report) -> str:
        """go, stop (halving) or end (the full length)."""
        if row["phase"] == "confirm":
            self.search.note_best(row, report.curve)
            return "end" if report.epoch >= row["epochs"] else "go"
        return self.search.decide(row, report)

    def _end(self, tx: Connection, row: Row, state: str, **values: Any) -> int:
        """Commit a trial's end; its places."""
        if state == "failed" and row["phase"] == "confirm":
            values["results"] = self.confirm.failed_results()
        if state == "cut" and row["lane"]:
            self.untold.setdefault(row["lane"], []).append(row["id"])
        if row["phase"] == "search":
            self.search.ended(row, state)
            if state == "failed":
                values["score"] = self.search.floor
        row.update(state=state, ended=time.time(), lane=None, **values)
        self._save(tx, row)
        if state == "failed":
            write.add_event(tx, "failure", f"{row['id']}: {row['reason']}")
        return len(row["seeds"])

    def _advance(self, tx: Connection) -> None:
        """Cut the search if its time is up; choose when it is over; then confirm."""
        for row in self.search.cut_if_due(tx, self.trials):
            if row["id"] in self.waiting:
                self.waiting.remove(row["id"])
            self._end(tx, row, "cut", reason="the study's hours were up")
        if not self.search.chosen and self.search.finished(self.trials):
            self.search.choose(tx, self.trials)
            self.confirm.begin(tx)
            self.trials.update({row["id"]: row for row in read.all_trials(tx, "confirm")
                                if row["loss"] in self.study.spaces and row["id"] not in self.trials})  # fmt: skip
            self._drop_earlier_rounds(tx)

    def _drop_earlier_rounds(self, tx: Connection) -> None:
        """What an earlier confirm had not finished when trials were added is of no use any more."""
        for row in self.trials.values():
            if row["phase"] == "confirm" and row["round"] < self.confirm.round and row["state"] == "running":
                if row["id"] in self.waiting:
                    self.waiting.remove(row["id"])
                self._end(tx, row, "cut", reason="trials were added before this confirm had ended")

    def _fill(self, tx: Connection, lane: str, free: int, orders: Orders) -> None:
        """Give a lane what fits its free places: what was running before comes first, then new asks."""
        holds = [row for row in self.trials.values() if row["lane"] == lane and row["state"] == "running"]
        if any(row["crashes"] for row in holds):
            return  # a trial that was there when a lane died runs alone, so that the guilty one shows
        while free > 0:
            row = self._next_waiting(free if holds else None) or self._next_new(tx, free if holds else None)
            if row is None:
                return
            row["lane"] = lane
            self._save(tx, row)
            holds.append(row)
            free -= len(row["seeds"])
            orders.start.append(self._order(row))
            if row["phase"] == "confirm":
                orders.test = self.test
            if row["crashes"]:
                return

    def _next_waiting(self, room: int | None) -> Row | None:
        for trial in self.waiting:
            row = self.trials[trial]
            if row["phase"] == "confirm" and not self.search.chosen:
                continue
            if room is None or not (row["crashes"] or len(row["seeds"]) > room):
                self.waiting.remove(trial)
                return row
        return None

    def _next_new(self, tx: Connection, room: int | None) -> Row | None:
        """Ask only for what there is room for: what is asked ahead of results is asked blindly."""
        if not self.search.chosen and room is not None and room < self.study.search.seeds:
            return None
        values = self.search.next(self.trials) if not self.search.chosen else self.confirm.next(self.trials)
        if values is None:
            return None
        write.add_trial(tx, **values)
        row = {"attempt": 1, "crashes": 0, "lane": None, "epoch": 0, "score": None, "best_epoch": None, "reason": None,
               "slot_seconds": 0.0, "checkpoint": None, "checkpoint_digest": None, "checkpoint_epoch": 0,
               "ended": None, "results": None, **values}  # fmt: skip
        self.trials[row["id"]] = row
        return row

    def _release(self, tx: Connection, row: Row, error: str) -> None:
        """A trial whose lane died: offered again from its checkpoint, or failed when it was there too often."""
        row["crashes"] += 1
        if row["crashes"] >= MOST_CRASHES:
            self._end(tx, row, "failed", reason=f"its lane died {MOST_CRASHES} times while training it: {error}")
            return
        row.update(attempt=row["attempt"] + 1, lane=None)
        self._save(tx, row)
        self.waiting.append(row["id"])

    def _order(self, row: Row) -> Order:
        configuration = dict(row["configuration"])
        rates = configuration.pop("learning_rate"), configuration.pop("weight_decay")
        trial = Trial(row["id"], row["loss"], configuration, *rates, self._seed_phase(row), tuple(row["seeds"]),
                      row["epochs"])  # fmt: skip
        report_at = self.study.rungs() if row["phase"] == "search" else [row["epochs"]]
        return Order(trial, row["attempt"], tuple(report_at), row["checkpoint"], row["checkpoint_digest"])

    @staticmethod
    def _seed_phase(row: Row) -> str:
        """What seeds derive from; every round of confirm has fresh ones."""
        return row["phase"] if row["round"] == 0 else f"{row['phase']}-{row['round']}"

    def _save(self, tx: Connection, row: Row) -> None:
        changing = ("state", "reason", "attempt", "crashes", "lane", "ended", "epoch", "score", "best_epoch",
                    "slot_seconds", "checkpoint", "checkpoint_digest", "checkpoint_epoch", "results")  # fmt: skip
        write.set_trial(tx, row["id"], **{name: row[name] for name in changing})

    @staticmethod
    def _keep_checkpoint(row: Row, report: Report) -> None:
        if report.checkpoint is not None:
            row.update(checkpoint=report.checkpoint, checkpoint_digest=report.checkpoint_digest,
                       checkpoint_epoch=report.epoch)  # fmt: skip

    def _discard_checkpoints(self, report: Report) -> None:
        """Remove what no restart can need: an ended trial's checkpoints, and all but a running one's last."""
        row = self.trials.get(report.trial)
        if row is None or row["checkpoint"] is None:
            return
        keep = Path(row["checkpoint"]) if row["state"] == "running" else None
        for path in Path(row["checkpoint"]).parent.glob("*.pt"):
            if path != keep:
                path.unlink(missing_ok=True)
