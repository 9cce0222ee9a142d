"""From the ledger to the tidy results that the analysis takes."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import ValidationError

from losstune.analysis.results import TRAINING_MEASURES, Results
from losstune.analysis.wording import listed
from losstune.search.edges import find_edges
from losstune.search.ledger import read
from losstune.search.ledger.database import Ledger, get_meta, understood
from losstune.search.ledger.files import kept_name
from losstune.search.locations import files_of, ledger_at
from losstune.search.methods import stage_of
from losstune.search.ranges import LossSpace, resolve
from losstune.search.seen_test_sets import looks_at_test_set
from losstune.search.standing import outside_training
from losstune.search.study import SearchPart, Study
from losstune.spaces import InputError
from losstune.trainables import features, predictions, robustness, transferred
from losstune.trainables.storage import Place

Row = dict[str, Any]
_Frames = tuple[pd.DataFrame, pd.DataFrame]


def load_results(folder: str | Path, search_curves: bool = True) -> Results:
    """The results of a study from its output folder, for example "runs/digits".

    search_curves: whether curves holds those of every trial of the search, or of the chosen ones alone: a report shows
    no more, and where trials are many the others take most of the time. InputError when there is no ledger, there is
    nothing in it yet, or it is damaged.
    """
    ledger = Ledger.open(ledger_at(Path(folder)))
    try:
        with understood(ledger.at):
            return _results(ledger, Path(folder), search_curves)
    finally:
        ledger.close()


def _results(ledger: Ledger, folder: Path, search_curves: bool) -> Results:
    with ledger.reading() as tx:
        about = get_meta(tx, "study")
        if about is None:
            raise InputError(f"{folder}: its ledger holds no study yet; allowed: a study that has been run")
        losses = about["losses"]
        trials = [row for row in read.all_trials(tx) if row["loss"] in losses]
        round_, choices = read.latest_round(tx), read.all_choices(tx)
        events, facts = read.all_events(tx), get_meta(tx, "facts") or {}
        lanes, written = read.all_lanes(tx), get_meta(tx, "fields")
        metric, passes = about["metric"], about.get("passes", {})
        seen = looks_at_test_set(folder, tx)
        search = [row for row in trials if row["phase"] == "search"]
        confirm = [row for row in trials if row["phase"] == "confirm" and row["round"] == round_]
        about["confirm"]["seeds"] = seeds = _seeds_reached(about, confirm)
        confirm = [row for row in confirm if row["number"] < seeds]
        chosen = {row["trial"] for row in choices}
        shown = [*(row for row in search if search_curves or row["id"] in chosen), *confirm]
        of = None if search_curves else [row["id"] for row in shown]
        curves, measures = _curves(shown, read.curves(tx, of), metric)
    how, spaces = _searched(about, written)
    greater = about["greater_is_better"]
    return Results(
        study={key: value for key, value in about.items() if key != "greater_is_better"},
        greater_is_better=greater,
        members=_members(confirm, metric),
        trials=pd.DataFrame([_search_row(row, passes) for row in search]),
        curves=curves,
        training_measures=measures,
        choices=_choices(choices, search, losses),
        budget=_budget(trials, losses, passes),
        notes=[*_notes(events, round_), *_unfinished(how, spaces, search, greater)],
        edges=find_edges(spaces, how, search, choices, greater),
        facts={**facts, **_costs(trials, lanes), "test_set_looks": seen},
        predictions=_kept(confirm, files_of(folder), "predictions", predictions.read),
        features=_kept(confirm, files_of(folder), "features", features.read),
        robustness=_kept(confirm, files_of(folder), "robustness", robustness.read),
        transfer=_kept(confirm, files_of(folder), "transfer", transferred.read),
    )


def _kept(rows: list[Row], place: Place, kind: str, read_file: Callable) -> dict[tuple[str, int], Callable]:
    """What reads a file of each confirmed member that has one."""
    return {(row["loss"], row["number"]): partial(read_file, place / kept_name(kind, row["id"]))
            for row in rows if row["state"] == "complete" and kind in (row["files"] or {})}  # fmt: skip


def _seeds_reached(about: Row, confirm: list[Row]) -> int:
    """How many seeds the results are of: where looks are planned, those of the last one that is complete, if any is."""
    def complete(seeds: int) -> bool:
        ended = Counter(row["loss"] for row in confirm if row["results"] is not None and row["number"] < seeds)
        return all(ended[loss] == seeds for loss in about["losses"])

    wanted, looks = about["confirm"]["seeds"], about["confirm"].get("looks") or ()
    if not looks or complete(wanted):
        return wanted
    return max((look for look in looks if look < wanted and complete(look)), default=wanted)


def _searched(about: Row, written: Row | None) -> tuple[SearchPart, dict[str, LossSpace]]:
    """How the recorded study searched, and what of each loss. No files of the user's are read: they may be gone."""
    # A loss of another package may not be installed here; its results can be read all the same, only unflagged.
    with contextlib.suppress(InputError, ValidationError):
        if written is not None:
            study = Study.model_validate(written["fields"])
            found = resolve(study.losses, study.recipe, "the recorded study", study.space)
            return study.search, {loss: found[loss].for_classes(about["num_classes"]) for loss in about["losses"]}
    return SearchPart(), {}


def _unfinished(search: SearchPart, spaces: dict[str, LossSpace], rows: list[Row], greater: bool) -> list[str]:
    """Which losses' coarse-to-fine search met search.trials before its end."""
    early = []
    for loss, space in spaces.items() if search.method == "coarse_to_fine" else ():
        own = sorted((row for row in rows if row["loss"] == loss), key=lambda row: row["number"])
        stage = stage_of("", space, search, own, 1 if greater else -1)
        if (not stage.last or stage.left) and len(own) >= search.trials:
            early.append(loss)
    return [f"The coarse-to-fine search of {listed(early)} met search.trials ({search.trials}) before its end: "
            "more trials would go on with it."] if early else []  # fmt: skip


def _members(rows: list[Row], metric: str) -> pd.DataFrame:
    """A row per confirmed member, the study's own metric first among the metrics."""
    members = []
    for row in rows:
        if row["results"] is None:
            continue
        test, validation = row["results"]["test"], row["results"].get("validation") or {}
        ordered = {metric: test[metric], **{k: v for k, v in test.items() if k in COLUMNS}}
        members.append({"loss": row["loss"], "seed": row["number"], "state": row["state"], "reason": row["reason"],
                        "epochs": row["epoch"], **ordered, f"validation_{metric}": validation.get(metric)})  # fmt: skip
    columns = ["loss", "seed", "state", "reason", "epochs", metric]
    found = pd.DataFrame(members, columns=None if members else columns)
    return _undefined(found).sort_values(["loss", "seed"], ignore_index=True)


def _undefined(members: pd.DataFrame) -> pd.DataFrame:
    """Of losses without probabilities failed members have none either, though the constant predictor has."""
    for name in (name for name in OF_PROBABILITIES if name in members):
        complete = members[members["state"] == "complete"].groupby("loss")[name]
        without = [loss for loss, values in complete if values.isna().all()]
        members.loc[members["loss"].isin(without), name] = float("nan")
    return members


OF_PROBABILITIES = ("nll", "ece")
COLUMNS = ("accuracy", "top5_accuracy", "nll", "ece")  # what every member is measured by, whatever the study's metric


def _member_epochs(row: Row, passes: dict[str, int]) -> int:
    """What a trial was given; a loss that takes two passes per step counts twice."""
    return row["trained"] * len(row["seeds"]) * passes.get(row["loss"], 1)


def _search_row(row: Row, passes: dict[str, int]) -> Row:
    return {
        "loss": row["loss"], "number": row["number"], "state": row["state"], "score": row["score"],
        "epochs": row["epoch"], "best_epoch": row["best_epoch"], "member_epochs": _member_epochs(row, passes),
        "slot_seconds": row["slot_seconds"], "reason": row["reason"], "params": row["parameters"],
    }  # fmt: skip


def _curves(rows: list[Row], curves: Iterable[tuple[str, float, list[Row]]], metric: str) -> _Frames:
    """Results.curves, a row per epoch, and Results.training_measures; of an epoch reported twice, what came last."""
    by_id = {row["id"]: (row["phase"], row["loss"], row["number"]) for row in rows}
    complete = {row["id"] for row in rows if row["phase"] == "confirm" and row["state"] == "complete"}
    points: dict[tuple[str, int], tuple[float, float]] = {}
    measures: dict[tuple[str, int, str], float] = {}
    for trial, _, curve in curves:
        for epoch in curve if trial in by_id else ():
            points[trial, epoch["epoch"]] = _mean(epoch["scores"][metric]), _mean(epoch["train_loss"])
            for name, values in epoch.get("measures", {}).items() if trial in complete else ():
                measures[trial, epoch["epoch"], name] = _mean(values)
    columns = ["phase", "loss", "trial", "epoch", "value", "train_loss"]
    frame = pd.DataFrame([(*by_id[trial], epoch, *values) for (trial, epoch), values in points.items()],
                         columns=columns)  # fmt: skip
    found = pd.DataFrame([(*by_id[trial][1:], epoch, name, value) for (trial, epoch, name), value in measures.items()],
                         columns=TRAINING_MEASURES)  # fmt: skip
    return (frame.sort_values(["phase", "loss", "trial", "epoch"], ignore_index=True),
            found.sort_values(TRAINING_MEASURES[:-1], ignore_index=True))  # fmt: skip


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _choices(choices: list[Row], search: list[Row], losses: list[str]) -> pd.DataFrame:
    by_id = {row["id"]: row for row in search}
    chosen = {row["loss"]: row for row in choices if row["trial"] in by_id}
    return pd.DataFrame(
        [{"loss": loss, "number": by_id[chosen[loss]["trial"]]["number"],
          "params": by_id[chosen[loss]["trial"]]["configuration"], "best_epoch": chosen[loss]["best_epoch"],
          "score": chosen[loss]["score"]} for loss in losses if loss in chosen],
        columns=["loss", "number", "params", "best_epoch", "score"],
    )  # fmt: skip


def _budget(trials: list[Row], losses: list[str], passes: dict[str, int]) -> pd.DataFrame:
    """What each loss was given in each phase; confirms of earlier rounds count."""
    rows = []
    for loss in losses:
        for phase in ("search", "confirm"):
            own = [row for row in trials if row["loss"] == loss and row["phase"] == phase]
            states = [row["state"] for row in own]
            rows.append({
                "loss": loss, "phase": phase, "asked": len(own), "complete": states.count("complete"),
                "stopped": states.count("stopped"), "failed": states.count("failed"),
                "member_epochs": sum(_member_epochs(row, passes) for row in own),
                "slot_seconds": sum(row["slot_seconds"] for row in own),
            })  # fmt: skip
    return pd.DataFrame(rows)


def _notes(events: list[Row], round_: int) -> list[str]:
    notes, texts = [], [event["text"] for event in events if event["kind"] == "seeds"]
    if any("planned" not in text for text in texts):
        notes.append("Seeds were added without a plan after results had been seen: "
                     "the error rate is no longer guaranteed.")  # fmt: skip
    for text in dict.fromkeys(text for text in texts if "planned" in text):
        notes.append(f"{text[0].upper()}{text[1:]}: the error rate is no longer guaranteed.")
    if round_:
        notes.append(f"Trials were added after a confirm: this is confirm number {round_ + 1}, with fresh seeds; "
                     "the error rate over all of them is no longer guaranteed.")  # fmt: skip
    cuts = [event["text"] for event in events if event["kind"] == "cut"]
    return notes + [f"{text[0].upper()}{text[1:]}." for text in cuts[-1:]]


def _costs(trials: list[Row], lanes: list[Row]) -> Row:
    """Slot time in all, and what of it was not training, per ended trial."""
    return {
        "slot_seconds": sum(lane["seen"] - lane["started"] for lane in lanes),
        "slot_seconds_outside_training_per_trial": outside_training(
            lanes, sum(row["state"] != "running" for row in trials)
        ),
        "lanes": len(lanes), "devices": sorted({lane["device"] for lane in lanes if lane["device"]}),
    }  # fmt: skip
