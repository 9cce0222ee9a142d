"""What the commands of the command line share: their arguments, the console, and how they find a study."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

if TYPE_CHECKING:
    from losstune.search.study import Study

console = Console(highlight=False, soft_wrap=True)

StudyName = Annotated[str, typer.Argument(metavar="STUDY", help="A study file, or the name of a shipped study.")]
AnyStudy = Annotated[
    str | None, typer.Argument(metavar="[STUDY]", help="A study; default: all under --out.")
]  # fmt: skip
TrialName = Annotated[str, typer.Argument(metavar="TRIAL", help="A trial's name, such as search-softmax-0003.")]
Out = Annotated[Path, typer.Option("--out", help="Where studies write what they find.")]
Storage = Annotated[
    str | None, typer.Option(envvar="LOSSTUNE_STORAGE", help="Where checkpoints, predictions, weights and copies go: a "
                             "folder, s3://BUCKET/FOLDER or gs://BUCKET/FOLDER; default: --out. Need be said once.")
]  # fmt: skip
LedgerUrl = Annotated[
    str | None, typer.Option("--ledger", envvar="LOSSTUNE_LEDGER", help="The ledger's database, "
                             "postgresql://USER@HOST/DATABASE; default: a file under --out. Need be said once.")
]  # fmt: skip
Set = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a field of the study.")]
DataRoot = Annotated[Path | None, typer.Option("--data-root", help="The folder of data sets; default: LOSSTUNE_DATA.")]


def load(study: str, set_: list[str] | None, shortcuts: dict[str, Any] | None = None) -> Study:
    """A study with what options change of it; shortcuts: fields by their path, None where an option is not given."""
    from losstune.search.study import load_study

    given = tuple(f"{key}={value}" for key, value in (shortcuts or {}).items() if value is not None)
    return load_study(study, (*(set_ or ()), *given))


def folder_of(study: str, out: Path, composed: bool = False) -> Path:
    """The output folder of a study given by path or name; the study file need not be there any more.

    composed: whether it may be a study that is made of others; else InputError names them.
    """
    from losstune.search.composed import check_single
    from losstune.search.study import load_study

    there = os.path.isdir(out / study / "ledger")  # which is also asked of what can be no folder's name
    folder = (out / (study if there else load_study(study).name)).resolve()
    if not composed:
        check_single(folder)
    return folder


def use_data_root(data_root: Path | None) -> None:
    if data_root is not None:
        os.environ["LOSSTUNE_DATA"] = str(data_root)
