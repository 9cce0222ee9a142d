"""`losstune export`: what a ledger holds, for other programs: Optuna's dashboard, data frames."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd

from losstune.search.ledger import read
from losstune.search.ledger.database import understood
from losstune.search.status import recorded_study
from losstune.spaces import InputError

Row = dict[str, Any]
# Of a trial's row what is for other programs; parameters come as a column each.
COLUMNS = ("id", "phase", "round", "loss", "number", "state", "reason", "attempt", "asked", "ended", "epochs", "epoch",
           "trained", "score", "best_epoch", "slot_seconds")  # fmt: skip


def export(folder: Path, kind: str, to: Path | None) -> list[Path]:
    """Write a study's trials in a format of FORMATS into a folder, by default export/ in the study's; the files."""
    if kind not in FORMATS:
        raise InputError(f"--as {kind}: no such format; allowed: {', '.join(FORMATS)}")
    place = to or folder / "export"
    if kind == "optuna" and "?" in str(place):
        raise InputError(f"--to {place}: a database there cannot be named with a '?'; allowed: another folder")
    try:
        place.mkdir(parents=True, exist_ok=True)
        (place / f".writable.{os.getpid()}").touch()
        (place / f".writable.{os.getpid()}").unlink()
    except OSError as error:
        raise InputError(f"--to {place}: {error.strerror}; allowed: a folder that can be written") from None
    return FORMATS[kind](folder, place)


def _frames(folder: Path) -> dict[str, pd.DataFrame]:
    """trials: a row each. curves: a row per trial, epoch and seed; scores on validation. training_measures, where
    something was followed over training (`record: {curves: 5}`): a row per confirmed trial, epoch measured and seed.
    """
    _, _, ledger = recorded_study(folder)
    try:
        with understood(ledger.at), ledger.reading() as tx:
            rows, reports = read.all_trials(tx), read.all_reports(tx)
            trials, by_id = pd.DataFrame([_row(row) for row in rows]), {row["id"]: row for row in rows}
            measures = _training_measures(by_id, reports)
            return {"trials": trials, "curves": _curves(by_id, reports),
                    **({} if measures.empty else {"training_measures": measures})}  # fmt: skip
    finally:
        ledger.close()


def _row(row: Row) -> Row:
    results = {f"{split}_{name}": value for split, scores in (row["results"] or {}).items()
               for name, value in scores.items()}  # fmt: skip
    parameters = {f"param_{name}": value for name, value in row["configuration"].items()}
    return {**{name: row[name] for name in COLUMNS}, "seeds": json.dumps(row["seeds"]), **parameters, **results}


def _curves(rows: dict[str, Row], reports: list[Row]) -> pd.DataFrame:
    return pd.DataFrame([
        {**of, "train_loss": epoch["train_loss"][k], **{name: values[k] for name, values in epoch["scores"].items()}}
        for of, k, epoch in _epochs(rows, reports)
    ])  # fmt: skip


def _training_measures(rows: dict[str, Row], reports: list[Row]) -> pd.DataFrame:
    return pd.DataFrame([
        {**of, **{name: values[k] for name, values in epoch["measures"].items()}}
        for of, k, epoch in _epochs(rows, reports) if "measures" in epoch
    ])  # fmt: skip


def _epochs(rows: dict[str, Row], reports: list[Row]) -> Iterator[tuple[Row, int, Row]]:
    """What a row of each epoch and seed begins with, the seed's place in lists of the epoch, and that epoch."""
    for report in reports:
        trial = rows.get(report["trial"])
        for epoch in report["curve"] if trial is not None else ():
            for k, seed in enumerate(trial["seeds"]):
                yield {"trial": trial["id"], "loss": trial["loss"], "epoch": epoch["epoch"], "seed": seed}, k, epoch


def _csv(folder: Path, place: Path) -> list[Path]:
    return [_whole(place / f"{name}.csv", lambda path, own=frame: own.to_csv(path, index=False))
            for name, frame in _frames(folder).items()]  # fmt: skip


def _parquet(folder: Path, place: Path) -> list[Path]:
    found = []
    for name, frame in _frames(folder).items():
        # A hyperparameter may be a name in one loss and a number in another.
        mixed = [column for column in frame if frame[column].dtype == object]
        frame = frame.astype({column: "string" for column in mixed})
        found.append(_whole(place / f"{name}.parquet", lambda path, own=frame: own.to_parquet(path, index=False)))
    return found


def _optuna(folder: Path, place: Path) -> list[Path]:
    return [_whole(place / "optuna.db", lambda path: _fill_storage(folder, path))]


def _fill_storage(folder: Path, path: Path) -> None:
    """An Optuna storage with a study per loss, as its sampler saw it: scores, rungs, states."""
    import optuna

    from losstune.search.proposals import distributions_of

    study, greater, ledger = recorded_study(folder)
    try:
        with understood(ledger.at), ledger.reading() as tx:
            rows, reports = read.all_trials(tx, "search"), read.scores(tx)
    finally:
        ledger.close()
    scores: dict[str, dict[int, float]] = {}
    for trial, epoch, score in reports:
        if score is not None:
            scores.setdefault(trial, {})[epoch] = score
    storage = optuna.storages.RDBStorage(f"sqlite:///{path}")
    direction = "maximize" if greater else "minimize"
    for loss, space in study.spaces.items():
        made = optuna.create_study(storage=storage, study_name=f"{study.name}/{loss}", direction=direction)
        made.set_metric_names([f"validation {study.metric}"])
        distributions = distributions_of(space, study.search.method)
        own = sorted((row for row in rows if row["loss"] == loss), key=lambda row: row["number"])
        made.add_trials([_frozen(row, scores.get(row["id"], {}), distributions) for row in own])
    storage.engine.dispose()


def _frozen(row: Row, scores: dict[int, float], distributions: dict[str, Any]) -> Any:
    from optuna.trial import TrialState, create_trial

    from losstune.search.proposals import told

    state, value = told(row["state"], row["score"], row["score"])  # of a failed trial that is the worst score
    if state == TrialState.COMPLETE and value is None:  # its metric never was a number
        state = TrialState.FAIL
    about = {"trial": row["id"], "state": row["state"], "reason": row["reason"], "seeds": row["seeds"],
             "epochs": row["epoch"], "slot_seconds": row["slot_seconds"]}  # fmt: skip
    found = create_trial(state=state, value=value, params=row["parameters"], distributions=distributions,
                         intermediate_values=scores, user_attrs=about)  # fmt: skip
    found.datetime_start = datetime.fromtimestamp(row["asked"])
    found.datetime_complete = datetime.fromtimestamp(row["ended"]) if row["ended"] else None
    return found


def _whole(path: Path, write: Callable[[Path], Any]) -> Path:
    """Write a file whole, or not at all; what was there is replaced."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.unlink(missing_ok=True)
        write(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


FORMATS: dict[str, Callable[[Path, Path], list[Path]]] = {"optuna": _optuna, "csv": _csv, "parquet": _parquet}
