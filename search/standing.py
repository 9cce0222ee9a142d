"""Where a study stands, from its ledger alone: what is done, running, left, and what it has cost."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from losstune.search.hours import considered, out_of_time
from losstune.search.ledger import read
from losstune.search.ledger.database import Ledger, get_meta, understood
from losstune.search.methods import wanted_of
from losstune.search.study import Study
from losstune.spaces import space_of


@dataclass
class LossStanding:
    """One loss. Counts are of search trials, and of confirmed members in the latest round."""

    loss: str
    wanted: int
    asked: int = 0
    running: int = 0
    complete: int = 0
    stopped: int = 0
    failed: int = 0
    cut: int = 0
    best: float | None = None
    best_parameters: dict[str, Any] = field(default_factory=dict)
    confirmed: int = 0
    confirm_failed: int = 0
    confirm_running: int = 0
    confirm_scores: list[float] = field(default_factory=list)
    slot_seconds: float = 0.0
    member_epochs: int = 0

    @property
    def ended(self) -> int:
        return self.complete + self.stopped + self.failed + self.cut


@dataclass
class Standing:
    """A study. phase: "search", "confirm" or "done". name: the study's."""

    phase: str
    losses: dict[str, LossStanding]
    seeds: int
    greater_is_better: bool
    member_epochs: int
    slot_seconds: float
    lanes: list[dict[str, Any]]
    failures: list[tuple[str, str]]
    events: list[dict[str, Any]]
    name: str = ""

    def members_running(self, search_seeds: int) -> int:
        return sum(row.running * search_seeds + row.confirm_running for row in self.losses.values())

    def training(self) -> bool:
        """Whether lanes of the latest run have trained their first epochs."""
        return any(event["kind"] == "training" for event in self._of_latest_run())

    def stopping(self) -> bool:
        """Whether the latest run has been asked to end."""
        return any(event["kind"] == "stop" for event in self._of_latest_run())

    def began(self) -> float:
        """When the latest run began, in seconds since 1970."""
        return next((event["time"] for event in self._of_latest_run()), 0.0)

    def live_slots(self) -> int:
        """Slots whose lane of the latest run was heard of in the last minute."""
        run, now = self.began(), time.time()
        return len({lane["slot"] for lane in self.lanes if lane["started"] > run and now - lane["seen"] < 60})

    def _of_latest_run(self) -> list[dict[str, Any]]:
        """Its events, the first of which says that it began; in the order of the record, for clocks may be stepped."""
        begun = [at for at, event in enumerate(self.events) if event["kind"] == "run"]
        return self.events[begun[-1] :] if begun else []

    def outside_training(self) -> float | None:
        """Slot seconds that were not training, per ended trial; None when none has ended."""
        return outside_training(self.lanes, _ended(self))


def standing(study: Study, ledger: Ledger, greater_is_better: bool) -> Standing:
    """Read where the study stands. InputError when the ledger is damaged."""
    with understood(ledger.at):
        found = _standing(study, ledger, greater_is_better)
        found.live_slots(), found.outside_training(), found.training()  # what is reckoned of it later must be numbers
        return found


def _standing(study: Study, ledger: Ledger, greater_is_better: bool) -> Standing:
    with ledger.reading() as tx:
        rows = read.all_trials(tx)
        round_, choices = read.latest_round(tx), read.all_choices(tx)
        limit, counted = get_meta(tx, "cut_at"), get_meta(tx, "choice_of") or []
        if not out_of_time(study, get_meta(tx, "search_seconds") or 0.0):
            limit = None  # there was no cut, or the study has been given more hours
        lanes, events = read.all_lanes(tx), read.all_events(tx)
    rows = [row for row in rows if row["loss"] in study.spaces]
    asks: dict[str, list[dict[str, Any]]] = {loss: [] for loss in study.spaces}
    for row in sorted((row for row in rows if row["phase"] == "search"), key=lambda row: row["number"]):
        asks[row["loss"]].append(row)
    most = max(map(len, asks.values()))
    losses = {loss: LossStanding(loss, wanted_of(study, loss, own, greater_is_better, most))
              for loss, own in asks.items()}  # fmt: skip
    sign = 1 if greater_is_better else -1
    for row in rows:
        _count(losses[row["loss"]], row, round_, study, sign)
    asked = {row["loss"]: row["trials"] for row in counted}
    chosen = {row["loss"] for row in choices} >= set(losses)
    same = all(asked.get(loss) == considered(s.asked, limit) and (limit is not None or s.asked >= s.wanted)
               for loss, s in losses.items())  # fmt: skip
    phase = "search"
    if chosen and same and not any(s.running for s in losses.values()):
        done = all(s.confirmed >= study.confirm.seeds and not s.confirm_running for s in losses.values())
        phase = "done" if done else "confirm"
    failures = [(row["id"], row["reason"]) for row in rows if row["state"] == "failed"]
    epochs, seconds = (sum(getattr(s, cost) for s in losses.values()) for cost in ("member_epochs", "slot_seconds"))
    return Standing(phase, losses, study.confirm.seeds, greater_is_better, epochs, seconds, lanes, failures, events,
                    study.name)  # fmt: skip


def _count(loss: LossStanding, row: dict[str, Any], round_: int, study: Study, sign: int) -> None:
    loss.slot_seconds += row["slot_seconds"]
    loss.member_epochs += row["trained"] * len(row["seeds"]) * space_of(loss.loss).passes
    if row["phase"] == "search":
        loss.asked += 1
        setattr(loss, row["state"], getattr(loss, row["state"]) + 1)
        full = row["state"] == "complete" and row["score"] is not None
        if full and (loss.best is None or sign * row["score"] > sign * loss.best):
            loss.best, loss.best_parameters = row["score"], row["parameters"]
    elif row["round"] == round_ and row["number"] < study.confirm.seeds:
        loss.confirm_running += row["state"] == "running"
        loss.confirm_failed += row["state"] == "failed"
        if row["results"] is not None:
            loss.confirmed += 1
            loss.confirm_scores.append(row["results"]["test"][study.metric])


def time_left(before: Standing, now: Standing, seconds: float) -> float | None:
    """Seconds left at the pace of the last so many seconds, by what remains to be ended; None when unknown."""
    done = _ended(now) - _ended(before)
    left = sum(s.wanted - s.ended + now.seeds - s.confirmed for s in now.losses.values())
    return left * seconds / done if done > 0 and seconds > 0 else None


def _ended(standing_: Standing) -> int:
    return sum(s.ended + s.confirmed for s in standing_.losses.values())


def outside_training(lanes: list[dict[str, Any]], ended: int) -> float | None:
    """Slot seconds of lanes that were not training, per ended trial: starting, waiting, reporting."""
    idle = sum(lane["seen"] - lane["started"] - lane["training_seconds"] for lane in lanes)
    return idle / ended if ended else None
