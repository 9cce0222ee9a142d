"""A lane: one slot's stack, with trials passing through, trained while the conductor decides."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Any

from losstune.trainables import checkpoint
from losstune.trainables.backends import Choice
from losstune.trainables.confirmed import measured
from losstune.trainables.conversation import Conversation
from losstune.trainables.datasets import Split
from losstune.trainables.failing import failure
from losstune.trainables.held import Coming, Held
from losstune.trainables.inputs import Inputs, Normalization
from losstune.trainables.job import Job
from losstune.trainables.losses.combine import loss_of
from losstune.trainables.messages import Exchange, Order, Orders, Report, Saved
from losstune.trainables.other_data import OtherData
from losstune.trainables.recording import Recorder
from losstune.trainables.stall import StallGuard, stall_path
from losstune.trainables.trainer import EpochResult, Stack

NEWS_SECONDS = 1.0  # between epochs a lane is heard of, and asks for its free places, at least this often
IDLE_SECONDS = 0.05, 1.0  # the first and the longest pause of a lane that has nothing to train
CHECKPOINT_SECONDS = 15.0  # the most training that a crash can cost a trial, unless saving is slow
SAVING_SHARE = 20  # what takes t seconds to save is saved after SAVING_SHARE * t at the earliest


class Lane:
    """Trains what it is ordered to, and goes on while the conductor decides. Knows no Ray.

    exchange: how it speaks to the conductor. backend, width: what was measured for its stack. A rung's report holds the
    epochs up to the rung; those that a trial trains until it hears that it is stopped there are no part of its curve,
    and are reported as its cost when it leaves.

    alone: it is the study's only lane. Then it waits for every answer, and trials that come back from checkpoints meet
    the others where they would have without the interruption (Order.joined): what is asked and decided depends on
    results alone, never on time, and an interrupted study ends as an undisturbed one.
    """

    def __init__(self, job: Job, train: Split, validation: Split, exchange: Exchange, lane_id: str,
                 backend: Choice | None = None, width: int | None = None, alone: bool = False,
                 guard: StallGuard | None = None):  # fmt: skip
        self.job, self.train, self.validation = job, train, validation
        self.backend, self.width = backend, width
        self.talk, self.id = Conversation(exchange, lane_id), lane_id
        self.test: Inputs | None = None
        self.recorder: Recorder | None = None
        self.held: dict[str, Held] = {}
        self.alone, self.clock = alone, 0  # the clock counts epochs
        self.later: list[Coming] = []  # trials whose time to join has not come
        self.training_seconds, self.epoch_seconds = 0.0, 0.0  # in all, and of the last epoch
        self.saving_seconds = 0.0  # what the last round of checkpoints took
        self.news: list[Report] = []  # not sent yet
        self.told_at, self.told_of_training = 0.0, False
        self.pause = IDLE_SECONDS[0]
        self.leaving = False  # it ends because its machine is about to go
        self.guard = guard or StallGuard(stall_path(job.own_folder, lane_id), job.patience)
        self.normalization = Normalization(train.x)
        self.stack, self.phase = self._stack(train), "search"

    def _stack(self, train: Split) -> Stack:
        stack = self.job.stack(train, self.validation, self.normalization, self.backend, self.width)
        stack.moved = self.guard.moved
        stack.is_to_end = lambda: self.talk.is_to_end(self.training_seconds, self.clock)
        return stack

    def close(self) -> None:
        """The lane has ended as it was told to."""
        self.guard.close()

    def turn(self) -> bool:
        """Train up to the next boundary between epochs, tell what is new, follow what has been answered.

        False when there is nothing left to do.
        """
        self._join_those_due()
        if self.held:
            self._train()
            self.guard.rest()  # what follows may wait for others
        early, self.talk.early = self.talk.early, []
        if not all(map(self._follow, early)):
            return False
        if not self._follow(self.talk.hear(0.0 if self.held and not self.alone else None)):
            return False
        if self.talk.waits or not self._has_news():
            return True
        patience = self._patience() if self.held else None
        self._tell()
        return self._follow(self.talk.hear(patience))

    def _has_news(self) -> bool:
        if self.news or not self.held or (self.training_seconds and not self.told_of_training):
            return True
        return time.monotonic() - self.told_at > NEWS_SECONDS

    def _tell(self) -> None:
        notes, self.stack.notes = self.stack.notes, []
        self.talk.send(self.news, self._free(), self.training_seconds, notes, self.clock)
        self.news, self.told_of_training, self.told_at = [], self.training_seconds > 0, time.monotonic()

    def _free(self) -> int:
        """Places for members that nobody has or is to have."""
        return max(0, self.stack.free - sum(len(coming.order.trial.seeds) for coming in self.later))

    def _patience(self) -> float | None:
        """How long to wait for the answer to the news before training on, in seconds: what an epoch without it wastes.

        That is the share of the places whose trials may be stopped now, or that are empty. None: until it has come.
        """
        if self.alone:
            return None
        orders = {report.trial: self.held[report.trial].order for report in self.news
                  if report.trial in self.held and report.epoch in self.held[report.trial].order.report_at}  # fmt: skip
        undecided = sum(len(order.trial.seeds) for order in orders.values())
        return self.epoch_seconds * min(1.0, (undecided + self._free()) / self.stack.width)

    def _follow(self, orders: Orders | None) -> bool:
        """Do what was answered, if anything. False when there is nothing left to do."""
        if orders is None:
            return True
        for trial in orders.stop:
            self._let_go(trial)
        if orders.park or orders.done or orders.leave:
            self.leaving = orders.leave
            if orders.park:
                self._park()
            if self.news:
                self._tell()
                self.leaving = self.talk.hear(None).leave
            return False
        for order in orders.start:
            self._start(order, orders.test, orders.others)
        self._rest()
        return True

    def _park(self) -> None:
        """Let all trials go where they are; those that have not joined yet have their checkpoints already."""
        for held in list(self.held.values()):
            self._leave(held, save=True, parked=True)
        for coming in self.later:
            trial, epoch = coming.order.trial.id, coming.epoch
            self.news.append(Report(trial, coming.order.attempt, epoch, [], 0.0, left=True, parked=True))
        self.later = []

    def _rest(self) -> None:
        """Pause when there is nothing to train: others still train what the next ask waits for."""
        if self.held or self.later:
            self.pause = IDLE_SECONDS[0]
        else:
            time.sleep(self.pause)
            self.pause = min(2 * self.pause, IDLE_SECONDS[1])

    def _let_go(self, trial: str) -> None:
        """Stop a trial. What it has trained since its last report decided nothing, but is told of as its cost."""
        held = self.held.get(trial)
        self.later = [coming for coming in self.later if coming.order.trial.id != trial]
        if held is not None and held.curve:
            self._leave(held)
        elif held is not None:
            self._drop(held)

    def _train(self) -> None:
        """One epoch, and the reports that follow from it; or a part of one, where the lane is told to end."""
        self.guard.moved()
        before = time.perf_counter()
        results = self.stack.train_epoch()
        took = time.perf_counter() - before
        self.training_seconds += took
        if results is None:
            self._count_part(took)
            return
        self.clock += 1
        self.epoch_seconds = took
        for trial, result in results.items():
            self._note(self.held[trial], result)
        self._save_those_due()

    def _count_part(self, seconds: float) -> None:
        """Count what an interrupted epoch took as its trials' cost, by the passes that their members make."""
        passes = {name: len(held.order.trial.seeds) * loss_of(held.order.trial.loss).passes
                  for name, held in self.held.items()}  # fmt: skip
        for name, held in self.held.items():
            held.seconds += seconds * passes[name] / sum(passes.values())

    def _note(self, held: Held, result: EpochResult) -> None:
        """Record an epoch of a trial; report it if it has failed, is at a rung or at its end."""
        trial = held.order.trial
        held.seconds += result.seconds
        held.curve.append({"epoch": result.epoch, "train_loss": result.train_loss, "scores": result.scores})
        failed = failure(trial.seeds, result, self.job.scorer)
        if self.recorder is not None and not failed:
            self._measure(held, self.recorder)
        if failed:
            self._leave(held, failure=failed[0], metric_raised=failed[1])
        elif result.epoch >= trial.epochs:
            self._leave(held, **self._measured(held))
        elif result.epoch in held.order.report_at:
            self.news.append(self._report(held))

    def _measure(self, held: Held, recorder: Recorder) -> None:
        """Add to the epoch what is followed over training, if it is one of the epochs after which that is measured."""
        before = time.perf_counter()
        measures = recorder.follow(held.order.trial)
        if measures:
            held.curve[-1]["measures"] = measures
        held.seconds += time.perf_counter() - before

    def _save_those_due(self) -> None:
        """Checkpoints of trials that have trained long without one; together, so that messages stay few."""
        due = max(CHECKPOINT_SECONDS, SAVING_SHARE * self.saving_seconds)
        since = {trial: self.training_seconds - held.saved for trial, held in self.held.items()}
        if max(since.values(), default=0.0) < due:
            return
        before = time.perf_counter()
        for trial, seconds in since.items():
            if seconds >= due / 2:
                self.news.append(self._report(self.held[trial], save=True))
        self.saving_seconds = time.perf_counter() - before

    def _leave(self, held: Held, **news: Any) -> None:
        """Report a trial for the last time, and let it go."""
        self.news.append(self._report(held, left=True, **news))
        self._drop(held)

    def _drop(self, held: Held) -> None:
        del self.held[held.order.trial.id]
        self.stack.drop(held.order.trial.id)

    def _report(self, held: Held, save: bool = False, **news: Any) -> Report:
        order, epoch = held.order, self.stack.epoch_of(held.order.trial.id)
        if save:
            step = self.stack.step_of(order.trial.id)
            # In the order in which they are written, also by name.
            name = f"{order.attempt:03d}-{epoch:05d}{f'.step{step:07d}' if step else ''}.pt"
            path = Path("checkpoints") / order.trial.id / name
            digest = checkpoint.write(self.job.files / path, self.stack.state(order.trial.id))
            news |= {"checkpoint": Saved(str(path), digest, epoch)}
            held.saved = self.training_seconds
        report = Report(order.trial.id, order.attempt, epoch, held.curve, held.seconds, **news)
        held.curve, held.seconds = [], 0.0
        return report

    def _start(self, order: Order, test: Any, others: Any) -> None:
        """Take a trial in, now or when its time has come, from its start or its latest checkpoint that can be read."""
        self.guard.moved()
        if order.trial.phase != "search" and self.phase == "search":
            self._enter_confirm(test, others)
        coming = Coming(order, self._state_of(order))
        if self.alone and order.trial.phase == "search" and coming.due > self.clock:
            self.later.append(coming)
        else:
            self._join(coming)
        self.guard.rest()

    def _state_of(self, order: Order) -> dict | None:
        for number, saved in enumerate(order.checkpoints, 1):
            try:
                return checkpoint.read(self.job.files / saved.path, saved.digest)
            except checkpoint.DamagedCheckpoint as damage:
                rest = order.checkpoints[number:]
                where = f"goes on from epoch {rest[0].epoch}" if rest else "starts again"
                self.stack.notes.append(f"{damage}; {order.trial.id} {where}")
        return None

    def _join_those_due(self) -> None:
        """Take in the trials whose time to join has come; with nothing to train, time jumps to the next one's."""
        if self.later and not self.held:
            self.clock = max(self.clock, min(coming.due for coming in self.later))
        for coming in [coming for coming in self.later if coming.due <= self.clock]:
            self.later.remove(coming)
            self._join(coming)

    def _join(self, coming: Coming) -> None:
        self.held[coming.order.trial.id] = Held(coming.order, self.training_seconds)
        self.stack.join(coming.order.trial, coming.state)

    def _enter_confirm(self, test: Split, others: OtherData | None) -> None:
        if self.held or self.later:
            raise RuntimeError("a lane was given the test split while it still searches")
        self.phase, self.test = "confirm", self.job.inputs(test, self.normalization)
        self.stack = self._stack(self.train.joined(self.validation) if self.job.confirm_on_all else self.train)
        if self.job.record:
            prepare = partial(self.job.inputs, normalization=self.normalization)
            self.recorder = Recorder(self.job.record, self.stack, self.test, others, prepare)

    def _measured(self, held: Held) -> dict[str, Any]:
        """Of a confirmed member, what its report holds beside its curve."""
        if held.order.trial.phase == "search":
            return {}
        return measured(self.job, self.stack, held.order.trial, self.test, self.normalization, self.recorder)
