"""A lane: one slot's stack, with trials passing through. The one place here that knows Ray Tune."""

from __future__ import annotations

import contextlib
import time
import traceback
import uuid
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from losstune.spaces import InputError
from losstune.trainables import checkpoint, predictions
from losstune.trainables.datasets import Split
from losstune.trainables.inputs import Inputs, Normalization
from losstune.trainables.losses.combine import loss_of
from losstune.trainables.messages import Order, Orders, Report
from losstune.trainables.recipe import Recipe
from losstune.trainables.scoring import Scorer
from losstune.trainables.trainer import EpochResult, Network, Stack

NEWS_SECONDS = 5.0  # a lane asks for orders at least this often, whatever its trials do
CHECKPOINT_SECONDS = 15.0  # the most training that a crash can cost a trial
Exchange = Callable[[str, list[Report], int, float], Orders]


@dataclass(frozen=True)
class Job:
    """What every lane of a study needs. folder: where checkpoints and predictions go."""

    study: str
    network: Network
    recipe: Recipe
    scorer: Scorer
    folder: str
    device: str = "cpu"
    width: int | None = None
    confirm_on_all: bool = False

    def stack(self, train: Split, validation: Split, normalization: Normalization) -> Stack:
        """An empty stack for this job on the given data."""
        inputs = partial(Inputs, normalization=normalization, device=self.device)
        return Stack(self.study, self.network, self.recipe, inputs(train), inputs(validation), self.scorer.followed,
                     self.device, self.width)  # fmt: skip


@dataclass
class _Held:
    """A trial in the stack: what was ordered, the epochs not reported yet, seconds since the last report and save."""

    order: Order
    curve: list[dict[str, Any]]
    seconds: float = 0.0
    unsaved: float = 0.0


class Lane:
    """Trains what it is ordered to and reports at rungs. Knows no Ray: exchange is any callable."""

    def __init__(self, job: Job, train: Split, validation: Split, exchange: Exchange, lane_id: str):
        self.job, self.train, self.validation = job, train, validation
        self.exchange, self.id = exchange, lane_id
        self.test: Split | None = None
        self.held: dict[str, _Held] = {}
        self.training_seconds = 0.0
        self.normalization = Normalization(train.x)
        self.stack, self.phase = self._stack(train), "search"

    def _stack(self, train: Split) -> Stack:
        return self.job.stack(train, self.validation, self.normalization)

    def turn(self) -> bool:
        """Train until there is news, report it, follow the orders. False when there is nothing left to do."""
        reports = self._train_until_news() if self.held else []
        orders = self.exchange(self.id, reports, self.stack.free, self.training_seconds)
        for trial in orders.stop:
            if self.held.pop(trial, None):
                self.stack.leave(trial)
        if orders.park:
            self.exchange(self.id, [self._park(trial) for trial in list(self.held)], 0, self.training_seconds)
            return False
        for order in orders.start:
            self._start(order, orders.test)
        return not orders.done

    def _train_until_news(self) -> list[Report]:
        started = time.monotonic()
        while True:
            before = time.perf_counter()
            results = self.stack.train_epoch()
            self.training_seconds += time.perf_counter() - before
            reports = [report for trial, result in results.items() if (report := self._news(trial, result))]
            if reports or time.monotonic() - started > NEWS_SECONDS:
                return reports

    def _news(self, trial: str, result: EpochResult) -> Report | None:
        """Record an epoch; the trial's report if it has failed, is at a rung or at its end, or is due a checkpoint."""
        held = self.held[trial]
        held.seconds += result.seconds
        held.unsaved += result.seconds * len(self.held)
        held.curve.append({"epoch": result.epoch, "train_loss": result.train_loss, "scores": result.scores})
        failure = _failure(held.order, result, self.job.scorer)
        if failure:
            return self._report(held, failure=failure)
        last = result.epoch >= held.order.trial.epochs
        if last and held.order.trial.phase != "search":
            return self._report(held, results=self._measure(held.order))
        if last:
            return self._report(held)
        if held.unsaved >= CHECKPOINT_SECONDS:
            return self._report(held, save=True)
        return self._report(held) if result.epoch in held.order.report_at else None

    def _report(self, held: _Held, save: bool = False, **news: Any) -> Report:
        order, epoch = held.order, self.stack.epoch_of(held.order.trial.id)
        if save:
            path = Path(self.job.folder) / "checkpoints" / order.trial.id / f"{order.attempt:03d}-{epoch:05d}.pt"
            digest = checkpoint.write(path, self.stack.state(order.trial.id))
            news |= {"checkpoint": str(path), "checkpoint_digest": digest}
            held.unsaved = 0.0
        report = Report(order.trial.id, order.attempt, epoch, held.curve, held.seconds, **news)
        held.curve, held.seconds = [], 0.0
        return report

    def _park(self, trial: str) -> Report:
        """A trial's last report before it is let go unfinished."""
        report = self._report(self.held[trial], save=True, parked=True)
        self.stack.leave(trial)
        del self.held[trial]
        return report

    def _start(self, order: Order, test: Any) -> None:
        """Take a trial in, from its start or its checkpoint; a damaged checkpoint means from its start."""
        if order.trial.phase != "search" and self.phase == "search":
            self._enter_confirm(test)
        state = None
        if order.checkpoint is not None:
            try:
                state = checkpoint.read(Path(order.checkpoint), order.checkpoint_digest)
            except checkpoint.DamagedCheckpoint as damage:
                warnings.warn(f"{damage}; {order.trial.id} starts again", stacklevel=2)
        self.held[order.trial.id] = _Held(order, [])
        self.stack.join(order.trial, state)

    def _enter_confirm(self, test: Split) -> None:
        if self.held:
            raise RuntimeError("a lane was given the test split while it still searches")
        self.phase, self.test = "confirm", test
        train = self.train
        if self.job.confirm_on_all:
            train = _joined(self.train, self.validation)
        self.stack = self._stack(train)

    def _measure(self, order: Order) -> dict[str, Any]:
        """A confirmed member on validation and test: its metrics; its logits and weights go to files."""
        trial, loss = order.trial, order.trial.loss
        on = {name: self.stack.logits(trial.id, Inputs(split, self.normalization, self.job.device))[0]
              for name, split in (("validation", self.validation), ("test", self.test))}  # fmt: skip
        folder = Path(self.job.folder)
        predictions.write(folder / "predictions" / f"{trial.id}.npz", predictions.Predictions(
            on["validation"], self.validation.y, on["test"], self.test.y, loss_of(loss).probabilities))  # fmt: skip
        member = self.stack.state(trial.id)["members"][0]
        checkpoint.write(folder / "weights" / f"{trial.id}.pt", {
            "parameters": member["parameters"], "buffers": member["buffers"],
            "mean": self.normalization.mean, "scale": self.normalization.scale,
        })  # fmt: skip
        results = {"test": self.job.scorer.all(on["test"], loss, self.test.y)}
        if not self.job.confirm_on_all:
            results["validation"] = self.job.scorer.all(on["validation"], loss, self.validation.y)
        return results


def _failure(order: Order, result: EpochResult, scorer: Scorer) -> str | None:
    """Why a trial cannot go on, if so."""
    for seed, loss, finite in zip(order.trial.seeds, result.train_loss, result.finite, strict=True):
        if loss != loss or loss in (float("inf"), float("-inf")) or not finite:
            what = f"the training loss became {loss}" if finite or loss != loss else "a weight became infinite"
            return f"{what} in epoch {result.epoch} with seed {seed}"
    if any(score != score for score in result.scores[scorer.metric.name]):
        return f"{scorer.metric.name} on validation became nan in epoch {result.epoch}"
    return None


def _joined(first: Split, second: Split) -> Split:
    return Split(np.concatenate([first.x, second.x]), np.concatenate([first.y, second.y]))


def tune_trainable() -> type:
    """The Ray Tune class around a lane, made where Tune is wanted: the lane itself needs no Ray."""
    import psutil
    import ray
    from ray import tune

    class LaneTrainable(tune.Trainable):
        def setup(self, config: dict, conductor: Any, data: list, job: Job) -> None:
            torch.set_num_threads(max(1, int(config["threads"])))
            self.conductor = conductor
            self.lane_id = f"{self.trial_id}-{uuid.uuid4().hex[:8]}"
            device = torch.cuda.get_device_name() if job.device == "cuda" else "cpu"
            self._call("register", self.trial_id, self.lane_id, psutil.Process().create_time(), device)
            with self._saying_why():
                self.lane = Lane(job, *ray.get(data[0]), self._exchange, self.lane_id)

        def _call(self, *message: Any) -> Any:
            return ray.get(self.conductor.call.remote(*message))

        def _exchange(self, *message: Any) -> Orders:
            orders = self._call("exchange", *message)
            if orders.test is not None:
                orders.test = ray.get(orders.test[0])
            return orders

        @contextlib.contextmanager
        def _saying_why(self) -> Iterator[None]:
            """What a lane dies of, for the reasons of the trials that it takes down."""
            try:
                yield
            except Exception as error:
                message = f"{type(error).__name__}: {' '.join(str(error).split())}"[:500]
                # What the user's own code does wrong, it would do wrong on every lane.
                told = ("give_up", message) if isinstance(error, InputError) else ("lane_error", self.lane_id, message)
                with contextlib.suppress(ray.exceptions.RayError):
                    self._call(*told)
                traceback.print_exc()
                raise

        def step(self) -> dict:
            with self._saying_why():
                goes_on = self.lane.turn()
            if goes_on and not self.lane.held:
                time.sleep(0.05)  # others still train what the next ask waits for
            return {"done": not goes_on}

        def save_checkpoint(self, checkpoint_dir: str) -> None:
            """Tune's checkpoints are off: the ledger knows each trial's own."""

        def load_checkpoint(self, checkpoint_dir: str) -> None:
            """Nothing to load, see save_checkpoint."""

    return LaneTrainable
