"""Sixteen real lanes on real Ray Tune: many short trials through `run_study`, and what the conductor's process took.

    python benchmarks/scale_real.py [--trials N] [--lanes N]

Nine losses on the digits, one seed a trial, five rungs from 1 to 81 epochs; the lanes share the machine's cores. The
conductor's process is an actor of Ray: its processor seconds hold what it takes to carry messages, unlike those of
benchmarks/scale.py.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
from scale import LOSSES, write_study

MIB = 2**20


class Look:
    """The conductor's process and this one, as `run_study` goes on."""

    def __init__(self):
        self.process: psutil.Process | None = None
        self.worked, self.most, self.driver, self.lanes = 0.0, 0, 0, 0

    def __call__(self, now: Any) -> None:
        own = psutil.Process()
        self.driver = max(self.driver, own.memory_info().rss)
        self.lanes = max(self.lanes, now.live_slots())
        try:
            self.process = self.process or next(
                child for child in own.children(recursive=True) if "ConductorActor" in " ".join(child.cmdline())
            )
            times = self.process.cpu_times()
            self.worked, self.most = times.user + times.system, max(self.most, self.process.memory_info().rss)
        except (psutil.Error, StopIteration):
            return  # it is not there yet, or not any more


def measure(folder: Path, trials: int, lanes: int) -> None:
    from losstune.search.ledger import read
    from losstune.search.ledger.database import Ledger
    from losstune.search.locations import ledger_path
    from losstune.search.phases import run_study

    cores = os.cpu_count() or 1
    study = write_study(
        folder, trials, len(LOSSES), search={
            "trials": -(-trials // len(LOSSES)), "seeds": 1, "method": "tpe", "halving": {"first": 1, "factor": 3},
        }, confirm={"seeds": 2},
        resources={"cpus": cores / lanes, "max_lanes": lanes, "members": 3, "backend": "batched"},
    )  # fmt: skip
    look, began = Look(), time.perf_counter()
    outcome = run_study(study, folder / "out", watch=look)
    wall = time.perf_counter() - began
    ledger = Ledger.open(ledger_path(outcome.folder))
    with ledger.reading() as tx:
        rows, reports = read.all_trials(tx, "search"), len(read.all_reports(tx))
        deaths = sum("died" in event["text"] for event in read.all_events(tx))
    ledger.close()
    first, last = min(row["asked"] for row in rows), max(row["ended"] for row in rows)
    share = sum(row["slot_seconds"] for row in rows)
    print(f"{len(rows)} trials, {reports} reports with the confirm, {look.lanes} lanes on {cores} cores: {wall:.0f} s, "
          f"of which the search {last - first:.0f} s ({len(rows) / (last - first):.1f} trials a second), "
          f"{share:.0f} slot-seconds of training; {deaths} lanes died; status {outcome.status}\n"
          f"the conductor's process, with its start and Ray's part: {look.worked:.1f} s of processor, "
          f"{look.most / MIB:.0f} MiB; the driver {look.driver / MIB:.0f} MiB", flush=True)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=2000, help="of all losses together")
    parser.add_argument("--lanes", type=int, default=16)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="scale-", ignore_cleanup_errors=True) as place:
        os.environ.setdefault("RAY_TMPDIR", f"{place}/ray")  # so that it meets no other Ray on this machine
        Path(os.environ["RAY_TMPDIR"]).mkdir(exist_ok=True)
        measure(Path(place), options.trials, options.lanes)


if __name__ == "__main__":
    main()
