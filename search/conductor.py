"""The one place that asks, decides and commits. exchange(a lane's message) -> its orders.

A report, the decision on it and the asks that follow are one transaction, committed before the lane hears of them.
All state is rebuilt from the ledger, at the start of any run.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from losstune.search.blame import MOST_CRASHES, Blame
from losstune.search.confirming import Confirm
from losstune.search.decisions import Decisions
from losstune.search.ledger import read, write
from losstune.search.ledger.book import Book
from losstune.search.ledger.database import Ledger, get_meta, set_meta
from losstune.search.ledger.schema import BACKEND_ON
from losstune.search.places import Places
from losstune.search.roster import MOST_FALSE_STARTS, Death, Roster
from losstune.search.searching import Search
from losstune.search.study import Study
from losstune.trainables.messages import Message, Orders, Report

Row = dict[str, Any]


class Conductor:
    """Conducts the lanes of one study.

    floor: the constant predictor's metrics, which a failed member scores: {"validation": {..}, "test": {..}}.
    test: what gives a lane the sealed test split; it is handed out with confirm's first order. slots: how many lanes
    there are to be. home: the machine that this runs on, in Ray's terms.
    """

    def __init__(self, study: Study, ledger: Ledger, floor: dict[str, dict[str, float]], greater_is_better: bool,
                 test: Any = None, slots: int = 1, home: str | None = None):  # fmt: skip
        self.study, self.ledger, self.test = study, ledger, test
        self.book = Book(ledger)
        self.training = False
        self.lanes = Roster(self.book.folder, study.stop.stalled_minutes)
        self.stopping = False
        self.draining: set[str] = set()  # machines that are about to go, in Ray's terms
        self.broken: str | None = None  # why the study cannot go on, if so
        with self.book.transaction() as tx:
            self.search = Search(study, greater_is_better, floor["validation"], tx)
            self.confirm = Confirm(study, floor, tx)
            self.decisions = Decisions(self.book, self.search, self.confirm)
            self.book.load(tx, study.spaces)
            self.places = Places(study, self.book, self.search, self.confirm, self.lanes.__len__, slots)
            self.blame = Blame(self.book, home, self.places.offer_again)
            for row in self.book.running.values():  # whatever ran when the last run ended has no lane any more
                self._roll_back(tx, row)
                self.places.offer_again(row)

    def _roll_back(self, tx: Connection, row: Row) -> None:
        """A trial of which a disk has lost the last reports, and nothing else, is as far as they say."""
        last = self.book.recorded.get(row["id"], 0)
        if row["epoch"] > last:
            left = [saved for saved in row["checkpoints"] if saved["epoch"] <= last]
            self.book.alter(row, epoch=last, score=None, best_epoch=None, checkpoints=left)
            for report in read.reports_of(tx, row["id"]):
                self.search.note_best(row, report["curve"])

    def register(self, slot: str, lane: str, started: float, device: str, node: str | None = None) -> bool:
        """A lane's process has started, on a node of Ray's; whether it is wanted.

        What the slot's last lane still held is offered again.
        """
        with self.book.transaction() as tx:
            death = self.lanes.enter(tx, slot, lane, started, device, node)
            if death is not None:
                self._bury(tx, death)
            useless = self.lanes.false_starts.get(slot, 0) >= MOST_FALSE_STARTS
            if useless or self.stopping or self._finished():
                self.lanes.dismiss(tx, slot, useless)
                self._give_up_if_hopeless()
                return False
        return True

    def _give_up_if_hopeless(self) -> None:
        if self.lanes.hopeless() and not self.stopping and not self._finished():
            self.broken = f"lanes die before they train anything: {self.lanes.last_death}"

    def over(self) -> bool:
        """Whether nothing is left that a lane could do or finish, however many Ray still has to place."""
        return (self.stopping or self._finished()) and not any(map(self.book.held_by, self.lanes.lanes.values()))

    def lane_died(self, slot: str, why: str, with_machine: bool, when: float) -> None:
        """What Ray says of the death of a slot's lane; with_machine: no trial is to blame. when: time.monotonic().

        What it held is offered again at once: where a machine is lost there may be no room for another lane of the slot
        as long as the others wait for these trials.
        """
        with self.book.transaction() as tx:
            if self.lanes.is_of(slot, when):
                self._bury(tx, self.lanes.leave(tx, slot, why, with_machine))
            elif slot not in self.lanes.lanes and not (with_machine or self.stopping or self._finished()):
                self.lanes.failed_to_start(tx, slot, why)
                self._give_up_if_hopeless()

    def _bury(self, tx: Connection, death: Death) -> None:
        """Offer what a dead lane held again, as new attempts; fail what has taken lanes down too often."""
        for row in self.blame.lay(death, self.book.held_by(death.lane)):
            self._fail(tx, row, death)

    def node_lost(self, node: str) -> None:
        """A machine turns out to be lost: the trials that its lanes held when they died are not to blame."""
        with self.book.transaction() as tx:
            if self.blame.lift(node):
                write.add_event(tx, "lane", "a machine is lost, and lanes died with it; no trial is to blame for that")

    def drain(self, nodes: set[str]) -> None:
        """Machines are about to go, as Ray says: lanes there park their trials, and are started again on others."""
        self.draining = nodes

    def settle(self) -> None:
        """Fail the trials whose last death was in doubt, and is their own by now: the machine is still there."""
        guilty = self.blame.settled()
        if not guilty:
            return
        with self.book.transaction() as tx:
            for row, death in guilty:
                self._fail(tx, row, death)
            self._advance(tx)

    def give_up(self, reason: str) -> None:
        """End the study: what a lane met would meet every other."""
        self.broken = reason

    def lane_error(self, lane: str, error: str) -> None:
        """What a lane is dying of, for the reason of trials that it takes down."""
        self.lanes.has_failed(lane, error)

    def backend_of(self, device: str) -> dict[str, Any] | None:
        """The backend that was measured on this kind of device for this study, if one was."""
        with self.ledger.reading() as tx:
            return get_meta(tx, BACKEND_ON + device)

    def measured(self, device: str, choice: dict[str, Any]) -> dict[str, Any]:
        """Keep a measured backend; the one that counts: the first that was measured on this kind of device."""
        with self.ledger.transaction() as tx:
            known = get_meta(tx, BACKEND_ON + device)
            if known is None:
                set_meta(tx, BACKEND_ON + device, choice)
        return known or choice

    def exchange(self, message: Message) -> Orders:
        """Take a lane's reports, and say what it is to stop and to start in its free places."""
        lane = message.lane
        number, answer = self.lanes.answered.get(lane, (0, Orders()))
        if message.number == number:
            return answer  # which was lost on its way
        if lane not in self.lanes.lanes.values():
            return Orders(done=True)  # its slot has a newer lane
        orders = Orders()
        self.places.reached = max(self.places.reached, message.clock)
        leaves = not self.stopping and self.lanes.leaves(lane, self.draining)
        if self._has_news(message):
            self._follow(message, orders, leaves)
        self._let_end(lane, orders, leaves)
        self.lanes.answered[lane] = message.number, orders
        return orders

    def _has_news(self, message: Message) -> bool:
        """Whether a message leads to anything but that its lane lives."""
        first_trained = message.training_seconds > 0 and not self.training
        due = first_trained or message.lane in self.decisions.untold or self.search.is_to_be_cut()
        return due or not self.lanes.says_only_that_it_lives(message)

    def _follow(self, message: Message, orders: Orders, leaves: bool) -> None:
        """Commit what a lane says with what it is to do. leaves: its machine is about to go."""
        lane, free = message.lane, message.free
        with self.book.transaction() as tx:
            self._record(tx, message)
            # Halving depends on who comes first: of one message that is who was asked first.
            reports = sorted(message.reports, key=self._asked)
            ended = [trial for report in reports for trial in self._take(tx, report, orders)]
            self._advance(tx)
            ended += self.decisions.untold.pop(lane, ())
            left = {report.trial for report in message.reports if report.left}  # their places are in free already
            orders.stop += [trial for trial in ended if trial not in left]
            free += sum(len(self.book.trials[trial]["seeds"]) for trial in ended if trial not in left)
            if not self.stopping and not leaves:
                orders.start = self.places.fill(lane, free)
                if any(order.trial.phase != "search" for order in orders.start):
                    orders.test = self.test
        for report in message.reports:
            self.book.discard_checkpoints(report)

    def _let_end(self, lane: str, orders: Orders, leaves: bool) -> None:
        """Say whether a lane is to park what it has, and whether it ends. leaves: its machine is about to go."""
        held = bool(self.book.held_by(lane))
        orders.park = (self.stopping or leaves) and held
        orders.done = not held and (self.stopping or self._finished() or self._only_others_have_work())
        orders.leave = leaves and not orders.done
        self.lanes.ended.update([lane] if orders.done else [])
        if orders.leave and not held and not orders.stop:  # of what it is to stop it says what that has cost
            with self.book.transaction() as tx:
                self.lanes.move(tx, lane)

    def _record(self, tx: Connection, message: Message) -> None:
        """That a lane lives, what else it says, and when the first one trains."""
        self.lanes.hears(tx, message)
        if message.training_seconds > 0 and not self.training:
            self.training = True
            write.add_event(tx, "training", "the first epochs are trained")

    def stop(self) -> None:
        """End gently: lanes park their trials after a checkpoint and end."""
        if not self.stopping:
            self.stopping = True
            with self.book.transaction() as tx:
                write.add_event(tx, "stop", "stopped by the user")

    def _finished(self) -> bool:
        return self.search.chosen and self.confirm.finished(self.book.running.values()) and not self.places.waiting

    def _only_others_have_work(self) -> bool:
        """Whether what is left is all on lanes: an idle one then ends, so that a cluster may let its machine go.

        Should one of the others die, Ray starts another lane of its slot.
        """
        asked = self.search.chosen and not self.confirm.left and not self.places.waiting and not self.blame.doubtful
        return asked and all(row["lane"] for row in self.book.running.values())

    def _take(self, tx: Connection, report: Report, orders: Orders) -> list[str]:
        """Commit one report with the decision on it; the trial, if it has ended by that."""
        row = self.book.trials.get(report.trial)
        known = row is not None and report.attempt == row["attempt"]
        if known:
            self.book.count(row, report)
        if not known or row["state"] != "running":
            # Another attempt has it, or it was trained on before its lane heard that it had ended.
            orders.stop += [] if report.left else [report.trial]
            return []
        if report.failure is not None:
            if report.metric_raised and not row["number"] and not self.book.decisions:
                self.broken = report.failure  # on a loss's default, and it has never worked: the metric is to blame
                return []
            self.decisions.end(tx, row, "failed", reason=report.failure, epoch=max(row["epoch"], report.epoch))
            return [row["id"]]
        decision = self.decisions.on(row, report)
        if decision == "go":
            self._keep(row, report)
            return []
        self.decisions.end(tx, row, {"stop": "stopped", "end": "complete"}[decision], results=report.results,
                           files=report.files)  # fmt: skip
        return [row["id"]]

    def _asked(self, report: Report) -> float:
        row = self.book.trials.get(report.trial)
        return row["asked"] if row else 0.0

    def _keep(self, row: Row, report: Report) -> None:
        """What a trial that goes on has saved, here or, parked, on another lane."""
        if report.checkpoint is not None:
            # What has come a checkpoint further is not what killed its lanes.
            crashes = row["crashes"] if report.parked else 0
            self.book.keep(row, report.checkpoint, crashes)
        if report.parked:
            self.places.offer_again(row)

    def _advance(self, tx: Connection) -> None:
        """Cut the search if its time is up; choose when it is over; then confirm."""
        for row in self.search.cut_if_due(tx, self.book.trials):
            self.places.withdraw(row)
            self.decisions.end(tx, row, "cut", reason="the study's hours were up")
        if not self.search.chosen and self.search.finished(self.book.running.values()):
            self.search.choose(tx, self.book.trials)
            self.confirm.begin(tx)
            self.book.learn(tx, "confirm", self.study.spaces)
            self._drop_earlier_rounds(tx)

    def _drop_earlier_rounds(self, tx: Connection) -> None:
        """What an earlier confirm had not finished when trials were added is of no use any more."""
        for row in list(self.book.running.values()):
            if row["phase"] == "confirm" and row["round"] < self.confirm.round:
                self.places.withdraw(row)
                self.decisions.end(tx, row, "cut", reason="trials were added before this confirm had ended")

    def _fail(self, tx: Connection, row: Row, death: Death) -> None:
        reason = f"its lane died {MOST_CRASHES} times while training it: {death.why}"
        self.decisions.end(tx, row, "failed", reason=reason)
