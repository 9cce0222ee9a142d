"""Faults of a cluster's nodes: a raylet of its own for each, all on this machine."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
from metadata import MetadataService
from processes import GUARD, LOSSTUNE

from faults.journey import Journey
from faults.moments import Moment
from losstune.search.blame import DOUBTFUL_SECONDS
from losstune.search.ledger import read

RAY = [sys.executable, "-c", "from ray.scripts.scripts import main; main()", "start", "--block",
       "--disable-usage-stats", "--object-store-memory=200000000", "--min-worker-port=0",
       "--max-worker-port=0", "--dashboard-agent-listen-port=0"]  # fmt: skip


NOTICE_SECONDS, WHILE_SECONDS = 30, 5
AWS_TOKEN, AWS_ACTION = ("PUT", "/latest/api/token"), ("GET", "/latest/meta-data/spot/instance-action")
AUTHENTICATED = {"RAY_AUTH_MODE": "token"}  # which Ray does by itself only where it starts the cluster
# Waits until there are so many nodes. In a process of its own: what Ray knows of tokens it reads once.
NODES = """
import contextlib, sys, time
from ray._raylet import GcsClient
address, count = sys.argv[1], int(sys.argv[2])
while True:
    with contextlib.suppress(Exception):
        if sum(node.state == 0 for node in GcsClient(address=address).get_all_node_info().values()) >= count:
            break
    time.sleep(0.3)
"""


class Cluster:
    """A head without CPUs, where the driver is, and nodes of one CPU each."""

    def __init__(self, environment: dict[str, str]):
        self.environment = {**os.environ, **AUTHENTICATED, **environment}
        self.folder = tempfile.mkdtemp(prefix="lt-", dir="/tmp")
        self.port = _free_port()
        self.nodes: list[subprocess.Popen] = []
        self.head = self._start("--head", f"--port={self.port}", "--node-ip-address=127.0.0.1", "--num-cpus=0",
                                "--include-dashboard=false", f"--temp-dir={self.folder}")  # fmt: skip
        self.wait_for(1)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def join(self) -> None:
        """Another node, with an address of its own."""
        self.nodes.append(self._start(f"--address={self.address}", "--num-cpus=1",
                                      f"--node-ip-address=127.0.0.{2 + len(self.nodes)}"))  # fmt: skip

    def wait_for(self, count: int) -> None:
        """Until so many nodes are there."""
        try:
            subprocess.run([sys.executable, "-c", NODES, self.address, str(count)], env=self.environment, timeout=60,
                           check=True, capture_output=True)  # fmt: skip
        except subprocess.SubprocessError:
            said = (Path(self.folder) / "start.log").read_text().splitlines()
            raise RuntimeError(f"the cluster does not come up: {said[-3:]}") from None

    def kill_raylet(self, node: subprocess.Popen) -> None:
        for process in psutil.Process(node.pid).children(recursive=True):
            if process.name() == "raylet":
                process.kill()

    def trains(self, node: subprocess.Popen) -> bool:
        """Whether a lane is on a node."""
        with contextlib.suppress(psutil.Error):
            return any("LaneTrainable" in " ".join(process.cmdline())
                       for process in psutil.Process(node.pid).children(recursive=True))  # fmt: skip
        return False

    def end(self) -> None:
        for node in [*self.nodes, self.head]:
            family = []
            with contextlib.suppress(psutil.Error):
                own = psutil.Process(node.pid)
                family = [own, *own.children(recursive=True)]
            for process in family:
                with contextlib.suppress(psutil.Error):
                    process.kill()
            node.wait(GUARD)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _start(self, *arguments: str) -> subprocess.Popen:
        with open(Path(self.folder) / "start.log", "a") as log:
            return subprocess.Popen([*RAY, *arguments], env=self.environment, stdout=log, stderr=log,
                                    stdin=subprocess.DEVNULL, start_new_session=True)  # fmt: skip


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _clustered(journey: Journey, nodes: int) -> Cluster:
    cluster = Cluster(journey.environment)
    journey.stack.callback(cluster.end)
    for there in range(nodes):  # one after another: two that start at once take the same names for their sockets
        cluster.join()
        cluster.wait_for(2 + there)
    journey.options = ["--address", cluster.address]
    journey.environment |= AUTHENTICATED
    return cluster


def raylet_killed(journey: Journey, moment: Moment) -> None:
    """Of a node with a lane; where it was the only one, another node joins."""
    cluster = _clustered(journey, 1 if journey.text.exact else 2)
    running = journey.begin()
    if journey.come(running, moment):
        cluster.kill_raylet(next((node for node in cluster.nodes if cluster.trains(node)), cluster.nodes[0]))
        if journey.text.exact:
            cluster.join()
    journey.ended(running, 0)
    _blameless(journey)


def spot_notice(journey: Journey, moment: Moment) -> None:
    """A cloud announces that it takes a node back, another one comes; the node is gone some seconds later.

    What its lane has trained is lost in no part.
    """
    journey.deaths, journey.struck = 0, True
    cluster, service = _clustered(journey, 1), journey.stack.enter_context(MetadataService({AWS_TOKEN: "token"}))
    watcher = journey.stack.enter_context(_watching(cluster, service))
    running = journey.begin()
    running.until(lambda: any(row["epoch"] for row in journey.ran.trials("search")))
    time.sleep(moment.share * WHILE_SECONDS)
    when = datetime.now(UTC) + timedelta(seconds=NOTICE_SECONDS)
    service.answers[AWS_ACTION] = f'{{"action": "terminate", "time": "{when:%Y-%m-%dT%H:%M:%SZ}"}}'
    epochs = sum(row["epoch"] for row in journey.ran.trials("search"))
    journey.notes.append(f"{epochs} epochs were trained when the notice came")
    cluster.join()
    journey.expect(watcher.wait(NOTICE_SECONDS) == 0, "the watcher did not tell Ray")
    end = time.monotonic() + NOTICE_SECONDS
    while not _moved(journey) and time.monotonic() < end:
        time.sleep(0.1)
    journey.expect(_moved(journey), "no lane left the node that was to go and began on the other one")
    cluster.kill_raylet(cluster.nodes[0])
    journey.ended(running, 0)
    _blameless(journey)


def _moved(journey: Journey) -> bool:
    left = any("leaves its machine" in event["text"] for event in journey.ran.read(read.all_events))
    return left and len(journey.ran.read(read.all_lanes)) > 1


@contextlib.contextmanager
def _watching(cluster: Cluster, service: MetadataService) -> Iterator[subprocess.Popen]:
    """What the launch files start on a spot machine, here for the first node."""
    command = [*LOSSTUNE, "drain-on-notice", "--cloud", "aws", "--endpoint",
               service.endpoint, "--node-ip", "127.0.0.2", "--ray-address", cluster.address]  # fmt: skip
    watcher = subprocess.Popen(command, env=cluster.environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        yield watcher
    finally:
        watcher.kill()
        watcher.wait(GUARD)


def node_leaves_and_joins(journey: Journey, moment: Moment) -> None:
    """A node is told to end, another one comes; then the study goes on there."""
    cluster = _clustered(journey, 1 if journey.text.exact else 2)
    running = journey.begin()
    if journey.come(running, moment):
        next((node for node in cluster.nodes if cluster.trains(node)), cluster.nodes[0]).terminate()
        cluster.join()
    journey.ended(running, 0)
    _blameless(journey)


def _blameless(journey: Journey) -> None:
    """No trial is blamed for its machine's loss, once Ray had the time to find out that it is lost.

    A study that is over before has nothing more to decide by it.
    """
    died = max((event["time"] for event in journey.ran.read(read.all_events) if " died " in event["text"]), default=0.0)
    unasked = 0
    for row in journey.ran.trials():
        told = (row["ended"] or time.time()) - died >= DOUBTFUL_SECONDS
        unasked += bool(row["crashes"]) and not told
        blamed = told and row["crashes"] or "its lane died" in (row["reason"] or "")
        journey.expect(not blamed, f"{row['id']} is blamed for {row['crashes']} deaths of lanes")
    if unasked:
        journey.notes.append(f"{unasked} trials ended before Ray told whose fault it was")
