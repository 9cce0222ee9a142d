"""Holding a study for one run, and what it keeps for the day when its disk or machine is lost: copies, the report."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from losstune.search.ledger.copies import JOURNALS, Copies, brought_note, copy_of, unsound
from losstune.search.ledger.database import Ledger, Superseded, get_meta, set_meta
from losstune.search.ledger.lock import RunLock
from losstune.search.ledger.postgresql import Server
from losstune.search.locations import confirm, files_of, locations_of
from losstune.spaces import InputError
from losstune.trainables.checkpoint import write_bytes
from losstune.trainables.storage import Place, files_in, said_by

SIGN_SECONDS = 15.0  # between signs in the storage that the run lives which writes there
GONE_SECONDS = 90.0  # after so long without a sign it does not
SINCE = "%Y-%m-%d %H:%M:%S"
LAST_RUN = "last_run"  # the key of meta under which a ledger has the id of the run that was its last
Note = Callable[[str], Any]


@contextlib.contextmanager
def held(folder: Path, at: Path | Server, note: Note, purpose: str = "other",
         patience: float = 0.0) -> Iterator[Backup]:  # fmt: skip
    """Hold a study for this process, which may then write its ledger; InputError when another process holds it.

    What keeps two processes apart is a lock on one machine, and among machines the ledger's server or, for a file, what
    runs write into the storage. at: the study's ledger; a file is then the newest that there is. purpose: as RunLock
    has it. patience: seconds to wait where another machine holds a study on a server, and may be gone.
    """
    with contextlib.ExitStack() as stack:
        stack.callback(RunLock(folder / "ledger", purpose).release)
        if isinstance(at, Server):
            stack.enter_context(at.held(note, patience))
        backup = Backup(at, folder, note)
        stack.enter_context(backup.signed())
        yield backup


class Backup:
    """A ledger's copies: one beside it, and one in the study's storage, if there is one and the ledger is a file.

    In the storage lies the word of the run that may write there: its id, whether its ledger says so too (recorded),
    that it lives, and at last that it has ended. A run that finds another's there ends (Superseded), and a machine
    whose ledger is not that of the last run takes the copy.
    """

    def __init__(self, at: Path | Server, folder: Path, note: Note):
        self.at, self.folder, self.note = at, folder, note
        self.stored = files_of(folder) if locations_of(folder).storage is not None else None
        self.copies = Copies(at) if isinstance(at, Path) else None
        self.signs = self.copies is not None and self.stored is not None
        self.superseded: str | None = None
        self.word: dict[str, Any] = {
            "run": uuid.uuid4().hex, "recorded": False, "before": None, "ended": False, "host": socket.gethostname(),
            "folder": str(folder), "pid": os.getpid(), "since": time.strftime(SINCE),
        }  # fmt: skip
        self._failing, self._brought = False, 0  # whether the storage takes nothing now; the time of the copy there
        self._ending, self._bringing = threading.Event(), threading.Lock()

    # --- the one run ---

    @contextlib.contextmanager
    def signed(self) -> Iterator[None]:
        """Around all that a process does with a study. InputError when a run of another machine lives."""
        if not self.signs:
            yield
            return
        last = self._wait_for_another()
        self.word["before"] = last
        self._tell()
        self._take_newest(last)
        thread = threading.Thread(target=self._go_on_telling, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._ending.set()
            thread.join(SIGN_SECONDS)  # a storage that does not answer may keep it for longer
            with contextlib.suppress(OSError):
                if self._is_ours():
                    self.word["ended"] = True
                    self._tell()

    @property
    def _place(self) -> Place:
        return self.stored / "ledger"

    def _wait_for_another(self) -> str | None:
        """Wait until no other run lives; the id of the last one whose ledger was recorded."""
        found, until = self._said(), time.monotonic() + GONE_SECONDS
        ours = (self.word["host"], self.word["folder"])
        while found and not found.get("ended") and (found.get("host"), found.get("folder")) != ours:
            who = f"process {found.get('pid')} on {found.get('host')}, since {found.get('since')},"
            if until - time.monotonic() > GONE_SECONDS - 1:
                self.note(f"{who} runs this study, or did and is gone: waiting up to {GONE_SECONDS:g} s to know")
            time.sleep(1.0)
            now = self._said()
            if now and not now.get("ended") and now != found:
                raise InputError(f"{self._place}: {who} is running this study; allowed: one run at a time")
            if time.monotonic() > until:
                break
            found = now
        return None if not found else found.get("run") if found.get("recorded") else found.get("before")

    def _said(self) -> dict[str, Any] | None:
        """The word in the storage; None where there is none. Of what cannot be understood nothing is known."""
        try:
            said = json.loads((self._place / "run.json").read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (ValueError, RecursionError):
            return {}
        return said if isinstance(said, dict) else {}

    def _is_ours(self) -> bool:
        said = self._said()
        if said is not None and said.get("run") != self.word["run"]:
            self.superseded = f"{self._place}: a run on {said.get('host')} has continued this study"
        return self.superseded is None

    def _tell(self) -> None:
        word = {**self.word, "lives": time.time()}
        write_bytes(self._place / "run.json", json.dumps(word).encode())

    def _go_on_telling(self) -> None:
        """Say that the run lives, whatever else it does meanwhile, and bring new copies."""
        while not self._ending.wait(SIGN_SECONDS):
            with self._outages_noted():
                if not self._is_ours():
                    return
                self._tell()
                self._bring()

    @contextlib.contextmanager
    def _outages_noted(self) -> Iterator[None]:
        """What a storage does not take now ends no study, and is said once."""
        try:
            yield
            self._failing = False
        except OSError as error:
            if not self._failing:
                self.note(f"the storage takes no copy of the ledger now: {said_by(error)}")
            self._failing = True

    # --- copies ---

    @contextlib.contextmanager
    def opened(self) -> Iterator[Ledger]:
        """The ledger, made if there is none, for this process to write."""
        ledger = Ledger.create_or_open(self.at)
        try:
            if self.signs:
                with ledger.transaction() as tx:
                    set_meta(tx, LAST_RUN, self.word["run"])
                self.word["recorded"] = True
                with self._outages_noted():
                    self._tell()
            confirm(self.folder)
            yield ledger
        finally:
            if self.signs and self.superseded is None:
                self.keep(now=True)
            ledger.close()

    def keep(self, now: bool = False) -> None:
        """Copy the ledger if it is time; now: whether or not it is, and into the storage too.

        Superseded where a run on another machine has continued the study.
        """
        if self.superseded:
            raise Superseded(self.superseded)
        if self.copies is not None:
            self.copies.keep_now() if now else self.copies.keep()
        if self.signs and now:
            with self._outages_noted():
                if self._is_ours():
                    self._bring()

    def _bring(self) -> None:
        """Bring the copy to the storage, if it is a new one, and note from when it is."""
        with self._bringing:
            copy = copy_of(self.at)
            as_of = copy.stat().st_mtime_ns if copy.is_file() else 0
            if as_of > self._brought:
                write_bytes(self._place / copy.name, copy.read_bytes())
                self._brought = as_of
                brought_note(self.at).touch()
                os.utime(brought_note(self.at), ns=(as_of, as_of))

    def _take_newest(self, last: str | None) -> None:
        """Put the storage's copy in the ledger's place, if the last run was not with what is here."""
        path = self.at
        if path.is_file() and (last is None or _last_run(path) == last):
            return
        try:
            content = (self._place / copy_of(path).name).read_bytes()
        except FileNotFoundError:
            return
        new = path.with_name(f".{path.name}.{os.getpid()}")
        write_bytes(new, content)
        try:
            wrong = unsound(new, own=True)
            if wrong is not None:
                raise InputError(f"{self._place / copy_of(path).name}: not a readable ledger ({wrong}); allowed: a "
                                 "sound copy in its place")  # fmt: skip
            _set_aside(path)
            os.replace(new, path)
        finally:
            new.unlink(missing_ok=True)
        self.note(f"the ledger is the copy of {self._place}; what was recorded since is trained again")

    def keep_report(self, report: Path) -> None:
        """Bring the report's files to the storage."""
        if self.stored is None:
            return
        with self._outages_noted():
            bring_report(report, self.stored)


def bring_report(report: Path, place: Place) -> None:
    """Copy the files of a report to the place of its study in a storage. OSError where that does not answer."""
    for path, _ in files_in(report):
        write_bytes(place / "report" / path.relative_to(report), path.read_bytes())


def _last_run(path: Path) -> str | None:
    """The id of the last run of a file of a ledger; None where there is none, or it cannot be read."""
    with contextlib.suppress(InputError):
        ledger = Ledger.open(path)
        try:
            with ledger.reading() as tx:
                return get_meta(tx, LAST_RUN)
        finally:
            ledger.close()
    return None


def _set_aside(path: Path) -> None:
    """Keep an older ledger under another name, its journal with it."""
    stamp = time.time_ns()
    for suffix in ("", *JOURNALS):
        part = path.with_name(path.name + suffix)
        if part.exists():
            os.replace(part, path.with_name(f"older-{stamp}-{path.name}{suffix}"))
    copy_of(path).unlink(missing_ok=True)
