"""What a running study keeps for the day when its disk or its machine is lost: copies of the ledger, and the report."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from losstune.search.ledger.copies import Copies, copy_of
from losstune.search.ledger.database import Superseded
from losstune.search.ledger.postgresql import Server
from losstune.search.locations import Locations, files_of, locations_of
from losstune.spaces import InputError
from losstune.trainables.checkpoint import write_bytes
from losstune.trainables.disk import DiskError
from losstune.trainables.storage import Place, files_in, said_by

SIGN_SECONDS = 20.0  # between signs in the storage that the run lives which writes there
GONE_SECONDS = 60.0  # after so long without a sign it does not
SINCE = "%Y-%m-%d %H:%M:%S"
Note = Callable[[str], Any]


class Backup:
    """An SQLite ledger's copies: one beside it, and one in the study's storage, if it has one.

    A ledger's lock keeps two runs on one machine apart, and the storage those of two machines: each says there that it
    lives, and one that finds another's word there ends (Superseded). at: a ledger on a server needs nothing of this.
    """

    def __init__(self, at: Path | Server, folder: Path, note: Note):
        self.copies, self.note = Copies(at) if isinstance(at, Path) else None, note
        self.stored = files_of(folder) if locations_of(folder).storage is not None else None
        self.signs = self.copies is not None and self.stored is not None
        self.run = {"run": uuid.uuid4().hex, "host": socket.gethostname(), "pid": os.getpid(),
                    "since": time.strftime(SINCE)}  # fmt: skip
        self._told, self._brought, self._failing = 0.0, 0, False  # when it last told, and of which copy; see keep

    @contextlib.contextmanager
    def held(self) -> Iterator[Backup]:
        """Around a run: by what the storage knows, the only one. InputError when that of another machine lives."""
        if not self.signs:
            yield self
            return
        self._wait_for_another()
        self._tell()
        yield self
        with contextlib.suppress(OSError):
            if _run_of(self._said()) == self.run["run"]:
                self._sign.unlink(missing_ok=True)

    @property
    def _sign(self) -> Place:
        return self.stored / "ledger" / "run.json"

    def _wait_for_another(self) -> None:
        found, until = self._said(), time.monotonic() + GONE_SECONDS
        if found is None or found.get("host") == socket.gethostname():  # whose lock this process holds
            return
        who = f"process {found.get('pid')} on {found.get('host')}, since {found.get('since')},"
        self.note(f"{who} runs this study, or did and is gone: waiting up to {GONE_SECONDS:g} s to know")
        while time.monotonic() < until:
            time.sleep(1.0)
            now = self._said()
            if now is None:
                return
            if now != found:
                raise InputError(f"{self._sign}: {who} is running this study; allowed: one run at a time")

    def _said(self) -> dict[str, Any] | None:
        """What the last run there has said; None when it has ended. Of what cannot be understood nobody is known."""
        try:
            said = json.loads(self._sign.read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (ValueError, RecursionError):
            return {}
        return said if isinstance(said, dict) else {}

    def _tell(self) -> None:
        self._told = time.monotonic()
        write_bytes(self._sign, json.dumps({**self.run, "lives": time.strftime(SINCE)}).encode())

    def keep(self, now: bool = False) -> None:
        """Copy the ledger if it is time, and say that the run lives. What goes wrong with a copy ends no study.

        now: whether or not it is time. Superseded where a run on another machine has continued the study.
        """
        if self.copies is not None:
            self.copies.keep_now() if now else self.copies.keep()
        if not self.signs or (time.monotonic() - self._told < SIGN_SECONDS and not now):
            return
        try:
            said = self._said()
            if said is not None and _run_of(said) != self.run["run"]:
                raise Superseded(f"{self._sign}: a run on {said.get('host')} has continued this study")
            self._tell()
            self._bring()
            self._failing = False
        except OSError as error:
            self._told = time.monotonic()
            if not self._failing:
                self.note(f"the storage does not take the ledger's copy now: {said_by(error)}")
            self._failing = True

    def _bring(self) -> None:
        copy = copy_of(self.copies.ledger)
        as_of = copy.stat().st_mtime_ns if copy.is_file() else 0
        if as_of > self._brought:
            write_bytes(self.stored / "ledger" / copy.name, copy.read_bytes())
            self._brought = as_of

    def keep_report(self, report: Path) -> None:
        """Bring the report's files to the storage."""
        if self.stored is None:
            return
        try:
            for path, _ in files_in(report):
                write_bytes(self.stored / "report" / path.relative_to(report), path.read_bytes())
        except OSError as error:
            self.note(f"the storage does not take the report now: {said_by(error)}")


def _run_of(said: dict[str, Any] | None) -> Any:
    return None if said is None else said.get("run")


def fetch(folder: Path, ledger: Path, note: Note) -> None:
    """Bring the ledger's copy from the study's storage to a machine that has neither, if there is one there."""
    if locations_of(folder) == Locations() or ledger.exists() or copy_of(ledger).exists():
        return
    try:
        content = (files_of(folder) / "ledger" / copy_of(ledger).name).read_bytes()
    except DiskError:
        raise
    except OSError:  # there is none
        return
    write_bytes(copy_of(ledger), content)
    note(f"the ledger's copy is fetched from {files_of(folder)}")
