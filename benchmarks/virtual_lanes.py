"""Lanes that train nothing, on a virtual clock, for benchmarks/scale.py. The conductor they speak to is the real one.

A lane does what trainables/lane.py does: it trains on while the conductor decides, reports at rungs and at the end,
sends a checkpoint's name every 15 s of training and word of itself every second, and waits for an answer as long as a
real one would. Virtual time passes by epochs of a set length and by the wall seconds that the conductor takes for each
message; it answers one message at a time, in the order in which they were sent.
"""

from __future__ import annotations

import heapq
import itertools
import math
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from losstune.search import conductor as conducting
from losstune.search import places, roster, searching
from losstune.search.ledger import book, read, write
from losstune.search.ledger.database import Ledger
from losstune.search.locations import ledger_path
from losstune.trainables.lane import CHECKPOINT_SECONDS, IDLE_SECONDS, NEWS_SECONDS
from losstune.trainables.messages import Message, Order, Orders, Report, Saved

ON_THE_CLOCK = (conducting, places, roster, searching, book, write)  # where the conductor asks for the time


class Recorded:
    """Curves and confirmed members of a real study, for trials that are not trained."""

    def __init__(self, folder: Path):
        self.folder = folder
        ledger = Ledger.open(ledger_path(folder))
        with ledger.reading() as tx:
            rows, reports = read.all_trials(tx), read.all_reports(tx)
        ledger.close()
        curves: dict[str, list[dict]] = {}
        for report in reports:
            curves.setdefault(report["trial"], []).extend(report["curve"])
        self.by_loss: dict[str, list[tuple[dict, list[dict]]]] = {}
        for row in rows:
            if row["phase"] == "search" and row["state"] == "complete":
                self.by_loss.setdefault(row["loss"], []).append((row["parameters"], curves[row["id"]]))
        self.members = {(row["loss"], row["number"]): row for row in rows
                        if row["phase"] == "confirm" and row["state"] == "complete"}  # fmt: skip

    def like(self, trial: Any) -> tuple[list[dict], float]:
        """The curve of the nearest configuration of the same loss, and how much worse this one is to be.

        A tenth per decade of learning rate that lies between them, and a hundredth per decade of weight decay.
        """
        def apart(parameters: dict) -> float:
            rate, decay = (abs(math.log10(getattr(trial, name) / parameters[name])) if parameters[name] else 0.0
                           for name in ("learning_rate", "weight_decay"))  # fmt: skip
            return 0.1 * rate + 0.01 * decay

        distance, curve = min(((apart(parameters), curve) for parameters, curve in self.by_loss[trial.loss]),
                              key=lambda pair: pair[0])  # fmt: skip
        return curve, math.exp(-distance)

    @staticmethod
    def epoch(trial: Any, epoch: int, curve: list[dict], share: float) -> dict[str, Any]:
        """An epoch of a trial that is so much worse than a curve. Only of losses less is better."""
        known = curve[min(epoch, len(curve)) - 1]
        members = [seed % len(known["train_loss"]) for seed in trial.seeds]
        scores = {name: [values[m] * share if name != "nll" else values[m] / share for m in members]
                  for name, values in known["scores"].items()}  # fmt: skip
        return {"epoch": epoch, "train_loss": [known["train_loss"][m] / share for m in members], "scores": scores}

    def copy_files(self, folder: Path) -> None:
        """Give another study's folder what is kept of the confirmed members."""
        for kind in ("predictions", "features", "weights"):
            shutil.copytree(self.folder / kind, folder / kind)

    def confirmed(self, trial: Any) -> dict[str, Any]:
        """What a recorded member of the same loss and seed was measured by, and the digests of its files."""
        row = self.members.get((trial.loss, trial.seeds[0]))
        return {} if row is None else {"results": row["results"], "files": row["files"]}


class Clock:
    """Virtual seconds, which the conductor takes for the time: what it does every so often it does at that pace."""

    def __init__(self):
        self.now, self._began = 0.0, time.time()

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self._began + self.now

    def rule(self) -> None:
        for module in ON_THE_CLOCK:
            module.time = self

    def let_go(self) -> None:
        for module in ON_THE_CLOCK:
            module.time = time


@dataclass
class Costs:
    """What the conductor took. Seconds of wall and of the processor, by trial in the order in which they were asked."""

    trials: dict[str, list[float]] = field(default_factory=dict)  # trial -> wall, processor's, of its ask's wall
    reports: dict[str, list[tuple[float, float]]] = field(default_factory=dict)  # of rungs, each: wall, processor's
    beats: list[float] = field(default_factory=lambda: [0, 0.0, 0.0])  # messages without news: count, wall, processor's
    asking: float = 0.0  # of the message that is being answered, as is the next
    busy: float = 0.0  # wall seconds in all


class Answering:
    """The conductor, one message after the other."""

    def __init__(self, conductor: Any, clock: Clock):
        self.conductor, self.clock, self.costs = conductor, clock, Costs()
        self.free = 0.0  # the virtual time at which it has answered what it was sent
        self._time_asks()

    def _time_asks(self) -> None:
        ask, costs = self.conductor.search.next, self.costs

        def timed() -> Any:
            began = time.perf_counter()
            try:
                return ask()
            finally:
                costs.asking += time.perf_counter() - began

        self.conductor.search.next = timed

    def exchange(self, message: Message, now: float) -> tuple[float, Orders]:
        """When the answer has come, and what it is."""
        self.clock.now = begins = max(now, self.free)
        self.costs.asking = 0.0
        began, worked = time.perf_counter(), time.process_time()
        orders = self.conductor.exchange(message)
        worked, took = time.process_time() - worked, time.perf_counter() - began
        self.free = begins + took
        self._note(message, orders, took, worked)
        return self.free, orders

    def _note(self, message: Message, orders: Orders, took: float, worked: float) -> None:
        costs, asking = self.costs, self.costs.asking
        costs.busy += took
        asked = [order.trial.id for order in orders.start]
        for trial in asked:
            costs.trials[trial] = [asking / len(asked), worked * asking / took / len(asked), asking / len(asked)]
        if not message.reports and not asked:
            costs.beats = [total + new for total, new in zip(costs.beats, (1, took, worked), strict=True)]
        many = max(1, len(message.reports))
        rest = (took - asking) / many, worked * (1 - asking / took) / many
        for report in message.reports:
            total = costs.trials[report.trial]
            total[0], total[1] = total[0] + rest[0], total[1] + rest[1]
            if report.curve:
                costs.reports.setdefault(report.trial, []).append(rest)


@dataclass
class _Held:
    order: Order
    like: tuple[list[dict], float]
    epoch: int = 0
    saved: int = 0  # the epoch of its last checkpoint
    curve: list[dict] = field(default_factory=list)
    since: int = 0  # epochs since its last report


class Lane:
    """One slot. places: members that it trains at once; epoch_seconds: virtual ones."""

    def __init__(self, slot: str, answering: Answering, recorded: Recorded, places_: int, epoch_seconds: float):
        self.slot, self.id, self.answering, self.recorded = slot, f"{slot}-0", answering, recorded
        self.places, self.epoch_seconds = places_, epoch_seconds
        self.held: dict[str, _Held] = {}
        self.news: list[Report] = []
        self.answer: tuple[float, Orders] | None = None  # that has not been followed: when it comes, and what it is
        self.sent, self.epochs, self.trained, self.told_at = 0, 0, 0.0, -math.inf
        self.pause = IDLE_SECONDS[0]

    def life(self) -> Iterator[float]:
        """Yields the time at which it is to be woken, and is sent that time."""
        now = yield 0.0
        self.answering.conductor.register(self.slot, self.id, self.answering.clock.time(), "simulated")
        while True:
            if self.held:
                now = yield now + self.epoch_seconds
                self._train()
            elif self.answer is None and self.sent:
                now = yield now + self.pause
                self.pause = min(2 * self.pause, IDLE_SECONDS[1])
            if self.answer is None and self._has_news(now):
                patience = self._patience()
                self._tell(now)
                if patience:
                    now = yield min(self.answer[0], now + patience)
            elif self.answer is not None and not self.held:
                now = yield max(now, self.answer[0])
            if self.answer is not None and self.answer[0] <= now and not self._follow():
                return

    def _train(self) -> None:
        self.epochs, self.trained = self.epochs + 1, self.trained + self.epoch_seconds
        for held in list(self.held.values()):
            trial = held.order.trial
            held.epoch, held.since = held.epoch + 1, held.since + 1
            held.curve.append(self.recorded.epoch(trial, held.epoch, *held.like))
            if held.epoch >= trial.epochs:
                measured = self.recorded.confirmed(trial) if trial.phase != "search" else {}
                self._leave(held, **measured)
            elif held.epoch in held.order.report_at:
                self.news.append(self._report(held))
            elif (held.epoch - held.saved) * self.epoch_seconds >= CHECKPOINT_SECONDS:
                held.saved = held.epoch
                path = f"checkpoints/{trial.id}/{held.order.attempt:03d}-{held.epoch:05d}.pt"
                self.news.append(self._report(held, checkpoint=Saved(path, 64 * "0", held.epoch)))

    def _leave(self, held: _Held, **news: Any) -> None:
        self.news.append(self._report(held, left=True, **news))
        del self.held[held.order.trial.id]

    def _report(self, held: _Held, **news: Any) -> Report:
        seconds, curve = held.since * self.epoch_seconds, held.curve
        held.curve, held.since = [], 0
        return Report(held.order.trial.id, held.order.attempt, held.epoch, curve, seconds, **news)

    def _has_news(self, now: float) -> bool:
        return bool(self.news) or not self.held or now - self.told_at > NEWS_SECONDS

    def _free(self) -> int:
        return self.places - sum(len(held.order.trial.seeds) for held in self.held.values())

    def _patience(self) -> float:
        """As trainables/lane.py has it: what an epoch without the answer would waste."""
        if not self.held:
            return math.inf
        undecided = sum(len(self.held[report.trial].order.trial.seeds) for report in self.news
                        if report.trial in self.held and report.epoch in self.held[report.trial].order.report_at)
        return self.epoch_seconds * min(1.0, (undecided + self._free()) / self.places)

    def _tell(self, now: float) -> None:
        self.sent += 1
        message = Message(self.id, self.sent, self.news, self._free(), self.trained, [], self.epochs)
        self.news, self.told_at = [], now
        self.answer = self.answering.exchange(message, now)

    def _follow(self) -> bool:
        """Do what was answered; False at the end."""
        (_, orders), self.answer = self.answer, None
        for trial in orders.stop:
            held = self.held.get(trial)
            if held is not None and held.curve:
                self._leave(held)
            elif held is not None:
                del self.held[trial]
        for order in orders.start:
            self.held[order.trial.id] = _Held(order, self.recorded.like(order.trial))
            self.pause = IDLE_SECONDS[0]
        return not orders.done


def run(lanes: list[Lane], look: Callable[[float], bool] = lambda now: False) -> float:
    """All lanes to their ends, or until look, which is told the time before each event, says so; the virtual time."""
    order, now = itertools.count(), 0.0
    lives = [lane.life() for lane in lanes]
    due = [(next(life), next(order), life) for life in lives]
    heapq.heapify(due)
    while due:
        now, _, life = heapq.heappop(due)
        if look(now):
            break
        try:
            heapq.heappush(due, (life.send(now), next(order), life))
        except StopIteration:
            continue
    return now
