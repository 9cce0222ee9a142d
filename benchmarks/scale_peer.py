"""What a trial costs the driver of stock Ray Tune: OptunaSearch, ASHAScheduler, MLflowLoggerCallback; no training.

    python benchmarks/scale_peer.py FOLDER TRIALS    # FOLDER: a recorded study, see benchmarks/scale.py

A trial reports what a recorded curve has at epochs 1, 3, 9, 27 and 81, a mean over seeds each; ASHA decides on each and
its word is set aside, as in benchmarks/scale.py. One loss, so one Tuner; sixteen trials at a time, in actors that are
reused, which is what costs Tune least. benchmarks/peer.py says where the documentation has it so.
"""

from __future__ import annotations

import json
import logging
import math
import os
import resource
import sys
import tempfile
import time
from pathlib import Path
from statistics import fmean
from typing import Any

os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # or it listens on every address

import ray
from ray import tune
from ray.air.integrations.mlflow import MLflowLoggerCallback
from ray.tune.schedulers import ASHAScheduler, TrialScheduler
from ray.tune.search.optuna import OptunaSearch

RUNGS = (1, 3, 9, 27, 81)
AT_ONCE = 16


class Replaying(tune.Trainable):
    """A trial that trains nothing."""

    def setup(self, config: dict, curves: list[tuple[float, list[float]]]) -> None:
        self.curves, self.reached = curves, 0
        self.reset_config(config)

    def reset_config(self, new_config: dict) -> bool:
        self.config, self.reached = new_config, 0
        rate = new_config["learning_rate"]
        _, self.curve = min(self.curves, key=lambda pair: abs(math.log(pair[0] / rate)))
        return True

    def step(self) -> dict[str, Any]:
        epoch, self.reached = RUNGS[self.reached], self.reached + 1
        return {"accuracy": self.curve[epoch - 1], "epoch": epoch, "done": self.reached == len(RUNGS)}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """No checkpoints are asked for."""


class SetAside(ASHAScheduler):
    """Decides as ASHA does, and stops nothing."""

    def on_trial_result(self, *of: Any) -> str:
        super().on_trial_result(*of)
        return TrialScheduler.CONTINUE


class Ends(tune.Callback):
    """When trials ended: the driver's processor seconds and the clock's."""

    def __init__(self):
        self.at: list[tuple[float, float]] = []

    def on_trial_complete(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        self.at.append((time.process_time(), time.perf_counter()))


def curves_of(folder: Path) -> list[tuple[float, list[float]]]:
    """Learning rates and accuracies of the recorded trials of softmax."""
    from virtual_lanes import Recorded

    known = Recorded(folder).by_loss["softmax"]
    return [(parameters["learning_rate"], [fmean(epoch["scores"]["accuracy"]) for epoch in curve])
            for parameters, curve in known]  # fmt: skip


def tuner(folder: Path, trials: int, curves: list, ends: Ends) -> tune.Tuner:
    store = MLflowLoggerCallback(tracking_uri=f"sqlite:///{folder}/mlflow.db", experiment_name="peer")
    resources = {"cpu": (os.cpu_count() or 1) / AT_ONCE}
    return tune.Tuner(
        tune.with_resources(tune.with_parameters(Replaying, curves=curves), resources),
        param_space={"learning_rate": tune.loguniform(1e-3, 3), "weight_decay": tune.loguniform(1e-5, 1e-3)},
        tune_config=tune.TuneConfig(
            metric="accuracy", mode="max", num_samples=trials, reuse_actors=True, max_concurrent_trials=AT_ONCE,
            search_alg=OptunaSearch(metric="accuracy", mode="max", seed=0),
            scheduler=SetAside(time_attr="epoch", max_t=RUNGS[-1] + 1, grace_period=1, reduction_factor=3),
        ),
        run_config=tune.RunConfig(name="peer", storage_path=str(folder / "tune"), verbose=0, callbacks=[store, ends]),
    )  # fmt: skip


def main() -> None:
    curves, trials = curves_of(Path(sys.argv[1])), int(sys.argv[2])
    with tempfile.TemporaryDirectory(prefix="scale-", ignore_cleanup_errors=True) as place:
        ray.init(address="local", include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR,
                 _temp_dir=f"{place}/ray")  # fmt: skip
        began, worked, ends = time.perf_counter(), time.process_time(), Ends()
        results = tuner(Path(place), trials, curves, ends).fit()
        seconds, worked = time.perf_counter() - began, time.process_time() - worked
        ray.shutdown()
    if results.num_errors:
        raise results.errors[0]
    half = len(ends.at) // 2
    (first, _), (middle, _), (last, _) = ends.at[0], ends.at[half], ends.at[-1]
    print("\n" + json.dumps({
        "trials": len(ends.at), "seconds": seconds, "processor": worked,
        "first_half": (middle - first) / half, "second_half": (last - middle) / (len(ends.at) - 1 - half),
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }))  # fmt: skip


if __name__ == "__main__":
    main()
