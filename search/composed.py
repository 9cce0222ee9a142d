"""Studies that are made of other studies: of repeated searches, or of several data sets or networks."""

from __future__ import annotations

from pathlib import Path

from losstune.search import repeated, several
from losstune.search.locations import is_recorded, ledger_at
from losstune.spaces import InputError


def folders_in(folder: Path) -> list[Path]:
    """The folders of the studies that have begun, of which the study in a folder is made; none of a study by itself."""
    if is_recorded(ledger_at(folder)):
        return []
    return several.folders_of(folder) or repeated.folders_of(folder)


def check_single(folder: Path) -> None:
    """InputError where a study that is to be run by itself, or looked at as one, is one that is made of others."""
    names = ", ".join(place.name for place in folders_in(folder))
    if names:
        raise InputError(f"{folder.name}: is made of several studies; allowed here: one of {names}")


def report_is_current(folder: Path) -> bool:
    """Whether the last report over the studies of which one is made is of what is recorded now."""
    return (several if several.folders_of(folder) else repeated).report_is_current(folder)


def report_over(folder: Path) -> None:
    """Write the report over the studies of which one is made, nobody running them. InputError for fewer than two."""
    (several.report_several if several.folders_of(folder) else repeated.report_searches)(folder)
