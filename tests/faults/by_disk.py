"""Faults of disks: full, read-only, damaged checkpoints, a journal cut short."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

from faults.by_signal import INTERRUPTED, kill_tree
from faults.journey import Journey
from faults.moments import Moment
from losstune.search.locations import ledger_path

SIZE = "64m"


def mount(journey: Journey) -> Path:
    """A small disk of its own for what the study writes; this takes root."""
    place = journey.ran.folder / "runs"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "losstune", place], check=True)
    journey.stack.callback(subprocess.run, ["umount", "-l", place], check=True)
    return place


def disk_full(journey: Journey, moment: Moment) -> None:
    place = mount(journey)
    running = journey.begin()
    if journey.come(running, moment):
        fill(place / "filler", journey.draw.randrange(0, 50_000))
    if journey.ended(running, 3, 0, says="the disk is full").status == 0:
        journey.missed("there was room enough")
    (place / "filler").unlink(missing_ok=True)


def fill(path: Path, room: int) -> None:
    """Fill the disk up to so many bytes."""
    with open(path, "wb", buffering=0) as file:
        with contextlib.suppress(OSError):
            while file.write(bytes(4096)):
                pass
        file.truncate(max(0, path.stat().st_size - room))


def disk_read_only(journey: Journey, moment: Moment) -> None:
    """Before the study's first run, and in its midst."""
    place = mount(journey)
    _refused(journey, place)
    running = journey.begin()
    journey.come(running, moment)
    kill_tree(running)
    _refused(journey, place)


def _refused(journey: Journey, place: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", place], check=True)
    outcome = journey.ended(journey.begin(), 2)
    journey.expect(outcome.err.count("\n") == 1, f"it said {outcome.err!r}")
    subprocess.run(["mount", "-o", "remount,rw", place], check=True)


def checkpoint_truncated(journey: Journey, moment: Moment) -> None:
    """The latest of two: trials go on from the one before."""
    _park(journey, Moment(moment.phase, moment.share / 2))
    _damaged(journey, moment, lambda content, at: content[:at])


def checkpoint_flipped(journey: Journey, moment: Moment) -> None:
    _damaged(journey, moment, lambda content, at: content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])


def checkpoint_gone(journey: Journey, moment: Moment) -> None:
    _damaged(journey, moment, lambda content, at: None)


def _park(journey: Journey, moment: Moment) -> None:
    running = journey.begin()
    if journey.come(running, moment):
        running.interrupt()
    journey.ended(running, 130, 0, says=INTERRUPTED)


def _damaged(journey: Journey, moment: Moment, damage: Callable[[bytes, int], bytes | None]) -> None:
    _park(journey, moment)
    count, damaged = 0, []
    for row in journey.ran.trials(state="running"):
        latest, before = ([saved["epoch"] for saved in row["checkpoints"]] + [0, 0])[:2]
        damaged.append((row["id"], row["trained"] - row["epoch"] + latest - before))
        for saved in row["checkpoints"][:1]:
            path = journey.ran.out / saved["path"]
            content = path.read_bytes()
            altered = damage(content, journey.draw.randrange(len(content)))
            path.unlink() if altered is None else path.write_bytes(altered)
            count += 1
    journey.notes.append(f"{count} checkpoints damaged")
    if count == 0:
        journey.missed("none was there")
    journey.checks.append(lambda: [_again(journey, *one) for one in damaged] and None)


def _again(journey: Journey, trial: str, lost: int) -> None:
    row = journey.trial(trial)
    journey.expect(row["trained"] - row["epoch"] <= lost, f"{trial} was trained {row['trained']} epochs for "
                   f"{row['epoch']}, though at most {lost} were lost")  # fmt: skip


def journal_truncated(journey: Journey, moment: Moment) -> None:
    """After a power cut: all that the journal alone knew may be gone, in part."""
    running = journey.begin()
    journey.come(running, moment)
    kill_tree(running)
    cut_journal(journey)


def cut_journal(journey: Journey) -> None:
    """At a random byte, as long as nothing runs."""
    journal = Path(f"{ledger_path(journey.ran.out)}-wal")
    if journal.is_file():
        size = journal.stat().st_size
        left = journey.draw.randrange(size + 1)
        os.truncate(journal, left)
        journey.notes.append(f"{left} of {size} bytes are left")
    else:
        journey.missed("there was no journal")
