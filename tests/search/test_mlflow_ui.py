"""`losstune ui`: what it serves, and that nothing of it is left when it has ended."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import psutil
import pytest
from processes import GUARD, Running
from tracked import finished_study, runs

from losstune.search.mlflow_ui import ui_command, ui_page
from losstune.search.tracking import sync
from losstune.spaces import InputError


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_it_serves_the_report_until_it_is_ended(tmp_path, monkeypatch):
    """By SIGTERM to the command alone, as a service manager ends it; MLflow's own processes end with it."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    folder, port = finished_study(tmp_path / "runs" / "tiny"), free_port()
    sync(folder)
    assert ui_page(folder, port).startswith(f"http://127.0.0.1:{port}/#/experiments/")
    run = runs(folder)["report tiny"].info.run_id
    ui = Running(tmp_path, "ui", "tiny", "--port", port)
    family = []
    try:
        page = f"http://127.0.0.1:{port}/get-artifact?path=report.html&run_uuid={run}"
        assert fetch(page, GUARD) == b"<h1>the page</h1>"
        family = psutil.Process(ui.process.pid).children(recursive=True)
        ui.process.terminate()
        outcome = ui.wait()
        assert outcome.status == 130 and ui_page(folder, port) in outcome.out, outcome
        assert family and not any(lives(child) for child in family)
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0
    finally:
        ui.end()
        for child in family:
            if lives(child):
                child.kill()


def lives(process: psutil.Process) -> bool:
    """Whether it runs; where nobody takes note of its end it is a zombie."""
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def fetch(address: str, seconds: float) -> bytes:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + seconds
    while True:
        try:
            return opener.open(address, timeout=10).read()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.3)


# A server whose worker hears nothing but SIGKILL.
SERVING = """
import sys
from losstune.search import mlflow_ui
mlflow_ui.GENTLE_SECONDS = 0.5
worker = "import os, signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
worker += "print(os.getpid(), flush=True); time.sleep(600)"
server = f"import subprocess, sys; sys.exit(subprocess.call([sys.executable, '-c', {worker!r}]))"
sys.exit(mlflow_ui.serve([sys.executable, "-c", server]))
"""


def served(hangup: str = "SIG_DFL") -> tuple[subprocess.Popen, psutil.Process]:
    """A process that serves so, and the worker. hangup: what SIGHUP is to it at first: tests may run under nohup."""
    script = f"import signal\nsignal.signal(signal.SIGHUP, signal.{hangup})\n{SERVING}"
    serving = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                               text=True)  # fmt: skip
    return serving, psutil.Process(int(serving.stdout.readline()))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_every_process_of_the_server(number):
    """Those that do not heed it are killed."""
    serving, worker = served()
    os.kill(serving.pid, number)
    serving.communicate(timeout=GUARD)
    assert serving.returncode == 130 and not lives(worker)


def test_a_hangup_that_is_ignored_ends_nothing():
    """As nohup has it."""
    serving, worker = served("SIG_IGN")
    os.kill(serving.pid, signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        serving.wait(1)
    assert lives(worker)
    serving.terminate()
    serving.communicate(timeout=GUARD)
    assert not lives(worker)


def test_a_server_that_ends_by_itself_gives_its_status():
    """A port that is taken, for example."""
    script = "import sys; from losstune.search.mlflow_ui import serve; sys.exit(serve(['false']))"
    assert subprocess.run([sys.executable, "-c", script]).returncode == 1


def test_a_server_has_a_ui_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://mlflow.example")
    with pytest.raises(InputError, match="open it in a browser"):
        ui_command(tmp_path, 5000)
