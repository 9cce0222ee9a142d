"""Reading the ledger: rows as plain mappings, in the order in which they were committed."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from sqlalchemy import Connection, func, select

from losstune.search.ledger.schema import BACKEND_ON, choices, events, lanes, meta, reports, trials

Row = dict[str, Any]
MOST_NAMED = 10_000  # trials in one question; databases have a limit to it


def all_trials(tx: Connection, phase: str | None = None) -> list[Row]:
    """Trials in the order they were asked."""
    query = select(trials).order_by(trials.c.asked, trials.c.number)
    return _rows(tx, query if phase is None else query.where(trials.c.phase == phase))


def all_reports(tx: Connection) -> list[Row]:
    return _rows(tx, select(reports).order_by(reports.c.sequence))


def curves(tx: Connection, of: Collection[str] | None = None) -> Iterator[tuple[str, float, list[Row]]]:
    """Trial, time and curve of each report, in order, a few at a time: all of them at once are most of a ledger.

    of: trials, at least whose reports are wanted; None: those of all.
    """
    query = select(reports.c.trial, reports.c.time, reports.c.curve).order_by(reports.c.sequence)
    if of is not None and len(of) <= MOST_NAMED:
        query = query.where(reports.c.trial.in_(of))
    yield from tx.execute(query.execution_options(yield_per=1000))


def reports_of(tx: Connection, trial: str) -> list[Row]:
    return _rows(tx, select(reports).where(reports.c.trial == trial).order_by(reports.c.sequence))


def scores(tx: Connection) -> list[tuple[str, int, float | None]]:
    """Trial, epoch and seed-mean of each report, in order, without the curves, which are most of a ledger."""
    return list(tx.execute(select(reports.c.trial, reports.c.epoch, reports.c.score).order_by(reports.c.sequence)))


def decisions(tx: Connection) -> dict[tuple[str, int], str]:
    """What was decided on each report, by trial and epoch."""
    rows = tx.execute(select(reports.c.trial, reports.c.epoch, reports.c.decision))
    return {(trial, epoch): decision for trial, epoch, decision in rows}


def all_choices(tx: Connection, round_: int | None = None) -> list[Row]:
    """The chosen configurations of a round, by default the latest."""
    if round_ is None:
        round_ = latest_round(tx)
    return _rows(tx, select(choices).where(choices.c.round == round_))


def latest_round(tx: Connection) -> int:
    return tx.execute(select(func.max(choices.c.round))).scalar_one() or 0


def all_lanes(tx: Connection) -> list[Row]:
    return _rows(tx, select(lanes).order_by(lanes.c.started))


def confirmed(rows: list[Row]) -> int:
    """How many members of confirms have ended, of some trials: a report is made of so many."""
    return sum(row["phase"] == "confirm" and row["results"] is not None for row in rows)


def backends(tx: Connection) -> dict[str, Any]:
    """What was measured for the study, by kind of device."""
    rows = tx.execute(select(meta.c.key, meta.c.value).where(meta.c.key.startswith(BACKEND_ON)))
    return {key.removeprefix(BACKEND_ON): value for key, value in rows}


def all_events(tx: Connection) -> list[Row]:
    return _rows(tx, select(events).order_by(events.c.sequence))


def _rows(tx: Connection, query: Any) -> list[Row]:
    return [dict(row) for row in tx.execute(query).mappings()]
