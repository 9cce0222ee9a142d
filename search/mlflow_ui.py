"""MLflow's UI over the store of a study, and its end: a server is processes, and all of them end with the command."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from losstune.search.tracking import artifacts_of, read_state, tracking_uri
from losstune.spaces import InputError

ENDING = signal.SIGINT, signal.SIGTERM, signal.SIGHUP
PAUSE = 0.2  # seconds between looks at the server
GENTLE_SECONDS = 10.0  # after which what is left of a server is killed


def ui_command(folder: Path, port: int) -> list[str]:
    """The command that serves MLflow's UI over the store of a study, on 127.0.0.1 alone.

    InputError when the store is a server, which has a UI of its own.
    """
    from losstune.search.mlflow_client import without_password

    uri = tracking_uri(folder)
    if uri.startswith(("http://", "https://")):
        raise InputError(f"MLFLOW_TRACKING_URI: {without_password(uri)} is a server; allowed: open it in a browser")
    # MLflow would start further processes for jobs of language models, and send statistics of use.
    quiet = ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false", "MLFLOW_DISABLE_TELEMETRY=true", "PYTHONWARNINGS=ignore",
             "PYTHONSAFEPATH=1"]  # fmt: skip
    return ["env", *quiet, sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri,
            "--registry-store-uri", uri, "--default-artifact-root", artifacts_of(folder).as_uri(),
            "--no-serve-artifacts", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
            "--uvicorn-opts", "--log-level warning"]  # fmt: skip


def ui_page(folder: Path, port: int) -> str:
    """Where to begin in that UI: the table of a study's losses once it is projected, else the list of studies."""
    from losstune.search.mlflow_views import ANSWER

    root, query = f"http://127.0.0.1:{port}/#/experiments", "workflowType=machine_learning"
    experiment = read_state(folder).get("experiment")
    return f"{root}/{experiment}/runs?{query}&viewStateShareKey={ANSWER}" if experiment else f"{root}?{query}"


def serve(command: list[str]) -> int:
    """Run a server, on the main thread, until it ends or this process is asked to; the exit status, 130 if it was.

    Ctrl-C, SIGTERM and SIGHUP ask for it. None of the server's processes is left then.
    """
    asked: list[int] = []
    # A hangup that is ignored, as nohup has it, stays ignored.
    heard = [number for number in ENDING if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, lambda number, _: asked.append(number)) for number in heard}
    try:
        # A group of its own: a signal to this process alone has to reach all of them, and Ctrl-C them only once.
        server = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
        while server.poll() is None and not asked:
            time.sleep(PAUSE)
        _end(server)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return 130 if asked else server.returncode


def _end(server: subprocess.Popen) -> None:
    """End what there is of a server and its processes, by force where asking does not help."""
    with contextlib.suppress(ProcessLookupError):  # none of them is left
        os.killpg(server.pid, signal.SIGTERM)
        until = time.monotonic() + GENTLE_SECONDS
        while time.monotonic() < until:
            server.poll()  # else it would stay in its group
            os.killpg(server.pid, 0)
            time.sleep(PAUSE)
        os.killpg(server.pid, signal.SIGKILL)
    server.wait()
