"""What a run says when it has ended: its costs, and its verdict."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

if TYPE_CHECKING:
    from losstune.search.phases import Outcome


def say_costs(outcome: Outcome, console: Console) -> None:
    """What the user should know of how a run went, before its verdict."""
    outside = outcome.standing.outside_training()
    if outcome.new and outside is not None:
        console.print(f"slot time outside training: {outside:.3f} s per trial")
    for loss in outcome.standing.losses.values():
        if loss.confirm_failed:
            console.print(f"{loss.loss}: {loss.confirm_failed} of {loss.confirmed} confirmed members failed")
    if outcome.projection_behind:
        console.print(outcome.projection_behind)


def say_verdict(folder: Path, console: Console, done_before: bool = False) -> None:
    """The verdict of the report in a study's folder, and where the report is."""
    from losstune.analysis.wording import edge_sentence

    verdict = json.loads((folder / "report" / "verdict.json").read_text(encoding="utf-8"))
    if done_before:
        console.print("done: nothing is left to do")
    console.print(verdict["headline"])
    for edge in verdict["edges"]:
        console.print(edge_sentence(edge), style="yellow")
    console.print(f"report: {folder / 'report' / 'report.html'}")
