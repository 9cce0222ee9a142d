"""A copy of the ledger beside it, for the day when a disk has damaged the ledger itself."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
COPY_SECONDS = 60.0  # between copies while a study runs
COPY_SHARE = 50  # a copy that takes t seconds is followed by COPY_SHARE * t of rest


class Copies:
    """Keeps a ledger's copy up to date while a study runs. No error of it reaches the study."""

    def __init__(self, ledger: Path):
        self.ledger, self._due = ledger, time.monotonic() + COPY_SECONDS

    def keep(self) -> None:
        """Copy the ledger if the last copy is old enough."""
        began = time.monotonic()
        if began >= self._due:
            self.keep_now()
            self._due = time.monotonic() + max(COPY_SECONDS, COPY_SHARE * (time.monotonic() - began))

    def keep_now(self) -> None:
        with contextlib.suppress(OSError, sqlite3.Error):
            copy(self.ledger, copy_of(self.ledger))


def copy_of(ledger: Path) -> Path:
    """Where a ledger's copy lies."""
    return ledger.with_name("copy.db")


def copy(source: Path, target: Path) -> None:
    """Copy a ledger that others may be writing: whole, sound, on the disk, or not at all. OSError, sqlite3.Error."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        if not source.is_file():
            raise FileNotFoundError(source)  # SQLite would make an empty one
        with _open(source) as one, _open(temporary) as other:
            one.backup(other)
        trouble = unsound(temporary)
        if trouble:
            raise sqlite3.DatabaseError(trouble)
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def unsound(path: Path) -> str | None:
    """What is wrong with a ledger's file, as SQLite sees it, if anything; sqlite3.Error where it cannot look."""
    try:
        with _open(path) as connection:
            (said,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
            if said == "ok" and not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'trials'").fetchone():
                said = "it has no tables"  # as a file of no length, which a crash may leave
    except UnicodeDecodeError as error:  # a schema that is no text any more
        return str(error)
    except sqlite3.Error as error:
        if (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF not in _DAMAGED:
            raise
        return str(error)
    return None if said == "ok" else said


def wrong_with(ledger: Path) -> str | None:
    """What is wrong with a ledger, if anything: damaged, or gone while its copy is there. sqlite3.Error as unsound."""
    if not ledger.is_file():
        return "its file is gone" if copy_of(ledger).is_file() else None
    return unsound(ledger)


def _is_sound(path: Path | None) -> bool:
    with contextlib.suppress(sqlite3.Error):
        return path is not None and path.is_file() and unsound(path) is None
    return False


def mend(ledger: Path) -> str | None:
    """Make a damaged ledger readable: without its journal, if that does it, else by the copy; what was done, as text.

    A journal that has lost its end may hold older pages than the ledger itself. What is damaged is kept under another
    name. None where nothing helps; then all is as it was.
    """
    parts = [part for suffix in ("", "-wal", "-shm") if (part := ledger.with_name(ledger.name + suffix)).exists()]
    stamp = time.time_ns()
    # Not NAME-wal beside NAME: SQLite would take the two together again.
    aside = {part: part.with_name(f"damaged-{stamp}-{number}-{part.name}") for number, part in enumerate(parts)}
    kept, done = copy_of(ledger), None
    try:
        for part, name in aside.items():
            os.replace(part, name)
        for source, said in ((aside.get(ledger), "its journal is set aside"), (kept, _time_of(kept))):
            if done is None and _is_sound(source):
                copy(source, ledger)
                done = f"{said}; what was recorded since is trained again"
    finally:
        for part, name in aside.items() if done is None else ():
            os.replace(name, part)
    return done


def _time_of(path: Path) -> str:
    if not path.is_file():
        return ""
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(path.stat().st_mtime))
    return f"the copy of {when} is in its place"


@contextlib.contextmanager
def _open(path: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(path, timeout=60)
    try:
        yield connection
    finally:
        connection.close()
