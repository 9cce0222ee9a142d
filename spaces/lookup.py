"""Spaces by name: of a loss, of a combination of losses ("label_smoothing+dropout"), of another package's loss."""

from __future__ import annotations

from typing import Any

from losstune.spaces.errors import InputError
from losstune.spaces.losses import SPACES
from losstune.spaces.plugins import plugin, plugin_names, plugin_version
from losstune.spaces.space import Space, check_given, combined, members_of


def all_spaces() -> tuple[dict[str, Space], list[str]]:
    """Every loss that can be named, ours, then those of installed packages; and what is wrong with the others."""
    spaces, problems = dict(SPACES), []
    for name in plugin_names():
        if name in SPACES:
            problems.append(f"{name} of {plugin_version(name)} is ignored: it is the name of one of losstune's")
            continue
        try:
            spaces[name] = _single(name, name)
        except InputError as error:
            problems.append(str(error))
    return spaces, problems


def space_of(loss: str, where: str = "loss") -> Space:
    """The space of a loss or of a combination by name.

    Raises InputError, which lists what there is, for an unknown loss, and for one that cannot be added to another.
    """
    if not isinstance(loss, str):
        raise InputError(f"{where}: {loss!r} is not a loss; allowed: {', '.join(SPACES)}")
    members = members_of(loss)
    spaces = {name: _single(name, where if len(members) == 1 else f"{where}: {loss!r}") for name in members}
    if len(spaces) < len(members):
        raise InputError(f"{where}: {loss!r} names a loss twice; allowed: different ones")
    for name in members[1:]:
        if not spaces[name].modifies:
            allowed = ", ".join(n for n, space in SPACES.items() if space.modifies)
            raise InputError(f"{where}: {loss!r}: {name} cannot be added to another loss; allowed: {allowed}")
    return combined(spaces) if len(members) > 1 else spaces[loss]


def _single(name: str, where: str) -> Space:
    if name in SPACES:
        return SPACES[name]
    found = plugin(name)
    if found is None:
        allowed = ", ".join([*SPACES, *plugin_names()])
        raise InputError(f"{where}: unknown loss {name!r}; allowed: {allowed}, or several joined with +")
    return found.space


def check_hyperparameters(
    loss: str, given: dict[str, Any], where: str | None = None, num_classes: int | None = None
) -> dict[str, Any]:
    """All hyperparameters of a loss: the given ones checked against their bounds, the others at their defaults.

    num_classes: settles defaults that depend on it. Raises InputError for an unknown loss or hyperparameter and for a
    value out of bounds.
    """
    return check_given(space_of(loss), given, where or loss, num_classes)
