"""The search phase: equal numbers of asks per loss, halving within a loss, the cut by hours, the choice."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from statistics import fmean
from typing import Any

from sqlalchemy import Connection

from losstune.search.hours import considered, out_of_time
from losstune.search.ledger import read, write
from losstune.search.ledger.database import get_meta, set_meta
from losstune.search.proposals import Proposals
from losstune.search.study import Study
from losstune.trainables.messages import Report

Row = dict[str, Any]


class Search:
    """What the conductor knows of the search phase."""

    def __init__(self, study: Study, greater_is_better: bool, floor: dict[str, float], tx: Connection):
        self.study, self.sign = study, 1 if greater_is_better else -1
        self.floor = floor[study.metric]
        self.asked = dict.fromkeys(study.spaces, 0)
        self.proposals = {
            loss: Proposals(study.name, space, study.search, greater_is_better) for loss, space in study.spaces.items()
        }
        self.limit: int | None = get_meta(tx, "cut_at")
        self.spent: float = get_meta(tx, "search_seconds") or 0.0
        self.seen = time.monotonic()
        self.chosen = False
        if self.limit is not None and not self._out_of_time():
            self.limit = None  # the study was given more hours
            set_meta(tx, "cut_at", None)
            for row in read.all_trials(tx, "search"):
                if row["state"] == "cut":  # it goes on from where it was
                    write.set_trial(tx, row["id"], state="running", ended=None, reason=None)
        self._replay(tx)

    def _replay(self, tx: Connection) -> None:
        rows = {row["id"]: row for row in read.all_trials(tx, "search") if row["loss"] in self.proposals}
        # What decides a trial's end is no rung's score, see decide.
        rungs, scores = set(self.study.rungs()), {trial: {} for trial in rows}
        for trial, epoch, score in read.scores(tx):
            row = rows.get(trial)
            if row is not None and score is not None and epoch in rungs and epoch < row["epochs"]:
                scores[trial][epoch] = score
                self.proposals[row["loss"]].decided(row["number"], epoch, score)
        for row in sorted(rows.values(), key=lambda row: row["number"]):
            self.proposals[row["loss"]].restore(row["parameters"], scores[row["id"]], row["state"], row["score"],
                                                self.floor)  # fmt: skip
            self.asked[row["loss"]] += 1
        chosen = {row["loss"] for row in read.all_choices(tx)}
        newer = self._newer_than_choice(tx, rows.values())
        self.chosen = chosen >= set(self.study.spaces) and self._all_asked() and not newer

    def _newer_than_choice(self, tx: Connection, rows: Iterable[Row]) -> bool:
        """Whether trials were added, or run, after the last choice: then it is made again."""
        counted = {row["loss"]: row["trials"] for row in get_meta(tx, "choice_of") or []}
        grew = any(counted.get(loss) != n for loss, n in self._counting().items())
        return grew or any(row["state"] == "running" for row in rows)

    def score_at(self, epoch: dict[str, Any]) -> float | None:
        """The seed-mean of the study's metric at one epoch of a curve."""
        values = epoch["scores"][self.study.metric]
        mean = fmean(values)
        return None if math.isnan(mean) else mean

    def note_best(self, row: Row, curve: list[dict[str, Any]]) -> None:
        """Keep the best seed-mean and its epoch: the first one where several are equal."""
        for epoch in curve:
            score = self.score_at(epoch)
            if score is not None and (row["score"] is None or self.sign * score > self.sign * row["score"]):
                row.update(score=score, best_epoch=epoch["epoch"])

    def decide(self, row: Row, report: Report) -> str:
        self.note_best(row, report.curve)
        if report.epoch >= row["epochs"]:
            return "end"
        score = self.score_at(report.curve[-1])
        if report.epoch not in self.study.rungs() or score is None:
            return "go"
        return "stop" if self.proposals[row["loss"]].report(row["number"], report.epoch, score) else "go"

    def ended(self, row: Row, state: str) -> None:
        """Tell the loss's proposals how a trial ended."""
        self.proposals[row["loss"]].tell(row["number"], state, row["score"], self.floor)

    def next(self) -> Row | None:
        """A new trial of the loss that has been asked least, so that all advance in step; None when there is none now.

        A loss whose method waits for results is passed over: then others go ahead of it.
        """
        for loss in sorted(self._open(), key=self.asked.__getitem__):
            parameters = self.proposals[loss].ask(self.asked[loss])
            if parameters is not None:
                return self._asked(loss, parameters)
        return None

    def _asked(self, loss: str, parameters: dict[str, Any]) -> Row:
        number = self.asked[loss]
        self.asked[loss] += 1
        return {
            "id": f"search-{loss}-{number:04d}", "phase": "search", "round": 0, "loss": loss, "number": number,
            "parameters": parameters, "configuration": {**self.study.spaces[loss].fixed, **parameters},
            "seeds": list(range(self.study.search.seeds)), "epochs": self.study.recipe.epochs, "state": "running",
        }  # fmt: skip

    @property
    def left(self) -> int:
        """How many trials are still to be asked, at most."""
        return sum(self._wanted(loss) - self.asked[loss] for loss in self._open())

    def _open(self) -> list[str]:
        """The losses that have not been asked all they are to be asked."""
        return [loss for loss, n in self.asked.items() if n < self._wanted(loss)]

    def _wanted(self, loss: str) -> int:
        wanted = self.proposals[loss].wanted(max(self.asked.values()))
        return wanted if self.limit is None else min(wanted, self.limit)

    def _counting(self) -> dict[str, int]:
        """How many trials of each loss a choice is made of: those beyond a cut do not count."""
        return {loss: considered(n, self.limit) for loss, n in self.asked.items()}

    def _all_asked(self) -> bool:
        return not self._open()

    def is_to_be_cut(self) -> bool:
        """Whether the hours are up, and nobody has cut the search yet."""
        if self.study.stop.hours is None or self.chosen or self.limit is not None:
            return False
        return out_of_time(self.study, self.spent + time.monotonic() - self.seen)

    def cut_if_due(self, tx: Connection, trials: dict[str, Row]) -> list[Row]:
        """When the hours are up: the trials beyond what every loss has been asked, which are cut."""
        if self.study.stop.hours is None or self.chosen or self.limit is not None:
            return []
        now = time.monotonic()
        self.spent, self.seen = self.spent + now - self.seen, now
        set_meta(tx, "search_seconds", self.spent)
        if not self._out_of_time():
            return []
        # A loss that has had all it can have, a small grid say, holds nobody back.
        short = [self.asked[loss] for loss in self._open() if self.study.spaces[loss].searched]
        self.limit = max(1, min(short, default=max(self.asked.values())))
        set_meta(tx, "cut_at", self.limit)
        write.add_event(tx, "cut", f"the study's hours were up: {self.limit} configurations of every loss count")
        return [row for row in trials.values()
                if row["phase"] == "search" and row["number"] >= self.limit and row["state"] == "running"]  # fmt: skip

    def _out_of_time(self) -> bool:
        return out_of_time(self.study, self.spent)

    def finished(self, running: Iterable[Row]) -> bool:
        """Whether all is asked, and none of what runs is of the search."""
        return self._all_asked() and not any(row["phase"] == "search" for row in running)

    def choose(self, tx: Connection, trials: dict[str, Row]) -> None:
        """Commit the best full-length trial of every loss; a new round when an earlier choice changes or grew."""
        best = {loss: self._best(loss, trials) for loss in self.study.spaces}
        before = {row["loss"]: row["trial"] for row in read.all_choices(tx)}
        counted = {row["loss"]: row["trials"] for row in get_meta(tx, "choice_of") or []}
        counting = self._counting()
        grew = any(loss in before and counted.get(loss) != n for loss, n in counting.items())
        round_ = read.latest_round(tx) + (1 if grew else 0)
        if grew:
            write.add_event(tx, "trials", "trials were added after a confirm: a new confirm has fresh seeds")
        for loss, row in best.items():
            if grew or loss not in before:
                found = row or {"id": None, "best_epoch": None, "score": None}
                write.add_choice(tx, round=round_, loss=loss, trial=found["id"], best_epoch=found["best_epoch"],
                                 score=found["score"])  # fmt: skip
        set_meta(tx, "choice_of", [{"loss": loss, "trials": n} for loss, n in {**counted, **counting}.items()])
        self.chosen = True

    def _best(self, loss: str, trials: dict[str, Row]) -> Row | None:
        full = [row for row in trials.values()
                if row["phase"] == "search" and row["loss"] == loss and row["state"] == "complete"
                and row["score"] is not None and (self.limit is None or row["number"] < self.limit)]  # fmt: skip
        return max(full, key=lambda row: (self.sign * row["score"], -row["number"]), default=None)
