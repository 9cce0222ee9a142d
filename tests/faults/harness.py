"""The rows: which fault is tried in which phase of which study, and what it came to."""

from __future__ import annotations

import random
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ran import Ran, assert_as_retrained

from faults import by_clock, by_cluster, by_code, by_disk, by_server, by_signal
from faults.evidence import Evidence, differences, evidence_of, inner_faults, lost, tally
from faults.journey import Journey
from faults.moments import Moment, Usual
from faults.studies import STUDIES

TRAINING, ALL = ("search", "confirm"), ("start", "search", "confirm", "report")
TRIES, EARLIER = 6, 0.6  # of a moment at which there is something to strike; how far into a phase that ends sooner
MORE_BYTES = 1.25, 500_000  # than an undisturbed run leaves: what SQLite does not give back


@dataclass(frozen=True)
class Fault:
    """What may happen: how it is brought about, in which phases, to which studies."""

    name: str
    strike: Callable[[Journey, Moment], None]
    phases: tuple[str, ...] = TRAINING
    studies: tuple[str, ...] = ("one slot",)


FAULTS = (
    Fault("kill -9 of the driver", by_signal.driver_killed, ALL),
    Fault("kill -9 of the driver", by_signal.driver_killed, ("search",), ("two slots",)),
    Fault("kill -9 of a lane", by_signal.lane_killed),
    Fault("kill -9 of a lane", by_signal.lane_killed, ("search",), ("two slots",)),
    Fault("kill -9 of the whole tree", by_signal.tree_killed, ALL),
    Fault("kill -9 of the whole tree", by_signal.tree_killed, ("confirm",), ("two slots",)),
    Fault("kill -9 after a checkpoint", by_signal.killed_after_a_checkpoint, ("search",), ("long",)),
    Fault("kill -9 of the conductor", by_signal.conductor_killed),
    Fault("kill -9 of the projection", by_signal.projection_killed, ("search", "report")),
    Fault("SIGTERM", by_signal.terminated, ("start", "search", "report")),
    Fault("Ctrl-C", by_signal.interrupted, ALL),
    Fault("Ctrl-C", by_signal.interrupted, ("search",), ("two slots",)),
    Fault("Ctrl-C in an epoch", by_signal.interrupted_in_an_epoch, ("search",), ("long epochs",)),
    Fault("Ctrl-C twice", by_signal.interrupted_twice, ("search",)),
    Fault("losstune stop", by_signal.stopped_from_elsewhere),
    Fault("MLflow stopped", by_server.server_stopped, ("search", "report")),
    Fault("MLflow restarted", by_server.server_restarted, ("search",)),
    Fault("MLflow stalled", by_server.server_stalled, ("confirm",)),
    Fault("MLflow's database removed", by_server.database_lost, ("confirm",)),
    Fault("disk full", by_disk.disk_full, ("search", "confirm", "report")),
    Fault("disk read-only", by_disk.disk_read_only, ("search",)),
    Fault("checkpoint truncated", by_disk.checkpoint_truncated, TRAINING),
    Fault("checkpoint bit-flipped", by_disk.checkpoint_flipped, ("confirm",)),
    Fault("checkpoint gone", by_disk.checkpoint_gone, ("search",)),
    Fault("ledger journal truncated", by_disk.journal_truncated, ("search", "confirm", "report")),
    Fault("clock forward 40 days", by_clock.clock_forward, ("search",)),
    Fault("clock back 40 days", by_clock.clock_back, ("confirm",)),
    Fault("NaN in trials, and kill -9", by_code.nan, ("search",)),
    Fault("hang in a trial", by_code.hang_once, ("search",), ("stalling",)),
    Fault("abort in a trial", by_code.abort_once, ("confirm",), ("stalling",)),
    Fault("a trial takes all memory", by_code.hog_once, ("search",)),
    Fault("hang whenever a trial runs", by_code.hang_always, ("search",), ("poisoned",)),
    Fault("abort whenever a trial runs", by_code.abort_always, ("search",), ("poisoned",)),
    Fault("lanes that cannot start", by_code.lanes_that_cannot_start, ("start",)),
    Fault("raylet of a node killed", by_cluster.raylet_killed, ("search",)),
    Fault("raylet of a node killed", by_cluster.raylet_killed, TRAINING, ("two slots",)),
    Fault("spot machine taken back", by_cluster.spot_notice, ("search",), ("long",)),
    Fault("node leaves, another joins", by_cluster.node_leaves_and_joins, TRAINING),
)  # fmt: skip


def planned(only: Sequence[str] | None = None, rounds: int = 1) -> Iterator[tuple[Fault, str, str, int]]:
    """Fault, phase, study and round of every row."""
    for round_ in range(rounds):
        for fault in FAULTS:
            for study in fault.studies:
                for phase in fault.phases:
                    named = f"{fault.name}, {phase}, {study}".lower()
                    if not only or any(words.lower() in named for words in only):
                        yield fault, phase, study, round_


@dataclass
class Row:
    """What became of a study after one fault.

    lost: trials that had ended and did not stay as they were. repeated: member-epochs trained beyond what an
    undisturbed run trains; bound: how many may be. equal: the confirmed numbers, to the bit. problems: what is wrong.
    notes: what was done.
    """

    fault: str
    phase: str
    study: str
    share: float
    lost: int = 0
    repeated: int | None = None
    bound: int | None = None
    equal: bool = False
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def survived(self) -> bool:
        return not self.problems

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "survived": self.survived}


@dataclass
class Reference:
    """A study that was left alone."""

    usual: Usual
    evidence: Evidence
    tally: int
    mlflow: Any


class Harness:
    """Runs rows in a folder. References are made when they are first needed."""

    def __init__(self, folder: Path, seed: int):
        self.folder, self.seed = folder, seed
        self.references: dict[str, Reference] = {}
        self.count = 0

    def reference(self, name: str) -> Reference:
        """What an undisturbed run of a study finds."""
        if name not in self.references:
            with Journey(STUDIES[name], self.folder / f"undisturbed {name}".replace(" ", "-"), random.Random(0)) as it:
                began = time.time()
                it.ended(it.begin(), 0)
                usual = Usual.of(it.ran, began, time.time())
                if it.problems or inner_faults(it.ran):
                    raise RuntimeError(f"undisturbed, {name}: {it.problems + inner_faults(it.ran)}")
                runs = by_server.mlflow_runs(by_server.store_of(it), "my")
                self.references[name] = Reference(usual, evidence_of(it.ran), tally(it.ran), runs)
        return self.references[name]

    def row(self, fault: Fault, phase: str, study: str, round_: int = 0) -> Row:
        """Strike a study once, and see; at another moment where there was nothing to strike."""
        draw = random.Random(f"{self.seed} {fault.name} {phase} {study} {round_}")
        began, share = time.monotonic(), draw.random()
        for _ in range(TRIES):
            row, journey = self._struck(Row(fault.name, phase, study, share), fault, draw)
            if journey.struck or row.problems:
                break
            share = EARLIER * share if journey.late else draw.random()
        else:
            row.problems.append(f"it was not struck: {', '.join(row.notes)}")
        row.seconds = round(time.monotonic() - began, 1)
        return row

    def _struck(self, row: Row, fault: Fault, draw: random.Random) -> tuple[Row, Journey]:
        """A study struck at a moment, run to its end and compared; its journey says whether the fault has happened."""
        text = STUDIES[row.study]
        reference = self.reference(text.reference) if text.reference else None
        self.count += 1
        with Journey(text, self.folder / f"{self.count:03d}", draw, reference and reference.usual) as journey:
            try:
                fault.strike(journey, Moment(row.phase, row.share))
                if journey.struck:
                    journey.finish()
                    compare(row, journey, reference)
            except Exception as error:
                last = traceback.extract_tb(error.__traceback__)[-1]
                where = f"{Path(last.filename).name}:{last.lineno}"
                row.problems.append(f"{type(error).__name__} in {where}: {' '.join(str(error).split())[:500]}")
            row.problems, row.notes = journey.problems + row.problems, journey.notes
        return row, journey


def compare(row: Row, journey: Journey, reference: Reference | None) -> None:
    """Fill in what a study came to."""
    ran, text = journey.ran, journey.text
    trained, now = tally(ran), evidence_of(ran)
    row.problems += inner_faults(ran)
    gone = lost(journey.before, now)
    row.lost = len(gone)
    row.problems += gone
    unlike = differences(now, reference.evidence) if reference and text.exact else []
    row.problems += unlike
    row.equal = _confirmed_equal(ran, now, reference)
    if not row.equal:
        row.problems.append("confirmed numbers are not those of the same configurations trained alone")
    if reference is None:
        return
    row.repeated = trained - reference.tally - (0 if text.exact else _asked_otherwise(now, reference.evidence))
    row.bound = journey.deaths * text.members * text.epochs
    if row.repeated > row.bound:
        row.problems.append(f"{row.repeated} member-epochs were trained again, more than {row.bound}")
    _compare_mlflow(row, journey, reference)
    most = reference.evidence.bytes * MORE_BYTES[0] + MORE_BYTES[1]
    if now.bytes > most:
        row.problems.append(f"{now.bytes} bytes on the disk, undisturbed {reference.evidence.bytes}")


def _confirmed_equal(ran: Ran, now: Evidence, reference: Reference | None) -> bool:
    """Whether every stored prediction is that of the same configuration trained undisturbed."""
    if reference and _chosen(now) == _chosen(reference.evidence):
        return now.files == reference.evidence.files and now.runs == reference.evidence.runs
    try:
        assert_as_retrained(ran)
    except AssertionError:
        return False
    return True


def _chosen(evidence: Evidence) -> dict[str, Any]:
    return {loss: (evidence.trials[choice["trial"]]["configuration"], choice["best_epoch"]) if choice["trial"] else None
            for loss, choice in evidence.choices.items()}  # fmt: skip


def _asked_otherwise(now: Evidence, then: Evidence) -> int:
    """The member-epochs that a study of several slots trains more than another because it asked otherwise."""
    return sum(sum(row["epoch"] * len(row["seeds"]) for row in one.trials.values()) * sign
               for one, sign in ((now, 1), (then, -1)))  # fmt: skip


def _compare_mlflow(row: Row, journey: Journey, reference: Reference) -> None:
    """MLflow holds each trial once, and its end."""
    runs = by_server.mlflow_runs(by_server.store_of(journey), "my")
    if not journey.text.exact:  # how trials end depends on what was asked
        names = [{name for name, *_ in found} for found in (runs, reference.mlflow)]
        twice = [name for name, _, curve in runs if len({step for step, _ in curve}) < len(curve)]
        row.problems += [f"MLflow has epochs of {name} twice" for name in twice]
        if names[0] != names[1] or len(runs) != runs.total() or len(names[0]) != runs.total():
            row.problems.append(f"MLflow holds {runs.total()} runs, undisturbed {reference.mlflow.total()}")
    elif runs != reference.mlflow:
        more, fewer = runs - reference.mlflow, reference.mlflow - runs
        row.problems.append(f"MLflow has more {dict(more)}, lacks {dict(fewer)}")

