"""A study of several data sets or networks (`data: [digits, csv:iris.csv]`): a study of each, and one report over them.

Of NAME they are the studies NAME-digits, NAME-iris ..., after what is listed; where both data and network are lists,
one for each combination. Each has its folder beside OUT/NAME, with its ledger, checkpoints and report. OUT/NAME has the
lock of the whole run, studies.json, which names the studies that it is made of, and the report over all.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from losstune.search.in_turn import inputs_of, is_done, locked, renew, run_in_turn, store_report
from losstune.search.locations import is_recorded, ledger_at
from losstune.search.outcome import Outcome
from losstune.search.plan import quick_sizes
from losstune.search.study import Study, make_study
from losstune.spaces import InputError
from losstune.trainables.checkpoint import write_bytes
from losstune.trainables.user_files import split_reference

NOTED = "studies.json"


def studies_of(study: Study) -> list[Study]:
    """The study of each data set and network; itself where it is of one. InputError where two would have one name."""
    if not study.several:
        return [study]
    found: dict[str, Study] = {}
    for values in itertools.product(*study.several.values()):
        chosen = dict(zip(study.several, values, strict=True))
        name = "-".join([study.name, *(_short(*one) for one in chosen.items())])
        if name in found:
            other = ", ".join(getattr(found[name], field) for field in chosen)
            raise InputError(f"{study.where}: {' and '.join(chosen)}: both {other} and {', '.join(values)} would be "
                             f"the study {name}; allowed: files of different names")  # fmt: skip
        found[name] = make_study({**study.fields, **chosen, "name": name}, study.where, study.folder)
    return list(found.values())


def _short(field: str, value: str) -> str:
    """What a data set or a network is called in the name of a study: of a file its name, without its folder."""
    reference = split_reference(value)
    if reference:
        said = f"{Path(reference[0]).stem}_{reference[1]}"
    else:
        said = Path(value.partition(":")[2]).stem if field == "data" and ":" in value else value
    # Of a name in letters that a study's may not have, or of no name ("folder:."), nothing would be left.
    return re.sub(r"[^A-Za-z0-9_.]+", "_", said).strip("_.") or hashlib.sha256(value.encode()).hexdigest()[:8]


def not_begun(folder: Path) -> list[str]:
    """The names of the studies of which the study in a folder is to be made, and that have not begun."""
    return [name for name in _noted(folder)["studies"] if not is_recorded(ledger_at(folder.parent / name))]


def folders_of(folder: Path) -> list[Path]:
    """The folders of the studies that have begun, of which the study in a folder is made, in their order."""
    return [folder.parent / name for name in _noted(folder)["studies"]
            if is_recorded(ledger_at(folder.parent / name))]  # fmt: skip


def run_several(study: Study, out: str | Path, address: str | None, watch: Callable[[Any], None], storage: str | None,
                ledger: str | None) -> Outcome:  # fmt: skip
    """Run what is missing of each study, one after another, and report over all of them; see `run_study`."""
    folder, studies = (Path(out) / study.name).resolve(), studies_of(study)
    _check_folder(study, studies, folder)
    for one in studies:
        quick_sizes(one)  # a slip in the last one should not show after hours
    with locked(folder):
        _note(folder, {**_noted(folder), "studies": [one.name for one in studies]})
        ended = run_in_turn(studies, "study", out, address, watch, storage, ledger)
        stopped = ended[-1].interrupted
        renewed = not stopped and renew(folder, report_is_current, _report)
    behind = "; ".join(filter(None, (one.projection_behind for one in ended))) or None
    return Outcome(folder, ended[-1].standing, renewed or any(one.new for one in ended), stopped, behind, tuple(ended))


def _check_folder(study: Study, studies: list[Study], folder: Path) -> None:
    """InputError for what is there already and is something else."""
    what = " and ".join(study.several)
    if is_recorded(ledger_at(folder)):
        raise InputError(f"{study.where}: {what}: {study.name} was run with one of each before; allowed: --name for "
                         "another study, or another --out")  # fmt: skip
    left_out = sorted({place.name for place in folders_of(folder)} - {one.name for one in studies})
    if left_out:
        raise InputError(f"{study.where}: {what}: {', '.join(left_out)} has begun and is not listed; allowed: to list "
                         "it too: to leave results out would be to choose among them; or --name")  # fmt: skip


def report_is_current(folder: Path) -> bool:
    """Whether the last report over the studies is of what is recorded now."""
    return _noted(folder).get("made_of") == inputs_of(folders_of(folder))


def report_several(folder: Path) -> None:
    """Write the report over those studies that are done, nobody running them. InputError for fewer than two."""
    with locked(folder, "other"):
        _report(folder)


def _report(folder: Path) -> None:
    from losstune.search.reporting import write_joint

    done, names = [place for place in folders_of(folder) if is_done(place)], _noted(folder)["studies"]
    missing = [name for name in names if name not in {place.name for place in done}]
    if len(done) < 2:
        raise InputError(f"{folder.name}: {', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not done; "
                         "needed: at least 2 studies that are: `losstune run` goes on with them")  # fmt: skip
    made_of = inputs_of(folders_of(folder))  # before: a study that goes on meanwhile makes the report an older one
    write_joint(done, folder / "report", missing)
    store_report(folder, done)
    _note(folder, {**_noted(folder), "made_of": made_of})


def _noted(folder: Path) -> dict[str, Any]:
    """What is noted of which studies it is made. InputError where the file is damaged."""
    path = folder / NOTED
    try:
        noted = json.loads(path.read_bytes())
        if not (isinstance(noted, dict) and all(isinstance(name, str) for name in noted["studies"])):
            raise ValueError("no list of names")
    except (FileNotFoundError, NotADirectoryError):
        return {"studies": []}
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise InputError(f"{path}: damaged ({type(error).__name__}); allowed: to remove it: `losstune run` writes it "
                         "again") from None  # fmt: skip
    return noted


def _note(folder: Path, noted: dict[str, Any]) -> None:
    write_bytes(folder / NOTED, (json.dumps(noted, indent=1) + "\n").encode())
