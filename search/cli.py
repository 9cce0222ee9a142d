"""`losstune ...`: the command line. Commands import what they need when they run, so that help is instant."""

from __future__ import annotations

import atexit
import contextlib
import os
import shlex
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from losstune.search.cli_cluster import cluster
from losstune.search.cli_options import (
    DataRoot,
    LedgerUrl,
    Out,
    Set,
    Storage,
    StudyName,
    console,
    load,
    use_data_root,
)
from losstune.search.cli_records import records
from losstune.search.ending import say_costs, say_verdict
from losstune.search.signals import interrupt
from losstune.spaces import InputError, StudyStopped
from losstune.trainables.disk import disk_trouble
from losstune.trainables.processor import prefer_wide_kernels

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
    help="Which loss should I train with, at which hyperparameters, and is the difference real?",
)  # fmt: skip


@app.command()
def run(
    study: StudyName, set_: Set = None, out: Out = Path("runs"), data_root: DataRoot = None,
    address: Annotated[str | None, typer.Option(help="A Ray cluster's address; default: this machine.")] = None,
    seeds: Annotated[int | None, typer.Option(help="Confirm so many seeds, or up to that planned look.")] = None,
    trials: Annotated[int | None, typer.Option(help="Configurations per loss; adds the missing ones.")] = None,
    hours: Annotated[float | None, typer.Option(help="Cut the search of every loss equally after so long.")] = None,
    name: Annotated[str | None, typer.Option(help="Run it under another name, apart from what there is.")] = None,
    storage: Storage = None, ledger: LedgerUrl = None,
) -> None:  # fmt: skip
    """Run a study, or go on with it: search, confirm, report.

    Example: losstune run digits --set losses=[softmax,sigmoid] --seeds 20
    """
    use_data_root(data_root)
    changes = {"confirm.seeds": seeds, "search.trials": trials, "stop.hours": hours, "name": name}
    try:
        from losstune.search.phases import run_study
        from losstune.search.progress import Progress

        loaded = load(study, set_, changes)
        with Progress(loaded) as progress:
            outcome = run_study(loaded, out, address, progress, storage, ledger)
    except KeyboardInterrupt:  # while it is loaded, starts or reports, when nothing has to be parked
        raise typer.Exit(130) from None
    say_costs(outcome, console)
    if not outcome.interrupted:
        say_verdict(outcome.folder, console, done_before=not outcome.new)
    raise typer.Exit(outcome.status)


@app.command()
def new(
    data: Annotated[
        str, typer.Argument(metavar="DATA", help="FILE.npz, FILE.csv, a folder, FILE.py:FUNCTION or a known set.")
    ],
    network: Annotated[str | None, typer.Option(help="A network's name, or FILE.py:FUNCTION.")] = None,
    data_root: DataRoot = None,
) -> None:
    """Write a commented study file for your own data.

    Example: losstune new my_data.npz --network small_cnn
    """
    from losstune.search.new import new_study

    use_data_root(data_root)
    path = new_study(data, network)
    console.print(f"wrote {path}; look at it, then: losstune run {path}")


@app.command()
def check(
    study: StudyName, set_: Set = None, data_root: DataRoot = None,
    measure: Annotated[bool, typer.Option("--measure", help="Train for a moment and reckon time and memory.")] = False,
) -> None:  # fmt: skip
    """Validate a study and show its plan, without running it.

    Example: losstune check digits --measure
    """
    from losstune.search.measure import measured, plan_lines
    from losstune.search.plan import check_metric_defined, make_plan, quick_sizes
    from losstune.search.several import studies_of

    use_data_root(data_root)
    studies = studies_of(load(study, set_))
    known = [plan_lines(one, quick_sizes(one)) for one in studies]
    for one, lines in zip(studies, known, strict=True):
        check_metric_defined(one)
        for line in lines + (measured(make_plan(one)) if measure else []):
            console.print(line)


@app.command()
def compare(
    scores: Annotated[Path, typer.Argument(metavar="SCORES.csv", help="A column per loss, a row per seed; or published "
                                           "numbers: columns loss, mean, standard_error or std, n, and, for several "
                                           "tables in one, data and network; or loss, average_rank, n.")],
    alpha: Annotated[float, typer.Option(help="The chance of a false separation that is accepted.")] = 0.05,
    baseline: Annotated[str | None, typer.Option(help="The loss that gains are measured against.")] = None,
    lower_is_better: Annotated[bool, typer.Option("--lower-is-better", help="Such as errors or NLL.")] = False,
) -> None:
    """Say what the evidence allows, of results from anywhere.

    Example: losstune compare scores.csv --baseline softmax
    """
    from losstune.search.compare import show_comparison
    from losstune.search.published import is_published, show_published

    show = show_published if is_published(scores) else show_comparison
    show(scores, alpha, baseline, lower_is_better, console)


@app.command()
def losses() -> None:
    """List the losses with their hyperparameters, ranges and sources.

    Example: losstune losses
    """
    from losstune.search import catalogue

    catalogue.losses(console)


@app.command()
def datasets() -> None:
    """List the data sets, and how to use your own.

    Example: losstune datasets
    """
    from losstune.search import catalogue

    catalogue.datasets(Console(highlight=False))


@app.command()
def architectures() -> None:
    """List the networks, and how to use your own.

    Example: losstune architectures
    """
    from losstune.search import catalogue

    catalogue.architectures(Console(highlight=False))


@app.command()
def studies() -> None:
    """List the shipped studies.

    Example: losstune studies
    """
    from losstune.search import catalogue

    catalogue.studies(Console(highlight=False))


app.add_typer(records)
app.add_typer(cluster)


def main() -> None:
    """The entry point: errors of the user's in one line and status 2; Ctrl-C and SIGTERM end with 130."""
    try:
        for number in (signal.SIGINT, signal.SIGTERM):  # a script's `&` has SIGINT ignored, which Python would keep
            signal.signal(number, interrupt)
        prefer_wide_kernels()  # before anything loads NumPy; lanes inherit it
        _say_errors_plainly()
    except SystemExit as end:
        _end(end.code or 0)
    except KeyboardInterrupt:
        _end(130)


def _end(status: int) -> None:
    if status == 130 and sys.argv[1:2] == ["run"]:  # whenever it was, in the midst of an import too
        console.print(f"interrupted; the same command goes on: losstune {shlex.join(sys.argv[1:])}", markup=False)
    if sys.modules.get("ray") is None:
        sys.exit(status)
    _end_without_native_exit_handlers(status)


def _say_errors_plainly() -> None:
    try:
        app()
    except InputError as error:
        print(f"losstune: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    except StudyStopped as error:
        _stopped(str(error))
    except Exception as error:
        trouble = disk_trouble(error)
        if trouble is None:
            raise
        _stopped(trouble)


def _stopped(why: str) -> None:
    print(f"losstune: the study stopped: {' '.join(why.split())}; what is recorded is safe, and the same command goes "
          "on", file=sys.stderr)  # fmt: skip
    sys.exit(3)


def _end_without_native_exit_handlers(status: int) -> None:
    """End as Ray ends its own workers. Its destructors race with its threads: a study that was done has been seen to
    end with SIGILL, which no script can tell from one that failed."""
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # nobody reads it, or it is closed, or not there
            stream.flush()
    os._exit(status)
