"""How often each test set has been looked at by the studies under one --out: a file for each study, which outlives it.

OUT/test_sets/DIGEST/STUDY-KEY.json has the looks of one study, each as [round of the confirm, confirmed members]: a
report on members that no report of it was made from before. DIGEST is of the study's data, KEY of when it began.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from losstune.analysis.seen import LooksAtTestSet
from losstune.search.ledger import read
from losstune.search.ledger.database import get_meta
from losstune.spaces import InputError
from losstune.trainables.checkpoint import write_bytes

FOLDER = "test_sets"


def note_study(folder: Path, tx: Connection) -> None:
    """From its beginning on a study has a file, so that one without looks is told from one that is not known."""
    path = _path(folder, tx)
    if not path.is_file():
        _write(path, _new(folder, tx))


def note_look(folder: Path, tx: Connection, members: int) -> LooksAtTestSet | None:
    """A report is made from so many confirmed members; what is known of the test set then."""
    path, look = _path(folder, tx), [read.latest_round(tx), members]
    try:
        before = _read(path)
    except InputError:  # missing, or damaged
        before = None
    noted = before or _new(folder, tx)
    looks = noted["looks"] if look in noted["looks"] else [*noted["looks"], look]
    if before is None or looks != before["looks"]:
        _write(path, {**noted, "looks": looks})
    return looks_at_test_set(folder, tx)


def looks_at_test_set(folder: Path, tx: Connection) -> LooksAtTestSet | None:
    """How often the test set of a study has been looked at; None where its ledger does not say which it is."""
    out, digest = folder.resolve().parent, _digest(tx)
    if digest is None:
        return None
    found, known, damaged = [], set(), 0
    for path in sorted((out / FOLDER).glob("*/*.json")):
        try:
            noted = _read(path)
        except InputError:
            damaged += 1
            continue
        known.add(noted["study"])
        found += [noted] if noted["digest"] == digest and noted["looks"] else []
    recorded = (path for name in ("ledger.db", "locations.json") for path in out.glob(f"*/ledger/{name}"))
    unknown = {path.parent.parent.name for path in recorded} - known
    return LooksAtTestSet(sum(len(noted["looks"]) for noted in found), len(found),
                          all(noted["complete"] for noted in found), len(unknown) + damaged)  # fmt: skip


def _digest(tx: Connection) -> str | None:
    return (get_meta(tx, "identity") or {}).get("data digest")


def _new(folder: Path, tx: Connection) -> dict[str, Any]:
    """What is known of a study without a file: if it has test scores, a look per confirm at least."""
    ended = [row["round"] for row in read.all_trials(tx, "confirm") if row["results"] is not None]
    looks = [[round_, ended.count(round_)] for round_ in sorted(set(ended))]
    return {"study": folder.name, "digest": _digest(tx), "complete": not looks, "looks": looks}


def _path(folder: Path, tx: Connection) -> Path:
    began = [event["time"] for event in read.all_events(tx)[:1]]
    key = hashlib.sha256(json.dumps([folder.name, began]).encode()).hexdigest()[:12]
    return folder.resolve().parent / FOLDER / str(_digest(tx))[:16] / f"{folder.name}-{key}.json"


def _read(path: Path) -> dict[str, Any]:
    try:
        noted = json.loads(path.read_text(encoding="utf-8"))
        looks = [[int(round_), int(members)] for round_, members in noted["looks"]]
        return {"study": str(noted["study"]), "digest": str(noted["digest"]), "complete": bool(noted["complete"]),
                "looks": looks}  # fmt: skip
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{path}: not what losstune writes ({type(error).__name__})") from None


def _write(path: Path, noted: dict[str, Any]) -> None:
    write_bytes(path, (json.dumps(noted) + "\n").encode())
