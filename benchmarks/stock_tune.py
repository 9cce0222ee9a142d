"""The peer: stock Ray Tune as its documentation has it, on the digits with the same network. Two questions.

    python benchmarks/stock_tune.py

1. What does a trial cost, one process per configuration and seed, with and without reuse_actors?
2. What do OptunaSearch, ASHAScheduler and Tuner.restore still know after the driver was killed with -9?
"""

from __future__ import annotations

import glob
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TRIALS, EPOCHS = 12, 27


def train(config: dict) -> None:
    """A plain loop: DataLoader, torch.optim.SGD, a report per epoch."""
    import torch
    from ray import tune
    from torch import nn
    from torch.utils.data import DataLoader, TensorDataset

    from losstune.trainables.datasets import load_dataset

    torch.set_num_threads(1)
    with open(Path(config["log"]) / "starts", "a") as file:
        file.write(f"{tune.get_context().get_trial_id()}\n")
    data = load_dataset("digits", None, Path())
    x = torch.from_numpy(data.train.x).float().flatten(1) / 16
    split = TensorDataset(x[:1221], torch.from_numpy(data.train.y)[:1221])
    loader = DataLoader(split, batch_size=64, shuffle=True, drop_last=True)
    net = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.SGD(net.parameters(), lr=config["learning_rate"], momentum=0.9, nesterov=True)
    for epoch in range(EPOCHS):
        for inputs, targets in loader:
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(inputs), targets).backward()
            optimizer.step()
        with torch.no_grad():
            correct = net(x[1221:]).argmax(1) == torch.from_numpy(data.train.y)[1221:]
        if config.get("slow"):
            time.sleep(0.2)
        tune.report({"accuracy": correct.float().mean().item(), "epoch": epoch + 1})


def tuner(folder: str, trials: int, reuse: bool, slow: bool = False):
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler
    from ray.tune.search.optuna import OptunaSearch

    return tune.Tuner(
        tune.with_resources(train, {"cpu": 1}),
        param_space={"learning_rate": tune.loguniform(1e-3, 1), "log": folder, "slow": slow},
        tune_config=tune.TuneConfig(
            metric="accuracy", mode="max", num_samples=trials, search_alg=OptunaSearch(seed=0), reuse_actors=reuse,
            scheduler=ASHAScheduler(time_attr="epoch", max_t=EPOCHS, grace_period=3, reduction_factor=3),
            max_concurrent_trials=os.cpu_count(),
        ),
        run_config=tune.RunConfig(name="stock", storage_path=folder, verbose=0),
    )  # fmt: skip


def cost_of_a_trial() -> None:
    import logging

    import ray

    ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    for reuse in (False, True):
        with tempfile.TemporaryDirectory() as folder:
            started = time.perf_counter()
            tuner(folder, TRIALS, reuse).fit()
            seconds = (time.perf_counter() - started) / TRIALS
        print(f"stock Ray Tune, reuse_actors={reuse!s:5}  {seconds:.2f} s of wall time per trial ({TRIALS} trials); "
              f"480 such trials: {480 * seconds / 60:.0f} min")  # fmt: skip
    ray.shutdown()


def run_slowly(folder: str) -> None:
    import ray

    ray.init(include_dashboard=False, log_to_driver=False)
    tuner(folder, 24, True, slow=True).fit()


def after_a_kill() -> None:
    """Kill the driver with -9 in the middle, restore, and count."""
    folder = tempfile.mkdtemp()
    driver = subprocess.Popen([sys.executable, __file__, "--slow", folder], stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL)  # fmt: skip
    while finished(folder) < 10:
        time.sleep(0.2)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    time.sleep(5)
    done, before = finished(folder), len(starts(folder))
    import ray
    from ray import tune

    ray.init(include_dashboard=False, log_to_driver=False)
    restored = tune.Tuner.restore(f"{folder}/stock", trainable=tune.with_resources(train, {"cpu": 1}),
                                  resume_unfinished=True)  # fmt: skip
    scheduler = restored._local_tuner._tune_config.scheduler
    rungs = sum(len(rung[1]) for bracket in scheduler._brackets for rung in bracket._rungs)
    grid = restored.fit()
    repeated = len(starts(folder)) - len(set(starts(folder)))
    print(f"stock Ray Tune after kill -9: {done} of 24 trials had ended and {before} had started; restored: {rungs} "
          f"scores on ASHA's rungs, {repeated} trials run again from nothing, {len(grid)} trials in all")  # fmt: skip
    ray.shutdown()


def starts(folder: str) -> list[str]:
    path = Path(folder) / "starts"
    return path.read_text().split() if path.exists() else []


def finished(folder: str) -> int:
    """Trials that have reported their last epoch or were stopped: all that started, less those still running."""
    results = glob.glob(f"{folder}/stock/*/result.json")
    ended = 0
    for path in results:
        lines = Path(path).read_text().splitlines()
        ended += bool(lines) and bool(json.loads(lines[-1]).get("done"))
    return ended


if __name__ == "__main__":
    if "--slow" in sys.argv:
        run_slowly(sys.argv[-1])
    else:
        cost_of_a_trial()
        after_a_kill()
