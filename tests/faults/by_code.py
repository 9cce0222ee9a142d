"""Faults of what trains: a hang, an abort and NaN inside a trial."""

from __future__ import annotations

import os

import psutil
from processes import Outcome

from faults.by_signal import kill_tree
from faults.journey import Journey
from faults.moments import Moment
from faults.studies import POISON
from losstune.search.ledger import read

ROOM = 8 * 2**30  # bytes: more than two studies of these take
LIBRARY = "libtorch_cpu.so: cannot open shared object file"
# Python looks for a module of this name whenever it starts, in all processes of a run. Torch is missing where a lane
# asks for it: other processes, which need it for the report, find it.
WITHOUT_TORCH = f"""\
import sys


class Missing:
    def find_spec(self, name, path=None, target=None):
        frame = sys._getframe() if name == "torch" else None
        while frame is not None:
            if frame.f_code.co_filename.endswith("tune_lane.py"):
                raise ImportError({LIBRARY!r})
            frame = frame.f_back


sys.meta_path.insert(0, Missing())
"""
WORDS = {"hang": "nothing moved for 0.1 minutes, in hang of my_metric.py", "abort": "killed or crashed"}


def hang_once(journey: Journey, moment: Moment) -> None:
    _once(journey, moment, "hang")


def abort_once(journey: Journey, moment: Moment) -> None:
    _once(journey, moment, "abort")


def hog_once(journey: Journey, moment: Moment) -> None:
    """Until Ray ends its process: there the limit is a little above what the machine uses now."""
    memory = psutil.virtual_memory()
    journey.environment["RAY_memory_usage_threshold"] = f"{1 - (memory.available - ROOM) / memory.total:.3f}"
    outcome = _once(journey, moment, "hog", 3)  # it may end the conductor rather than the lane
    said = [event["text"] for event in journey.ran.read(read.all_events) if event["kind"] == "lane"]
    journey.expect(not journey.struck or any("for want of memory" in text for text in [*said, outcome.err]),
                   f"lanes died: {said}")  # fmt: skip


def _once(journey: Journey, moment: Moment, what: str, *statuses: int) -> Outcome:
    running = journey.begin()
    if journey.come(running, moment):
        (journey.ran.folder / f"once-{what}").touch()
    outcome = journey.ended(running, 0, *statuses, says="the study stopped")
    if (journey.ran.folder / f"once-{what}").exists():
        (journey.ran.folder / f"once-{what}").unlink()
        journey.missed("nothing was scored any more")
    return outcome


def hang_always(journey: Journey, moment: Moment) -> None:
    _always(journey, "hang")


def abort_always(journey: Journey, moment: Moment) -> None:
    _always(journey, "abort")


def _always(journey: Journey, what: str) -> None:
    """The trial is failed with its reason after three lanes; the others finish."""
    journey.deaths, journey.struck = 3, True
    (journey.ran.folder / f"always-{what}").touch()
    journey.ended(journey.begin(), 0)
    loss, parameters = POISON
    for row in journey.ran.trials("search"):
        poisoned = row["loss"] == loss and parameters.items() <= row["parameters"].items()
        if poisoned:
            said = row["reason"] or ""
            journey.expect(row["state"] == "failed" and "its lane died 3 times" in said and WORDS[what] in said,
                           f"{row['id']}: {row['state']}, {row['reason']}")  # fmt: skip
        else:
            journey.expect(row["state"] == "complete", f"{row['id']}: {row['state']}, {row['reason']}")


def lanes_that_cannot_start(journey: Journey, moment: Moment) -> None:
    """Torch cannot be loaded where they are; nobody else misses it. The study says so, and ends."""
    journey.deaths, journey.struck = 0, True
    folder = journey.ran.folder / "broken"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(WITHOUT_TORCH)
    own = os.environ.get("PYTHONPATH")
    journey.environment["PYTHONPATH"] = os.pathsep.join([str(folder), *([own] if own else [])])
    said = journey.ended(journey.begin(), 3, says="lanes die before they train anything: ").err
    journey.expect(LIBRARY in said.strip().splitlines()[-1], f"it did not say what lanes die of: {said}")
    journey.expect(not journey.ran.trials(state="failed"), "trials are blamed for it")
    del journey.environment["PYTHONPATH"]


def nan(journey: Journey, moment: Moment) -> None:
    """A kill as soon as a trial has become NaN."""
    running = journey.begin()
    if not journey.come(running, moment):
        return
    running.until(lambda: any(row["state"] == "failed" for row in journey.ran.trials("search")))
    kill_tree(running)
    for row in journey.ran.trials("search", state="failed"):
        journey.expect("became nan" in row["reason"], f"{row['id']} failed: {row['reason']}")
