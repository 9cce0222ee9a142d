"""Several hosts on one machine: network namespaces with addresses of their own, joined by a switch."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from processes import GUARD

NETWORK = "10.213.77"  # of the hosts alone: nothing routes it
GCS_PORT = 6379
RAY = [sys.executable, "-c", "from ray.scripts.scripts import main; main()", "start", "--block",
       "--disable-usage-stats", "--object-store-memory=200000000", "--dashboard-agent-listen-port=0"]  # fmt: skip


def why_not() -> str | None:
    """Why there can be no namespaces here, if so."""
    if shutil.which("ip") is None:
        return "there is no `ip`: apt-get install iproute2"
    name = f"lt{os.getpid()}-try"
    if subprocess.run(["ip", "netns", "add", name], capture_output=True).returncode:
        return "network namespaces are not allowed here (they need root)"
    _ip("netns", "del", name)
    return None


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


class Hosts:
    """A head and workers of Ray, each in a host of its own. Leave the context to end them and their network.

    The head has no CPU, a worker one.
    """

    def __init__(self, workers: int):
        self.prefix, self.folder = f"lt{os.getpid()}", tempfile.mkdtemp(prefix="lt-", dir="/tmp")
        self.environment = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": os.environ["RAY_AUTH_TOKEN"]}
        self.names = ["head", *(f"worker{number}" for number in range(1, workers + 1))]
        self.address = f"{NETWORK}.1:{GCS_PORT}"
        self.nodes: dict[str, subprocess.Popen] = {}

    def __enter__(self) -> Hosts:
        self._stack = contextlib.ExitStack()
        self._stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
        try:
            self._wire()
            self._stack.callback(self._end)
            self.begin("head")
            for name in self.names[1:]:  # one after another: two that start at once take the same names for sockets
                self.begin(name)
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def within(self, name: str) -> list[str]:
        """What starts a command on a host."""
        return ["ip", "netns", "exec", f"{self.prefix}-{name}"]

    def begin(self, name: str) -> None:
        """Start Ray on a host, and wait until it is there."""
        own = f"--node-ip-address={NETWORK}.{self.names.index(name) + 1}"
        role = [f"--address={self.address}", "--num-cpus=1"]
        if name == "head":
            role = ["--head", f"--port={GCS_PORT}", "--num-cpus=0", "--include-dashboard=false",
                    f"--temp-dir={self.folder}"]  # fmt: skip
        log = Path(self.folder) / f"{name}.log"
        with open(log, "w") as file:
            self.nodes[name] = subprocess.Popen(
                [*self.within(name), *RAY, own, *role], env={**os.environ, **self.environment}, stdout=file,
                stderr=file, stdin=subprocess.DEVNULL, start_new_session=True)  # fmt: skip
        end = time.monotonic() + GUARD
        while "will now block" not in log.read_text():
            assert self.nodes[name].poll() is None and time.monotonic() < end, log.read_text()
            time.sleep(0.2)

    def cut(self, name: str) -> None:
        """Nothing reaches a host any more, and nothing comes from it."""
        _ip("-n", f"{self.prefix}-switch", "link", "set", f"to-{name}", "down")

    def heal(self, name: str) -> None:
        _ip("-n", f"{self.prefix}-switch", "link", "set", f"to-{name}", "up")

    def begin_again(self) -> None:
        """Start Ray where it has ended, as a service manager does."""
        for name, node in self.nodes.items():
            if node.poll() is not None:
                self.begin(name)

    def _wire(self) -> None:
        """A namespace for each host, one for the switch, and cables between them."""
        switch = f"{self.prefix}-switch"
        for namespace in (switch, *(f"{self.prefix}-{name}" for name in self.names)):
            _ip("netns", "add", namespace)
            self._stack.callback(subprocess.run, ["ip", "netns", "del", namespace], capture_output=True)
            _ip("-n", namespace, "link", "set", "lo", "up")
        _ip("-n", switch, "link", "add", "bridge", "type", "bridge")
        _ip("-n", switch, "link", "set", "bridge", "up")
        for number, name in enumerate(self.names, 1):
            host, port = f"{self.prefix}-{name}", f"to-{name}"
            _ip("-n", switch, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", host)
            _ip("-n", switch, "link", "set", port, "master", "bridge")
            _ip("-n", switch, "link", "set", port, "up")
            _ip("-n", host, "address", "add", f"{NETWORK}.{number}/24", "dev", "eth0")
            _ip("-n", host, "link", "set", "eth0", "up")

    def _end(self) -> None:
        for node in self.nodes.values():
            family = []
            with contextlib.suppress(psutil.Error):
                family = [psutil.Process(node.pid), *psutil.Process(node.pid).children(recursive=True)]
            for process in family:
                with contextlib.suppress(psutil.Error):
                    process.kill()
            node.wait(GUARD)
