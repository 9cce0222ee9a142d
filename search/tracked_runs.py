"""What MLflow should show of a study, worked out from its ledger and report alone. Knows nothing of MLflow's client."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any

from losstune.search.ledger import read
from losstune.search.ledger.database import Ledger, get_meta, understood
from losstune.search.locations import ledger_at
from losstune.search.mlflow_views import saved_views
from losstune.search.pictures import (
    FINAL,
    NOTE,
    REPORT,
    STATUS,
    Picture,
    Point,
    Row,
    Run,
    answer,
    answer_or_status,
    config_hash,
    configuration_text,
    defined,
    in_round,
    mean_points,
    metric_key,
    milliseconds,
    parameters_of,
    report_note,
    run_name,
)
from losstune.spaces import InputError


def picture(folder: Path) -> Picture:
    """What MLflow should show of the study in a folder. InputError when there is no sound ledger of a study."""
    ledger = Ledger.open(ledger_at(folder))
    try:
        with understood(ledger.at):
            with ledger.reading() as tx:
                recorded = Recorded(folder, tx)
            return _picture(folder, recorded)
    finally:
        ledger.close()


def _picture(folder: Path, recorded: Recorded) -> Picture:
    runs = []
    for phase, round_, loss in recorded.groups():
        rows = recorded.rows(phase, round_, loss)
        parent = recorded.search_parent(loss, rows) if phase == "search" else recorded.confirm_parent(loss, rows)
        runs += [parent, *(recorded.member(row, parent.id) for row in rows)]
    if recorded.verdict is not None:
        runs.append(recorded.report_run())
    return Picture(recorded.about["name"], recorded.key, recorded.experiment_tags(), runs,
                   folder / "report" if recorded.verdict is not None else None)  # fmt: skip


class Recorded:
    """A study's ledger and verdict, read once; without its curves if they are not wanted: they are most of it."""

    def __init__(self, folder: Path, tx: Any, curves: bool = True):
        self.about, self.facts = get_meta(tx, "study"), get_meta(tx, "facts") or {}
        if self.about is None:
            raise InputError(f"{folder}: its ledger holds no study yet; allowed: a study that has been run")
        self.trials, events = read.all_trials(tx), read.all_events(tx)
        self.round, choices = read.latest_round(tx), read.all_choices(tx)
        self.choices = {row["loss"]: row for row in choices}
        self.curves = _curves(read.curves(tx)) if curves else {}
        began = [event["time"] for event in events[:1]]
        self.key = hashlib.sha256(json.dumps([self.about["name"], began]).encode()).hexdigest()[:12]
        made_of = get_meta(tx, "report_of") or {}
        self.current = (made_of.get("confirmed"), made_of.get("round")) == (read.confirmed(self.trials), self.round)
        self.trials = [row if self._belongs(row) else _abandoned(row) for row in self.trials]
        self.current &= made_of.get("study") == self.about and all(row["state"] != "running" for row in self.trials)
        self.by_id = {row["id"]: row for row in self.trials}
        self.verdict = read_verdict(folder) if self.current else None

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
            tags |= {"chosen_trial": run_name(chosen), "configuration": configuration_text(chosen["parameters"])}
        state = "running" if running else "complete" if chosen else "failed" if wanted else "cut"
        return self._parent(f"search-{loss}", f"search {loss}", rows, state, tags, points=self._progress(rows, chosen))

    def _progress(self, rows: list[Row], chosen: Row | None) -> tuple[Point, ...]:
        better, best, points = (max if self.about["greater_is_better"] else min), None, []
        for count, row in enumerate(_ended(rows), start=1):
            if row["state"] == "complete" and row["score"] is not None:
                best = row["score"] if best is None else better(best, row["score"])
            if best is not None:
                points.append(Point("best_score", best, milliseconds(row["ended"]), count))
        if chosen is not None:
            points.append(Point("score", chosen["score"], milliseconds(chosen["ended"]), FINAL))
        return defined(points)

    def confirm_parent(self, loss: str, rows: list[Row]) -> Run:
        """The confirm of one loss: its configuration, and mean and standard error as the seeds came in."""
        round_, ended = rows[0]["round"], _ended(rows)
        running = any(row["state"] == "running" for row in rows)
        if not running and len(ended) < self.about["confirm"]["seeds"]:
            running = round_ == self.round and loss in self.about["losses"]  # the others are still to come
        states = {row["state"] for row in rows}
        state = "running" if running else states.pop() if states in ({"failed"}, {"cut"}) else "complete"
        first = rows[0]
        tags = {"round": str(round_), "seeds": str(len(ended)), "config_hash": config_hash(first),
                "configuration": configuration_text(first["parameters"])}  # fmt: skip
        if self.verdict is not None and round_ == self.round:
            tags |= {"in_best_set": str(loss in self.verdict["best_set"]).lower()}
        return self._parent(f"confirm{round_}-{loss}", f"confirm {loss}{in_round(round_)}", rows, state, tags,
                            parameters_of(first), self._means(ended))  # fmt: skip

    def _means(self, rows: list[Row]) -> tuple[Point, ...]:
        """Mean and standard error of every test metric over the seeds so far."""
        time = max((milliseconds(row["ended"]) for row in rows), default=0)
        return defined(mean_points([test_scores(row) for row in rows], time))

    def _parent(self, id_: str, name: str, rows: list[Row], state: str, tags: dict[str, str],
                params: dict[str, str] | None = None, points: tuple[Point, ...] = ()) -> Run:  # fmt: skip
        ends = [milliseconds(row["ended"]) for row in rows if row["ended"]]
        shared = self._shared(rows[0]) | {"kind": "loss", "state": state}
        return Run(id_, name, STATUS[state], min(milliseconds(row["asked"]) for row in rows),
                   max(ends, default=None) if state != "running" else None,
                   tags=shared | tags, born=self.born(), params=params or {}, points=points, grows=True)  # fmt: skip

    def member(self, row: Row, parent: str) -> Run:
        """One trial of the search, or one confirmed seed."""
        search = row["phase"] == "search"
        tags = self._shared(row) | {
            "kind": "trial" if search else "seed", "state": row["state"], "config_hash": config_hash(row),
            "configuration": configuration_text(row["parameters"]),
            ("trial" if search else "seed"): str(row["number"]), "round": str(row["round"]),
        }  # fmt: skip
        if row["reason"]:
            tags["reason"] = row["reason"]
        ended = row["state"] != "running"
        end = milliseconds(row["ended"]) if ended and row["ended"] else None
        return Run(row["id"], run_name(row), STATUS[row["state"]], milliseconds(row["asked"]), end, parent, tags,
                   self.born(), parameters_of(row), defined(self._points(row)))  # fmt: skip

    def _points(self, row: Row) -> list[Point]:
        curve = self.curves.get(row["id"], {})
        points, names = [], {"train_loss"}
        for epoch, (values, time) in sorted(curve.items()):
            names |= set(values)
            points += [Point(name, value, time, epoch) for name, value in values.items()]
        if row["state"] == "running" or not row["ended"]:
            return points
        end, results = milliseconds(row["ended"]), row["results"] or {}
        if row["phase"] == "search" and row["score"] is not None:
            points += [Point("score", row["score"], end, FINAL)]
        final = {f"{split}_{metric_key(name)}": value for split in ("test", "validation")
                 for name, value in (results.get(split) or {}).items()}  # fmt: skip
        final |= {"epochs": row["epoch"], "slot_seconds": row["slot_seconds"]}
        return points + [Point(name, value, end, FINAL) for name, value in final.items() if name not in names]

    def report_run(self) -> Run:
        """The run that stands for the study's answer; it begins when the last seed ended, so it is listed first."""
        about, end = self.about, max(milliseconds(row["ended"] or row["asked"]) for row in self.trials)
        tags = {"study": about["name"], "phase": "report", "kind": "study", "round": str(self.round),
                "data_digest": str(self.facts.get("data_digest")), **answer(self.verdict),
                NOTE: report_note(self.verdict)}  # fmt: skip
        params = {name: str(about[name]) for name in ("data", "network", "metric", "epochs")}
        return Run(REPORT, f"report {about['name']}", "FINISHED", end, end, tags=tags, born=self.born(),
                   params=params)  # fmt: skip

    def experiment_tags(self) -> dict[str, str]:
        """The answer, or how far the study is, where the list of experiments shows it."""
        tags = answer_or_status(self.about, self.verdict, "confirm" if self.choices else "search")
        return tags | self._views()

    def _views(self) -> dict[str, str]:
        begun = min((milliseconds(row["asked"]) for row in self.trials), default=0)
        losses = list(dict.fromkeys(row["loss"] for row in self.trials))
        return saved_views(metric_key(self.about["metric"]), self.about["greater_is_better"], begun, losses)

    def _shared(self, row: Row) -> dict[str, str]:
        return {"study": self.about["name"], "phase": row["phase"], "loss": row["loss"],
                "data_digest": str(self.facts.get("data_digest"))}  # fmt: skip

    def born(self) -> dict[str, str]:
        commit = self.facts.get("git_commit")
        tags = {"mlflow.source.name": "losstune", "mlflow.source.type": "LOCAL"}
        return tags | ({"git_commit": commit, "mlflow.source.git.commit": commit} if commit else {})


def _curves(curves: Iterable[tuple[str, float, list[Row]]]) -> dict[str, dict[int, tuple[dict[str, float], int]]]:
    """Per trial and epoch, and when it was reported: the seed means of training loss and validation scores, and of
    what is followed over training (`record: {curves: 5}`)."""
    found: dict[str, dict[int, tuple[dict[str, float], int]]] = {}
    key_of = cache(metric_key)  # for each name once, not for every epoch of every trial
    for trial, time, curve in curves:
        own, at = found.setdefault(trial, {}), milliseconds(time)
        for epoch in curve:
            values = {f"validation_{key_of(name)}": fmean(scores) for name, scores in epoch["scores"].items()}
            measures = epoch.get("measures", {})
            values |= {f"training_{key_of(name)}": fmean(measured) for name, measured in measures.items()}
            values["train_loss"] = fmean(epoch["train_loss"])
            own[epoch["epoch"]] = values, at
    return found


def _abandoned(row: Row) -> Row:
    """A trial that the study does not have any more. If it was not over, nobody goes on with it."""
    return {**row, "state": "cut"} if row["state"] == "running" else row


def read_verdict(folder: Path) -> Row | None:
    """What the report in a study's folder says; None where that cannot be read."""
    try:
        verdict = json.loads((folder / "report" / "verdict.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return verdict if isinstance(verdict, dict) and "best_set" in verdict else None


def test_scores(row: Row) -> dict[str, float]:
    """What a confirmed seed has come to on the test set; nothing as long as it is not known."""
    return (row["results"] or {}).get("test", {})


def _ended(rows: list[Row]) -> list[Row]:
    done = [row for row in rows if row["state"] != "running" and row["ended"]]
    return sorted(done, key=lambda row: (row["ended"], row["number"]))
