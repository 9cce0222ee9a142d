"""The Ray Tune class around a lane. The one place here that knows Ray; imported where Tune is wanted.

torch is imported where lanes run.
"""

from __future__ import annotations

import contextlib
import time
import traceback
import uuid
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import psutil
import ray
from ray import tune

from losstune.spaces import InputError
from losstune.trainables.datasets import Split
from losstune.trainables.disk import disk_trouble
from losstune.trainables.job import Job
from losstune.trainables.messages import Message, Orders
from losstune.trainables.stall import StallGuard, stall_path

SETUP_SECONDS = 600.0  # in which a lane must get its data and measure its backend
STEP_SECONDS = 5.0  # after so long a lane returns to Tune, and is called again
RESENDS, RESEND_SECONDS = 10, 1.0  # of a message to a conductor that cannot be reached, so far apart


class RayExchange:
    """A lane's exchange with the conductor's actor. A message that may not have been heard is sent again."""

    def __init__(self, conductor: Any):
        self.conductor = conductor

    def send(self, message: Message) -> None:
        self.message = message
        self.reference = self.conductor.call.remote("exchange", message)

    def answer(self, seconds: float | None) -> Orders | None:
        if seconds is not None and not ray.wait([self.reference], timeout=seconds)[0]:
            return None
        orders = self._received()
        if orders.test is not None:
            orders.test, orders.others = ray.get(orders.test[0])
        return orders

    def _received(self) -> Orders:
        for _ in range(RESENDS):
            try:
                return ray.get(self.reference)
            except ray.exceptions.ActorUnavailableError:
                time.sleep(RESEND_SECONDS)
                self.send(self.message)
        return ray.get(self.reference)


class MachineLeaves(Exception):
    """A lane has ended because its machine is about to go: Tune starts it again on another."""


class LaneTrainable(tune.Trainable):
    """A lane as Ray Tune places it, restarts it and lets it end."""

    def setup(self, config: dict, conductor: Any, data: list, job: Job) -> None:
        self.conductor, self.lane = conductor, None
        self.lane_id = f"{self.trial_id}-{uuid.uuid4().hex[:8]}"
        with self._saying_why():
            guard = StallGuard(stall_path(job.own_folder, self.lane_id), max(job.patience, SETUP_SECONDS))
            guard.moved()  # what follows may hang, at a broken GPU for example
            device = self._prepare(config, job)
            if not self._call("register", self.trial_id, self.lane_id, psutil.Process().create_time(), device,
                              ray.get_runtime_context().get_node_id()):  # fmt: skip
                guard.close()
                return
            train, validation = ray.get(data[0])
            backend, width = self._backend(job, train, device)
            self.lane = self._lane(job, train, validation, backend, width, config["alone"], guard)
            guard.rest()
            guard.seconds = job.patience

    def _prepare(self, config: dict, job: Job) -> str:
        """Set torch up in this process; the kind of device it is to compute on."""
        import torch

        from losstune.trainables.memory import keep_freed_memory

        keep_freed_memory()
        torch.set_num_threads(max(1, int(config["threads"])))
        return torch.cuda.get_device_name() if job.device == "cuda" else "cpu"

    def _lane(self, job: Job, train: Split, validation: Split, backend: Any, width: int, alone: bool,
              guard: StallGuard) -> Any:  # fmt: skip
        from losstune.trainables.lane import Lane

        return Lane(job, train, validation, RayExchange(self.conductor), self.lane_id, backend, width, alone, guard)

    def _backend(self, job: Job, train: Split, device: str) -> tuple[Any, int]:
        """How this device computes the network: as was measured on one like it, by the lane that was first."""
        from losstune.trainables.backends import Choice
        from losstune.trainables.remembered import remembered

        kind = job.kind_of(device)
        found = self._call("backend_of", kind)
        if found is None:
            found = remembered(job, device, lambda: asdict(job.measure(train)))
            found = self._call("measured", kind, found)
        return Choice(**found["choice"]), found["width"]

    def _call(self, *message: Any) -> Any:
        return ray.get(self.conductor.call.remote(*message))

    @contextlib.contextmanager
    def _saying_why(self) -> Iterator[None]:
        """What a lane dies of, for the reasons of the trials that it takes down."""
        try:
            yield
        except Exception as error:
            message = f"{type(error).__name__}: {' '.join(str(error).split())}"[:500]
            # What the user's own code does wrong, it would do wrong on every lane; so would a full disk.
            study = message if isinstance(error, InputError) else disk_trouble(error)
            told = ("give_up", study) if study else ("lane_error", self.lane_id, message)
            with contextlib.suppress(ray.exceptions.RayError):
                self._call(*told)
            traceback.print_exc()
            raise

    def step(self) -> dict:
        """Some seconds of the lane's life, as Tune wants to hear of its trials now and then."""
        if self.lane is None:
            return {"done": True}
        end, goes_on = time.monotonic() + STEP_SECONDS, True
        with self._saying_why():
            while goes_on and time.monotonic() < end:
                goes_on = self.lane.turn()
        if not goes_on:
            self.lane.close()
        if self.lane.leaving:
            raise MachineLeaves
        return {"done": not goes_on}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Tune's checkpoints are off: the ledger knows each trial's own."""

    def load_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing to load, see save_checkpoint."""
