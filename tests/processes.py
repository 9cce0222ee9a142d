"""losstune as a process of its own, as a terminal starts it, and how it may end; for tests and the fault harness."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

GUARD = 240  # seconds after which something hangs; nothing is asserted about times
LOSSTUNE = [sys.executable, "-c", "from losstune.search.cli import main; main()"]


if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # in a script's background; no terminal starts a program so
    signal.signal(signal.SIGINT, signal.default_int_handler)


class Outcome:
    """How a command ended: status, and what it wrote to out and err."""

    def __init__(self, status: int, out: str, err: str):
        self.status, self.out, self.err = status, out, err

    def __repr__(self) -> str:
        return f"status {self.status}\n--- out\n{self.out}\n--- err\n{self.err}"


def told(folder: Path, *arguments: object, **environment: str) -> Outcome:
    """How a short command ends; what runs in the folder meanwhile keeps its own output."""
    done = subprocess.run([*LOSSTUNE, *map(str, arguments)], cwd=folder, capture_output=True, text=True,
                          env={**os.environ, **environment}, stdin=subprocess.DEVNULL, timeout=GUARD)  # fmt: skip
    return Outcome(done.returncode, done.stdout, done.stderr)


class Running:
    """A losstune process with a session of its own, as a terminal gives it. within: a command that starts it."""

    def __init__(self, folder: Path, *arguments: object, within: Sequence[str] = (), **environment: str):
        self.folder = folder
        self.files = [open(folder / f".{name}", "w+") for name in ("out", "err")]
        self.process = subprocess.Popen(
            [*within, *LOSSTUNE, *map(str, arguments)], cwd=folder, stdout=self.files[0], stderr=self.files[1],
            env={**os.environ, **environment}, stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip

    def wait(self) -> Outcome:
        """Wait for its end."""
        status = self.process.wait(GUARD)
        for file in self.files:
            file.seek(0)
        return Outcome(status, *(file.read() for file in self.files))

    def until(self, condition):
        """Wait until condition() is true, while the process lives; what it returned."""
        end = time.monotonic() + GUARD
        while not (found := condition()):
            assert self.process.poll() is None, f"it ended before the moment came: {self.wait()}"
            assert time.monotonic() < end, "the moment never came"
            time.sleep(0.05)  # a look at a ledger takes some 10 ms of a core, which the study wants
        return found

    def kill(self) -> None:
        """kill -9, then wait for its lanes and its conductor, which must end by themselves."""
        family = self._children()
        own = [child for child in family if _title(child).startswith("ray::") and "Agent" not in _title(child)]
        self._kill_process()
        _, alive = psutil.wait_procs(own, timeout=GUARD)
        assert not alive, f"processes outlived the killed run: {alive}"
        _end(family)  # Ray's agents would stay for another minute

    def interrupt(self) -> None:
        """Ctrl-C: SIGINT to the whole process group, as a terminal sends it."""
        os.killpg(self.process.pid, signal.SIGINT)

    def lanes(self) -> list[psutil.Process]:
        """The processes of its lanes."""
        return [child for child in self._children() if "Trainable" in _title(child)]

    def hears(self, number: int) -> bool:
        """Whether it has a handler for a signal."""
        said = Path(f"/proc/{self.process.pid}/status").read_text()
        caught = next(line.split()[1] for line in said.splitlines() if line.startswith("SigCgt:"))
        return bool(int(caught, 16) >> (number - 1) & 1)

    def listeners(self) -> set[str]:
        """The addresses on which it and its processes listen."""
        found = set()
        for process in [psutil.Process(self.process.pid), *self._children()]:
            with contextlib.suppress(psutil.Error):
                found |= {c.laddr.ip for c in process.net_connections("inet") if c.status == psutil.CONN_LISTEN}
        return found

    def end(self) -> None:
        """Leave nothing behind, whatever the test came to."""
        family = self._children()
        self._kill_process()
        _end(family)
        for file in self.files:
            file.close()

    def _kill_process(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(GUARD)

    def _children(self) -> list[psutil.Process]:
        try:
            return psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []


def _end(family: list[psutil.Process]) -> None:
    for process in family:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(family, timeout=GUARD)


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""
