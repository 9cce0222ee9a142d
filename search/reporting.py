"""The report phase: from what is recorded to tables, figures, page and winner."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from losstune.search.ledger import read
from losstune.search.ledger.database import Ledger, get_meta, set_meta
from losstune.search.seen_test_sets import note_look
from losstune.spaces import InputError


def report(folder: Path, ledger: Ledger) -> Path:
    """Write tables, figures and page from what is recorded, and the winner with its weights."""
    from losstune.analysis.report import write_report
    from losstune.search.recorded import load_results
    from losstune.search.winner import write_winner

    results = load_results(folder, search_curves=False)
    if results.members.empty:
        raise InputError(f"{folder}: nothing is confirmed yet; allowed: a study whose confirm has begun")
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
