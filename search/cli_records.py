"""The commands on studies that have been run, or are running: `losstune status`, `show`, `stop`, `report` ..."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from losstune.search.cli_options import AnyStudy, DataRoot, Out, StudyName, TrialName, console, folder_of, use_data_root
from losstune.spaces import InputError

records = typer.Typer()
SAID = 3  # lines that are shown of what a job printed last
StudyNames = Annotated[list[str], typer.Argument(metavar="STUDY ...", help="Study files, or names of studies.")]
OfCluster = Annotated[str | None, typer.Option("--address", help="A Ray cluster's dashboard, for what was submitted.")]


@records.command()
def status(study: AnyStudy = None, out: Out = Path("runs"), address: OfCluster = None) -> None:
    """Show what is done, running and left, its cost, and the current ranking.

    Example: losstune status digits
    """
    if address is not None:
        _status_there(study, address)
        return
    from losstune.search.status import show_status

    show_status(folder_of(study, out, composed=True) if study else None, out, console)


@records.command()
def show(study: StudyName, trial: TrialName, out: Out = Path("runs")) -> None:
    """Show one trial: its configuration, how it went, epoch by epoch, and what became of it.

    Example: losstune show digits search-softmax-0003
    """
    from losstune.search.one_trial import show_trial

    show_trial(folder_of(study, out), trial, console)


@records.command()
def rerun(study: StudyName, trial: TrialName, out: Out = Path("runs"), data_root: DataRoot = None) -> None:
    """Train one trial again, alone, here, and compare it with what is recorded; nothing is written.

    Example: losstune rerun digits search-softmax-0003
    """
    from losstune.search.one_trial import rerun_trial

    use_data_root(data_root)
    raise typer.Exit(0 if rerun_trial(folder_of(study, out), trial, console) else 3)


@records.command()
def stop(study: StudyName, out: Out = Path("runs"), address: OfCluster = None) -> None:
    """End a running study gently, from another terminal: its trials are saved, and `losstune run` goes on.

    Example: losstune stop digits
    """
    if address is not None:
        _stop_there(study, address)
        return
    from losstune.search.stopping import stop_study

    stopped = stop_study(folder_of(study, out, composed=True))
    console.print("stopped; `losstune run` goes on where it is" if stopped else "nobody is running it")


def _status_there(study: str | None, address: str) -> None:
    """How the job of a study is doing, and the last that it said."""
    from losstune.search.cluster import Cluster, described

    if study is None:
        raise InputError("--address: of which study; allowed: losstune status STUDY --address HOST:PORT")
    there = Cluster(address)
    job = there.found(Path(study).stem)
    console.print(described(job, there.address))
    for line in there.logs(job).splitlines()[-SAID:]:
        console.print(line, markup=False)


def _stop_there(study: str, address: str) -> None:
    from losstune.search.cluster import Cluster

    there = Cluster(address)
    job = there.found(Path(study).stem)
    if job.over:
        console.print("it is not running")
        return
    there.stop(job)
    console.print(f"{job.id} is told to stop; `losstune submit` goes on where it is")


@records.command()
def report(studies: StudyNames, out: Out = Path("runs")) -> None:
    """Rebuild tables, figures and page from what is recorded. Several studies: write one report over all of them.

    Example: losstune report digits
    """
    if len(studies) > 1:
        _report_joint([folder_of(study, out) for study in studies], out)
        return
    from losstune.search.backup import held
    from losstune.search.composed import folders_in, report_over
    from losstune.search.ending import say_verdict
    from losstune.search.ledger.database import Ledger
    from losstune.search.locations import ledger_at
    from losstune.search.notices import say
    from losstune.search.reporting import report as write

    folder = folder_of(studies[0], out, composed=True)
    if folders_in(folder):
        report_over(folder)
        say_verdict(folder, console)
        return
    at = ledger_at(folder)
    Ledger.open(at).close()
    with held(folder, at, say) as backup, backup.opened() as ledger:
        write(folder, ledger)
        backup.keep_report(folder / "report")
    say_verdict(folder, console)


def _report_joint(folders: list[Path], out: Path) -> None:
    from losstune.search.reporting import report_joint

    headline, page = report_joint(folders, out)
    console.print(headline, markup=False)
    console.print(f"report: {page}", markup=False)


@records.command()
def ui(
    study: AnyStudy = None,
    out: Out = Path("runs"),
    port: Annotated[int, typer.Option(help="The port on 127.0.0.1.")] = 5000,
) -> None:
    """Open the MLflow UI over the studies' store, on 127.0.0.1.

    Example: losstune ui digits --port 5001
    """
    from losstune.search.mlflow_ui import serve, ui_command, ui_page

    folder = folder_of(study, out, composed=True) if study else out.resolve() / "any"
    command = ui_command(folder, port)
    console.print(f"MLflow UI: {ui_page(folder, port)}\n(the page is there in some seconds; Ctrl-C ends it)")
    raise typer.Exit(serve(command))


@records.command()
def sync(study: StudyName, out: Out = Path("runs")) -> None:
    """Rebuild the MLflow projection from the ledger.

    Example: losstune sync digits
    """
    from losstune.search.tracking import sync as project

    result = project(folder_of(study, out, composed=True))
    console.print(f"{result.where}: {result.created} runs created, {result.updated} updated, "
                  f"{result.unchanged} as they were")  # fmt: skip


@records.command()
def export(
    study: StudyName,
    as_: Annotated[str, typer.Option("--as", metavar="FORMAT", help="optuna (a storage), csv or parquet.")] = "optuna",
    to: Annotated[Path | None, typer.Option(help="A folder; default: export/ in the study's.")] = None,
    out: Out = Path("runs"),
) -> None:
    """Write the ledger's trials for other programs: an Optuna storage, or tables.

    Example: losstune export digits --as csv
    """
    from losstune.search.export import export as write

    for path in write(folder_of(study, out), as_, to):
        console.print(f"wrote {path}")


@records.command()
def doctor(study: StudyName, out: Out = Path("runs")) -> None:
    """Check a study's ledger, files and MLflow runs, and repair what is safe to repair.

    Example: losstune doctor digits
    """
    from losstune.search.doctor import examine

    findings = examine(folder_of(study, out))
    for finding in findings:
        console.print(f"{finding.what}: {finding.repaired or 'not repaired'}",
                      style=None if finding.repaired else "yellow")  # fmt: skip
    left = sum(finding.repaired is None for finding in findings)
    console.print("nothing is wrong" if not findings else f"{len(findings) - left} repaired, {left} left")
    raise typer.Exit(3 if left else 0)
