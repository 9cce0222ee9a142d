"""The files of a study beside its ledger: which of them are needed, which are damaged, and how much room they take."""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from losstune.search.ledger.book import checkpoints
from losstune.trainables.messages import Saved

Row = dict[str, Any]
RESUMABLE = ("running", "cut")  # what was cut goes on from where it was when the study is given more hours
_CUT_SHORT = re.compile(r"\..+\.\d+")  # ".NAME.PID": a write that never took its name
KEPT = {"predictions": "npz", "weights": "pt"}  # what is kept of a confirmed member, and how it is stored


def needless(folder: Path, rows: Iterable[Row]) -> list[Path]:
    """Checkpoints that no trial goes on from, and what processes that were killed have left. For a study at rest."""
    needed = {folder / saved.path for row in rows if row["state"] in RESUMABLE for saved in checkpoints(row)}
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [path for path in files if _CUT_SHORT.fullmatch(path.name) or path.match("ledger/stalled-*.txt")
            or (path.is_relative_to(folder / "checkpoints") and path not in needed)]  # fmt: skip


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


def damaged_files(folder: Path, row: Row, weights_may_lack: bool) -> list[Path]:
    """The files of a confirmed member that are not what was written, or missing; weights may be, once reported."""
    found, known = [], row["files"] or {}
    for kind, suffix in KEPT.items():
        path = folder / kind / f"{row['id']}.{suffix}"
        if not path.exists() and kind == "weights" and weights_may_lack:
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
    found = {place.name: sum(path.stat().st_size for path in place.rglob("*") if path.is_file())
             for place in folder.iterdir() if place.is_dir()}  # fmt: skip
    return dict(sorted(found.items(), key=lambda pair: -pair[1]))
