"""`losstune stop`: end a running study gently, as Ctrl-C in its terminal does."""

from __future__ import annotations

import os
import signal
import socket
import time
from pathlib import Path

import psutil

from losstune.search.composed import folders_in
from losstune.search.ledger.lock import SINCE, Holder, holder
from losstune.search.standing import standing
from losstune.search.status import recorded_study
from losstune.spaces import InputError

LOOK_SECONDS = 0.2


def stop_study(folder: Path) -> bool:
    """Ask whoever runs the study to save what is trained and to end, and wait until it has; False when nobody runs it.

    InputError when it runs on another machine.
    """
    who = holder(folder / "ledger")
    if who is None:
        return False
    if who.pid is None or who.host != socket.gethostname():
        raise InputError(f"{folder}: {who} is running this study; allowed: to stop it where it runs")
    if not _holds(who, folder):
        raise InputError(f"{folder}: {who} is running this study, in another container; allowed: to stop it there")
    asked = any(_stopping(who, part) for part in folders_in(folder) or [folder])
    if who.purpose == "run" and not asked:  # a second signal would not wait for checkpoints
        _ask(who, folder)
    while (now := holder(folder / "ledger")) is not None and now == who:
        time.sleep(LOOK_SECONDS)
    return True


def _holds(who: Holder, folder: Path) -> bool:
    """Whether the process of that number is the one: a container has numbers of its own."""
    try:
        opened = psutil.Process(who.pid).open_files()
        return (folder / "ledger" / "lock").resolve() in {Path(file.path) for file in opened}
    except psutil.NoSuchProcess:
        return holder(folder / "ledger") != who  # it has just ended
    except psutil.AccessDenied:
        return True  # another user's: the signal will be refused


def _ask(who: Holder, folder: Path) -> None:
    try:
        os.kill(who.pid, signal.SIGTERM)
    except ProcessLookupError:
        pass  # it has just ended
    except PermissionError:
        raise InputError(f"{folder}: {who} is running this study for another user; allowed: to stop it as that user"
                         ) from None  # fmt: skip


def _stopping(who: Holder, folder: Path) -> bool:
    """Whether it has been asked to end; what an earlier run was asked is not meant."""
    try:
        study, greater, ledger = recorded_study(folder)
    except InputError:
        return False  # it has just begun
    try:
        now = standing(study, ledger, greater)
        return now.stopping() and now.began() >= time.mktime(time.strptime(who.since, SINCE)) - LOOK_SECONDS
    finally:
        ledger.close()
