"""What MLflow should show of a study that repeats its search, worked out from its searches' ledgers and its report.

Its experiment has the run "report" with what was written over all searches; below it a run for each loss, with mean and
standard error over searches; below each of these a run for each search, with its configuration and mean over seeds. The
trials and seeds of a search are in an experiment of the search's own, which the tag `study` names.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from statistics import fmean

from losstune.search.ledger.database import Ledger, get_meta, understood
from losstune.search.locations import ledger_at
from losstune.search.mlflow_views import views_of_searches
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
    defined,
    mean_points,
    metric_key,
    report_note,
)
from losstune.search.repeated import folders_of, report_is_current, searches_planned
from losstune.search.tracked_runs import Recorded, read_verdict, test_scores
from losstune.spaces import InputError


def picture_of_searches(folder: Path) -> Picture:
    """What MLflow should show of the study in a folder. InputError when there is no sound ledger of a search."""
    parts = {int(place.name.rpartition("-")[2]): _read(place) for place in folders_of(folder)}
    begun = {number: part for number, part in parts.items() if part is not None}
    if not begun:
        raise InputError(f"{folder}: no search of it is recorded yet; allowed: a study that has been run")
    verdict = read_verdict(folder) if report_is_current(folder) else None
    with understood(folder):
        return _Searches(folder.name, begun, searches_planned(folder), verdict).picture(folder / "report")


def _read(place: Path) -> Recorded | None:
    """A search; None where nothing is recorded of it yet."""
    ledger = Ledger.open(ledger_at(place))
    try:
        with understood(ledger.at), ledger.reading() as tx:
            return Recorded(place, tx, curves=False) if get_meta(tx, "study") is not None else None
    finally:
        ledger.close()


class _Searches:
    """The searches of a study that have begun, by number, and the verdict over them if it is up to date."""

    def __init__(self, study: str, parts: dict[int, Recorded], planned: int, verdict: Row | None):
        self.study, self.parts, self.planned, self.verdict = study, parts, planned, verdict
        self.first = next(iter(parts.values()))
        self.losses = list(dict.fromkeys(loss for part in parts.values() for loss in part.about["losses"]))

    def picture(self, report: Path) -> Picture:
        below, began = [], []
        for loss in self.losses:
            searches = {number: run for number in self.parts if (run := self._search(number, loss)) is not None}
            if searches:
                below += [self._loss(loss, searches), *searches.values()]
                began += [run.start for run in searches.values()]
        runs = [self._report(below), *below] if below else []
        key = hashlib.sha256(json.dumps(["searches", self.study, self.first.key]).encode()).hexdigest()[:12]
        return Picture(self.study, key, self._experiment_tags(min(began, default=0)), runs,
                       report if self.verdict is not None else None)  # fmt: skip

    def _search(self, number: int, loss: str) -> Run | None:
        """What one search has come to for a loss, None as long as nothing of it is confirmed."""
        part = self.parts[number]
        rows = part.rows("confirm", part.round, loss) if loss in part.about["losses"] else []
        if not rows:
            return None
        own, choice = part.confirm_parent(loss, rows), part.choices.get(loss)
        chosen = [Point("score", choice["score"], own.start, FINAL)] if choice else []
        return replace(own, id=f"search-{number}-{own.id}", name=f"{loss} search {number}", parent=_id(loss),
                       tags=own.tags | {"kind": "search", "search": str(number)},
                       points=defined([*own.points, *chosen]))  # fmt: skip

    def _loss(self, loss: str, searches: dict[int, Run]) -> Run:
        """Mean and standard error of a loss over those of its searches that are done."""
        done = [number for number, run in searches.items() if run.end is not None]
        end = max((searches[number].end for number in done), default=0)
        # A search that has chosen nothing for a loss confirms nothing of it, and the report is made all the same.
        over = bool(done) and (len(done) == self.planned or self.verdict is not None)
        state = "complete" if over else "running"
        tags = self._shared() | {"phase": "confirm", "kind": "loss", "loss": loss, "state": state,
                                 "searches": str(len(done))}  # fmt: skip
        if self.verdict is not None:
            tags["in_best_set"] = str(loss in self.verdict["best_set"]).lower()
        points = mean_points([self._means(number, loss) for number in done], end)
        begun = min(run.start for run in searches.values())
        return Run(_id(loss), f"searches {loss}", STATUS[state], begun, end if over else None, REPORT, tags,
                   self.first.born(), {"loss": loss}, defined(points), grows=True)  # fmt: skip

    def _means(self, number: int, loss: str) -> dict[str, float]:
        """The means of a search's test scores over its seeds."""
        part = self.parts[number]
        scores = [test_scores(row) for row in part.rows("confirm", part.round, loss) if row["results"]]
        names = dict.fromkeys(name for own in scores for name in own)
        return {name: fmean(own[name] for own in scores if name in own) for name in names}

    def _report(self, below: list[Run]) -> Run:
        """The run that has the report; it is there, and running, before there is one, so that the others are below."""
        names = ", ".join(part.about["name"] for part in self.parts.values())
        where = f"Trials and seeds of each search are in an experiment of its own: {names}."
        tags = self._shared() | {"phase": "report", "kind": "study", "searches": self._count(), NOTE: where}
        if self.verdict is not None:
            tags |= answer(self.verdict) | {NOTE: f"{report_note(self.verdict)}\n\n{where}"}
        about, done = self.first.about, self.verdict is not None
        params = {name: str(about[name]) for name in ("data", "network", "metric", "epochs")}
        return Run(REPORT, f"report {self.study}", STATUS["complete" if done else "running"],
                   min(run.start for run in below), max(run.end or run.start for run in below) if done else None,
                   None, tags, self.first.born(), params)  # fmt: skip

    def _experiment_tags(self, begun: int) -> dict[str, str]:
        about = self.first.about
        tags = answer_or_status(about, self.verdict, f"search {max(self.parts)} of {self.planned}")
        views = views_of_searches(metric_key(about["metric"]), about["greater_is_better"], begun, self.losses)
        return tags | {"searches": self._count()} | views

    def _shared(self) -> dict[str, str]:
        return {"study": self.study, "data_digest": str(self.first.facts.get("data_digest"))}

    def _count(self) -> str:
        return f"{len(self.parts)} of {self.planned}"


def _id(loss: str) -> str:
    return f"loss-{loss}"
