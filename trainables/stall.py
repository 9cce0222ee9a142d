"""A guard against standing still: a process in which nothing moves for too long says where it stands, and ends."""

from __future__ import annotations

import contextlib
import faulthandler
import re
import threading
import time
from pathlib import Path

REARM_SECONDS = 1.0  # between settings of the alarm: each starts a thread
_WATCHED = "watched: "
_THREAD = re.compile(r"(?:Current thread|Thread) (0x[0-9a-f]+)")
_FRAME = re.compile(r'  File "(?P<file>.*)", line (?P<line>\d+) in (?P<function>.+)')


class StallGuard:
    """Ends the process when nothing has moved for so many seconds.

    Python's own alarm is a thread of the interpreter, beside its lock: it also ends what hangs in a library's code.
    path: where the stacks of all threads are written then.
    """

    def __init__(self, path: Path, seconds: float):
        self.path, self.seconds, self._set_at = path, seconds, 0.0
        self._watched: int | None = None  # the thread that is to move
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(path, "w")  # noqa: SIM115 (it must be open when the alarm goes off)

    def moved(self) -> None:
        """Something has moved: the alarm is set anew."""
        if self._watched != threading.get_ident():
            self._watched = threading.get_ident()
            print(f"{_WATCHED}{self._watched:#x}", file=self._file, flush=True)
        if time.monotonic() - self._set_at > REARM_SECONDS:
            self._set_at = time.monotonic()
            faulthandler.dump_traceback_later(self.seconds, exit=True, file=self._file)

    def rest(self) -> None:
        """Nothing need move for now."""
        faulthandler.cancel_dump_traceback_later()
        self._set_at = 0.0

    def close(self) -> None:
        self.rest()
        self._file.close()
        self.path.unlink(missing_ok=True)


def stall_path(folder: Path, lane: str) -> Path:
    """Where a lane's guard writes, in the folder of its study."""
    return folder / "ledger" / f"stalled-{lane}.txt"


def stalled_at(path: Path) -> str | None:
    """Where a process stood when its guard ended it, "in forward of my_net.py, line 7"; None when it did not.

    It is the innermost place of the thread that was to move: libraries have others, which always wait.
    """
    watched = thread = None
    with contextlib.suppress(OSError, ValueError):
        for line in path.read_text().splitlines():
            if line.startswith(_WATCHED):
                watched = line.removeprefix(_WATCHED)
            elif found := _THREAD.match(line):
                thread = f"{int(found[1], 16):#x}"
            elif (frame := _FRAME.fullmatch(line)) and watched in (None, thread):
                return f"in {frame['function']} of {Path(frame['file']).name}, line {frame['line']}"
    return None
