"""Writing to the ledger: asks, reports with their decisions, endings. All inside a caller's transaction."""

from __future__ import annotations

import time
from typing import Any

from sqlalchemy import Connection, bindparam, insert, update

from losstune.search.ledger.schema import choices, events, lanes, reports, trials

Row = dict[str, Any]
# What changes of a trial after it was asked.
CHANGING = ("state", "reason", "attempt", "crashes", "lane", "ended", "epoch", "trained", "score", "best_epoch",
            "slot_seconds", "checkpoints", "results", "files")  # fmt: skip
_SET_TRIALS = update(trials).where(trials.c.id == bindparam("of")).values({name: bindparam(name) for name in CHANGING})

_SEEN_LANES = update(lanes).where(lanes.c.id == bindparam("of")).values(
    seen=bindparam("seen"), training_seconds=bindparam("training_seconds"))  # fmt: skip


def add_trial(tx: Connection, **row: Any) -> None:
    tx.execute(insert(trials).values(asked=time.time(), **row))


def add_trials(tx: Connection, rows: list[Row]) -> None:
    """Whole rows, each with the time it was asked."""
    if rows:
        tx.execute(insert(trials), rows)


def set_trial(tx: Connection, trial: str, **values: Any) -> None:
    tx.execute(update(trials).where(trials.c.id == trial).values(**values))


def set_trials(tx: Connection, rows: list[Row]) -> None:
    """All that changes of some trials, as it is now."""
    if rows:
        tx.execute(_SET_TRIALS, [{"of": row["id"], **{name: row[name] for name in CHANGING}} for row in rows])


def add_reports(tx: Connection, rows: list[Row]) -> None:
    """Whole rows, each with its time."""
    if rows:
        tx.execute(insert(reports), rows)


def add_choice(tx: Connection, **row: Any) -> None:
    tx.execute(insert(choices).values(**row))


def add_lane(tx: Connection, **row: Any) -> None:
    tx.execute(insert(lanes).values(seen=time.time(), **row))


def seen_lanes(tx: Connection, rows: list[Row]) -> None:
    """When lanes were last heard of, and what they have trained: "of", the lane's id, "seen", "training_seconds"."""
    tx.execute(_SEEN_LANES, rows)


def add_event(tx: Connection, kind: str, text: str) -> None:
    # NUL, which an error of a user's code may hold, is no text for PostgreSQL.
    tx.execute(insert(events).values(time=time.time(), kind=kind, text=text.replace("\0", "")))
