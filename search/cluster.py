"""A study as a job of a Ray cluster: `losstune submit`, and what follows it. Ray Jobs runs it, the ledger resumes it.

A job is not tried again by Ray, and dies with the head: submitting the same study again goes on with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import os
import secrets
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from losstune.search.locations import Locations
from losstune.search.package import pack
from losstune.search.several import studies_of
from losstune.search.study import Study
from losstune.spaces import InputError

STUDY, OUT, DIGEST = "losstune.study", "losstune.out", "losstune.digest"  # a job's metadata
ENDINGS = (0, 2, 3, 130)  # how losstune ends by itself; with anything else it was ended
STOPPED, MOST_STOPS = "losstune: the study stopped", 5  # what it says when it cannot go on; how often it may soon after
QUICKLY, LONGEST_PAUSE = 60.0, 300.0  # seconds: a job that dies so soon is not submitted again at once


class Unreachable(InputError):
    """No Ray cluster answers, or it refuses."""


@dataclass(frozen=True)
class Job:
    """A study's latest job on a cluster. exit_code: the run's own, once it has ended by itself."""

    id: str
    status: str
    message: str
    started: float
    digest: str
    exit_code: int | None

    @property
    def over(self) -> bool:
        return self.status in ("STOPPED", "SUCCEEDED", "FAILED")


@dataclass(frozen=True)
class Places:
    """Where on a cluster a study is. out, data_root: folders of the head."""

    out: str
    data_root: str | None
    locations: Locations

    @property
    def lost_with_head(self) -> str:
        """What would be lost if the head's disk were, as a sentence; "" for nothing."""
        if self.locations.ledger is None and self.locations.storage is None:
            return (f"all of the study is under {self.out}, if no earlier run of it said otherwise: if that is a disk "
                    "of the head, it is lost with it; allowed besides: --storage, where a copy of the ledger is kept, "
                    "and --ledger")  # fmt: skip
        if self.locations.storage is None:
            return (f"checkpoints and predictions are under {self.out}, if no earlier run said otherwise: if that is a "
                    "disk of the head, they are lost with it, and trained again once `losstune doctor` has looked; "
                    "allowed besides: --storage")  # fmt: skip
        if self.locations.ledger is None:
            return ("the ledger is on the head, if no earlier run said otherwise, and a copy of it, at most some "
                    "minutes old, in the storage: what it lacks when the head is lost is trained again; allowed "
                    "besides: --ledger")  # fmt: skip
        return ""


class Cluster:
    """The job server of a Ray cluster at http://HOST:PORT, the dashboard's; 8265 unless said otherwise.

    Ray's token is that of RAY_AUTH_TOKEN, or of the file at RAY_AUTH_TOKEN_PATH, else ~/.ray/auth_token. Raises
    Unreachable, and InputError where the cluster wants another token.
    """

    def __init__(self, address: str):
        self.address = address if "://" in address else f"http://{address}"
        _show_token()
        with self._said():
            from ray.job_submission import JobSubmissionClient

            self.client = JobSubmissionClient(self.address)

    @contextlib.contextmanager
    def _said(self) -> Iterator[None]:
        """What goes wrong on the way to a cluster, in a line."""
        try:
            yield
        except Exception as error:
            said = " ".join(str(error).split())[:300]
            if type(error).__name__ == "AuthenticationError":  # waiting for another answer would be in vain
                raise InputError(f"--address {self.address}: the cluster wants its token ({said[:80]}); allowed: that "
                                 "of its head in ~/.ray/auth_token, or RAY_AUTH_TOKEN") from None  # fmt: skip
            if not isinstance(error, (RuntimeError, OSError, ValueError)):
                raise
            if "ray[default]" in said:
                said = "Ray Jobs is not installed here: pip install 'losstune[cluster]'"
            raise Unreachable(f"--address {self.address}: {said}; allowed: the dashboard of a Ray cluster, HOST:8265"
                              ) from None  # fmt: skip

    def find(self, study: str, out: str | None = None) -> Job | None:
        """The latest job of a study of that name; out: only of one that writes there."""
        with self._said():
            found = [job for job in self.client.list_jobs() if (job.metadata or {}).get(STUDY) == study
                     and out in (None, job.metadata[OUT])]  # fmt: skip
        latest = max(found, key=lambda job: job.start_time or 0, default=None)
        if latest is None:
            return None
        began, digest = (latest.start_time or 0) / 1000, latest.metadata[DIGEST]
        return Job(latest.submission_id, str(latest.status), latest.message or "", began, digest,
                   latest.driver_exit_code)  # fmt: skip

    def found(self, study: str) -> Job:
        """As find; InputError when there is none."""
        job = self.find(study)
        if job is None:
            raise InputError(f"{study}: no job of this study on {self.address}; allowed: one that was submitted there")
        return job

    def submit(self, study: Study, places: Places, pip: Path | None = None) -> tuple[Job, bool]:
        """The job of a study that writes to a folder of the cluster, and whether it is new: else it runs already."""
        out = places.out
        sources = [one.sources for one in studies_of(study)]
        digest = hashlib.sha256(json.dumps([study.fields, sources], sort_keys=True).encode()).hexdigest()
        job = self.find(study.name, out)
        if job is not None and not job.over:
            if job.digest != digest:
                raise InputError(f"{study.where}: {job.id} runs this study as it was before; allowed: to wait, or "
                                 f"losstune stop {study.name} --address {self.address}")  # fmt: skip
            return job, False
        with TemporaryDirectory(prefix="losstune-") as folder:
            environment = pack(study, Path(folder)) | _packages(pip)
            with self._said():
                self.client.submit_job(
                    entrypoint=_command(study.name, places),
                    submission_id=f"losstune-{study.name}-{secrets.token_hex(4)}", runtime_env=environment,
                    metadata={STUDY: study.name, OUT: out, DIGEST: digest},
                )  # fmt: skip
        return self.found(study.name), True

    def stop(self, job: Job) -> None:
        """Ask a job to end; it saves what is trained, for as long as the cluster lets it."""
        with self._said():
            self.client.stop_job(job.id)

    def logs(self, job: Job) -> str:
        with self._said():
            return self.client.get_job_logs(job.id)

    def follow(self, job: Job, say: Callable[[str], Any]) -> Job:
        """Pass on what a job prints until it has ended; how it has ended."""

        logging.getLogger("ray.dashboard.modules.job.sdk").setLevel(logging.ERROR)  # that a log has ended is no news

        async def tail() -> None:
            async for lines in self.client.tail_job_logs(job.id):
                say(lines)

        with self._said():
            asyncio.run(tail())
            while (info := self.client.get_job_info(job.id)) and not info.status.is_terminal():
                time.sleep(1.0)
        return Job(job.id, str(info.status), info.message or "", job.started, job.digest, info.driver_exit_code)


def _show_token() -> None:
    """Have Ray show the token that the user has: by itself it would look for one only where a variable says so."""
    file = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    if not os.environ.get("RAY_AUTH_MODE") and (os.environ.get("RAY_AUTH_TOKEN") or file.is_file()):
        os.environ["RAY_AUTH_MODE"] = "token"


def _packages(pip: Path | None) -> dict[str, Any]:
    """What Ray is to install for a job, of a file of requirements; InputError when it cannot be read."""
    try:
        return {"pip": [line for line in pip.read_text().splitlines() if line.strip()]} if pip else {}
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--pip {pip}: {error}; allowed: a text file of requirements") from None


def _command(name: str, places: Places) -> str:
    """What the job's shell runs. It leaves the folder that Ray has unpacked, which Ray may unpack again under it."""
    options = {"--out": places.out, "--data-root": places.data_root, "--storage": places.locations.storage,
               "--ledger": places.locations.ledger}  # fmt: skip
    given = [part for name, value in options.items() if value is not None for part in (name, value)]
    run = ["exec", "python", "-c", "from losstune.search.cli import main; main()", "run", "--address", "auto", *given]
    place = shlex.quote(places.out)
    return f'unpacked="$PWD"; mkdir -p {place} && cd {place} && {shlex.join(run)} "$unpacked"/{shlex.quote(name)}.yaml'


def supervise(submit: Callable[[], Job], follow: Callable[[Job], Job], note: Callable[[str], Any],
              sleep: Callable[[float], Any] = time.sleep) -> int:  # fmt: skip
    """See a study through: submit it again when it was ended by something else than itself, or was stopped by a full
    disk, or by a server that was gone, and not again and again at once. Its exit status.

    submit: gives the job that runs, or a new one; follow: waits for its end. Both may raise Unreachable, while the head
    is replaced for example: then they are tried again.
    """
    pause, stops = 5.0, 0
    while True:
        began = time.monotonic()
        try:
            job = follow(submit())
        except Unreachable as error:
            note(f"{error}; trying again")
        else:
            if job.status == "STOPPED":
                return 130
            stops = 0 if STOPPED not in job.message else 1 if time.monotonic() - began > QUICKLY else stops + 1
            if job.exit_code in ENDINGS and not 0 < stops <= MOST_STOPS:
                return job.exit_code
            if job.status == "SUCCEEDED":
                return 0
            note(f"{job.id} was ended ({' '.join(job.message.split())[-200:]}); it is submitted again")
        pause = 5.0 if time.monotonic() - began > QUICKLY else min(LONGEST_PAUSE, 2 * pause)
        sleep(pause)


def status_of(job: Job) -> int:
    """The exit status of a run by how its job has ended."""
    if job.status == "STOPPED":
        return 130
    return job.exit_code if job.exit_code in ENDINGS else 0 if job.status == "SUCCEEDED" else 3


def described(job: Job, address: str) -> str:
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(job.started)) if job.started else "just now"
    why = f": {' '.join(job.message.split())[:300]}" if job.status == "FAILED" and job.message else ""
    return f"{job.id} on {address}: {job.status.lower()}, since {since}{why}"


def on_cluster(folder: Path, option: str = "--out") -> str:
    """A folder of a cluster; InputError for one that is relative to somewhere."""
    if not folder.is_absolute():
        raise InputError(f"{option} {folder}: is relative to a folder that only this machine has; allowed: an absolute "
                         "path on the cluster")  # fmt: skip
    return os.fspath(folder)


def say_line(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
