"""`losstune doctor`: whether a study's ledger, files and MLflow runs agree; what is safe to repair is repaired."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from losstune.search.backup import held
from losstune.search.ledger import files, read, write
from losstune.search.ledger.book import resumable
from losstune.search.ledger.copies import mend, wrong_with
from losstune.search.ledger.database import get_meta, set_meta, understood
from losstune.search.locations import files_of, is_recorded, ledger_at
from losstune.search.notices import say
from losstune.spaces import InputError
from losstune.trainables.storage import Place

Row = dict[str, Any]


@dataclass(frozen=True)
class Finding:
    """What is not as it should be, and what was done about it; repaired None: nothing could be done."""

    what: str
    repaired: str | None = None


def examine(folder: Path) -> list[Finding]:
    """Examine the study in a folder, and repair what is safe to repair.

    InputError when there is no ledger, it is of a newer losstune, or the study is running.
    """
    at, stored = ledger_at(folder), files_of(folder)
    if not is_recorded(at) and not (isinstance(at, Path) and wrong_with(at)):
        raise InputError(f"{at}: no ledger there; allowed: the folder of a study that has been run")
    with held(folder, at, say) as backup:
        mended = _mend_ledger(at) if isinstance(at, Path) else None
        if mended is not None and mended.repaired is None:
            return [mended]
        with backup.opened() as ledger, understood(at), ledger.transaction() as tx:
            rows, reports = read.all_trials(tx), read.all_reports(tx)
            found = [*_gaps(rows, reports), *_checkpoints(tx, stored, rows), *_members(tx, stored, rows)]
            for finding in found:
                write.add_event(tx, "repair", f"{finding.what}: {finding.repaired or 'not repaired'}")
        return [*([mended] if mended else []), *found, *_needless(folder, stored, rows), *_mlflow(folder)]


def _mend_ledger(path: Path) -> Finding | None:
    """A ledger that a disk has damaged, and the copy that was put in its place."""
    wrong = wrong_with(path)
    if wrong is None:
        return None
    return Finding(f"the ledger is damaged ({wrong})", mend(path))


def _gaps(rows: list[Row], reports: list[Row]) -> Iterator[Finding]:
    """Asks and epochs that are missing, and reports of trials that nobody asked for."""
    by_id = {row["id"]: row for row in rows}
    for loss in dict.fromkeys(row["loss"] for row in rows):
        numbers = sorted(row["number"] for row in rows if row["phase"] == "search" and row["loss"] == loss)
        if numbers != list(range(len(numbers))):
            yield Finding(f"{loss}: its configurations are numbered {numbers}")
    epochs: dict[str, list[int]] = {}
    for report in reports:
        epochs.setdefault(report["trial"], []).extend(epoch["epoch"] for epoch in report["curve"])
    for trial, seen in epochs.items():
        if trial not in by_id:
            yield Finding(f"{trial}: it was reported, but never asked for")
        elif seen != list(range(1, len(seen) + 1)):
            again = [epoch for epoch, n in Counter(seen).items() if n > 1]
            yield Finding(f"{trial}: its {len(seen)} epochs are not 1 to {max(seen)}, each once {again or ''}".strip())
    for row in rows:
        recorded = len(epochs.get(row["id"], ()))
        if row["epoch"] != recorded and row["state"] != "failed":  # a failed trial did not tell of its last epochs
            yield Finding(f"{row['id']}: it has trained {row['epoch']} epochs, and {recorded} are recorded")
        if row["phase"] == "confirm" and row["state"] in ("complete", "failed") and row["results"] is None:
            yield Finding(f"{row['id']}: it has ended without results")


def _checkpoints(tx: Connection, folder: Place, rows: list[Row]) -> Iterator[Finding]:
    """Checkpoints that a trial cannot go on from: it forgets them, and goes on from the one before or from its start.

    The rows are brought up to date.
    """
    for row in rows:
        damaged = files.damaged_checkpoints(folder, row) if resumable(row) else []
        if damaged:
            paths = {saved.path for saved in damaged}
            row["checkpoints"] = [saved for saved in row["checkpoints"] if saved["path"] not in paths]
            write.set_trial(tx, row["id"], checkpoints=row["checkpoints"])
            where = f"epoch {row['checkpoints'][0]['epoch']}" if row["checkpoints"] else "its start"
            yield Finding(f"{row['id']}: a checkpoint is damaged ({', '.join(sorted(paths))})",
                          f"it goes on from {where}")  # fmt: skip


def _members(tx: Connection, folder: Place, rows: list[Row]) -> Iterator[Finding]:
    """Confirmed members whose predictions, weights or features are damaged: they are trained again."""
    round_ = read.latest_round(tx)
    losses = (get_meta(tx, "study") or {}).get("losses", [])  # of others nothing is kept any more
    firsts = files.first_members(rows, round_)
    members = [row for row in rows if row["phase"] == "confirm" and row["state"] == "complete"
               and row["round"] == round_ and row["loss"] in losses]  # fmt: skip
    for row in members:
        # A report takes the weights of a first member, and drops all others, see winner.py.
        damaged = files.damaged_files(folder, row, weights_needed=row is firsts[row["loss"]])
        if damaged:
            write.set_trial(tx, row["id"], state="running", results=None, files=None, ended=None, lane=None,
                            attempt=row["attempt"] + 1)  # fmt: skip
            set_meta(tx, "report_of", None)
            yield Finding(f"{row['id']}: what was kept of it is damaged ({', '.join(damaged)})",
                          f"the next run trains it again, to {_likeness(tx)}")  # fmt: skip


def _likeness(tx: Connection) -> str:
    """How alike a member's numbers will be when it is trained again, by what the study was computed with."""
    from losstune.trainables.backends import BACKENDS, Choice  # torch, which only this needs

    for device, measured in read.backends(tx).items():
        choice = Choice(**measured["choice"])
        if not device.startswith("cpu") or choice.compiled or not BACKENDS[choice.kind].exact:
            how = f"{choice.kind}{', compiled,' if choice.compiled else ''} on {device.partition(',')[0]}"
            return f"numbers that may differ by rounding ({how} keeps no bits)"
    return "the same numbers, on a processor of the same kind"


def _needless(folder: Path, stored: Place, rows: list[Row]) -> Iterator[Finding]:
    found = files.needless(folder, stored, rows)
    if found:
        files.remove(stored, found)
        yield Finding(f"{len(found)} files that nothing needs, {sum(found.values()) / 1e6:.1f} MB", "removed")


def _mlflow(folder: Path) -> Iterator[Finding]:
    """What MLflow lacks or shows otherwise."""
    from losstune.search.tracking import sync

    try:
        done = sync(folder)
    except InputError as error:
        yield Finding(str(error))
        return
    if done.created or done.updated:
        yield Finding(f"MLflow lacked {done.created} runs and showed {done.updated} otherwise", "brought up to date")
