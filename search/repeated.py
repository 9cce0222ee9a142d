"""A study that repeats its search (`searches: R`): R studies beside its own folder, and one report over them.

Search r of NAME is the study NAME-search-r, with a split of train and validation of its own; from its name follow the
seeds of its proposals and of its members. The test split is the data set's own, in all of them. Each has its ledger,
checkpoints and report in OUT/NAME-search-r; OUT/NAME has the lock of the whole run, and the report over all.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from losstune.search.backup import held
from losstune.search.in_turn import inputs_of, is_done, locked, renew, run_in_turn, store_report
from losstune.search.ledger.database import Ledger, get_meta, set_meta, understood
from losstune.search.locations import is_recorded, ledger_at
from losstune.search.notices import say
from losstune.search.outcome import Outcome
from losstune.search.study import Study, make_study
from losstune.spaces import InputError
from losstune.trainables.seeds import derive

NOTED = "searches"  # in the ledger of the first search: of what the report over them was made, of how many, and
# what of it is in MLflow


def searches_of(study: Study) -> list[Study]:
    """The study of each search."""
    return [_search(study, number) for number in range(1, study.searches + 1)]


def _search(study: Study, number: int) -> Study:
    fields = {name: value for name, value in study.fields.items() if name != "searches"}
    seed = derive("split", study.split.seed, number) % 2**32
    fields.update(name=f"{study.name}-search-{number}", split={**fields.get("split", {}), "seed": seed})
    return make_study(fields, study.where, study.folder)


def folders_of(folder: Path) -> list[Path]:
    """The folders of the searches that have begun of the study in a folder, in their order."""
    pattern = re.compile(rf"{re.escape(folder.name)}-search-([1-9][0-9]*)")
    found = {}
    for place in folder.parent.glob("*-search-*/ledger"):
        match = pattern.fullmatch(place.parent.name)
        if match and is_recorded(ledger_at(place.parent)):
            found[int(match[1])] = place.parent
    return [found[number] for number in sorted(found)]


def is_repeated(folder: Path) -> bool:
    """Whether what is recorded of a study are its searches."""
    return not is_recorded(ledger_at(folder)) and bool(folders_of(folder))


def run_searches(study: Study, out: str | Path, address: str | None, watch: Callable[[Any], None], storage: str | None,
                 ledger: str | None) -> Outcome:  # fmt: skip
    """Run what is missing of each search, one after another, and report over all of them; see `run_study`."""
    folder = (Path(out) / study.name).resolve()
    _check_folder(study, folder)

    def note_plan() -> None:
        if _noted(folder).get("planned") != study.searches:
            _note(folder, {**_noted(folder), "planned": study.searches})

    with locked(folder):
        ended = run_in_turn(searches_of(study), "search", out, address, watch, storage, ledger, note_plan)
        last, stopped = ended[-1], ended[-1].interrupted
        renewed = not stopped and renew(folder, report_is_current, _report)
        lacking = None if stopped else _project(folder, study.name)
    if lacking is not None:
        say(lacking)
    behind = "; ".join(filter(None, (*(one.projection_behind for one in ended), lacking))) or None
    return Outcome(folder, last.standing, renewed or any(one.new for one in ended), stopped, behind, tuple(ended))


def _check_folder(study: Study, folder: Path) -> None:
    """InputError for what is there already and is something else."""
    if is_recorded(ledger_at(folder)):
        raise InputError(f"{study.where}: searches: {study.name} was run with one search before; allowed: searches: 1, "
                         "--name for another study, or another --out")  # fmt: skip
    begun = len(folders_of(folder))
    if begun > study.searches:
        raise InputError(f"{study.where}: searches: {study.searches} is fewer than the {begun} that have begun; "
                         f"allowed: {begun} or more: to leave results out would be to choose among them")  # fmt: skip


def report_is_current(folder: Path) -> bool:
    """Whether the last report over the searches is of what is recorded now."""
    noted = _noted(folder)
    return "made_of" in noted and noted["made_of"] == [noted.get("planned"), inputs_of(folders_of(folder))]


def searches_planned(folder: Path) -> int:
    """How many searches there are to be, as far as that is recorded."""
    return _noted(folder).get("planned") or len(folders_of(folder))


def _project(folder: Path, study_name: str) -> str | None:
    """Have MLflow show the report over the searches, unless it does; what it lacks then, as a sentence, if so."""
    from losstune.search.tracking import Projection

    noted = _noted(folder)
    if noted.get("projected") == noted["made_of"]:
        return None
    with Projection(folder, study_name) as projection:
        projection.finish()
    if projection.caught_up:
        _note(folder, {**noted, "projected": noted["made_of"]})
    return projection.behind


def report_searches(folder: Path) -> None:
    """Write the report over those searches of a study that are done, nobody running it. InputError for fewer than two.
    """
    with locked(folder, "other"):
        _report(folder)


def _report(folder: Path) -> None:
    from losstune.analysis.repeats import join_searches
    from losstune.analysis.repeats_report import write_repeats_report
    from losstune.search.recorded import load_results

    noted = _noted(folder)
    inputs = inputs_of(folders_of(folder))  # before: what goes on meanwhile makes the report an older one
    places = [place for place in folders_of(folder) if is_done(place)]
    planned, parts = searches_planned(folder), []
    for place in places:
        part, number = load_results(place, search_curves=False), int(place.name.rpartition("-")[2])
        parts.append(replace(part, study={**part.study, "search_number": number}))
    repeated = join_searches(parts, folder.name, planned, tuple(noted.get("reported") or ()))
    write_repeats_report(repeated, folder / "report")
    store_report(folder, places)
    reported = sorted({*(noted.get("reported") or ()), len(parts)})
    _note(folder, {"made_of": [planned, inputs], "planned": planned, "reported": reported})


def _noted(folder: Path) -> dict[str, Any]:
    """What the first search's ledger has of the last report over all of them."""
    for place in folders_of(folder)[:1]:
        ledger = Ledger.open(ledger_at(place))
        with understood(ledger.at), ledger.reading() as tx:
            noted = get_meta(tx, NOTED)
        ledger.close()
        return noted or {}
    return {}


def _note(folder: Path, noted: dict[str, Any]) -> None:
    first = folders_of(folder)[0]
    with held(first, ledger_at(first), say) as backup, backup.opened() as ledger:
        with ledger.transaction() as tx:
            set_meta(tx, NOTED, noted)
        backup.keep(now=True)
