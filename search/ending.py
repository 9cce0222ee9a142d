"""What a run says when it has ended: its costs, and its verdict."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from losstune.spaces import InputError

if TYPE_CHECKING:
    from losstune.search.outcome import Outcome


def say_costs(outcome: Outcome, console: Console) -> None:
    """What the user should know of how a run went, before its verdict."""
    for part in outcome.parts:
        which = f"{part.folder.name}: " if outcome.studies else ""
        outside = part.standing.outside_training()
        if part.new and outside is not None:
            console.print(f"{which}slot time outside training: {outside:.3f} s per trial")
        for loss in part.standing.losses.values():
            if loss.confirm_failed:
                console.print(f"{which}{loss.loss}: {loss.confirm_failed} of {loss.confirmed} confirmed members failed")
        if part.projection_behind:
            console.print(part.projection_behind)


def say_verdict(folder: Path, console: Console, done_before: bool = False) -> None:
    """The verdict of the report in a study's folder, and where the report is."""
    from losstune.analysis.wording import edge_sentence

    path = folder / "report" / "verdict.json"
    try:
        verdict = json.loads(path.read_text(encoding="utf-8"))
        lines = [edge_sentence(edge) for edge in verdict.get("edges", [])]
        headline = str(verdict["headline"])
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{path}: damaged ({type(error).__name__}); allowed: what a report wrote, which "
                         f"`losstune report {folder.name}` writes again") from None  # fmt: skip
    if done_before:
        console.print("done: nothing is left to do")
    console.print(headline, markup=False)
    for line in lines:
        console.print(line, style="yellow")
    console.print(f"report: {folder / 'report' / 'report.html'}")
