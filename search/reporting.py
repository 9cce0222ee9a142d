"""The report phase: from what is recorded to tables, figures, page and winner; and one report over several studies."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from losstune.search.ledger import read
from losstune.search.ledger.database import Ledger, get_meta, set_meta
from losstune.search.locations import ledger_at
from losstune.search.seen_test_sets import note_look
from losstune.spaces import InputError

if TYPE_CHECKING:
    from losstune.analysis.results import Results

MOST_LETTERS = 100  # of the folder of a report over several studies; names may have 80 each


def report(folder: Path, ledger: Ledger) -> Path:
    """Write tables, figures and page from what is recorded, and the winner with its weights."""
    from losstune.analysis.report import write_report
    from losstune.search.winner import write_winner

    results = _confirmed_results(folder)
    with ledger.reading() as tx:
        seen = note_look(folder, tx, len(results.members))
    results = replace(results, facts={**results.facts, "test_set_looks": seen})
    page = write_report(results, folder / "report")
    write_winner(results, folder, ledger)
    plan = json.loads((folder / "report" / "verdict.json").read_bytes())["looks"]
    with ledger.transaction() as tx:
        set_meta(tx, "report_of", report_inputs(tx))
        set_meta(tx, "enough", plan is not None and plan["enough"])
    return page


def report_inputs(tx: Any) -> dict[str, Any]:
    """What a report is made from, to know whether it is up to date."""
    return {"study": get_meta(tx, "study"), "confirmed": read.confirmed(read.all_trials(tx, "confirm")),
            "round": read.latest_round(tx), "version": version("losstune")}  # fmt: skip


def report_joint(folders: list[Path], out: Path) -> tuple[str, Path]:
    """Write the report over several studies into OUT/joint/; its headline, and where its page is.

    InputError (one line), before anything is written, for what cannot be joined, also a study without confirmed
    members.
    """
    target = out.resolve() / "joint" / _joint_name([folder.name for folder in folders])
    page = write_joint(folders, target)
    return json.loads((target / "verdict.json").read_bytes())["headline"], page


def write_joint(folders: list[Path], target: Path, missing: Sequence[str] = ()) -> Path:
    """Write the report over several studies into a folder; where its page is. InputError as `report_joint`. missing:
    names of studies that belong to these and are not done."""
    from losstune.analysis.joint_report import write_joint_report

    results = [_confirmed_results(folder) for folder in folders]
    own = [folder / "report" / "report.html" for folder in folders]
    pages = [os.path.relpath(page, target) if page.is_file() else None for page in own]
    page = write_joint_report(results, target, pages, missing)
    for folder, of_study in zip(folders, results, strict=True):
        _note_look(folder, len(of_study.members))
    return page


def _confirmed_results(folder: Path) -> Results:
    from losstune.search.recorded import load_results

    results = load_results(folder, search_curves=False)
    if results.members.empty:
        raise InputError(f"{folder}: nothing is confirmed yet; allowed: a study whose confirm has begun")
    return results


def _note_look(folder: Path, members: int) -> None:
    """A report over several studies looks at the test set of each, as its own report does."""
    ledger = Ledger.open(ledger_at(folder))
    try:
        with ledger.reading() as tx:
            note_look(folder, tx, members)
    finally:
        ledger.close()


def _joint_name(names: list[str]) -> str:
    """The names joined by +, which none of them holds; where that is too long, their number and a digest."""
    joined = "+".join(names)
    digest = hashlib.sha256(joined.encode()).hexdigest()[:12]
    return joined if len(joined) <= MOST_LETTERS else f"{len(names)}-studies-{digest}"
