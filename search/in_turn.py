"""Several studies, run one after another as one: what repeated searches and several data sets share."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from losstune.search.backup import bring_report
from losstune.search.ledger.database import Ledger, understood
from losstune.search.ledger.lock import RunLock
from losstune.search.locations import ledger_at, locations_of
from losstune.search.notices import say
from losstune.search.outcome import Outcome
from losstune.search.reporting import report_inputs
from losstune.search.study import Study
from losstune.trainables.storage import place_of, said_by


@contextlib.contextmanager
def locked(folder: Path, purpose: str = "run") -> Iterator[None]:
    """Hold a study as a whole, for `losstune stop` to find who runs it, also between two of those it is made of."""
    lock = RunLock(folder / "ledger", purpose)
    try:
        yield
    finally:
        lock.release()


def run_in_turn(studies: list[Study], what: str, out: str | Path, address: str | None, watch: Callable[[Any], None],
                storage: str | None, ledger: str | None, after_each: Callable[[], None] = lambda: None,
                ) -> list[Outcome]:  # fmt: skip
    """Run what is missing of each study, until one is interrupted; how they ended. what: each is called; see
    `run_study`."""
    from losstune.search.phases import run_study

    ended: list[Outcome] = []
    for number, study in enumerate(studies, start=1):
        if ended and ended[-1].new:
            say(f"{what} {number} of {len(studies)}: {study.name}")
        ended.append(run_study(study, out, address, watch, storage, ledger))
        if ended[-1].interrupted:
            break
        after_each()
    return ended


def store_report(folder: Path, parts: list[Path]) -> None:
    """Bring the report over studies to the storage that these have, where they have one."""
    storage = locations_of(parts[0]).storage
    if storage is None:
        return
    place = place_of(storage) / folder.name
    try:
        bring_report(folder / "report", place)
    except OSError as error:
        say(f"the report over all is not in {place} ({said_by(error)}); `losstune report {folder.name}` brings it")


def is_done(folder: Path) -> bool:
    """Whether all that was asked of a study is confirmed."""
    from losstune.search.standing import standing
    from losstune.search.status import NothingYet, recorded_study

    try:
        study, greater, ledger = recorded_study(folder)
    except NothingYet:
        return False
    try:
        return standing(study, ledger, greater).phase == "done"
    finally:
        ledger.close()


def renew(folder: Path, is_current: Callable[[Path], bool], report: Callable[[Path], None]) -> bool:
    """Write the report over studies, unless it is there and of what is recorded now; whether it was written."""
    if (folder / "report" / "report.html").is_file() and is_current(folder):
        return False
    report(folder)
    return True


def inputs_of(folders: list[Path]) -> str:
    """What a report over studies is made from, as a digest."""
    found = []
    for place in folders:
        ledger = Ledger.open(ledger_at(place))
        with understood(ledger.at), ledger.reading() as tx:
            found.append([place.name, report_inputs(tx)])
        ledger.close()
    return hashlib.sha256(json.dumps(found, sort_keys=True, default=str).encode()).hexdigest()
