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
from losstune.trainables.disk import DiskError
from losstune.trainables.messages import Saved
from losstune.trainables.storage import Place, Stored, files_in

Row = dict[str, Any]
LARGEST_PID = 2**31 - 1
_CUT_SHORT = re.compile(r"\..+\.(\d+)(-wal|-shm|-journal)?")  # ".NAME.PID": a write that never took its name
# What is kept of a confirmed member, and how it is stored; of these RECORDS only where the study wants them.
KEPT = {"predictions": "npz", "weights": "pt", "features": "npz", "robustness": "json", "transfer": "npz"}
RECORDS = {"features", "robustness", "transfer"}


def needless(folder: Path, stored: Place, rows: Iterable[Row]) -> dict[Place, int]:
    """Checkpoints that no trial goes on from, and what processes that were killed have left, with their bytes.

    stored: the place of the checkpoints. For a study at rest.
    """
    needed = {stored / saved.path for row in rows if resumable(row) for saved in checkpoints(row)}
    left = {path: size for place in {folder, stored} if isinstance(place, Path) for path, size in files_in(place)
            if _is_cut_short(path.name) or path.match("ledger/stalled-*.txt")}  # fmt: skip
    return left | {path: size for path, size in files_in(stored / "checkpoints") if path not in needed}


def _is_cut_short(name: str) -> bool:
    """Whether a file is what a process that is gone has left of a write."""
    found = _CUT_SHORT.fullmatch(name)
    if found is None or (number := int(found[1])) > LARGEST_PID:
        return False
    return number == os.getpid() or not psutil.pid_exists(number)


def remove(folder: Place, paths: Iterable[Place]) -> None:
    """Remove files, and the folders of checkpoints that are empty then."""
    for path in paths:
        path.unlink(missing_ok=True)
    if isinstance(folder, Stored):
        if not any(files_in(folder / "checkpoints")):
            (folder / "checkpoints").drop()
        return
    for place in (*(folder / "checkpoints").glob("*"), folder / "checkpoints"):
        with contextlib.suppress(OSError):  # not empty, or not there
            place.rmdir()


def damaged_checkpoints(folder: Place, row: Row) -> list[Saved]:
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


def damaged_files(folder: Place, row: Row, weights_needed: bool) -> list[str]:
    """The files of a confirmed member that are not what was written, or missing.

    Records, which not all members have, only where they were written.
    """
    known = row["files"] or {}
    looked_at = {"predictions", *(["weights"] if weights_needed else []), *(known.keys() & RECORDS)}
    found = []
    for kind in (kind for kind in KEPT if kind in looked_at):
        digest = digest_of(folder / kept_name(kind, row["id"]))
        if digest is None or (kind in known and digest != known[kind]):
            found.append(kept_name(kind, row["id"]))
    return found


def kept_name(kind: str, trial: str) -> str:
    """Where a file of a confirmed member lies in its study's folder; kind: of KEPT."""
    return f"{kind}/{trial}.{KEPT[kind]}"


def digest_of(path: Place) -> str | None:
    """The sha256 of a file's content in hex; None when it cannot be read. DiskError where a store does not answer."""
    try:
        if isinstance(path, Path):
            with open(path, "rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except DiskError:
        raise
    except OSError:
        return None


def sizes(folder: Place) -> dict[str, int]:
    """Bytes below each folder of a study, largest first."""
    found: dict[str, int] = {}
    for path, size in files_in(folder):
        part, _, rest = str(path).removeprefix(f"{folder}/").partition("/")
        if rest:  # what lies in the folder itself is none of a study's
            found[part] = found.get(part, 0) + size
    return dict(sorted(found.items(), key=lambda pair: -pair[1]))
