"""What a study has found, and what of it another run found otherwise."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ran import Ran

from losstune.search.ledger import read

ESSENCE = ("id", "phase", "round", "loss", "number", "parameters", "configuration", "seeds", "epochs", "state",
           "reason", "epoch", "score", "best_epoch", "results")  # fmt: skip
MOST_NAMED = 4  # differences of a kind that are said


@dataclass
class Evidence:
    """trials by id, without when and where; curves by trial; choices by loss; texts of files; bytes on disk."""

    trials: dict[str, dict[str, Any]]
    curves: dict[str, list]
    choices: dict[str, dict[str, Any]]
    runs: str
    verdict: dict[str, Any]
    files: dict[str, str]
    bytes: int


def evidence_of(ran: Ran) -> Evidence:
    """All that a finished study holds."""
    curves: dict[str, list] = {}
    for report in ran.read(read.all_reports):
        curves.setdefault(report["trial"], []).extend(report["curve"])
    verdict = json.loads((ran.report / "verdict.json").read_text())
    verdict.pop("budget_audit")  # costs
    for cost in ("budget_audit", "spaces", "sentences"):
        verdict["search"].pop(cost)
    verdict["search"]["overtakings"].pop("member_epochs")
    return Evidence(
        trials={row["id"]: essence(row) for row in ran.trials()}, curves=curves,
        choices={row["loss"]: row for row in ran.read(read.all_choices)},
        runs=(ran.report / "runs.csv").read_text(), verdict=verdict,
        files={f"{folder}/{name}": digest for folder in ("predictions", "weights")
               for name, digest in ran.files(folder).items()},
        bytes=bytes_of(ran.folder / "runs"),
    )  # fmt: skip


def essence(row: dict[str, Any]) -> dict[str, Any]:
    """What a trial is and what became of it, but for when and where."""
    return {name: row[name] for name in ESSENCE}


def bytes_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def finished(ran: Ran) -> dict[str, dict[str, Any]]:
    """The trials that have ended, by id."""
    return {row["id"]: essence(row) for row in ran.trials() if row["state"] != "running"}


def lost(before: dict[str, dict[str, Any]], after: Evidence) -> list[str]:
    """Trials that had ended and are gone or otherwise now."""
    return [f"{trial} had ended and is {'otherwise' if trial in after.trials else 'gone'}"
            for trial, row in before.items() if _plain(after.trials.get(trial)) != _plain(row)]  # fmt: skip


def differences(now: Evidence, then: Evidence) -> list[str]:
    """What differs in two runs of which one was undisturbed, a sentence each."""
    found = [*_between("trial", now.trials, then.trials), *_between("curve of", now.curves, then.curves),
             *_between("choice for", now.choices, then.choices), *_between("", now.files, then.files),
             *_between("verdict.json:", now.verdict, then.verdict)]  # fmt: skip
    return found + (["runs.csv differs"] if now.runs != then.runs else [])


def _between(what: str, now: dict, then: dict) -> Iterator[str]:
    names = [name for name in {**then, **now} if _plain(now.get(name)) != _plain(then.get(name))]
    for name in names[:MOST_NAMED]:
        how = "is missing" if name not in now else "is new" if name not in then else _how(now[name], then[name])
        yield f"{what} {name} {how}".strip()
    if len(names) > MOST_NAMED:
        yield f"and {len(names) - MOST_NAMED} more"


def _how(now: Any, then: Any) -> str:
    if isinstance(now, dict) and isinstance(then, dict):
        return "differs in " + ", ".join(name for name in then if _plain(now.get(name)) != _plain(then[name]))
    return "differs"


def _plain(value: Any) -> str:
    """Comparable, with NaN equal to itself."""
    return json.dumps(value, sort_keys=True, default=str)


def inner_faults(ran: Ran) -> list[str]:
    """What no study may show, undisturbed or not: gaps, epochs twice, unequal budgets, files that nothing needs."""
    rows, found = ran.trials(), []
    curves: dict[str, list[int]] = {}
    for report in ran.read(read.all_reports):
        curves.setdefault(report["trial"], []).extend(epoch["epoch"] for epoch in report["curve"])
    for row in rows:
        seen = curves.get(row["id"], [])  # without what it trained between its last report and a failure
        if seen != list(range(1, len(seen) + 1)) or (len(seen) != row["epoch"] and row["state"] != "failed"):
            found.append(f"{row['id']}: its curve has the epochs {seen}")
    asked = Counter(row["loss"] for row in rows if row["phase"] == "search")
    if len(set(asked.values())) > 1:
        found.append(f"losses were asked {dict(asked)}")
    found += [f"{row['id']} is still running" for row in rows if row["state"] == "running"]
    left = [path for path in ran.out.rglob("*") if path.is_file() and ("checkpoints" in path.parts or
            path.name.startswith((".", "stalled-")))]  # fmt: skip
    return found + [f"left: {path.relative_to(ran.out)}" for path in left]


def tally(ran: Ran) -> int:
    """Member-epochs that lanes have trained and scored, whether they could tell of it or not."""
    path = ran.folder / "tally"
    return os.path.getsize(path) if path.is_file() else 0
