"""What a study takes with it to a cluster: its file, the user's own code and data beside it, and this very losstune."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import yaml

import losstune
from losstune.search.study import Study
from losstune.spaces import InputError
from losstune.trainables.user_files import resolve_file, split_reference

LARGEST = 100 * 2**20  # bytes of files that a study takes along: Ray keeps them in its head's memory
LOCAL = ("npz:", "csv:", "folder:", "cost:")  # what names a file or a folder of the user's


def pack(study: Study, place: Path) -> dict[str, Any]:
    """Put all of it in a folder; the runtime environment of Ray that ships it.

    Files that a study names by a relative path go along; what is named by an absolute path must be on the cluster.
    InputError where a file is missing or all are too large.
    """
    work, code = place / "work", place / "code"
    work.mkdir()
    fields = dict(study.fields)
    for field in ("data", "network", "metric"):
        if field in fields:
            value = fields[field]
            fields[field] = ([_taken(study, field, one, work) for one in value] if isinstance(value, list)
                             else _taken(study, field, str(value), work))  # fmt: skip
    record = fields.get("record") or {}
    if record.get("shifted") or record.get("transfer"):
        shifted = {name: _taken(study, f"record.shifted.{name}", spec, work)
                   for name, spec in (record.get("shifted") or {}).items()}  # fmt: skip
        transfer = [_taken(study, "record.transfer", spec, work) for spec in record.get("transfer") or []]
        fields["record"] = {**record, "shifted": shifted, "transfer": transfer}
    size = sum(path.stat().st_size for path in work.rglob("*") if path.is_file())
    if size > LARGEST:
        raise InputError(f"{study.where}: the files beside it are {size / 2**20:.0f} MiB; allowed: up to "
                         f"{LARGEST / 2**20:.0f}, or an absolute path on the cluster for the data")  # fmt: skip
    (work / f"{study.name}.yaml").write_text(yaml.safe_dump(fields, sort_keys=False), encoding="utf-8")
    # With links resolved: an editable install has its folders elsewhere.
    shutil.copytree(Path(losstune.__file__).parent, code / "losstune", ignore=shutil.ignore_patterns("__pycache__"))
    return {"working_dir": str(work), "py_modules": [str(code / "losstune")]}


def _taken(study: Study, field: str, value: str, work: Path) -> str:
    """A field's value on the cluster, with the file that it names copied into the folder."""
    reference = split_reference(value)
    prefix = next((known for known in LOCAL if value.startswith(known)), None)
    if reference is None and prefix is None:
        return value
    name = reference[0] if reference else value.removeprefix(prefix)
    if Path(name).expanduser().is_absolute() and reference is None:
        return value
    found = _found(study, field, name)
    inside = not Path(name).expanduser().is_absolute() and ".." not in Path(name).parts
    target = work / (name if inside else found.name)
    target.parent.mkdir(parents=True, exist_ok=True)
    if found.is_dir():
        shutil.copytree(found, target)
    else:
        shutil.copy(found, target)
    name = str(target.relative_to(work))
    return f"{name}:{reference[1]}" if reference else f"{prefix}{name}"


def _found(study: Study, field: str, name: str) -> Path:
    for base in (study.folder, Path.cwd()):
        if (base / name).is_dir():
            return base / name
    return resolve_file(name, study.folder, f"{study.where}: {field}")
