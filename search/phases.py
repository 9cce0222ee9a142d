"""A study from its file to its report: search, confirm, report; each goes on where the ledger says it stopped."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from losstune.search.backup import Backup, held
from losstune.search.composed import check_single
from losstune.search.ledger import files, read
from losstune.search.ledger.copies import mend, wrong_with
from losstune.search.ledger.database import Ledger, get_meta, set_meta, understood
from losstune.search.ledger.lock import RunLock
from losstune.search.ledger.postgresql import GONE_SECONDS
from losstune.search.locations import Locations, files_of, is_recorded, ledger_at, settle
from losstune.search.notices import say
from losstune.search.outcome import Outcome
from losstune.search.plan import (
    Plan,
    check_address,
    check_machine,
    check_metric_defined,
    differences,
    identity,
    make_plan,
)
from losstune.search.planned_looks import has_enough, next_stage, stages_of
from losstune.search.provenance import about, record
from losstune.search.repeated import run_searches
from losstune.search.reporting import report, report_inputs
from losstune.search.seen_test_sets import note_study
from losstune.search.several import run_several
from losstune.search.standing import Standing, standing
from losstune.search.study import Study, load_study
from losstune.spaces import InputError

if TYPE_CHECKING:
    from losstune.search.tracking import Projection

Watch = Callable[[Standing], None]
WATCH_SECONDS = 0.5
SAME_SECONDS = 2.0  # within which several requests to end are one
WATCH_SHARE = 25  # a look that takes t seconds is followed by WATCH_SHARE * t of rest: the lanes want the cores


def run_study(study: Study | str | Path, out: str | Path = "runs", address: str | None = None,
              watch: Watch = lambda _: None, storage: str | None = None, ledger: str | None = None,
              ) -> Outcome:  # fmt: skip
    """Run a study, or what is missing of it, and write its report under out/NAME.

    address: a Ray cluster; None: this machine. watch is called with the standing about twice a second. storage, ledger:
    where checkpoints, predictions and weights go, and the ledger, if not into that folder (see Locations); they need be
    said once. A study that repeats its search, or is of several data sets or networks, has a folder for each besides,
    see search/repeated.py and search/several.py.
    Raises InputError when the input is wrong or the study has changed in a way that would mix evidence.
    """
    study = study if isinstance(study, Study) else load_study(study)
    if study.searches > 1:
        return run_searches(study, out, address, watch, storage, ledger)
    if study.several:
        return run_several(study, out, address, watch, storage, ledger)
    plan = make_plan(study)
    check_metric_defined(study)
    folder = (Path(out) / study.name).resolve()
    check_single(folder)
    if "?" in str(folder):
        raise InputError(f"--out {out}: the databases there cannot be named with a '?'; allowed: another folder")
    settle(folder, Locations(storage, ledger))
    at = ledger_at(folder)
    if isinstance(at, Path):
        _mend(at)
    with understood(at):
        _agree(plan, folder)
        finished = _finished(plan, folder)
    if finished is not None:
        return Outcome(folder, finished, new=False, projection_behind=_catch_up(plan, folder))
    check_machine(study) if address is None else check_address(address)
    with held(folder, at, say, "run", GONE_SECONDS) as backup:
        with understood(at):
            _agree(plan, folder)  # another run may have begun it since, also on another machine
        with backup.opened() as recorded:
            return _look_after_look(plan, recorded, folder, address, watch, backup)


def _look_after_look(plan: Plan, ledger: Ledger, folder: Path, address: str | None, watch: Watch,
                     backup: Backup) -> Outcome:  # fmt: skip
    """Confirm and report as many seeds as each planned look has, until there are enough; without a plan, all at once.

    Each look is a run of its own to whoever reads the ledger.
    """
    stages = stages_of(plan)
    with understood(ledger.at):
        left = stages[next_stage(stages, ledger) :]
    for stage in left:
        with understood(ledger.at):
            record(stage, ledger)
            with ledger.reading() as tx:
                note_study(folder, tx)
        outcome = _go_on(stage, ledger, folder, address, watch, backup)
        if outcome.interrupted or stage is left[-1] or has_enough(ledger):
            break
        say(f"the look with {stage.study.confirm.seeds} seeds is reported, and leaves pairs undecided: it goes on")
    return outcome


def _go_on(plan: Plan, ledger: Ledger, folder: Path, address: str | None, watch: Watch, backup: Backup) -> Outcome:
    from losstune.search.tracking import Projection

    greater = plan.metric.greater_is_better
    started, interrupted = time.monotonic(), False
    with contextlib.ExitStack() as stack:
        projection = Projection(folder, plan.study.name)
        follow = cache(lambda: stack.enter_context(projection))

        def watching(now: Standing) -> None:
            if now.training():
                follow()  # not before: importing MLflow takes seconds of a core, which the lanes need to start
            watch(now)

        if standing(plan.study, ledger, greater).phase != "done":
            interrupted = _train(plan, ledger, folder, address, watching, stack, backup)
        follow().hurry()
        with ledger.transaction() as tx:
            facts, took = get_meta(tx, "facts"), time.monotonic() - started
            set_meta(tx, "facts", {**facts, "wall_seconds": facts.get("wall_seconds", 0.0) + took})
        now = standing(plan.study, ledger, greater)
        backup.keep(now=True)
        if now.phase == "done" and not interrupted:
            _tidy(folder, ledger)  # what lies in the report's folder goes to MLflow
            report(folder, ledger)
            projection.finish()
            _note_projected(ledger, projection)
            backup.keep_report(folder / "report")
            backup.keep(now=True)
        behind = projection.behind
    return Outcome(folder, now, True, interrupted or now.phase != "done", behind)


def _catch_up(plan: Plan, folder: Path) -> str | None:
    """Project a finished study whose last run could not; what MLflow lacks then, as a sentence, if so."""
    from losstune.search.tracking import Projection

    ledger = Ledger.open(ledger_at(folder))
    with ledger.reading() as tx:
        projected = get_meta(tx, "projected") == get_meta(tx, "report_of")
    ledger.close()
    if projected:
        return None
    with contextlib.ExitStack() as stack:
        ledger = stack.enter_context(stack.enter_context(held(folder, ledger.at, say)).opened())
        with Projection(folder, plan.study.name) as projection:
            projection.finish()
        _note_projected(ledger, projection)
    return projection.behind


def _note_projected(ledger: Ledger, projection: Projection) -> None:
    """Record that MLflow has all of the study, so that no later run need look."""
    if projection.caught_up:
        with ledger.transaction() as tx:
            set_meta(tx, "projected", get_meta(tx, "report_of"))


def _train(plan: Plan, ledger: Ledger, folder: Path, address: str | None, watch: Watch,
           stack: contextlib.ExitStack, backup: Backup) -> bool:  # fmt: skip
    """Lanes at work until nothing is left, or until the user interrupts; then True. Ray is gone when the stack ends."""
    from losstune.search.lanes import Running

    interrupted, next_look = False, 0.0
    # Ray prints to standard output what its processes die of, whatever it is told; the ledger has it in a line.
    stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
    backup.keep(now=backup.signs)  # what the storage's copy names is not to be removed
    _tidy(folder, ledger)
    lanes = stack.enter_context(Running(plan, ledger, folder, address))
    with _interruptible() as asked:
        while not lanes.wait(WATCH_SECONDS):
            if asked and not interrupted:
                interrupted = True
                lanes.stop()
            if (began := time.monotonic()) >= next_look:
                watch(standing(plan.study, ledger, plan.metric.greater_is_better))
                backup.keep()
                next_look = time.monotonic() + WATCH_SHARE * (time.monotonic() - began)
    lanes.let_go()
    watch(standing(plan.study, ledger, plan.metric.greater_is_better))
    return bool(asked)  # also while the last lanes ended


def _tidy(folder: Path, ledger: Ledger) -> None:
    """Remove what killed runs have left, and what nothing needs any more."""
    stored = files_of(folder)
    with understood(ledger.at), ledger.reading() as tx:
        unneeded = files.needless(folder, stored, read.all_trials(tx))
    files.remove(stored, unneeded)


@contextlib.contextmanager
def _interruptible() -> Iterator[list]:
    """The first Ctrl-C or SIGTERM asks for a gentle end, by entering the list; a second one is not waited for.

    Then the process ends as if killed, which the ledger is made for, and Ray's processes with it. Of two SIGTERMs, or
    one and a Ctrl-C, only one that comes much later is meant so: several programs may have asked at the same time.
    """
    asked: list[tuple[int, float]] = []

    def ask(number: int, _: Any) -> None:
        now = time.monotonic()
        if asked and (number == asked[-1][0] == signal.SIGINT or now - asked[-1][1] > SAME_SECONDS):
            os._exit(130)
        if not asked:
            asked.append((number, now))

    try:
        before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread: the caller handles its own signals
        yield asked
        return
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _mend(path: Path) -> None:
    """Make a ledger that a disk has damaged readable, and say so. InputError where nothing helps."""
    wrong = None
    with contextlib.suppress(sqlite3.Error):  # what keeps it from looking will be met, and said, in a moment
        wrong = wrong_with(path)
    if wrong is None:
        return
    lock = RunLock(path.parent)
    try:
        if wrong_with(path) is None:  # another run has just done it
            return
        done = mend(path)
    finally:
        lock.release()
    if done is None:
        raise InputError(f"{path}: not a readable ledger ({wrong}), and there is no sound copy of it; allowed: a copy "
                         "of your own in its place, or another --out")  # fmt: skip
    print(f"the ledger was damaged ({wrong}): {done}", file=sys.stderr)


def _agree(plan: Plan, folder: Path) -> None:
    """Refuse a study whose evidence could not be mixed with what its ledger holds."""
    at = ledger_at(folder)
    if not is_recorded(at):
        return
    ledger = Ledger.open(at)
    with ledger.reading() as tx:
        before = get_meta(tx, "identity")
    ledger.close()
    found = differences(before, identity(plan)) if before else []
    if found:
        raise InputError(f"{plan.study.where}: changed since {folder.name} was first run: {'; '.join(found)}; "
                         f"allowed: the study as it was, --name for another one, or another --out")  # fmt: skip


def _finished(plan: Plan, folder: Path) -> Standing | None:
    """Where the study stands if nothing is left to do, not even its report; without writing anything."""
    if not (folder / "report" / "report.html").is_file() or not is_recorded(ledger_at(folder)):
        return None
    ledger, stages = Ledger.open(ledger_at(folder)), stages_of(plan)
    try:
        with ledger.reading() as tx:
            made_of, inputs = get_meta(tx, "report_of"), report_inputs(tx)
        stage = next((stage for stage in stages if made_of == {**inputs, "study": about(stage)}), None)
        if stage is None or not (stage is stages[-1] or has_enough(ledger)):
            return None
        now = standing(stage.study, ledger, plan.metric.greater_is_better)
    finally:
        ledger.close()
    return now if now.phase == "done" else None
