"""`losstune show` and `losstune rerun`: one trial, as it is recorded, and once more alone, here."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.console import Console
from rich.table import Table

from losstune.search.ledger import read
from losstune.search.ledger.database import get_meta, understood
from losstune.search.places import trial_of
from losstune.search.progress import duration
from losstune.search.status import recorded_study
from losstune.search.study import Study
from losstune.spaces import InputError

Row = dict[str, Any]
EXTRA = 1  # epochs that a failed trial trained without reporting them


@dataclass(frozen=True)
class Recorded:
    """A trial as the ledger has it: its row, its epochs, what was decided at its reports, and its study.

    measured: backends by kind of device. identity: what the study must still be for the trial to be the same.
    """

    study: Study
    row: Row
    curve: list[Row]
    decisions: dict[int, str]
    measured: dict[str, Any]
    identity: Row


def load_trial(folder: Path, trial: str) -> Recorded:
    """A trial by its id, "search-softmax-0003". InputError when the study has none of that name."""
    study, _, ledger = recorded_study(folder)
    try:
        with understood(ledger.at), ledger.reading() as tx:
            rows = {row["id"]: row for row in read.all_trials(tx)}
            if trial not in rows:
                near = difflib.get_close_matches(trial, rows, n=3, cutoff=0) or ["those of a study that has begun"]
                raise InputError(f"{trial}: no trial of {folder.name}; allowed: {', '.join(near)} ...")
            reports = [report for report in read.all_reports(tx) if report["trial"] == trial]
            measured, identity = read.backends(tx), get_meta(tx, "identity")
    finally:
        ledger.close()
    curve = [epoch for report in reports for epoch in report["curve"]]
    return Recorded(study, rows[trial], curve, {r["epoch"]: r["decision"] for r in reports}, measured, identity)


def show_trial(folder: Path, trial: str, console: Console) -> None:
    """Print a trial's configuration, how it went, its curve and what became of it."""
    found = load_trial(folder, trial)
    with understood(folder):
        lines, table = _lines(found), _curve(found)
    for line in lines:
        console.print(line, markup=False)
    console.print(table)


def _lines(found: Recorded) -> list[str]:
    row = found.row
    configuration = ", ".join(f"{name} {_plain(value)}" for name, value in row["configuration"].items())
    again = f", attempt {row['attempt']}" if row["attempt"] > 1 else ""
    lines = [
        f"{row['id']}: {row['state']}" + (f" ({row['reason']})" if row["reason"] else ""),
        f"configuration  {configuration}",
        f"seeds          {', '.join(map(str, row['seeds']))}",
        f"trained        {row['epoch']} of {row['epochs']} epochs, {duration(row['slot_seconds'])} of slot time{again}",
    ]
    if row["score"] is not None:
        lines.append(f"best           {found.study.metric} {_plain(row['score'])} on validation, after epoch "
                     f"{row['best_epoch']}, mean of {len(row['seeds'])}")  # fmt: skip
    for split, scores in (row["results"] or {}).items():
        lines.append(f"{split:15}" + ", ".join(f"{name} {_plain(value)}" for name, value in scores.items()))
    if row["crashes"]:
        lines.append(f"deaths         {row['crashes']} of lanes that trained it, since its last checkpoint")
    return lines


def _curve(found: Recorded) -> Table:
    """A line per epoch: means over the seeds, and what was decided."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    names = list(found.curve[0]["scores"]) if found.curve else []
    for name in ("epoch", "train_loss", *names, ""):
        table.add_column(name, justify="left" if name == "" else "right")
    for epoch in found.curve:
        values = [epoch["train_loss"], *(epoch["scores"][name] for name in names)]
        table.add_row(str(epoch["epoch"]), *(_plain(fmean(own)) for own in values),
                      found.decisions.get(epoch["epoch"], ""))  # fmt: skip
    return table


def _plain(value: Any) -> str:
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def rerun_trial(folder: Path, trial: str, console: Console) -> bool:
    """Train a trial again, alone, here, and compare each epoch with what is recorded; whether all came out the same.

    Nothing is written. What a lane of another kind of device recorded need not come out the same.
    """
    found = load_trial(folder, trial)
    if not found.curve:
        raise InputError(f"{trial}: nothing is recorded of its training; allowed: a trial that has reported")
    differing, epochs = None, 0
    for epoch in _trained(found, folder):
        recorded = found.curve[epochs] if epochs < len(found.curve) else None
        same = recorded is not None and _same(recorded, epoch)
        differing = epoch["epoch"] if recorded is not None and not same and differing is None else differing
        epochs += 1
        said = "not recorded" if recorded is None else "as recorded" if same else "not as recorded"
        scores = ", ".join(f"{name} {_plain(fmean(values))}" for name, values in epoch["scores"].items())
        console.print(f"epoch {epoch['epoch']}: train_loss {_plain(fmean(epoch['train_loss']))}, {scores} ({said})")
    if differing is None:
        console.print(f"the {min(epochs, len(found.curve))} recorded epochs came out the same, bit for bit")
    else:
        console.print(f"from epoch {differing} on it is not what is recorded", style="yellow")
    return differing is None


def _trained(found: Recorded, folder: Path) -> Iterator[Row]:
    """The trial's epochs, trained now, up to where it was recorded, or to where it fails."""
    import torch

    from losstune.search.job import make_job
    from losstune.search.plan import check_machine, differences, identity, make_plan
    from losstune.trainables.backends import Choice
    from losstune.trainables.inputs import Normalization

    plan, row = make_plan(found.study), found.row
    changed = differences(found.identity, identity(plan))
    if changed:  # what it would come to says nothing of what is recorded
        raise InputError(f"{found.study.where}: changed since it was run: {'; '.join(changed)}; "
                         f"allowed: the study's data and files as they were")  # fmt: skip
    check_machine(found.study)
    torch.set_num_threads(max(1, int(found.study.resources.cpus)))
    job = make_job(plan, folder)
    device = torch.cuda.get_device_name() if job.device == "cuda" else "cpu"
    measured = found.measured.get(job.kind_of(device))
    choice = Choice(**measured["choice"]) if measured else job.measure(plan.train).choice
    train = plan.train
    if row["phase"] == "confirm" and job.confirm_on_all:
        train = train.joined(plan.validation)
    stack = job.stack(train, plan.validation, Normalization(plan.train.x), choice, len(row["seeds"]))
    stack.join(trial_of(row))
    for _ in range(min(row["epochs"], row["epoch"] + EXTRA * (row["state"] == "failed"))):
        (result,) = stack.train_epoch().values()
        yield {"epoch": result.epoch, "train_loss": result.train_loss, "scores": result.scores}
        if not all(map(math.isfinite, result.train_loss)) or not all(result.finite):
            return


def _same(recorded: Row, epoch: Row) -> bool:
    """Whether two epochs are equal, NaN to NaN."""
    return repr(recorded["train_loss"]) == repr(epoch["train_loss"]) and all(
        repr(recorded["scores"].get(name)) == repr(values) for name, values in epoch["scores"].items()
    )
