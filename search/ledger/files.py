"""The files of a study beside its ledger: which of them are needed, which are damaged, and how much room they take."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import psutil

from losstune.search.ledger.book import checkpoints, resumable
from losstune.trainables.messages import Saved

Row = dict[str, Any]
LARGEST_PID = 2**31 - 1
_CUT_SHORT = re.compile(r"\..+\.(\d+)(-wal|-shm|-journal)?")  # ".NAME.PID": a write that never took its name
KEPT = {"predictions": "npz", "weights": "pt"}  # what is kept of a confirmed member, and how it is stored


def needless(folder: Path, rows: Iterable[Row]) -> list[Path]:
    """Checkpoints that no trial goes on from, and what processes that were killed have left. For a study at rest."""
    needed = {folder / saved.path for row in rows if resumable(row) for saved in checkpoints(row)}
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [path for path in files if _is_cut_short(path.name) or path.match("ledger/stalled-*.txt")
            or (path.is_relative_to(folder / "checkpoints") and path not in needed)]  # fmt: skip


def _is_cut_short(name: str) -> bool:
    """Whether a file is what a process that is gone has left of a write."""
    found = _CUT_SHORT.fullmatch(name)
    if found is None or (number := int(found[1])) > LARGEST_PID:
        return False
    return number == os.getpid() or not psutil.pid_exists(number)


def remove(folder: Path, paths: Iterable[Path]) -> None:
    """Remove files, and the folders of checkpoints that are empty then."""
    for path in paths:
        path.unlink(missing_ok=True)
    for place in (*(folder / "checkpoints").glob("*"), folder / "checkpoints"):
        with contextlib.suppress(OSError):  # not empty, or not there
            place.rmdir()


def damaged_checkpoints(folder: Path, row: Row) -> list[Saved]:
    """The checkpoints of a trial that are missing or not what was written."""
    return [saved for saved in checkpoints(row) if digest_of(folder / saved.path) != saved.digest]


def first_members(
    rows: Iterable[Row], round_: int, states: Collection[str] = ("complete", "running")
) -> dict[str, Row]:
    """Per loss the member of a confirm with the lowest seed in one of these states: its weights are kept.

    One that is still, or again, to be trained will have weights.
    """
    own = [row for row in rows if row["phase"] == "confirm" and row["round"] == round_ and row["state"] in states]
    return {row["loss"]: row for row in sorted(own, key=lambda row: -row["number"])}


def damaged_files(folder: Path, row: Row, weights_needed: bool) -> list[Path]:
    """The files of a confirmed member that are not what was written, or missing."""
    found, known = [], row["files"] or {}
    for kind, suffix in KEPT.items():
        path = folder / kind / f"{row['id']}.{suffix}"
        if kind == "weights" and not weights_needed:
            continue
        if not path.is_file() or (kind in known and digest_of(path) != known[kind]):
            found.append(path)
    return found


def digest_of(path: Path) -> str | None:
    """The sha256 of a file's content in hex; None when it cannot be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def sizes(folder: Path) -> dict[str, int]:
    """Bytes below each folder of a study, largest first."""
    found = {place.name: sum(_size(os.path.join(at, name)) for at, _, names in os.walk(place) for name in names)
             for place in folder.iterdir() if place.is_dir()}  # fmt: skip
    return dict(sorted(found.items(), key=lambda pair: -pair[1]))


def _size(path: str) -> int:
    """The bytes of a file; 0 of one that is gone by now: a running study removes checkpoints."""
    try:
        return os.stat(path).st_size
    except OSError:
        return 0
