"""A Ray cluster of this machine's own processes whose workers come and go: Ray's autoscaler with its fake provider."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from processes import GUARD

HEAD = 51 * "f" + "00000"  # what the fake provider takes for the head's node
HEAD_TYPE = "ray.head.default"  # the provider knows the head by this name alone
FROM, TO = 21000, 31000  # outside the ports that Ray gives its workers
SAMPLE = """
import sys, time
import ray
ray.init(address=sys.argv[1], logging_level="ERROR", log_to_driver=False)
while True:
    alive = [node for node in ray.nodes() if node["Alive"]]
    used = sum(node["Resources"].get("CPU", 0) for node in alive) - ray.available_resources().get("CPU", 0)
    print(time.time(), len(alive) - 1, used, flush=True)
    time.sleep(0.5)
"""


def free_port(least: int = 0) -> int:
    for port in range(least or FROM + os.getpid() % 5000, TO):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("no port is free")


class Autoscaling:
    """A head without slots, and up to so many workers of one CPU each. Leave the context to end it.

    jobs: whether it takes jobs, then the address for them. environment: what a process needs to talk to it.
    instead_of: one that is lost, whose addresses it has.
    """

    def __init__(self, folder: Path, workers: int, idle_seconds: float = 10.0, jobs: bool = False,
                 instead_of: Autoscaling | None = None):  # fmt: skip
        self.folder, self.port, self.jobs = folder, free_port(), None
        if instead_of:
            self.port, self.jobs = instead_of.port, instead_of.jobs
        elif jobs:
            self.jobs = f"127.0.0.1:{free_port(self.port + 1)}"
        self.address = f"127.0.0.1:{self.port}"
        self.environment = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": os.environ["RAY_AUTH_TOKEN"]}
        self.config = folder / "cluster.json"
        self.config.write_text(json.dumps(_config(self.address, workers, idle_seconds)))

    def __enter__(self) -> Autoscaling:
        self.temporary = tempfile.mkdtemp(prefix="lt-", dir="/tmp")  # the paths of sockets must be short
        environment = {
            **os.environ, **self.environment, "RAY_FAKE_CLUSTER": "1", "RAY_enable_autoscaler_v2": "1",
            "RAY_CLOUD_INSTANCE_ID": HEAD, "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD,
            "AUTOSCALER_UPDATE_INTERVAL_S": "1",
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",  # the provider starts `ray`
        }  # fmt: skip
        command = [
            sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", f"--port={self.port}",
            "--node-ip-address=127.0.0.1", "--num-cpus=0", "--object-store-memory=80000000",
            f"--temp-dir={self.temporary}", f"--autoscaling-config={self.config}",
            f"--include-dashboard={'true' if self.jobs else 'false'}", "--dashboard-host=127.0.0.1",
            *([f"--dashboard-port={self.jobs.rpartition(':')[2]}"] if self.jobs else []),
            "--dashboard-agent-listen-port=0",  # which takes jobs: two heads of one machine must not want the same port
        ]  # fmt: skip
        self._log = open(self.folder / "head.log", "w")  # noqa: SIM115 (as long as the head writes)
        self.process = subprocess.Popen(command, env=environment, stdout=self._log, stderr=self._log,
                                        stdin=subprocess.DEVNULL, start_new_session=True)  # fmt: skip
        self._until(lambda: "This command will now block" in (self.folder / "head.log").read_text(), "no head came up")
        self.samples = self.folder / "nodes.txt"
        self._sampler = subprocess.Popen([sys.executable, "-c", SAMPLE, self.address], stdout=open(self.samples, "w"),
                                         stderr=subprocess.DEVNULL, env={**os.environ, **self.environment})  # fmt: skip
        self._until(self.counts, "nobody could look at the cluster")
        return self

    def counts(self) -> list[tuple[float, int, float]]:
        """Time, workers and CPUs in use, about twice a second."""
        written = self.samples.read_text() if self.samples.exists() else ""
        rows = [line.split() for line in written.split("\n")[:-1]]  # the last one is being written
        return [(float(when), int(workers), float(used)) for when, workers, used in rows]

    def wait_for_workers(self, count: int) -> None:
        self._until(lambda: self.counts()[-1][1] == count, f"there were never {count} workers")

    def _until(self, condition, words: str) -> None:
        end = time.monotonic() + GUARD
        while not condition():
            assert time.monotonic() < end, words
            assert self.process.poll() is None, (self.folder / "head.log").read_text()
            time.sleep(0.2)

    def lose(self) -> None:
        """kill -9 of the head and all workers, and of whatever runs on them."""
        end = time.monotonic() + GUARD
        while True:
            assert time.monotonic() < end, "it does not die"
            own = [process for process in psutil.process_iter(["cmdline"])
                   if any(map(self._is_a_sign, process.info["cmdline"] or ()))]  # fmt: skip
            own += [child for process in own for child in _children(process)]
            own = [process for process in own if _alive(process)]
            if not own:
                break
            for process in own:
                with contextlib.suppress(psutil.Error):
                    process.kill()
            psutil.wait_procs(own, timeout=GUARD)

    def _is_a_sign(self, argument: str) -> bool:
        """Whether a process that has this argument is one of the cluster's."""
        return argument.endswith((f"127.0.0.1:{self.port}", f"port={self.port}")) or self.temporary in argument

    def __exit__(self, *_: object) -> None:
        self._sampler.kill()
        self._sampler.wait(GUARD)
        self.process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(60)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(GUARD)
        self._log.close()
        shutil.rmtree(self.temporary, ignore_errors=True)


def _children(process: psutil.Process) -> list[psutil.Process]:
    with contextlib.suppress(psutil.Error):
        return process.children(recursive=True)
    return []


def _alive(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return process.pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE
    return False


def _config(address: str, workers: int, idle_seconds: float) -> dict:
    provider = {
        "type": "external", "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
        "head_node_id": HEAD, "launch_multiple": True, "gcs_address": address,
    }  # fmt: skip
    types = {
        HEAD_TYPE: {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
        "worker": {"resources": {"CPU": 1, "object_store_memory": 80000000}, "node_config": {}, "min_workers": 0,
                   "max_workers": workers},
    }  # fmt: skip
    lists = (
        "cluster_synced_files", "rsync_exclude", "rsync_filter", "initialization_commands", "setup_commands",
        "head_setup_commands", "worker_setup_commands", "head_start_ray_commands", "worker_start_ray_commands",
    )  # fmt: skip
    return {
        "cluster_name": "losstune-tests", "max_workers": workers, "idle_timeout_minutes": idle_seconds / 60,
        "upscaling_speed": 1.0, "provider": provider, "available_node_types": types, "head_node_type": HEAD_TYPE,
        "file_mounts": {}, "file_mounts_sync_continuously": False, "auth": {}, **{name: [] for name in lists},
    }  # fmt: skip
