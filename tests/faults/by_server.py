"""Faults of an MLflow server that a study is projected to, and what it holds in the end."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
import urllib.request
from collections import Counter
from pathlib import Path
from unittest.mock import patch

import psutil
from processes import GUARD, Running

from faults.journey import Journey
from faults.moments import Moment
from losstune.search.ledger.database import get_meta
from losstune.search.mlflow_ui import ui_command

DOWN, BEHIND = "MLflow cannot be written since", "`losstune sync my` catches up"


class Server:
    """MLflow's server over a store in a folder."""

    def __init__(self, folder: Path):
        self.folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.start()

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        command = ui_command(self.folder / "of", self.port)
        with open(self.folder / "server.log", "a") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        end = time.monotonic() + GUARD
        while time.monotonic() < end:
            with contextlib.suppress(OSError):
                opener.open(f"{self.uri}/health", timeout=5).read()
                return
            time.sleep(0.2)
        raise RuntimeError("MLflow's server does not come up")

    def stop(self) -> None:
        for process in self._all():
            with contextlib.suppress(psutil.Error):
                process.kill()
        self.process.wait(GUARD)

    def stall(self) -> None:
        for process in self._all():
            process.suspend()

    def go_on(self) -> None:
        for process in self._all():
            process.resume()

    def _all(self) -> list[psutil.Process]:
        try:
            own = psutil.Process(self.process.pid)
            return [*own.children(recursive=True), own]
        except psutil.NoSuchProcess:
            return []


def _served(journey: Journey) -> Server:
    journey.deaths = 0
    folder = journey.ran.folder / "server"
    folder.mkdir()
    server = Server(folder)
    journey.stack.callback(server.stop)
    journey.environment["MLFLOW_TRACKING_URI"] = server.uri
    return server


def server_stopped(journey: Journey, moment: Moment) -> None:
    """For good, as far as the run can tell; it is there again for the next."""
    server = _served(journey)
    running = journey.begin()
    journey.come(running, moment)
    server.stop()
    _ended_behind(journey, running)
    server.start()


def server_restarted(journey: Journey, moment: Moment) -> None:
    server = _served(journey)
    running = journey.begin()
    journey.come(running, moment)
    server.stop()
    server.start()
    _ended_honestly(journey, running)


def server_stalled(journey: Journey, moment: Moment) -> None:
    """It takes connections, and answers none until the run has ended."""
    server = _served(journey)
    running = journey.begin()
    journey.come(running, moment)
    server.stall()
    _ended_behind(journey, running)
    server.go_on()


def _ended_honestly(journey: Journey, running: Running) -> bool:
    """Wait for the end of a run, which must say whether MLflow lacks something; and whether it does."""
    said = journey.ended(running, 0).out
    behind = journey.ran.read(get_meta, "projected") != journey.ran.read(get_meta, "report_of")
    journey.expect((BEHIND in said) == behind, f"MLflow {'lacks something' if behind else 'has all'}; it said {said}")
    return behind


def _ended_behind(journey: Journey, running: Running) -> None:
    """MLflow must lack something, and `losstune status` say so as long as it is down; once all is done, nothing."""
    if not _ended_honestly(journey, running):
        journey.missed("MLflow had all before")
        return
    said = journey.told("status").out
    journey.expect(DOWN in said, f"it is down, and status says {said}")
    journey.checks.append(lambda: _says_nothing(journey))


def _says_nothing(journey: Journey) -> None:
    said = journey.told("status").out
    journey.expect("done" in said and "MLflow" not in said, f"it is there again, and status says {said}")


def store_of(journey: Journey) -> str:
    return journey.environment.get("MLFLOW_TRACKING_URI") or f"sqlite:///{journey.ran.folder / 'runs' / 'mlflow.db'}"


def database_lost(journey: Journey, moment: Moment) -> None:
    """Somebody removes the file of the study's own store, and leaves its journal."""
    journey.deaths = 0
    running = journey.begin()
    if journey.come(running, moment):
        store = journey.ran.folder / "runs" / "mlflow.db"
        if store.is_file():
            store.unlink()
        else:
            journey.missed("there was no store yet")
    _ended_honestly(journey, running)


def mlflow_runs(uri: str, study: str) -> Counter:
    """How many runs there are of each of the study's trials, and of what else it has there, by name, state and curve.
    """
    from mlflow import MlflowClient

    with patch.dict(os.environ, MLFLOW_HTTP_REQUEST_MAX_RETRIES="3"):  # here, not in the studies
        client = MlflowClient(uri)
        experiment = client.get_experiment_by_name(study)
        runs = client.search_runs([experiment.experiment_id], max_results=1000) if experiment else []
        return Counter((run.info.run_name, run.info.status, _curve(client, run)) for run in runs)


def _curve(client, run) -> tuple[tuple[int, float], ...]:
    """The epochs of a run with their training losses, as often as they are there."""
    if "train_loss" not in run.data.metrics:
        return ()
    points = client.get_metric_history(run.info.run_id, "train_loss")
    return tuple(sorted((point.step, point.value) for point in points))
