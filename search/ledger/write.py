"""Writing to the ledger: asks, reports with their decisions, endings. All inside a caller's transaction."""

from __future__ import annotations

import time
from typing import Any

from sqlalchemy import Connection, insert, select, update

from losstune.search.ledger.schema import choices, events, lanes, reports, trials


def add_trial(tx: Connection, **row: Any) -> None:
    tx.execute(insert(trials).values(asked=time.time(), **row))


def set_trial(tx: Connection, trial: str, **values: Any) -> None:
    tx.execute(update(trials).where(trials.c.id == trial).values(**values))


def add_report(tx: Connection, **row: Any) -> None:
    tx.execute(insert(reports).values(time=time.time(), **row))


def decision_at(tx: Connection, trial: str, epoch: int) -> str | None:
    """What was decided on a trial's report at an epoch, if it is in the ledger already."""
    found = select(reports.c.decision).where(reports.c.trial == trial, reports.c.epoch == epoch)
    return tx.execute(found).scalar_one_or_none()


def add_choice(tx: Connection, **row: Any) -> None:
    tx.execute(insert(choices).values(**row))


def add_lane(tx: Connection, **row: Any) -> None:
    tx.execute(insert(lanes).values(seen=time.time(), **row))


def seen_lane(tx: Connection, lane: str, training_seconds: float) -> None:
    tx.execute(update(lanes).where(lanes.c.id == lane).values(seen=time.time(), training_seconds=training_seconds))


def add_event(tx: Connection, kind: str, text: str) -> None:
    tx.execute(insert(events).values(time=time.time(), kind=kind, text=text))
