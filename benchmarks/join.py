"""How long a machine that joins a cluster takes until it trains, a data set of 200 MB included.

    python benchmarks/join.py [--runs N]      # default: 3 runs

A head without slots runs a study whose one lane waits for a machine. Then a node (a raylet of its own on this machine,
with an object store of its own, to which the data go by Ray's object transfer) joins; seconds count from the start of
`ray start` there to Ray's word that it has joined, to the lane's process, and to the end of its first epoch, through
all of the data.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import secrets
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from start import wait_for_training

from losstune.search.locations import ledger_path

RAY = [sys.executable, "-c", "from ray.scripts.scripts import main; main()", "start", "--block",
       "--disable-usage-stats", "--object-store-memory=1000000000", "--min-worker-port=0", "--max-worker-port=0",
       "--dashboard-agent-listen-port=0"]  # fmt: skip
EXAMPLES, SHAPE = 204_800, (1, 32, 32)  # uint8: 210 MB
STUDY = """\
data: npz:big.npz
network: linear
losses: [softmax]
split: {validation: 0.005}
recipe: {epochs: 3, batch_size: 2048}
search: {trials: 1, seeds: 1, halving: null}
confirm: {seeds: 2}
resources: {max_lanes: 1, backend: sequential, members: 1}
"""
JOINED = """
import contextlib, sys, time
from ray._raylet import GcsClient
while True:
    with contextlib.suppress(Exception):
        if sum(node.state == 0 for node in GcsClient(address=sys.argv[1]).get_all_node_info().values()) == 2:
            break
    time.sleep(0.05)
print(time.time())
"""


def write_study(folder: Path) -> None:
    draw = np.random.default_rng(0)
    y = np.arange(EXAMPLES) % 10
    x = draw.integers(0, 256, (EXAMPLES, *SHAPE), dtype=np.uint8)
    np.savez(folder / "big.npz", x_train=x, y_train=y, x_test=x[:1000], y_test=y[:1000])
    (folder / "big.yaml").write_text(STUDY)


@contextlib.contextmanager
def node(environment: dict[str, str], *options: str) -> Iterator[subprocess.Popen]:
    """`ray start` in a session of its own."""
    process = subprocess.Popen([*RAY, *options], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                               start_new_session=True)  # fmt: skip
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait()


def measure(folder: Path, out: Path) -> tuple[float, float, float]:
    """Seconds from `ray start` until the node has joined, the lane's process began, and an epoch was trained."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    address, place = f"127.0.0.1:{port}", tempfile.mkdtemp(prefix="lt-", dir="/tmp")
    with node(environment, "--head", f"--port={port}", "--node-ip-address=127.0.0.1", "--num-cpus=0",
              "--include-dashboard=false", f"--temp-dir={place}"):  # fmt: skip
        losstune = str(Path(sys.executable).with_name("losstune"))
        command = subprocess.Popen([losstune, "run", "big.yaml", "--address", address, "--out", str(out)], cwd=folder,
                                   env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
        while not ledger_path(out / "big").is_file():
            time.sleep(0.2)
        time.sleep(10)  # the lane waits, and the data are in the head's object store
        began = time.time()
        watch = subprocess.Popen([sys.executable, "-c", JOINED, address], env=environment, stdout=subprocess.PIPE)
        with node(environment, f"--address={address}", "--num-cpus=1"):
            _, lane, trained = wait_for_training(ledger_path(out / "big"), command)
            joined = float(watch.communicate()[0])
            command.send_signal(signal.SIGTERM)
            command.wait()
    return joined - began, lane - began, trained - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_study(Path(folder))
        found = []
        for number in range(options.runs):
            found.append(measure(Path(folder), Path(folder) / str(number)))
            print("from `ray start`: joined after {:.1f} s, the lane's process {:.1f} s, first epoch {:.1f} s".format(
                *found[-1]), flush=True)  # fmt: skip
    print(f"from joining to the first trained epoch, 210 MB of data included: "
          f"{statistics.median(row[2] - row[0] for row in found):.1f} s (median of {options.runs} runs)")  # fmt: skip


if __name__ == "__main__":
    main()
