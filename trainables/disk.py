"""What ails a disk, or a ledger's server, in plain words: no trial is to blame, and every other would meet it too."""

from __future__ import annotations

import errno
import sqlite3


class DiskError(OSError):
    """A file of the study's own could not be written, whatever the reason: no trial is to blame for it."""


_BY_ERRNO = {
    errno.ENOSPC: "the disk is full", errno.EDQUOT: "the disk quota is used up", errno.EROFS: "the disk is read-only",
    errno.EIO: "the disk fails to read or write", errno.ESTALE: "the network disk is gone",
}  # fmt: skip
_BY_SQLITE = {
    sqlite3.SQLITE_FULL: _BY_ERRNO[errno.ENOSPC], sqlite3.SQLITE_READONLY: _BY_ERRNO[errno.EROFS],
    sqlite3.SQLITE_IOERR: _BY_ERRNO[errno.EIO], sqlite3.SQLITE_CANTOPEN: "the ledger's file cannot be opened",
    sqlite3.SQLITE_CORRUPT: "the ledger is damaged", sqlite3.SQLITE_NOTADB: "the ledger is damaged",
}  # fmt: skip


def disk_trouble(error: BaseException) -> str | None:
    """What an error says of the disk, with the file where it names one; None where it is about something else."""
    original = getattr(error, "orig", error)  # SQLAlchemy's errors hold the database's own
    if isinstance(original, sqlite3.Error):
        # The rest of the bits say which operation; what Python's own module raises, of misuse, has no code.
        return _BY_SQLITE.get(getattr(original, "sqlite_errorcode", 0) & 0xFF)
    if ("psycopg", "OperationalError") in {(kind.__module__, kind.__name__) for kind in type(original).__mro__}:
        return f"the ledger's server fails: {' '.join(str(original).split())[:200]}"
    words = _BY_ERRNO.get(original.errno) if isinstance(original, OSError) else None
    if words is None and isinstance(original, DiskError):
        words = f"a file cannot be read or written: {original.strerror}"
    return f"{words} ({original.filename})" if words and original.filename else words
