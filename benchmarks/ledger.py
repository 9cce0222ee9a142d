"""What the ledger costs at 10,000 trials x 5 reports with their curves: per report, on resume, and on disk.

    python benchmarks/ledger.py [--trials N] [--method tpe] [--folder FOLDER]

A made-up lane brings made-up scores to the real conductor, in messages as lanes send them: what is due at the end of an
epoch in one message. Every score beats those before it, so that halving stops nothing and every trial brings all its
reports. --folder: on which disk; default: the current directory's. The conductor is then rebuilt in a fresh process.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

LOSSES = ["softmax", "label_smoothing", "dropout", "final_layer_l2", "logit_penalty", "logit_norm", "cosine_softmax",
          "sigmoid", "squared_error", "focal"]  # fmt: skip
FLOOR = {part: {"accuracy": 0.1} for part in ("validation", "test")}
STUDY = {
    "data": "digits", "network": "mlp", "losses": LOSSES, "recipe": {"epochs": 81},
    "search": {"trials": 1000, "seeds": 3, "halving": {"first": 1, "factor": 3}}, "confirm": {"seeds": 1},
}  # fmt: skip
PLACES = 96  # of the made-up lane: 32 trials at a time
LEFT = 20  # trials that are still running when the study is interrupted


class Lane:
    """Trains nothing: makes curves up, and says at each epoch's end what is due."""

    def __init__(self, conductor: Any):
        self.conductor, self.held, self.id = conductor, {}, f"lane-{os.getpid()}"
        self.sent, self.reports, self.random = 0, 0, random.Random(0)
        conductor.register("a", self.id, time.time(), "cpu")

    def turn(self) -> None:
        """An epoch of all that it holds, the message about it, the answer."""
        from losstune.trainables.messages import Message

        news = [report for trial in list(self.held) if (report := self._train(trial))]
        self.sent, self.reports = self.sent + 1, self.reports + len(news)
        # A trial is taken in per epoch: those that began together would report together, in few messages.
        free = 3 if 3 * len(self.held) < PLACES else 0
        orders = self.conductor.exchange(Message(self.id, self.sent, news, free, float(self.sent), [], self.sent))
        for trial in orders.stop:
            self.held.pop(trial, None)
        for order in orders.start:
            self.held[order.trial.id] = [order, 0, []]

    def _train(self, trial: str) -> Any:
        from losstune.trainables.messages import Report

        order, epoch, curve = self.held[trial]
        epoch += 1
        number = int(trial.rpartition("-")[2])
        scores = [epoch / 100 + number / 1e6 + self.random.random() / 1e9 for _ in order.trial.seeds]
        losses = [self.random.random() for _ in order.trial.seeds]
        curve.append({"epoch": epoch, "train_loss": losses, "scores": {"accuracy": scores}})
        self.held[trial][1] = epoch
        if epoch not in order.report_at:
            return None
        self.held[trial][2] = []
        left = epoch >= order.trial.epochs
        if left:
            del self.held[trial]
        return Report(trial, order.attempt, epoch, curve, 0.01, left=left)


class Clock:
    """Seconds spent, by what on."""

    def __init__(self):
        self.seconds: dict[str, float] = {}

    def add(self, what: str, began: float) -> None:
        self.seconds[what] = self.seconds.get(what, 0.0) + time.perf_counter() - began

    def around(self, holder: Any, name: str, what: str) -> None:
        """Time every call of a method."""
        method = getattr(holder, name)

        def timed(*arguments: Any) -> Any:
            began = time.perf_counter()
            try:
                return method(*arguments)
            finally:
                self.add(what, began)

        setattr(holder, name, timed)

    def around_transactions(self, book: Any) -> None:
        """Time what the ledger does before and after the conductor's own part of a transaction."""
        transaction = book.transaction

        @contextmanager
        def timed() -> Iterator[Any]:
            began = time.perf_counter()
            with transaction() as tx:
                self.add("ledger", began)
                yield tx
                began = time.perf_counter()
            self.add("ledger", began)

        book.transaction = timed


def open_study(folder: Path) -> tuple[Any, Any]:
    """The conductor of the study in a folder, and its ledger."""
    from losstune.search.conductor import Conductor
    from losstune.search.ledger.database import Ledger
    from losstune.search.locations import ledger_path
    from losstune.search.study import load_study

    ledger = Ledger.create_or_open(ledger_path(folder))
    return Conductor(load_study(folder / "study.yaml"), ledger, FLOOR, True), ledger


def write(folder: Path) -> None:
    """Conduct the study up to its last trials, and print what a report cost."""
    conductor, ledger = open_study(folder)
    clock, wanted = Clock(), conductor.search.left
    clock.around(conductor, "exchange", "exchange")
    clock.around(conductor.search, "next", "asks")
    clock.around_transactions(conductor.book)
    lane, began = Lane(conductor), time.perf_counter()
    while conductor.search.left or len(lane.held) > LEFT:
        lane.turn()
    wall = time.perf_counter() - began
    ledger.close()
    each = {what: 1000 * seconds / lane.reports for what, seconds in clock.seconds.items()}
    rest = each["exchange"] - each["ledger"] - each["asks"]
    print(f"{wanted:,} trials, {lane.reports:,} reports in {lane.sent:,} messages, {wall:.0f} s", flush=True)
    print(f"per report: {each['ledger']:.2f} ms in the ledger, {rest:.2f} ms for decisions, {each['asks']:.2f} ms for "
          f"asks; {each['exchange']:.2f} ms in all", flush=True)  # fmt: skip


def resume(folder: Path) -> None:
    """Rebuild the conductor, and answer a first message."""
    from losstune.search.standing import standing

    began = time.perf_counter()
    conductor, ledger = open_study(folder)
    rebuilt = time.perf_counter()
    Lane(conductor).turn()
    answered = time.perf_counter()
    standing(conductor.study, ledger, True)
    looked = time.perf_counter()
    print(f"resume: {rebuilt - began:.2f} s to rebuild the conductor, {answered - rebuilt:.2f} s to the first answer, "
          f"{looked - answered:.2f} s to read where the study stands", flush=True)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1000, help="configurations of each of the ten losses")
    parser.add_argument("--method", default="random", help="tpe: its asks, which are Optuna's, take minutes")
    parser.add_argument("--folder", type=Path, default=Path())
    parser.add_argument("--resume", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.resume:
        resume(options.resume)
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as place:
        folder = Path(place)
        search = {**STUDY["search"], "trials": options.trials, "method": options.method}
        (folder / "study.yaml").write_text(yaml.safe_dump({**STUDY, "search": search}))
        write(folder)
        sizes = {path.name: path.stat().st_size for path in (folder / "ledger").glob("ledger.db*")}
        print("on disk: " + ", ".join(f"{name} {size / 1e6:.1f} MB" for name, size in sorted(sizes.items())))
        began = time.perf_counter()
        subprocess.run([sys.executable, __file__, "--resume", str(folder)], check=True)
        print(f"the fresh process, with its start and imports: {time.perf_counter() - began:.2f} s; "
              f"{os.cpu_count()} cores, " + json.dumps(os.getloadavg()))  # fmt: skip


if __name__ == "__main__":
    main()
