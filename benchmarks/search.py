"""A whole search, losstune's against stock Ray Tune's: the same losses, spaces, budgets, splits, networks and cores.

    python benchmarks/search.py digits [--trials N] [--losses N]       # 10 losses x 27 configurations x 3 seeds, mlp
    LOSSTUNE_DATA=... python benchmarks/search.py fashion [--trials N] # 2 losses x 16 configurations, small_cnn

A search's wall time runs from the start of its command, Python's own start included, to the end of its last trial.
--trials: configurations per loss, on both sides. --losses: how many of the ten stock Ray Tune searches on the digits;
each of them it searches whole, with all configurations and seeds. Its time is then what it takes once (imports,
ray.init, MLflow's store) and what a loss takes, times ten. benchmarks/peer.py says what stock Ray Tune is.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from start import COMMAND, first_epochs

PEER = str(Path(__file__).with_name("peer.py"))

FASHION = {
    "data": "subset.py:load", "network": "small_cnn", "losses": ["softmax", "sigmoid"],
    "split": {"validation": 0.2, "seed": 0},  # 20,000 images train
    "recipe": {"epochs": 4, "batch_size": 128, "precision": "float32"},
    "search": {"trials": 16, "seeds": 1, "halving": {"first": 2, "factor": 2}},
    "confirm": {"seeds": 1},
}  # fmt: skip
IMAGES = 25_000
SUBSET = f"""
import os
from torchvision.datasets import FashionMNIST

def load():
    train, test = (FashionMNIST(os.environ["LOSSTUNE_DATA"], train=part) for part in (True, False))
    return {{"x_train": train.data[:{IMAGES}].numpy(), "y_train": train.targets[:{IMAGES}].numpy(),
            "x_test": test.data.numpy(), "y_test": test.targets.numpy()}}
"""


@dataclass(frozen=True)
class Timing:
    """A search: its wall seconds; trainings (configurations x seeds) and their epochs.

    outside: slot seconds per training that are not training or validation: starting, waiting, reporting.
    """

    seconds: float
    trainings: int
    epochs: int
    outside: float
    note: str

    def line(self, name: str) -> str:
        return (f"{name:43} {self.seconds:7.1f} s  {self.trainings} trainings, {self.epochs} epochs; "
                f"{self.outside:.2f} slot seconds a training beside it; {self.note}")  # fmt: skip


def ours(study: Path, folder: Path) -> Timing:
    """`losstune run`, timed from its ledger."""
    started = time.time()
    execute([COMMAND, "run", str(study), "--out", str(folder / "runs")], folder, fine=(0, 3))
    return from_ledger(folder / "runs" / study.stem, started)


def from_ledger(folder: Path, started: float) -> Timing:
    from losstune import load_results
    from losstune.search.ledger import read
    from losstune.search.ledger.database import Ledger
    from losstune.search.locations import ledger_path

    ledger = Ledger.open(ledger_path(folder))
    with ledger.reading() as tx:
        trials, reports, events = read.all_trials(tx, "search"), read.all_reports(tx), read.all_events(tx)
    ledger.close()
    members = [row for row in trials for _ in row["seeds"]]
    outside = load_results(folder).facts["slot_seconds_outside_training_per_trial"]
    return Timing(
        max(row["ended"] for row in trials) - started, len(members), sum(row["epoch"] for row in members),
        outside * len(trials) / len(members), f"first epochs after {first_epochs(events, reports) - started:.1f} s",
    )  # fmt: skip


def peer(study: Path, folder: Path, reuse: bool, losses: int | None = None) -> Timing:
    """Stock Ray Tune on as many of the study's losses, scaled to all of them."""
    folder = folder / f"peer-{study.stem}-{'reuse' if reuse else 'default'}"
    folder.mkdir()
    total = write_task(study, folder, losses)
    started = time.time()
    execute([sys.executable, PEER, str(folder), *(["--reuse"] if reuse else [])], folder)
    result = json.loads((folder / "peer.json").read_text())
    fits, once = result["fits"], result["ready"] - started
    scale, trainings = total / len(fits), sum(fit["trials"] for fit in fits)
    seconds, note = sum(fit["seconds"] for fit in fits), f"ready to search after {once:.1f} s"
    if scale > 1:
        ran = ", ".join(fit["loss"] for fit in fits)
        note = (f"{trainings} of {trainings * scale:.0f} trainings run ({ran}, whole), scaled: {once:.1f} s once "
                f"+ {total} x {seconds / len(fits):.1f} s")  # fmt: skip
    return Timing(
        once + scale * seconds, round(scale * trainings), round(scale * sum(fit["epochs"] for fit in fits)),
        (os.cpu_count() * seconds - result["training"]) / trainings, note,
    )  # fmt: skip


def execute(command: list[str], folder: Path, fine: tuple[int, ...] = (0,)) -> None:
    """Run a command in a folder, out of sight; what it said last is the error if its status is none of the fine ones.

    losstune ends with 3 when it is done and a confirmed model has failed, which is no matter here.
    """
    with open(folder / "output.txt", "w+") as output:
        status = subprocess.call(command, cwd=folder, stdout=output, stderr=subprocess.STDOUT)
        if status not in fine:
            output.seek(0)
            raise SystemExit(f"{output.read()[-3000:]}\n{' '.join(command)} ended with status {status}")


def write_task(file: Path, folder: Path, losses: int | None) -> int:
    """The study as benchmarks/peer.py takes it, with only so many of its losses; how many there are in all."""
    from losstune.search.plan import make_plan
    from losstune.search.study import load_study

    study = load_study(file)
    plan = make_plan(study)
    halving, spaces = study.search.halving, dict(list(study.spaces.items())[:losses])
    task = {
        "losses": {loss: ranges(space) for loss, space in spaces.items()},
        "defaults": {loss: space.default() for loss, space in spaces.items()},
        "network": study.network, "input_shape": plan.input_shape, "classes": plan.num_classes,
        "epochs": study.recipe.epochs, "batch_size": study.recipe.batch_size, "momentum": study.recipe.momentum,
        "precision": study.recipe.precision, "first": halving.first, "factor": halving.factor,
        "configurations": study.search.trials, "seeds": study.search.seeds,
        "seconds": str(folder / "seconds"), "root": None if study.data == "digits" else os.environ["LOSSTUNE_DATA"],
    }  # fmt: skip
    (folder / "task.json").write_text(json.dumps(task))
    np.savez(folder / "data.npz", **(in_memory(plan) if task["root"] is None else on_disk(plan)))
    return len(study.spaces)


def ranges(space: Any) -> dict[str, list]:
    """A loss's space as plain data."""
    from losstune.spaces import Real

    searched = {
        name: ["loguniform" if p.log else "uniform", p.low, p.high] if isinstance(p, Real) else ["choice", p.choices]
        for name, p in space.searched.items()
    }
    return searched | {name: ["is", value] for name, value in space.fixed.items()}


def in_memory(plan: Any) -> dict[str, np.ndarray]:
    """The splits, normalized as losstune normalizes them."""
    mean, deviation = plan.train.x.mean(), plan.train.x.std()
    splits = {"train": plan.train, "validation": plan.validation}
    inputs = {f"x_{part}": ((split.x - mean) / deviation).astype(np.float32) for part, split in splits.items()}
    return inputs | {f"y_{part}": split.y for part, split in splits.items()}


def on_disk(plan: Any) -> dict[str, Any]:
    """Which of torchvision's images are in the splits, and what they are normalized by."""
    from torchvision.datasets import FashionMNIST

    from losstune.trainables.datasets.splitting import hold_out_indices

    part, labels = plan.study.split, FashionMNIST(os.environ["LOSSTUNE_DATA"]).targets[:IMAGES].numpy()
    train, validation = hold_out_indices(labels, part.validation, part.seed)
    mean, deviation = plan.train.x.mean() / 255, plan.train.x.std() / 255  # as ToTensor scales pixels
    return {"train": train, "validation": validation, "mean": mean, "deviation": deviation}


def computes_bfloat16() -> bool:
    """Whether the CPU has instructions for it; without them PyTorch emulates it slowly. Known on Linux only."""
    info = Path("/proc/cpuinfo")
    return info.is_file() and bool({"avx512_bf16", "amx_bf16", "bf16"} & set(info.read_text().split()))


def write_study(folder: Path, name: str, fields: dict[str, Any], trials: int | None) -> Path:
    search = {**fields["search"], **({"trials": trials} if trials else {})}
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump({**fields, "search": search}))
    return file


def digits(folder: Path, trials: int | None, losses: int) -> None:
    from losstune.search.study import find_study

    fields = yaml.safe_load(find_study("digits").read_text()) | {"confirm": {"seeds": 1}}
    study = write_study(folder, "digits", fields, trials or 27)
    mine = ours(study, folder)
    print(mine.line("losstune run"), flush=True)
    for reuse, name in ((False, "as documented"), (True, "reuse_actors")):
        theirs = peer(study, folder, reuse, losses)
        print(theirs.line(f"stock Ray Tune, {name}"), flush=True)
        print(f"losstune is {theirs.seconds / mine.seconds:.1f} times as fast", flush=True)


def fashion(folder: Path, trials: int | None, _: int) -> None:
    if "LOSSTUNE_DATA" not in os.environ:
        raise SystemExit("LOSSTUNE_DATA names no folder; it should hold FashionMNIST/raw")
    (folder / "subset.py").write_text(SUBSET)
    half = {**FASHION, "recipe": {**FASHION["recipe"], "precision": "bfloat16"}}
    studies = [write_study(folder, "float32", FASHION, trials)]
    if computes_bfloat16():
        studies.append(write_study(folder, "bfloat16", half, trials))
    reference = None
    for study in studies:
        theirs = peer(study, folder, reuse=False)
        print(theirs.line(f"stock Ray Tune, as documented, {study.stem}"), flush=True)
        reference = reference or theirs
        mine = ours(study, folder)
        print(mine.line(f"losstune run, {study.stem}"), flush=True)
        same = f", {theirs.seconds / mine.seconds:.1f} as stock Ray Tune in bfloat16" if theirs != reference else ""
        print(f"losstune is {reference.seconds / mine.seconds:.1f} times as fast as stock Ray Tune in float32{same}",
              flush=True)  # fmt: skip
    if len(studies) == 1:
        print("bfloat16: this CPU does not compute it")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["digits", "fashion"])
    parser.add_argument("--trials", type=int, help="configurations per loss; default: 27 on the digits, else 16")
    parser.add_argument("--losses", type=int, default=1, help="how many of the ten stock Ray Tune searches; default: 1")
    options = parser.parse_args()
    if options.losses < 1 or (options.trials is not None and options.trials < 1):
        parser.error("--losses and --trials: from 1")
    print(f"{options.what}: wall time of a search on {os.cpu_count()} cores, one side after the other", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        (digits if options.what == "digits" else fashion)(Path(folder), options.trials, options.losses)


if __name__ == "__main__":
    main()
