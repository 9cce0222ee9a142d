"""What a report costs: 9 losses, 25 seeds, 10,000 test images of 10 classes, with every measure that is on by default.

    python benchmarks/report.py [--losses N] [--seeds N] [--test N] [--width N] [--keep FOLDER]

Predictions and features are random numbers in the files that a study would have written, those of features the same
for every seed of a loss; nothing is trained. Memory is the highest resident set of the process that makes the report,
which is one of its own. The goal is 60 s and 2 GiB on two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from losstune.analysis.results import Results
from losstune.spaces import SPACES
from losstune.trainables import features, predictions

CLASSES, VALIDATION, LAYER_EXAMPLES, LAYERS, KEPT = 10, 5_000, 256, 8, 1_000
LOSSES = ("softmax", "label_smoothing", "dropout", "final_layer_l2", "logit_penalty", "logit_norm", "cosine_softmax",
          "sigmoid", "focal")  # fmt: skip
TRIALS, EPOCHS = 16, 27


def make(folder: Path, losses: list[str], seeds: int, test: int, width: int) -> None:
    """The files of every confirmed member."""
    rng = np.random.default_rng(0)
    targets, held_out = rng.integers(0, CLASSES, test), rng.integers(0, CLASSES, VALIDATION)
    for loss in losses:
        record = _record(np.random.default_rng(len(loss)), targets[: min(test, 10_000)], width)
        for seed in range(seeds):
            own = np.random.default_rng([seed, *loss.encode()])
            logits = [_logits(own, of) for of in (held_out, targets)]
            predictions.write(folder / f"{loss}-{seed}.npz", predictions.Predictions(
                logits[0], held_out, logits[1], targets, "softmax"))  # fmt: skip
            features.write(folder / f"{loss}-{seed}-features.npz", record)


def _logits(rng: np.random.Generator, targets: np.ndarray) -> np.ndarray:
    logits = rng.normal(0, 1, (len(targets), CLASSES)).astype(np.float32)
    logits[np.arange(len(targets)), targets] += 4
    return logits


def _record(rng: np.random.Generator, targets: np.ndarray, width: int) -> features.Features:
    import torch

    from losstune.trainables.feature_statistics import feature_statistics

    x = rng.normal(0, 1, (CLASSES, width))[targets] + rng.normal(0, 1, (len(targets), width))
    weight, bias = torch.as_tensor(rng.normal(0, 1, (CLASSES, width))), torch.zeros(CLASSES, dtype=torch.float64)
    batch = [(torch.as_tensor(x), torch.as_tensor(targets))]
    statistics = feature_statistics(lambda: batch, CLASSES, weight, bias)
    few = x[:LAYER_EXAMPLES] - x[:LAYER_EXAMPLES].mean(0)
    gram = (few @ few.T)[np.triu_indices(len(few))].astype(np.float32)
    names = np.array([*(f"block{place} Sequential" for place in range(LAYERS - 1)), "features"])
    noisy = np.array([gram * rng.uniform(0.5, 1.5, len(gram)).astype(np.float32) for _ in names])
    layers = features.Layers(names, noisy, rng.random(LAYERS, dtype=np.float32), np.arange(len(few)))
    kept = features.Examples(x[:KEPT].astype(np.float16), targets[:KEPT], np.arange(len(x[:KEPT])))
    return features.Features({"train": statistics, "test": statistics}, {"train": kept, "test": kept}, layers)


def results_of(folder: Path, losses: list[str], seeds: int, test: int) -> Results:
    """Results that name these files, with a search and learning curves of the usual size."""
    rng = np.random.default_rng(1)
    members = pd.DataFrame([
        {"loss": loss, "seed": seed, "state": "complete", "reason": "", "epochs": EPOCHS,
         "accuracy": 0.93 + 0.002 * place + rng.normal(0, 0.003), "nll": 0.3 + rng.normal(0, 0.01),
         "ece": 0.02 + abs(rng.normal(0, 0.002)), "validation_accuracy": 0.93 + rng.normal(0, 0.003)}
        for place, loss in enumerate(losses) for seed in range(seeds)])  # fmt: skip
    trials = pd.DataFrame([
        {"loss": loss, "number": number, "state": "complete", "score": 0.92 + rng.normal(0, 0.01), "epochs": EPOCHS,
         "best_epoch": EPOCHS, "member_epochs": 3 * EPOCHS, "slot_seconds": 9.0, "reason": "",
         "params": {**SPACES[loss].defaults, "learning_rate": 10 ** rng.uniform(-3, 0), "weight_decay": 1e-4}}
        for loss in losses for number in range(TRIALS)])  # fmt: skip
    curves = pd.DataFrame([("confirm", loss, seed, epoch, 0.93 - 0.5 / epoch, 1 / epoch) for loss in losses
                           for seed in range(seeds) for epoch in range(1, EPOCHS + 1)],
                          columns=["phase", "loss", "trial", "epoch", "value", "train_loss"])  # fmt: skip
    choices = trials.sort_values("score", ascending=False).drop_duplicates("loss")
    budget = pd.DataFrame([
        {"loss": loss, "phase": phase, "asked": count, "complete": count, "stopped": 0, "failed": 0,
         "member_epochs": count * EPOCHS, "slot_seconds": 3.0 * count}
        for loss in losses for phase, count in (("search", TRIALS), ("confirm", seeds))])  # fmt: skip
    every = [(loss, seed) for loss in losses for seed in range(seeds)]
    study = {
        "name": "cost", "data": "random", "network": "none", "metric": "accuracy", "baseline": "softmax",
        "losses": losses, "epochs": EPOCHS, "num_classes": CLASSES, "n_train": 45_000, "n_validation": VALIDATION,
        "n_test": test, "search": {"trials": TRIALS, "seeds": 3, "method": "tpe", "halving": None},
        "confirm": {"seeds": seeds, "alpha": 0.05, "rope": None, "train_on": "train"},
    }  # fmt: skip
    return Results(
        study=study, greater_is_better=True, members=members, trials=trials, curves=curves, budget=budget,
        choices=choices[["loss", "number", "params", "best_epoch", "score"]],
        predictions={one: partial(predictions.read, folder / f"{one[0]}-{one[1]}.npz") for one in every},
        features={one: partial(features.read, folder / f"{one[0]}-{one[1]}-features.npz") for one in every},
    )  # fmt: skip


def report(folder: Path, losses: list[str], seeds: int, test: int) -> dict[str, float]:
    """Make the report, in this process; what it cost."""
    from losstune.analysis.report import write_report

    began, used = time.perf_counter(), time.process_time()
    page = write_report(results_of(folder, losses, seeds, test), folder / "report")
    return {"seconds": time.perf_counter() - began, "processor_seconds": time.process_time() - used,
            "gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
            "page_mib": page.stat().st_size / 2**20}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--losses", type=int, default=len(LOSSES), choices=range(2, len(LOSSES) + 1))
    parser.add_argument("--seeds", type=int, default=25)
    parser.add_argument("--test", type=int, default=10_000)
    parser.add_argument("--width", type=int, default=512, help="of the penultimate features")
    parser.add_argument("--keep", type=Path, help="where files and report stay")
    parser.add_argument("--made", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    losses = list(LOSSES[: given.losses])
    if given.made:
        print(json.dumps(report(given.keep, losses, given.seeds, given.test)))
        return
    with tempfile.TemporaryDirectory() as folder:
        place = given.keep or Path(folder)
        make(place, losses, given.seeds, given.test, given.width)
        options = ["--losses", str(given.losses), "--seeds", str(given.seeds), "--test", str(given.test)]
        done = subprocess.run([sys.executable, __file__, "--made", "--keep", str(place), *options], check=True,
                              capture_output=True, text=True)  # fmt: skip
    cost = json.loads(done.stdout)
    print(f"{len(losses)} losses, {given.seeds} seeds, {given.test:,} test examples, features of {given.width} "
          f"dimensions; {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n"
          f"report: {cost['seconds']:.1f} s, {cost['processor_seconds']:.1f} s of the processor, highest memory "
          f"{cost['gib']:.2f} GiB, page {cost['page_mib']:.2f} MiB (goals: 60 s, 2 GiB, 3 MB)")  # fmt: skip


if __name__ == "__main__":
    main()
