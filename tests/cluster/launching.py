"""What stands in for the world where Ray's launcher is tested: a home directory, ssh and rsync that only write down
what they are asked, and no internet."""

from __future__ import annotations

import json
import shlex
import socket
import sys
import tempfile
import time
import types
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
# It keeps its arguments, and the text of a file that rsync would have carried. Nothing is run, and no machine reached.
PROGRAM = """#!{python} -SI
import json, os, sys
name, source = os.path.basename(sys.argv[0]), sys.argv[-2]
text = open(source).read() if name == "rsync" and os.path.isfile(source) else None
with open({log!r}, "a") as log:
    log.write(json.dumps({{"program": name, "arguments": sys.argv[1:], "text": text}}) + "\\n")
"""


class Desk:
    """A machine from which clusters are launched; tests take it for the head too, which launches the workers."""

    def __init__(self, folder: Path, monkeypatch):
        self.log, self.home, self.checkout = folder / "asked.jsonl", folder / "home", folder / "checkout"
        programs = folder / "programs"
        for made in (self.home / ".ray", self.home / ".ssh", self.home / "losstune", self.checkout, programs):
            made.mkdir(parents=True)
        (self.home / ".ray/auth_token").write_text("a token")
        for name in ("ssh", "rsync"):
            (programs / name).write_text(PROGRAM.format(python=sys.executable, log=str(self.log)))
            (programs / name).chmod(0o700)
        monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
        monkeypatch.setenv("HOME", str(self.home))
        monkeypatch.setenv("RAY_TMPDIR", str(folder))
        monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        monkeypatch.setattr(tempfile, "tempdir", str(folder))  # where Ray keeps what a cloud has answered
        monkeypatch.setattr(socket, "getaddrinfo", _nobody)
        monkeypatch.chdir(self.checkout)

    def place(self, config: dict) -> str:
        """The path of a cluster's file in the checkout."""
        path = self.checkout / "cluster.yaml"
        path.write_text(yaml.safe_dump(config))
        return str(path)

    def commands(self, machine: str) -> list[str]:
        """What was to run on the machine of this address, without the shell that Ray puts around it."""
        said = [call["arguments"] for call in self._asked("ssh")]
        return [_unwrapped(arguments[-1]) for arguments in said if arguments[-1].startswith("'")
                and any(argument.endswith(f"@{machine}") for argument in arguments)]  # fmt: skip

    def carried(self, machine: str) -> dict[str, dict]:
        """What was to be copied to the machine of this address, by target: the call, and the text of a file."""
        calls = {call["arguments"][-1]: call for call in self._asked("rsync")}
        return {target.partition(":")[2]: call for target, call in calls.items() if f"@{machine}:" in target}

    def arrive(self, machine: str) -> None:
        """Put into the home what was to be copied into that of the machine."""
        for target, call in self.carried(machine).items():
            if call["text"] is not None:
                Path(target).expanduser().write_text(call["text"])

    def _asked(self, program: str) -> list[dict]:
        calls = [json.loads(line) for line in self.log.read_text().splitlines()] if self.log.exists() else []
        return [call for call in calls if call["program"] == program]


def _unwrapped(command: str) -> str:
    _, _, rest = shlex.split(command)[0].partition("PYTHONWARNINGS=ignore && (")
    return rest.removesuffix(")")


def _nobody(host, *_, **__):
    raise AssertionError(f"the network was asked for {host}")


def impatient() -> types.SimpleNamespace:
    """A `time` for modules of Ray that wait for clouds."""
    return types.SimpleNamespace(time=time.time, sleep=lambda _: time.sleep(0.01))


def until(reached, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.05)
