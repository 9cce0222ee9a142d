"""Faults of the clock, for the study's processes alone, by libfaketime; the machine's own is left alone."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

from faults.journey import Journey
from faults.moments import Moment

DAYS = 40


def clock_forward(journey: Journey, moment: Moment) -> None:
    _stepped(journey, moment, f"+{DAYS}d")


def clock_back(journey: Journey, moment: Moment) -> None:
    _stepped(journey, moment, f"-{DAYS}d")


def _stepped(journey: Journey, moment: Moment, step: str) -> None:
    journey.deaths = 0
    stamp = journey.ran.folder / "clock"
    journey.environment |= faked(stamp)
    running = journey.begin()
    if journey.come(running, moment):
        _write(stamp, step)
    journey.ended(running, 0)
    times = [row["ended"] for row in journey.ran.trials()]
    journey.expect(max(times) - min(times) > DAYS * 86_400 - 3600, "its clock was not stepped")


def faked(stamp: Path) -> dict[str, str]:
    """The environment of processes whose clock goes by a file's word; RuntimeError where that has no effect."""
    found = importlib.util.find_spec("libfaketime")
    library = found and Path(found.origin).parent / "vendor" / "libfaketime" / "src" / "libfaketime.so.1"
    environment = {"LD_PRELOAD": str(library), "FAKETIME_TIMESTAMP_FILE": str(stamp), "FAKETIME_NO_CACHE": "1",
                   "DONT_FAKE_MONOTONIC": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1",
                   "FAKETIME_FORCE_MONOTONIC_FIX": "0"}  # fmt: skip
    _write(stamp, "-10d")
    tried = subprocess.run([sys.executable, "-c", "import time; print(time.time())"], capture_output=True, text=True,
                           env={**os.environ, **environment})  # fmt: skip
    real = stamp.stat().st_mtime
    if tried.returncode or abs(float(tried.stdout) - real + 864_000) > 3600:
        raise RuntimeError("libfaketime does not work here")
    _write(stamp, "+0")
    return environment


def _write(stamp: Path, words: str) -> None:
    new = stamp.with_name("clock.new")
    new.write_text(words)
    os.replace(new, stamp)
