"""One run of a study at a time on a machine: a lock that the system lets go when its holder dies."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from losstune.spaces import InputError

SINCE = "%Y-%m-%d %H:%M:%S"  # how a lock says since when it is held
LONGEST = 1000  # characters of a lock; more was not written by a run
TRIES, TRY_SECONDS = 10, 0.02  # somebody who only looks who runs it has the lock for an instant, see holder


@dataclass(frozen=True)
class Holder:
    """Who runs a study, as far as it is known: a process, its machine, since when."""

    host: str = ""
    pid: int | None = None
    since: str = ""
    purpose: str = "run"

    def __str__(self) -> str:
        return "another process" if self.pid is None else f"process {self.pid} on {self.host}, since {self.since},"


class RunLock:
    """Held by the one process that may write a study's ledger. Raises InputError that says who holds it.

    purpose: "run" of what trains, which `losstune stop` may stop.
    """

    def __init__(self, folder: Path, purpose: str = "other"):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file: IO[str] = open(folder / "lock", "a+")  # noqa: SIM115 (held as long as the run)
        except OSError as error:
            raise InputError(f"{folder}: {error.strerror}; allowed: an --out that can be written") from None
        try:
            self._take()
        except BlockingIOError:
            raise InputError(f"{folder.parent}: {_said_by(self._file)} is running this study; "
                             "allowed: one run at a time") from None  # fmt: skip
        except OSError as error:  # some network disks have no locks
            raise InputError(f"{folder}: {error.strerror}, so that nothing would keep two runs apart; "
                             "allowed: an --out on a disk with locks") from None  # fmt: skip
        self._file.seek(0)
        self._file.truncate()
        holder = {"host": socket.gethostname(), "pid": os.getpid(), "since": time.strftime(SINCE),
                  "purpose": purpose}  # fmt: skip
        self._file.write(json.dumps(holder))
        self._file.flush()

    def _take(self) -> None:
        for _ in range(TRIES):
            with contextlib.suppress(BlockingIOError):
                return fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            time.sleep(TRY_SECONDS)
        fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def release(self) -> None:
        self._file.close()


def holder(folder: Path) -> Holder | None:
    """Who runs the study whose ledger is in a folder; None when nobody does."""
    try:
        with open(folder / "lock") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return _said_by(file)
    except OSError:  # there is none, or what is there is no file: nobody holds it
        return None
    return None


def _said_by(file: IO[str]) -> Holder:
    """What the holder wrote of itself."""
    file.seek(0)
    try:
        said = json.loads(file.read(LONGEST))
        return Holder(str(said["host"]), int(said["pid"]), str(said["since"]), str(said.get("purpose", "run")))
    except (ValueError, TypeError, LookupError, RecursionError):
        return Holder()
