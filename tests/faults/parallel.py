"""Rows in processes of their own, each with a harness of its own: one at a time in each, on one thread."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from faults.harness import FAULTS, Harness, Row

_HERE: dict[str, Any] = {}  # the harness of this process, and whether what it has written is kept


def prepare(folder: Path, seed: int, keep: bool) -> None:
    """Begin a process."""
    own = folder / str(os.getpid())
    own.mkdir()
    _HERE.update(harness=Harness(own, seed), keep=keep)


def row_of(fault: int, phase: str, study: str, round_: int) -> Row:
    """A row; what it has written stays where it was not survived."""
    harness, before = _HERE["harness"], _HERE["harness"].count
    row = harness.row(FAULTS[fault], phase, study, round_)
    for number in range(before, harness.count) if row.survived and not _HERE["keep"] else ():
        shutil.rmtree(harness.folder / f"{number + 1:03d}", ignore_errors=True)
    return row
