"""What OptunaSearch, ASHAScheduler and Tuner.restore of stock Ray Tune still know after the driver was killed with -9.

    python benchmarks/stock_tune.py

Its trials train nothing: each reports a curve that its learning rate decides, an epoch every 0.2 s. What stock Ray Tune
takes for a search is in benchmarks/search.py.
"""

from __future__ import annotations

import contextlib
import glob
import io
import json
import logging
import math
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

TRIALS, EPOCHS = 24, 27


def curve(config: dict) -> None:
    """A trial: note that it starts, then report an accuracy per epoch."""
    from ray import tune

    with open(Path(config["log"]) / "starts", "a") as file:
        file.write(f"{tune.get_context().get_trial_id()}\n")
    reached = 1 - math.log10(config["learning_rate"] / 0.1) ** 2 / 5
    for epoch in range(EPOCHS):
        time.sleep(0.2)
        tune.report({"accuracy": reached * (1 - 0.8 ** (epoch + 1)), "epoch": epoch + 1})


def begin() -> None:
    import ray

    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)


def search(folder: str) -> None:
    """The driver that is killed."""
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler
    from ray.tune.search.optuna import OptunaSearch

    begin()
    tune.Tuner(
        tune.with_resources(curve, {"cpu": 1}),
        param_space={"learning_rate": tune.loguniform(1e-3, 1), "log": folder},
        tune_config=tune.TuneConfig(
            metric="accuracy", mode="max", num_samples=TRIALS, search_alg=OptunaSearch(seed=0), reuse_actors=True,
            scheduler=ASHAScheduler(time_attr="epoch", max_t=EPOCHS, grace_period=3, reduction_factor=3),
        ),
        run_config=tune.RunConfig(name="stock", storage_path=folder, verbose=0),
    ).fit()  # fmt: skip


def kill_and_restore(folder: str) -> None:
    """Kill the driver in the middle, restore, and count."""
    driver = subprocess.Popen([sys.executable, __file__, folder], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while ended(folder) < 10:
        if driver.poll() is not None:
            raise SystemExit(f"the driver ended by itself, with status {driver.returncode}")
        time.sleep(0.2)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    time.sleep(5)  # its processes end after it
    done, before = ended(folder), len(starts(folder))
    import ray
    from ray import tune

    begin()
    warnings.simplefilter("ignore")  # Optuna's, of epochs that restored trials report again
    restored = tune.Tuner.restore(f"{folder}/stock", trainable=tune.with_resources(curve, {"cpu": 1}),
                                  resume_unfinished=True)  # fmt: skip
    scheduler = restored._local_tuner._tune_config.scheduler
    rungs = sum(len(rung[1]) for bracket in scheduler._brackets for rung in bracket._rungs)
    with contextlib.redirect_stdout(io.StringIO()):  # a restored Tuner has forgotten verbose=0
        grid = restored.fit()
    repeated = len(starts(folder)) - len(set(starts(folder)))
    print(f"stock Ray Tune after kill -9: {done} of {TRIALS} trials had ended and {before} had started; restored: "
          f"{rungs} scores on ASHA's rungs, {repeated} trials run again from nothing, {len(grid)} trials in all"
          )  # fmt: skip
    ray.shutdown()


def starts(folder: str) -> list[str]:
    path = Path(folder) / "starts"
    return path.read_text().split() if path.exists() else []


def ended(folder: str) -> int:
    """Trials that have reported their last epoch or were stopped: all that started, less those still running."""
    count = 0
    for path in glob.glob(f"{folder}/stock/*/result.json"):
        lines = Path(path).read_text().splitlines()
        count += bool(lines) and bool(json.loads(lines[-1]).get("done"))
    return count


if __name__ == "__main__":
    if len(sys.argv) > 1:
        search(sys.argv[1])
    else:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            kill_and_restore(folder)
