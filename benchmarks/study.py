"""A study as a user runs it: wall time, memory, slot time outside training, and the instant commands.

    python benchmarks/study.py [STUDY]          # default: digits; fashion wants LOSSTUNE_DATA

Prints one line per figure. Timings on a shared machine are what this run gave, not a promise.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

COMMAND = str(Path(sys.executable).with_name("losstune"))


def timed(*arguments: str) -> tuple[float, float]:
    """Wall seconds of a command and the peak memory of its whole process tree, in GiB."""
    started, peak = time.perf_counter(), 0.0
    process = subprocess.Popen([COMMAND, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None:
        peak = max(peak, tree_memory(process.pid))
        time.sleep(0.2)
    if process.returncode:
        raise SystemExit(f"losstune {' '.join(arguments)} ended with status {process.returncode}")
    return time.perf_counter() - started, peak / 2**30


def tree_memory(pid: int) -> float:
    """Proportional set size of a process and all below it, in bytes: shared pages count once."""
    total = 0.0
    try:
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0.0
    for process in family:
        try:
            memory = process.memory_full_info()
            total += getattr(memory, "pss", memory.rss)
        except psutil.Error:
            continue
    return total


def main() -> None:
    from losstune import load_results

    study = sys.argv[1] if len(sys.argv) > 1 else "digits"
    with tempfile.TemporaryDirectory() as out:
        seconds, memory = timed("run", study, "--out", out)
        results = load_results(Path(out) / study)
        outside = results.facts["slot_seconds_outside_training_per_trial"]
        means = results.members.groupby("loss")[results.metric].mean()
        print(f"losstune run {study:9}         {seconds:7.1f} s   peak memory {memory:.2f} GiB, {os.cpu_count()} cores")
        print(f"slot time outside training     {outside:7.3f} s per trial")
        print(f"losstune run {study:9} again   {timed('run', study, '--out', out)[0]:7.2f} s")
        print("mean test " + results.metric + ": " + ", ".join(f"{loss} {mean:.4f}" for loss, mean in means.items()))
    print(f"losstune check {study:9}       {min(timed('check', study)[0] for _ in range(3)):7.2f} s")
    print(f"losstune losses                {min(timed('losses')[0] for _ in range(3)):7.2f} s")


if __name__ == "__main__":
    main()
