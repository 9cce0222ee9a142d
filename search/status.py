"""`losstune status`: where studies stand, from their ledgers; a study's file need not be there any more."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean
from typing import Any

from rich.console import Console
from rich.table import Table

from losstune.search.composed import folders_in, report_is_current
from losstune.search.edges import find_edges
from losstune.search.ledger import read
from losstune.search.ledger.database import Ledger, get_meta, understood
from losstune.search.ledger.files import sizes
from losstune.search.ledger.lock import holder
from losstune.search.locations import files_of, ledger_at, locations_of
from losstune.search.progress import summary, table_of
from losstune.search.repeated import is_repeated
from losstune.search.several import not_begun
from losstune.search.standing import standing
from losstune.search.study import Study, make_study
from losstune.search.tracking import problem
from losstune.spaces import InputError


class NothingYet(InputError):
    """A ledger that no run has written its study into: one is about to, or was killed before it could."""


def show_status(folder: Path | None, out: Path, console: Console) -> None:
    """Print the table of the study in a folder, or a line for each study under out."""
    if folder is None:
        _list(out, console)
    elif folders_in(folder):
        _show_each(folder, console)
    else:
        _show(folder, console)


def _list(out: Path, console: Console) -> None:
    """A line for each study. What is wrong with one hides no other, and is said in the end."""
    folders = sorted({path.parent.parent for name in ("ledger.db", "locations.json")
                      for path in out.glob(f"*/ledger/{name}")})  # fmt: skip
    if not folders:
        raise InputError(f"{out}: no study has been run there; allowed: the --out of a run")
    _lines(folders, console)


def _show_each(folder: Path, console: Console) -> None:
    """A line for each study of which one is made, over searches the losses too, who runs it, and the report."""
    folders = folders_in(folder)
    _lines(folders, console)
    for name in not_begun(folder):
        console.print(f"[bold]{name}[/]  not begun")
    ranking = _ranking_over(folders) if is_repeated(folder) else None
    if ranking is not None and ranking.row_count:
        console.print(ranking)
    runner = holder(folder / "ledger")
    if runner is not None:
        console.print(f"{str(runner).rstrip(',')}, is running it")
    if (folder / "report" / "report.html").is_file():
        older = "" if report_is_current(folder) else " (older than what is recorded)"
        console.print(f"report over all: {folder / 'report' / 'report.html'}{older}")


def _ranking_over(folders: list[Path]) -> Table:
    """A row per loss that a search has confirmed, the best mean of its searches' mean test scores first."""
    found: dict[str, list[float]] = {}
    greater = True
    for folder in folders:
        try:
            study, greater, ledger = recorded_study(folder)
        except NothingYet:
            continue
        now = standing(study, ledger, greater)
        ledger.close()
        for loss, row in now.losses.items():
            if row.confirmed >= now.seeds:
                found.setdefault(loss, []).append(fmean(row.confirm_scores))
    # A loss that fewer searches have confirmed is no rival of those that more have.
    order = sorted(found, key=lambda loss: (-len(found[loss]), -fmean(found[loss]) if greater else fmean(found[loss])))
    table = Table("loss", box=None, pad_edge=False, header_style="bold")
    for name in ("searches", "test, mean over searches"):
        table.add_column(name, justify="right")
    for loss in order:
        table.add_row(loss, f"{len(found[loss])}/{len(folders)}", f"{fmean(found[loss]):.4f}")
    return table


def _lines(folders: list[Path], console: Console) -> None:
    """A line for each study."""
    wrong = []
    for folder in folders:
        try:
            said = _in_a_line(folder)
        except InputError as error:
            said = "cannot be read"
            wrong.append(str(error))
        console.print(f"[bold]{folder.name}[/]  {said}")
    if wrong:
        raise InputError("; ".join(wrong))


def _in_a_line(folder: Path) -> str:
    at_rest = holder(folder / "ledger") is None
    try:
        loaded, greater, ledger = recorded_study(folder)
    except NothingYet:
        return "nothing is recorded yet" + (", and nobody is running it" if at_rest else ": a run is just starting")
    try:
        return summary(loaded, standing(loaded, ledger, greater), None, at_rest)
    finally:
        ledger.close()


def _show(folder: Path, console: Console) -> None:
    """A study's table, and what else there is to know of it."""
    loaded, greater, ledger = recorded_study(folder)
    now, runner = standing(loaded, ledger, greater), holder(folder / "ledger")
    with understood(ledger.at):
        flags = _range_flags(loaded, ledger, greater)
        table = table_of(loaded, now, at_rest=runner is None)
    ledger.close()
    console.print(table, soft_wrap=True)
    for trial, reason in now.failures[-10:]:
        console.print(f"{trial} failed: {reason}", style="yellow")
    for flag in flags:
        console.print(flag, style="yellow")
    places = locations_of(folder)
    if places.ledger is not None:
        console.print(f"its ledger is {ledger.at}", markup=False)
    for place in dict.fromkeys((folder, files_of(folder))):
        room = sizes(place)
        parts = ", ".join(f"{name} {size / 1e6:.1f}" for name, size in room.items())
        console.print(f"{sum(room.values()) / 1e6:.1f} MB under {place} ({parts})", markup=False)
    if runner is not None:
        console.print(f"{str(runner).rstrip(',')}, is running it")
    elif now.phase != "done":
        console.print("not running now; losstune run goes on where it stopped")
    trouble = problem(folder)
    if trouble:
        console.print(trouble, style="yellow")
    if (folder / "report" / "report.html").is_file():
        console.print(f"report: {folder / 'report' / 'report.html'}")


def _range_flags(study: Study, ledger: Ledger, greater_is_better: bool) -> list[str]:
    """A line for each chosen value, or best one so far, that lies at an end of what was searched."""
    with ledger.reading() as tx:
        rows, choices = read.all_trials(tx, "search"), read.all_choices(tx)
    flags = find_edges(study.spaces, study.search, rows, choices, greater_is_better)
    if not flags:
        return []
    from losstune.analysis.wording import edge_sentence  # pandas, which a study without flags need not load

    return [edge_sentence(flag) for flag in flags]


def recorded_study(folder: Path) -> tuple[Study, bool, Ledger]:
    """The study as its ledger holds it."""
    ledger = Ledger.open(ledger_at(folder))
    with understood(ledger.at):
        with ledger.reading() as tx:
            written: dict[str, Any] | None = get_meta(tx, "fields")
            about = get_meta(tx, "study")
        if written is None:
            ledger.close()
            raise NothingYet(f"{folder}: its ledger holds no study yet; allowed: a study that has been run")
        study = make_study(written["fields"], str(folder), Path(written["folder"]))
        study.settle(about["num_classes"])
        return study, about["greater_is_better"], ledger
