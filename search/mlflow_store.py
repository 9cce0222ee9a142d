"""Making an MLflow store show a picture of a study: what is there is discovered, what is missing is written."""

from __future__ import annotations

import contextlib
import getpass
import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from losstune.search.mlflow_client import connect, inode, translated
from losstune.search.pictures import REPORT, Picture, Run

PAGE = 1000
METRICS = 800  # per call, of the 1000 entities that MLflow takes, so that parameters and tags always fit
LONGEST = {"param": 6000, "tag": 5000}
ID, LEDGER, WRITTEN, FILES = "losstune.id", "losstune.ledger", "losstune.written", "losstune.report"
PARENT = "mlflow.parentRunId"


@dataclass
class Found:
    """A run in the store. written: the digest of the content that is all there, None after a crash half-way."""

    run_id: str
    written: str | None
    status: str
    end: int | None
    tags: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    points: frozenset = frozenset()  # those that this process wrote
    metrics: frozenset = frozenset()  # the names of those that were there when it was discovered

    def shows(self, run: Run, parent: str | None) -> bool:
        same = self.written == run.digest() and self.status == run.status and self.tags.get(PARENT) == parent
        return same and (run.end is None or self.end == run.end)


@dataclass
class Counts:
    created: int = 0
    updated: int = 0
    unchanged: int = 0


class Store:
    """One study's experiment in an MLflow store. Methods raise Unreachable."""

    def __init__(self, uri: str, artifacts: Path | None):
        self.uri, self.artifacts = uri, artifacts
        self.found: dict[str, Found] = {}
        self.experiment: str | None = None
        self.experiment_tags: dict[str, str] = {}
        self._client: Any = None
        self._file: int | None = None
        self._shown: dict[str, Run] = {}

    def wiped(self) -> bool:
        """Whether the file of a store of our own is not the one that was opened; MLflow would go on with that one."""
        return self._file is not None and inode(self._path()) != self._file

    def _path(self) -> Path:
        return Path(self.uri.removeprefix("sqlite:///"))

    def behind(self, picture: Picture) -> int:
        """How many runs are not, or not as they should be, in the store, as far as this process knows."""
        return sum(self._shown.get(run.id) != run for run in picture.runs)

    def forget(self) -> None:
        """Have the next projection discover what the store holds."""
        self.found, self.experiment, self._shown = {}, None, {}

    def project(self, picture: Picture) -> Counts:
        """Write what the store lacks of a picture, and nothing else."""
        with translated(self.uri):
            if self.experiment is None:
                self._discover(picture)
            counts = Counts()
            for run in picture.runs:
                if self._shown.get(run.id) == run:
                    counts.unchanged += 1
                    continue
                outcome = self._show(run, picture)
                setattr(counts, outcome, getattr(counts, outcome) + 1)
                self._shown[run.id] = run
            self._tag_experiment(picture.tags)
            return counts

    def _discover(self, picture: Picture) -> None:
        self._client = self._client or connect(self.uri, self.artifacts)
        if self.artifacts is not None and self._file is None:
            self._file = inode(self._path())
        self._join(picture.study)
        found: dict[str, list[Any]] = {}
        token = None
        while True:
            page = self._client.search_runs(
                [self.experiment], f"tags.`{LEDGER}` = '{picture.ledger}'", max_results=PAGE, page_token=token,
            )  # fmt: skip
            for run in page:
                found.setdefault(run.data.tags.get(ID, ""), []).append(run)
            token = page.token
            if not token:
                break
        self.found = {id_: self._keep_one(runs) for id_, runs in found.items()}

    def _join(self, name: str) -> None:
        """The experiment of a study: made, joined, or taken out of the bin."""
        from mlflow.exceptions import MlflowException

        experiment = self._client.get_experiment_by_name(name)
        if experiment is None:
            place = (self.artifacts / name).as_uri() if self.artifacts else None
            with contextlib.suppress(MlflowException):  # another process was first
                self._client.create_experiment(name, artifact_location=place)
            experiment = self._client.get_experiment_by_name(name)
        elif experiment.lifecycle_stage == "deleted":
            self._client.restore_experiment(experiment.experiment_id)
        self.experiment, self.experiment_tags = experiment.experiment_id, dict(experiment.tags)

    def _keep_one(self, runs: list[Any]) -> Found:
        """A call that MLflow answered too late may have made a run twice: one stays, the emptier ones go."""
        first, *others = sorted(runs, key=lambda run: (WRITTEN not in run.data.tags, run.info.run_id))
        for run in others:
            self._client.delete_run(run.info.run_id)
        tags = first.data.tags
        return Found(first.info.run_id, tags.get(WRITTEN), first.info.status, first.info.end_time, tags,
                     dict(first.data.params), metrics=frozenset(first.data.metrics))  # fmt: skip

    def _show(self, run: Run, picture: Picture) -> str:
        parent = self.found[run.parent].run_id if run.parent else None
        found, outcome = self.found.get(run.id), "updated"
        report = _digest(picture.report) if run.id == REPORT and picture.report else None
        if found is not None and self._is_of_another(found, run):
            self._client.delete_run(found.run_id)
            found = None
        if found is None:
            found, outcome = self._create(run, parent, picture.ledger), "created"
        elif found.shows(run, parent) and (report is None or found.tags.get(FILES) == report):
            return "unchanged"
        self._write(found, run, parent)
        if report is not None and found.tags.get(FILES) != report:
            self._client.log_artifacts(found.run_id, str(picture.report))
            self._client.set_tag(found.run_id, FILES, report, synchronous=True)
            found.tags[FILES] = report
        return outcome

    def _is_of_another(self, found: Found, run: Run) -> bool:
        """Whether what is there was recorded in a part of the ledger that a bad disk has lost.

        Another configuration may have had this number, and MLflow changes no parameters; epochs that were trained again
        have other times, and MLflow would keep both.
        """
        if any(found.params.get(key, value) != value for key, value in _params(run).items()):
            return True
        if found.points or found.written == run.digest():
            return False  # this process wrote it, or it is the same
        times = {(point.key, point.step): point.time for point in run.points}
        # Means, and what was chosen, are written anew as there is more of what they are of.
        names = found.metrics & {"best_score"} if run.grows else found.metrics
        return any(times.get((name, point.step)) != point.timestamp for name in names
                   for point in self._client.get_metric_history(found.run_id, name))  # fmt: skip

    def _create(self, run: Run, parent: str | None, ledger: str) -> Found:
        # The identity is written in the call that makes the run: a crash right after it leaves no stranger.
        tags = {**run.born, **run.tags, ID: run.id, LEDGER: ledger, "mlflow.user": _user()}
        if parent is not None:
            tags[PARENT] = parent
        tags = {key: _short(value, "tag") for key, value in tags.items()}
        made = self._client.create_run(self.experiment, run.start, tags, run.name)
        self.found[run.id] = Found(made.info.run_id, None, made.info.status, made.info.end_time, tags)
        return self.found[run.id]

    def _write(self, found: Found, run: Run, parent: str | None) -> None:
        """Points, then parameters and tags, the digest last: it vouches for all that was written before it."""
        from mlflow.entities import Metric, Param, RunTag

        tags = {key: _short(value, "tag") for key, value in run.tags.items()} | {WRITTEN: run.digest()}
        if parent is not None:
            tags[PARENT] = parent
        tags = {key: value for key, value in tags.items() if found.tags.get(key) != value}
        params = {key: value for key, value in _params(run).items() if key not in found.params}
        metrics = [Metric(*point) for point in run.points if point not in found.points]
        while len(metrics) > METRICS:
            self._client.log_batch(found.run_id, metrics[:METRICS], synchronous=True)
            metrics = metrics[METRICS:]
        written = [RunTag(*pair) for pair in sorted(tags.items(), key=lambda pair: pair[0] == WRITTEN)]
        given = [Param(*pair) for pair in params.items()]
        self._client.log_batch(found.run_id, metrics, given, written, synchronous=True)
        if found.status != run.status or (run.end is not None and found.end != run.end):
            self._end(found, run)
        found.written, found.points = run.digest(), frozenset(run.points)
        found.tags |= tags
        found.params |= params

    def _end(self, found: Found, run: Run) -> None:
        if run.end is None:
            self._client.update_run(found.run_id, status=run.status)
        else:
            self._client.set_terminated(found.run_id, run.status, run.end)
        found.status, found.end = run.status, run.end

    def _tag_experiment(self, tags: dict[str, str]) -> None:
        for key, value in tags.items():
            value = _short(value, "tag")
            if self.experiment_tags.get(key) != value:
                self._client.set_experiment_tag(self.experiment, key, value)
                self.experiment_tags[key] = value


def _digest(folder: Path) -> str:
    """Of the names and contents of a folder's files."""
    total = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        total.update(str(path.relative_to(folder)).encode() + hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()[:16]


def _params(run: Run) -> dict[str, str]:
    return {key: _short(value, "param") for key, value in run.params.items()}


def _short(value: str, what: str) -> str:
    longest = LONGEST[what]
    return value if len(value) <= longest else f"{value[: longest - 1]}…"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container without a name for its user
        return "unknown"
