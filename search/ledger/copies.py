"""A copy of the ledger beside it, for the day when a disk has damaged the ledger itself."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
JOURNALS = ("-wal", "-shm")
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


def brought_note(ledger: Path) -> Path:
    """A file whose time is that of the ledger's copy in the storage: what that copy names must still be there."""
    return ledger.with_name("brought")


def copy(source: Path, target: Path) -> None:
    """Copy a ledger that others may be writing: whole, sound, on the disk, or not at all. OSError, sqlite3.Error.

    The copy's time is that at which it was begun: all that was committed before is in it.
    """
    temporary, began = target.with_name(f".{target.name}.{os.getpid()}"), time.time_ns()
    try:
        if not source.is_file():
            raise FileNotFoundError(source)  # SQLite would make an empty one
        with _looking_at(source) as one, contextlib.closing(sqlite3.connect(temporary)) as other:
            one.backup(other)
        trouble = unsound(temporary, own=True)
        if trouble:
            raise sqlite3.DatabaseError(trouble)
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.utime(temporary, ns=(began, began))
        os.replace(temporary, target)
    finally:
        _remove(temporary)


def unsound(path: Path, own: bool = False) -> str | None:
    """What is wrong with a ledger's file, as SQLite sees it, if anything; sqlite3.Error where it cannot look.

    own: it is the caller's alone, and is left without a journal.
    """
    try:
        with contextlib.closing(sqlite3.connect(path)) if own else _looking_at(path) as connection:
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


def mend(ledger: Path) -> str | None:
    """Make a damaged ledger readable: without its journal, if that does it, else by the copy; what was done, as text.

    A journal that has lost its end may hold older pages than the ledger itself. What is damaged is kept under another
    name. None where nothing helps; then all is as it was. Whenever this is killed, the next call finds what it needs:
    the ledger itself stays in its place until what replaces it does so.
    """
    kept, stamp = copy_of(ledger), time.time_ns()
    new = ledger.with_name(f".{ledger.name}.{os.getpid()}")
    _remove(new)  # what a process of this number may have left
    try:
        for source, said in ((ledger, "its journal is set aside"), (kept, _time_of(kept))):
            if _copied_alone(source, new):
                _set_aside(ledger, stamp)
                os.replace(new, ledger)
                return f"{said}; what was recorded since is trained again"
    finally:
        _remove(new)
    return None


def _remove(new: Path) -> None:
    for suffix in ("", *JOURNALS):
        new.with_name(new.name + suffix).unlink(missing_ok=True)


def _copied_alone(source: Path, new: Path) -> bool:
    """Whether a ledger without its journal is sound; then it is there under the new name too, on the disk."""
    if not source.is_file():
        return False
    shutil.copyfile(source, new)
    with contextlib.suppress(sqlite3.Error):
        if unsound(new, own=True) is None:
            with open(new, "rb") as file:
                os.fsync(file.fileno())
            return True
    return False


def _set_aside(ledger: Path, stamp: int) -> None:
    """Keep what is damaged under other names; the journals leave their place, the ledger's own file does not."""
    # Not NAME-wal beside NAME: SQLite would take the two together again.
    for number, suffix in enumerate(("", *JOURNALS)):
        part = ledger.with_name(ledger.name + suffix)
        aside = part.with_name(f"damaged-{stamp}-{number}-{part.name}")
        if part.is_dir():
            os.replace(part, aside)  # nothing of a ledger
        elif part.exists():
            shutil.copyfile(part, aside) if suffix == "" else os.replace(part, aside)


def _time_of(path: Path) -> str:
    if not path.is_file():
        return ""
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(path.stat().st_mtime))
    return f"the copy of {when} is in its place"


@contextlib.contextmanager
def _looking_at(path: Path) -> Iterator[sqlite3.Connection]:
    """A ledger to read. Whoever could write would move a journal, damaged or not, into it when he closes it."""
    with contextlib.closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=60)) as connection:
        yield connection
