"""What MLflow is to show, as data: runs, their points, and the picture of a study; and how things are called there."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple

Row = dict[str, Any]
NOTE = "mlflow.note.content"  # the tag that MLflow shows as the description
REPORT = "report"  # the id of the run that has the report
FINAL = 0  # the step of what has one value: MLflow's charts then show bars, and curves for what has epochs
# MLflow marks what was killed as red as what failed, and most trials of a good search are stopped by halving: those
# have ended as planned, and the tag `state` tells them from those of full length.
STATUS = {"running": "RUNNING", "complete": "FINISHED", "stopped": "FINISHED", "cut": "KILLED", "failed": "FAILED"}


class Point(NamedTuple):
    """One value of one metric. time: milliseconds since 1970, from the ledger, so that a replay writes the same."""

    key: str
    value: float
    time: int
    step: int


@dataclass(frozen=True)
class Run:
    """One MLflow run. id: unique in the study. parent: another's id. start, end: milliseconds since 1970.

    born: tags that are written when the run is made and never changed. params cannot change, by MLflow's rules. grows:
    whether its points are of the runs below it, and others as those become more.
    """

    id: str
    name: str
    status: str
    start: int
    end: int | None
    parent: str | None = None
    tags: dict[str, str] = field(default_factory=dict)
    born: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    points: tuple[Point, ...] = ()
    grows: bool = False

    def digest(self) -> str:
        """Equal digests: the same content, but for what is fixed when a run is made."""
        content = [self.name, self.parent, self.tags, self.params, self.points]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Picture:
    """A study as MLflow should show it. ledger: tells two studies of one name apart. Parents stand before children.

    report: the folder whose files belong to the run of the id REPORT, None as long as no report is up to date.
    """

    study: str
    ledger: str
    tags: dict[str, str]
    runs: list[Run]
    report: Path | None


def answer(verdict: Row) -> dict[str, str]:
    """The tags of a report's answer; where looks are planned also at which of them it is."""
    best, plan = verdict["best_set"], verdict.get("looks")
    look = {"look": f"{plan['look']} of {len(plan['planned'])}"} if plan and plan["look"] else {}
    return {"verdict": verdict["headline"], "best_set": ", ".join(best),
            "winner": best[0] if len(best) == 1 else "undecided", "status": "done", **look}  # fmt: skip


def report_note(verdict: Row) -> str:
    """The description of the run that has the report; MLflow's page shows four lines of it, the rest on a click."""
    return ("The page with tables and figures: tab **Artifacts**, `report.html`.\n\n"
            f"{verdict['headline']}\n\n*This holds {verdict['conditional_on']}.*")  # fmt: skip


def answer_or_status(about: Row, verdict: Row | None, status: str) -> dict[str, str]:
    """The tags of a study's experiment, but for its views: the answer, or how far the study is."""
    # The list of experiments has room for the first one or two tags to be written.
    tags = {"best_set": "not yet", "winner": "not yet", "status": status, NOTE: f"In progress: {status}."}
    if verdict is not None:
        tags |= answer(verdict) | {NOTE: verdict["headline"]}
    # Without its kind the UI asks, and may open the pages for language models.
    return tags | {name: str(about[name]) for name in ("data", "network", "metric")} | {
        "mlflow.experimentKind": "custom_model_development"}  # fmt: skip


def defined(points: list[Point]) -> tuple[Point, ...]:
    """Points without what is not defined: MLflow would show NaN as 0 and infinity as 1.8e308."""
    return tuple(point for point in points if point.value is not None and math.isfinite(point.value))


def mean_points(scores: list[dict[str, float]], time: int) -> list[Point]:
    """Mean and standard error of every test metric over what has it, which are seeds, or searches."""
    points = []
    for name in dict.fromkeys(name for own in scores for name in own):
        values = [own[name] for own in scores if name in own]
        points.append(Point(f"test_{metric_key(name)}", fmean(values), time, FINAL))
        if len(values) > 1 and all(map(math.isfinite, values)):
            error = stdev(values) / math.sqrt(len(values))
            points.append(Point(f"test_{metric_key(name)}_standard_error", error, time, FINAL))
    return points


def run_name(row: Row) -> str:
    if row["phase"] == "search":
        return f"{row['loss']} {row['number']:03d}"
    return f"{row['loss']} seed {row['number']:02d}{in_round(row['round'])}"


def in_round(round_: int) -> str:
    return f", round {round_ + 1}" if round_ else ""


def parameters_of(row: Row) -> dict[str, str]:
    # The loss is a parameter too, so that it can be an axis of parallel coordinates.
    return {"loss": row["loss"], **{metric_key(name): str(value) for name, value in row["configuration"].items()}}


def config_hash(row: Row) -> str:
    content = json.dumps([row["loss"], row["configuration"]], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:12]


def configuration_text(parameters: Row) -> str:
    """A configuration in a line, the loss's own hyperparameters first."""
    parameters = dict(sorted(parameters.items(), key=lambda pair: pair[0] in ("learning_rate", "weight_decay")))
    return ", ".join(f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
                     for name, value in parameters.items())  # fmt: skip


def metric_key(name: str) -> str:
    """A name as MLflow allows it for metrics and parameters: "my_metric.py:score" has a colon too many."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "_-. ") else "_" for c in name)[:200]


def milliseconds(seconds: float) -> int:
    return round(seconds * 1000)
