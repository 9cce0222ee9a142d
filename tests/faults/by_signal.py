"""Faults of processes: what is killed, and what is told to end."""

from __future__ import annotations

import contextlib
import signal

import psutil
from processes import GUARD, Running

from faults.by_server import BEHIND
from faults.journey import Journey
from faults.moments import Moment
from losstune.search.ledger.lock import holder

INTERRUPTED = "interrupted; the same command goes on"


def driver_killed(journey: Journey, moment: Moment) -> None:
    running = journey.begin()
    if not journey.come(running, moment):
        return
    try:
        running.kill()
    except AssertionError as outlived:
        journey.problems.append(str(outlived).splitlines()[0])


def lane_killed(journey: Journey, moment: Moment) -> None:
    running = journey.begin()
    if journey.come(running, moment) and (lanes := running.lanes()):
        journey.draw.choice(lanes).kill()
    else:
        journey.missed("no lane was left")
    journey.ended(running, 0)


def tree_killed(journey: Journey, moment: Moment) -> None:
    running = journey.begin()
    journey.come(running, moment)
    kill_tree(running)


def kill_tree(running: Running) -> None:
    """kill -9 of everything, as when a machine loses its power, but for what the system has written already."""
    while family := _alive(running):
        for process in family:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(family, timeout=GUARD)
    running.process.wait(GUARD)


def _alive(running: Running) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        own = psutil.Process(running.process.pid)
        if own.status() != psutil.STATUS_ZOMBIE:
            return [own, *own.children(recursive=True)]
    return [process for process in psutil.process_iter()
            if _session(process) == running.process.pid and process.status() != psutil.STATUS_ZOMBIE]  # fmt: skip


def _session(process: psutil.Process) -> int | None:
    import os

    try:
        return os.getsid(process.pid)
    except (ProcessLookupError, PermissionError):
        return None


def terminated(journey: Journey, moment: Moment) -> None:
    _gently(journey, moment, lambda running: running.process.send_signal(signal.SIGTERM))


def interrupted(journey: Journey, moment: Moment) -> None:
    _gently(journey, moment, lambda running: running.interrupt())


def interrupted_in_an_epoch(journey: Journey, moment: Moment) -> None:
    """What of it is done is kept."""
    interrupted(journey, moment)
    parked = [saved["path"] for row in journey.ran.trials() for saved in row["checkpoints"]]
    if journey.struck and not any(".step" in path for path in parked):
        journey.missed("it was parked between two epochs")


def interrupted_twice(journey: Journey, moment: Moment) -> None:
    """By somebody who does not wait."""

    def impatiently(running: Running) -> None:
        running.interrupt()
        with contextlib.suppress(Exception):
            running.process.wait(0.3)
        if running.process.poll() is None:
            running.interrupt()

    journey.deaths = 1
    running = journey.begin()
    if journey.come(running, moment):
        impatiently(running)
    journey.ended_by_it(running, 130)


def _gently(journey: Journey, moment: Moment, tell) -> None:
    journey.deaths = 0
    running = journey.begin()
    running.until(lambda: running.hears(signal.SIGTERM))  # before, it is Python that starts, and no losstune yet
    if journey.come(running, moment):
        tell(running)
    journey.ended_by_it(running, 130, says=INTERRUPTED)


def stopped_from_elsewhere(journey: Journey, moment: Moment) -> None:
    """`losstune stop` says that it has, when it has."""

    def stop(running: Running) -> None:
        said = journey.told("stop")
        still = holder(journey.ran.out / "ledger")
        journey.expect(said.status == 0 and still is None, f"stop said {said.out + said.err!r}, held by {still}")

    _gently(journey, moment, stop)


def conductor_killed(journey: Journey, moment: Moment) -> None:
    running = journey.begin()
    if journey.come(running, moment):
        _kill_titled(journey, running, "ConductorActor")
    journey.ended_by_it(running, 3, says="the study stopped")


def projection_killed(journey: Journey, moment: Moment) -> None:
    journey.deaths = 0
    running = journey.begin()
    if journey.come(running, moment):
        _kill_titled(journey, running, "losstune.search.tracking")
    said = journey.ended(running, 0).out
    journey.expect(not journey.struck or BEHIND in said, f"MLflow lacks something; it said {said}")


def _kill_titled(journey: Journey, running: Running, words: str) -> None:
    found = 0
    for process in psutil.Process(running.process.pid).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if words in " ".join(process.cmdline()):
                process.kill()
                found += 1
    if not found:
        journey.missed(f"there was no {words}")


def killed_after_a_checkpoint(journey: Journey, moment: Moment) -> None:
    """Then no trial begins anew that had one."""
    running = journey.begin()
    running.until(lambda: any(row["checkpoints"] for row in journey.ran.trials("search")))
    if not journey.come(running, moment):
        return
    kept = {row["id"]: row for row in journey.ran.trials("search", state="running") if row["checkpoints"]}
    kill_tree(running)
    if not kept:
        journey.missed("no trial had a checkpoint")

    def nothing_again() -> None:
        for row in map(journey.trial, kept):
            # What a trial is told to have cost is what it was heard of: up to its checkpoint, and from there on.
            journey.expect(row["trained"] == row["epoch"], f"{row['id']} was trained {row['trained']} epochs for "
                           f"{row['epoch']}: it began anew in spite of its checkpoint")  # fmt: skip

    journey.checks.append(nothing_again)
