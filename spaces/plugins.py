"""Losses of other packages, which join through the entry point group "losstune.losses"."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from losstune.spaces.errors import InputError
from losstune.spaces.space import Space

GROUP = "losstune.losses"


@dataclass(frozen=True)
class LossPlugin:
    """What an entry point of the group "losstune.losses" names; the entry point's name is the loss's.

    space: its hyperparameters. make: gives the losstune.trainables.losses.Loss; called when it is trained, so that the
    package can leave torch unimported until then.
    """

    space: Space
    make: Callable[[], Any]


@cache
def _found() -> dict[str, list[EntryPoint]]:
    found: dict[str, list[EntryPoint]] = {}
    for point in entry_points(group=GROUP):
        found.setdefault(point.name, []).append(point)
    return found


def plugin_names() -> list[str]:
    """The names of the installed third parties' losses; nothing of them is imported."""
    return sorted(_found())


@cache
def plugin(name: str) -> LossPlugin | None:
    """A third party's loss by name, or None.

    Raises InputError when two packages have a loss of that name, and when what its entry point names is no LossPlugin.
    """
    points = _found().get(name)
    if points is None:
        return None
    if len({(point.value, point.dist and point.dist.name) for point in points}) > 1:
        packages = " and ".join(sorted(str(point.dist and point.dist.name) for point in points))
        raise InputError(f"entry point {GROUP}: {name}: {packages} have one each; allowed: one of that name")
    point = points[0]
    where = f"entry point {GROUP}: {name} = {point.value}"
    if not name.isidentifier():
        raise InputError(f"{where}: not a loss's name; allowed: letters, digits and underscores")
    try:
        found = point.load()
    except Exception as error:  # whatever another package's import raises
        raise InputError(f"{where}: cannot be loaded ({type(error).__name__}: {error})") from error
    if not isinstance(found, LossPlugin):
        raise InputError(f"{where}: {type(found).__name__} is not allowed; allowed: a losstune.spaces.LossPlugin")
    return found


def plugin_version(name: str) -> str | None:
    """The distribution that a third party's loss comes from, as "package 1.2", or None."""
    point = _found().get(name, [None])[0]
    return None if point is None or point.dist is None else f"{point.dist.name} {point.dist.version}"


def plugin_source(name: str) -> str | None:
    """What a third party's loss is, for a study's identity: its distribution, and a digest of its module's text.

    An editable install keeps its version while its text changes.
    """
    point = _found().get(name, [None])[0]
    if point is None:
        return None
    spec = find_spec(point.module)
    text = Path(spec.origin).read_bytes() if spec and spec.origin and Path(spec.origin).is_file() else b""
    return f"{plugin_version(name)}, {hashlib.sha256(text).hexdigest()[:12]}"
