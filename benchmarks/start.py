"""How long a user waits for the first trained epoch.

    python benchmarks/start.py [STUDY] [--runs N]     # default: digits, 3 runs

Each run is a new `losstune run`, interrupted as soon as its ledger says that epochs were trained. Seconds count from
the start of the command. What stock Ray Tune takes until its first trial may start is printed by benchmarks/search.py.
"""

from __future__ import annotations

import argparse
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from losstune.search.ledger import read
from losstune.search.ledger.database import Ledger
from losstune.search.locations import ledger_path
from losstune.search.study import load_study

COMMAND = str(Path(sys.executable).with_name("losstune"))


def measure(study: str) -> tuple[float, float, float]:
    """Seconds until the ledger exists, until the first lane's process starts, and until epochs have been trained."""
    name = load_study(study).name
    with tempfile.TemporaryDirectory() as out:
        started = time.time()
        command = subprocess.Popen([COMMAND, "run", study, "--out", out], stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL)  # fmt: skip
        try:
            times = wait_for_training(ledger_path(Path(out) / name), command)
        finally:
            command.send_signal(signal.SIGINT)
            command.wait()
    return tuple(moment - started for moment in times)


def wait_for_training(path: Path, command: subprocess.Popen) -> tuple[float, float, float]:
    """When the run was recorded, the first lane began and the first epochs were trained."""
    while command.poll() is None:
        time.sleep(0.5)
        if not path.is_file():
            continue
        ledger = Ledger.open(path)
        with ledger.reading() as tx:
            events, lanes, reports = read.all_events(tx), read.all_lanes(tx), read.all_reports(tx)
        ledger.close()
        trained = first_epochs(events, reports)
        if trained is not None:
            return events[0]["time"], lanes[0]["started"], trained
    raise SystemExit(f"losstune ended with status {command.returncode} before it trained")


def first_epochs(events: list[dict], reports: list[dict]) -> float | None:
    """When the first epochs were trained; None when the ledger knows of none yet."""
    times = [event["time"] for event in events if event["kind"] == "training"] or [row["time"] for row in reports]
    return min(times, default=None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", nargs="?", default="digits")
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    found = []
    for _ in range(options.runs):
        found.append(measure(options.study))
        print("losstune run {}: recorded after {:.1f} s, lane's process {:.1f} s, first epochs {:.1f} s".format(
            options.study, *found[-1]), flush=True)  # fmt: skip
    print(f"to the first trained epochs: {statistics.median(row[-1] for row in found):.1f} s "
          f"(median of {options.runs} runs)")  # fmt: skip


if __name__ == "__main__":
    main()
