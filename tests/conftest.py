# ruff: noqa: E402
"""The command line as tests use it: in this process, where no Ray may start, and as real processes."""

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path

from losstune.trainables.processor import prefer_wide_kernels

prefer_wide_kernels()  # as the command line does, before NumPy is loaded: what lanes compute is compared in bits

import psutil
import pytest

GUARD = 240  # seconds after which something hangs; nothing is asserted about times

# A token by environment, so that Ray writes none to the home directory.
os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
LOSSTUNE = [sys.executable, "-c", "from losstune.search.cli import main; main()"]


class Outcome:
    """How a command ended: status, and what it wrote to out and err."""

    def __init__(self, status: int, out: str, err: str):
        self.status, self.out, self.err = status, out, err

    def __repr__(self) -> str:
        return f"status {self.status}\n--- out\n{self.out}\n--- err\n{self.err}"


@pytest.fixture
def losstune(monkeypatch, capfd):
    """losstune(*arguments): the command line in this process; importing Ray would fail."""

    def call(*arguments: object) -> Outcome:
        from losstune.search.cli import main

        monkeypatch.setattr(sys, "argv", ["losstune", *map(str, arguments)])
        monkeypatch.setitem(sys.modules, "ray", None)
        capfd.readouterr()
        status = 0
        try:
            main()
        except SystemExit as end:
            status = end.code or 0
        return Outcome(status, *capfd.readouterr())

    return call


class Running:
    """A losstune process with a session of its own, as a terminal gives it."""

    def __init__(self, folder: Path, *arguments: object, **environment: str):
        self.folder = folder
        self.files = [open(folder / f".{name}", "w+") for name in ("out", "err")]
        self.process = subprocess.Popen(
            [*LOSSTUNE, *map(str, arguments)], cwd=folder, stdout=self.files[0], stderr=self.files[1],
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
            time.sleep(0.01)
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


@pytest.fixture(scope="module")
def start():
    """start(folder, *arguments): a losstune process; those still alive at the end of the module are killed."""
    started: list[Running] = []

    def begin(folder: Path, *arguments: object, **environment: str) -> Running:
        started.append(Running(folder, *arguments, **environment))
        return started[-1]

    yield begin
    for running in started:
        running.end()
