"""The default study as a user runs it: wall time, memory, slot time outside training, and the instant commands.

    python benchmarks/default_study.py

Prints one line per figure. Timings on a shared machine are what this run gave, not a promise.
"""

from __future__ import annotations

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

    with tempfile.TemporaryDirectory() as out:
        seconds, memory = timed("run", "digits", "--out", out)
        facts = load_results(Path(out) / "digits").facts
        print(f"losstune run digits            {seconds:6.1f} s   peak memory {memory:.2f} GiB")
        print(f"slot time outside training     {facts['slot_seconds_outside_training_per_trial']:6.3f} s per trial")
        print(f"losstune run digits, again     {timed('run', 'digits', '--out', out)[0]:6.2f} s")
    print(f"losstune check digits          {min(timed('check', 'digits')[0] for _ in range(3)):6.2f} s")
    print(f"losstune losses                {min(timed('losses')[0] for _ in range(3)):6.2f} s")


if __name__ == "__main__":
    main()
