"""What MLflow should show of a study, worked out from its ledger and report alone. Knows nothing of MLflow's client."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple

from losstune.search.ledger import read
from losstune.search.ledger.database import Ledger, get_meta, understood
from losstune.search.locations import ledger_at
from losstune.search.mlflow_views import saved_views
from losstune.spaces import InputError

Row = dict[str, Any]
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

    born: tags that are written when the run is made and never changed. params cannot change, by MLflow's rules.
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

    def digest(self) -> str:
        """Equal digests: the same content, but for what is fixed when a run is made."""
        content = [self.name, self.parent, self.tags, self.params, self.points]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Picture:
    """A study as MLflow should show it. ledger: tells two studies of one name apart. Parents stand before children.

    report: the folder whose files belong to the last run, None as long as no report is up to date.
    """

    study: str
    ledger: str
    tags: dict[str, str]
    runs: list[Run]
    report: Path | None


def picture(folder: Path) -> Picture:
    """What MLflow should show of the study in a folder. InputError when there is no sound ledger of a study."""
    ledger = Ledger.open(ledger_at(folder))
    try:
        with understood(ledger.at):
            with ledger.reading() as tx:
                recorded = _Recorded(folder, tx)
            return _picture(folder, recorded)
    finally:
        ledger.close()


def _picture(folder: Path, recorded: _Recorded) -> Picture:
    runs = []
    for phase, round_, loss in recorded.groups():
        rows = recorded.rows(phase, round_, loss)
        parent = recorded.search_parent(loss, rows) if phase == "search" else recorded.confirm_parent(loss, rows)
        runs += [parent, *(recorded.member(row, parent.id) for row in rows)]
    if recorded.verdict is not None:
        runs.append(recorded.report_run())
    return Picture(recorded.about["name"], recorded.key, recorded.experiment_tags(), runs,
                   folder / "report" if recorded.verdict is not None else None)  # fmt: skip


class _Recorded:
    """A study's ledger and verdict, read once."""

    def __init__(self, folder: Path, tx: Any):
        self.about, self.facts = get_meta(tx, "study"), get_meta(tx, "facts") or {}
        if self.about is None:
            raise InputError(f"{folder}: its ledger holds no study yet; allowed: a study that has been run")
        self.trials, events = read.all_trials(tx), read.all_events(tx)
        self.round, choices = read.latest_round(tx), read.all_choices(tx)
        self.choices = {row["loss"]: row for row in choices}
        self.curves = _curves(read.curves(tx))
        began = [event["time"] for event in events[:1]]
        self.key = hashlib.sha256(json.dumps([self.about["name"], began]).encode()).hexdigest()[:12]
        made_of = get_meta(tx, "report_of") or {}
        self.current = (made_of.get("confirmed"), made_of.get("round")) == (read.confirmed(self.trials), self.round)
        self.trials = [row if self._belongs(row) else _abandoned(row) for row in self.trials]
        self.current &= made_of.get("study") == self.about and all(row["state"] != "running" for row in self.trials)
        self.by_id = {row["id"]: row for row in self.trials}
        self.verdict = _verdict(folder) if self.current else None

    def _belongs(self, row: Row) -> bool:
        """Whether a trial is of the study as it is now: losses may be taken out, and seeds become fewer."""
        beyond = row["phase"] == "confirm" and row["number"] >= self.about["confirm"]["seeds"]
        return row["loss"] in self.about["losses"] and not beyond

    def groups(self) -> list[tuple[str, int, str]]:
        """Phase, round and loss of every parent run, in the order in which they were begun."""
        return list(dict.fromkeys((row["phase"], row["round"], row["loss"]) for row in self.trials))

    def rows(self, phase: str, round_: int, loss: str) -> list[Row]:
        return [row for row in self.trials if (row["phase"], row["round"], row["loss"]) == (phase, round_, loss)]

    def search_parent(self, loss: str, rows: list[Row]) -> Run:
        """The search over one loss: how the best full-length score grew with the trials, and what was chosen."""
        choice = self.choices.get(loss)
        chosen = self.by_id.get(choice["trial"]) if choice else None
        wanted = loss in self.about["losses"]
        running = (choice is None and wanted) or any(row["state"] == "running" for row in rows)
        states = [row["state"] for row in rows]
        counts = {f"trials_{state}": str(states.count(state)) for state in STATUS if state in states}
        tags = {"trials": str(len(rows)), **counts}
        if chosen is not None:
            tags |= {"chosen_trial": _name(chosen), "configuration": _text(chosen["parameters"])}
        state = "running" if running else "complete" if chosen else "failed" if wanted else "cut"
        return self._parent(f"search-{loss}", f"search {loss}", rows, state, tags, points=self._progress(rows, chosen))

    def _progress(self, rows: list[Row], chosen: Row | None) -> tuple[Point, ...]:
        better, best, points = (max if self.about["greater_is_better"] else min), None, []
        for count, row in enumerate(_ended(rows), start=1):
            if row["state"] == "complete" and row["score"] is not None:
                best = row["score"] if best is None else better(best, row["score"])
            if best is not None:
                points.append(Point("best_score", best, _ms(row["ended"]), count))
        if chosen is not None:
            points.append(Point("score", chosen["score"], _ms(chosen["ended"]), FINAL))
        return _sound(points)

    def confirm_parent(self, loss: str, rows: list[Row]) -> Run:
        """The confirm of one loss: its configuration, and mean and standard error as the seeds came in."""
        round_, ended = rows[0]["round"], _ended(rows)
        running = any(row["state"] == "running" for row in rows)
        if not running and len(ended) < self.about["confirm"]["seeds"]:
            running = round_ == self.round and loss in self.about["losses"]  # the others are still to come
        states = {row["state"] for row in rows}
        state = "running" if running else states.pop() if states in ({"failed"}, {"cut"}) else "complete"
        first = rows[0]
        tags = {"round": str(round_), "seeds": str(len(ended)), "config_hash": _config_hash(first),
                "configuration": _text(first["parameters"])}  # fmt: skip
        if self.verdict is not None and round_ == self.round:
            tags |= {"in_best_set": str(loss in self.verdict["best_set"]).lower()}
        return self._parent(f"confirm{round_}-{loss}", f"confirm {loss}{_round(round_)}", rows, state, tags,
                            _params(first), self._means(ended))  # fmt: skip

    def _means(self, rows: list[Row]) -> tuple[Point, ...]:
        """Mean and standard error of every test metric over the seeds so far."""
        tests = [(row["results"] or {}).get("test", {}) for row in rows]
        time, points = max((_ms(row["ended"]) for row in rows), default=0), []
        for name in dict.fromkeys(name for test in tests for name in test):
            values = [test[name] for test in tests if name in test]
            points.append(Point(f"test_{_key(name)}", fmean(values), time, FINAL))
            if len(values) > 1 and all(map(math.isfinite, values)):
                error = stdev(values) / math.sqrt(len(values))
                points.append(Point(f"test_{_key(name)}_standard_error", error, time, FINAL))
        return _sound(points)

    def _parent(self, id_: str, name: str, rows: list[Row], state: str, tags: dict[str, str],
                params: dict[str, str] | None = None, points: tuple[Point, ...] = ()) -> Run:  # fmt: skip
        ends = [_ms(row["ended"]) for row in rows if row["ended"]]
        shared = self._shared(rows[0]) | {"kind": "loss", "state": state}
        return Run(id_, name, STATUS[state], min(_ms(row["asked"]) for row in rows),
                   max(ends, default=None) if state != "running" else None,
                   tags=shared | tags, born=self._born(), params=params or {}, points=points)  # fmt: skip

    def member(self, row: Row, parent: str) -> Run:
        """One trial of the search, or one confirmed seed."""
        search = row["phase"] == "search"
        tags = self._shared(row) | {
            "kind": "trial" if search else "seed", "state": row["state"], "config_hash": _config_hash(row),
            "configuration": _text(row["parameters"]),
            ("trial" if search else "seed"): str(row["number"]), "round": str(row["round"]),
        }  # fmt: skip
        if row["reason"]:
            tags["reason"] = row["reason"]
        ended = row["state"] != "running"
        return Run(row["id"], _name(row), STATUS[row["state"]], _ms(row["asked"]),
                   _ms(row["ended"]) if ended and row["ended"] else None, parent, tags, self._born(), _params(row),
                   _sound(self._points(row)))  # fmt: skip

    def _points(self, row: Row) -> list[Point]:
        curve = self.curves.get(row["id"], {})
        points, names = [], {"train_loss"}
        for epoch, (values, time) in sorted(curve.items()):
            names |= set(values)
            points += [Point(name, value, time, epoch) for name, value in values.items()]
        if row["state"] == "running" or not row["ended"]:
            return points
        end, results = _ms(row["ended"]), row["results"] or {}
        if row["phase"] == "search" and row["score"] is not None:
            points += [Point("score", row["score"], end, FINAL)]
        final = {f"{split}_{_key(name)}": value for split in ("test", "validation")
                 for name, value in (results.get(split) or {}).items()}  # fmt: skip
        final |= {"epochs": row["epoch"], "slot_seconds": row["slot_seconds"]}
        return points + [Point(name, value, end, FINAL) for name, value in final.items() if name not in names]

    def report_run(self) -> Run:
        """The run that stands for the study's answer; it begins when the last seed ended, so it is listed first."""
        verdict, end = self.verdict, max(_ms(row["ended"] or row["asked"]) for row in self.trials)
        about = self.about
        tags = {"study": about["name"], "phase": "report", "kind": "study", "round": str(self.round),
                "data_digest": str(self.facts.get("data_digest")), **self._answer(),
                # MLflow's page shows four lines of it, the rest on a click.
                "mlflow.note.content": "The page with tables and figures: tab **Artifacts**, `report.html`.\n\n"
                f"{verdict['headline']}\n\n*This holds {verdict['conditional_on']}.*"}  # fmt: skip
        params = {name: str(about[name]) for name in ("data", "network", "metric", "epochs")}
        return Run("report", f"report {about['name']}", "FINISHED", end, end, tags=tags, born=self._born(),
                   params=params)  # fmt: skip

    def _answer(self) -> dict[str, str]:
        best = self.verdict["best_set"]
        winner = best[0] if len(best) == 1 else "undecided"
        return {"verdict": self.verdict["headline"], "best_set": ", ".join(best), "winner": winner, "status": "done"}

    def experiment_tags(self) -> dict[str, str]:
        """The answer, or how far the study is, where the list of experiments shows it."""
        about = {name: str(self.about[name]) for name in ("data", "network", "metric")}
        phase = "confirm" if self.choices else "search"
        # The list of experiments has room for the first one or two tags to be written.
        answer = {"best_set": "not yet", "winner": "not yet", "status": phase,
                  "mlflow.note.content": f"In progress: {phase}."}  # fmt: skip
        if self.verdict is not None:
            answer |= self._answer() | {"mlflow.note.content": self.verdict["headline"]}
        # Without its kind the UI asks, and may open the pages for language models.
        about["mlflow.experimentKind"] = "custom_model_development"
        return answer | about | self._views()

    def _views(self) -> dict[str, str]:
        begun = min((_ms(row["asked"]) for row in self.trials), default=0)
        losses = list(dict.fromkeys(row["loss"] for row in self.trials))
        return saved_views(_key(self.about["metric"]), self.about["greater_is_better"], begun, losses)

    def _shared(self, row: Row) -> dict[str, str]:
        return {"study": self.about["name"], "phase": row["phase"], "loss": row["loss"],
                "data_digest": str(self.facts.get("data_digest"))}  # fmt: skip

    def _born(self) -> dict[str, str]:
        commit = self.facts.get("git_commit")
        tags = {"mlflow.source.name": "losstune", "mlflow.source.type": "LOCAL"}
        return tags | ({"git_commit": commit, "mlflow.source.git.commit": commit} if commit else {})


def _curves(curves: Iterable[tuple[str, float, list[Row]]]) -> dict[str, dict[int, tuple[dict[str, float], int]]]:
    """Per trial and epoch: the seed means of training loss and validation scores, and when they were reported."""
    found: dict[str, dict[int, tuple[dict[str, float], int]]] = {}
    key_of = cache(lambda name: f"validation_{_key(name)}")  # for each name once, not for every epoch of every trial
    for trial, time, curve in curves:
        own, at = found.setdefault(trial, {}), _ms(time)
        for epoch in curve:
            values = {key_of(name): fmean(scores) for name, scores in epoch["scores"].items()}
            values["train_loss"] = fmean(epoch["train_loss"])
            own[epoch["epoch"]] = values, at
    return found


def _abandoned(row: Row) -> Row:
    """A trial that the study does not have any more. If it was not over, nobody goes on with it."""
    return {**row, "state": "cut"} if row["state"] == "running" else row


def _verdict(folder: Path) -> Row | None:
    try:
        verdict = json.loads((folder / "report" / "verdict.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return verdict if isinstance(verdict, dict) and "best_set" in verdict else None


def _ended(rows: list[Row]) -> list[Row]:
    done = [row for row in rows if row["state"] != "running" and row["ended"]]
    return sorted(done, key=lambda row: (row["ended"], row["number"]))


def _sound(points: list[Point]) -> tuple[Point, ...]:
    """Points without what is not defined: MLflow would show NaN as 0 and infinity as 1.8e308."""
    return tuple(point for point in points if point.value is not None and math.isfinite(point.value))


def _name(row: Row) -> str:
    if row["phase"] == "search":
        return f"{row['loss']} {row['number']:03d}"
    return f"{row['loss']} seed {row['number']:02d}{_round(row['round'])}"


def _round(round_: int) -> str:
    return f", round {round_ + 1}" if round_ else ""


def _params(row: Row) -> dict[str, str]:
    # The loss is a parameter too, so that it can be an axis of parallel coordinates.
    return {"loss": row["loss"], **{_key(name): str(value) for name, value in row["configuration"].items()}}


def _config_hash(row: Row) -> str:
    content = json.dumps([row["loss"], row["configuration"]], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:12]


def _text(parameters: Row) -> str:
    """A configuration in a line, the loss's own hyperparameters first."""
    parameters = dict(sorted(parameters.items(), key=lambda pair: pair[0] in ("learning_rate", "weight_decay")))
    return ", ".join(f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
                     for name, value in parameters.items())  # fmt: skip


def _key(name: str) -> str:
    """A name as MLflow allows it for metrics and parameters: "my_metric.py:score" has a colon too many."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "_-. ") else "_" for c in name)[:200]


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
