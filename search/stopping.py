"""`losstune stop`: end a running study gently, as Ctrl-C in its terminal does."""

from __future__ import annotations

import os
import signal
import socket
import time
from pathlib import Path

from losstune.search.ledger.lock import Holder, holder
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
    if who.purpose == "run" and not _stopping(folder):  # a second signal would not wait for checkpoints
        _ask(who, folder)
    while (now := holder(folder / "ledger")) is not None and now == who:
        time.sleep(LOOK_SECONDS)
    return True


def _ask(who: Holder, folder: Path) -> None:
    try:
        os.kill(who.pid, signal.SIGTERM)
    except ProcessLookupError:
        pass  # it has just ended
    except PermissionError:
        raise InputError(f"{folder}: {who} is running this study for another user; allowed: to stop it as that user"
                         ) from None  # fmt: skip


def _stopping(folder: Path) -> bool:
    study, greater, ledger = recorded_study(folder)
    try:
        return standing(study, ledger, greater).stopping()
    finally:
        ledger.close()
