"""What Ray says of a lane's death, for the conductor: whether its machine went with it, and if not, how it ended."""

from __future__ import annotations

import contextlib
import pickle
import time
from typing import Any

import ray
from ray import tune
from ray.exceptions import RayActorError
from ray.tune.experiment import Trial

# What Ray says where the machine, and not what ran there, is the cause.
_NODE = ("node has died", "node was terminated", "node is dead", "was preempted", "node was drained")
LONGEST = 500  # characters of what a lane raised
_MEMORY = ("out of memory", "low on memory", "memory usage threshold")


class LaneDeaths(tune.Callback):
    """Tells the conductor why a lane died, before Tune starts it again."""

    def __init__(self, conductor: Any):
        self.conductor = conductor

    def on_trial_recover(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        error = None
        # Tune's own reader looks where its files are copied to, which has not happened yet.
        with contextlib.suppress(Exception), open(trial.pickled_error_file, "rb") as file:
            error = pickle.load(file)
        if isinstance(error, RayActorError):
            words, node = cause(error)
            with contextlib.suppress(ray.exceptions.RayError):
                self.conductor.call.remote("lane_died", trial.trial_id, words, node, time.monotonic())


def cause(error: RayActorError) -> tuple[str, bool]:
    """How a lane's process ended, in a few words, and whether its machine is the cause."""
    said = " ".join(str(error).split())
    if getattr(error, "preempted", False) or any(words in said for words in _NODE):
        return "its node was lost", True
    if any(words in said.partition("potential root causes")[0] for words in _MEMORY):
        return "its process was ended for want of memory", False
    if "creation task" in said:  # what its setup raised: the last line of the traceback
        return [line for line in str(error).splitlines() if line.strip()][-1].strip()[:LONGEST], False
    return "its process was killed or crashed", False
