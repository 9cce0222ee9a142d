"""From a study's `losses` and `recipe` to what is searched and what is fixed for every loss."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from losstune.spaces import (
    Choice,
    Hyperparameter,
    InputError,
    OfClasses,
    Real,
    is_searched,
    members_of,
    named_space,
    settled,
    space_of,
)


@dataclass(frozen=True)
class LossSpace:
    """One loss of a study: its searched hyperparameters, learning rate and weight decay among them, and fixed ones."""

    loss: str
    searched: dict[str, Real | Choice]
    fixed: dict[str, Any]

    def default(self) -> dict[str, Any]:
        """The configuration that is asked first."""
        return {name: p.default for name, p in self.searched.items()}

    def describe(self) -> dict[str, str]:
        """The space as text, for the study's identity: changing a range changes what is compared."""
        ranges = {name: p.describe() for name, p in self.searched.items()}
        return {**ranges, **{name: f"= {_text(value)}" for name, value in self.fixed.items()}}

    def for_classes(self, num_classes: int) -> LossSpace:
        """The same space with every value that depends on the number of classes as a number."""
        searched = {name: _settled(p, num_classes) for name, p in self.searched.items()}
        single = {name: p.choices[0] for name, p in searched.items() if not is_searched(p)}
        fixed = {name: settled(value, num_classes) for name, value in self.fixed.items()}
        return LossSpace(self.loss, {name: p for name, p in searched.items() if name not in single}, fixed | single)


def _settled(p: Real | Choice, num_classes: int) -> Real | Choice:
    default = settled(p.default, num_classes)
    if isinstance(p, Real):
        return replace(p, default=min(max(default, p.low), p.high))
    return replace(p, default=default, choices=tuple(dict.fromkeys(settled(c, num_classes) for c in p.choices)))


def _text(value: Any) -> str:
    return value.text if isinstance(value, OfClasses) else repr(value)


def resolve(losses: tuple[Any, ...], recipe: Any, where: str, space: str = "default") -> dict[str, LossSpace]:
    """The space of each loss in the study's order; InputError names the entry that is wrong.

    space: the named space that the study starts from; losses that it does not have start from their default.
    """
    named_space(space, f"{where}: space")
    spaces: dict[str, LossSpace] = {}
    for index, entry in enumerate(losses):
        name, changes = _entry(entry, f"{where}: losses[{index}]")
        if any(_parts(name) == _parts(known) for known in spaces):
            raise InputError(f"{where}: losses[{index}]: {name} stands twice; allowed: once")
        spaces[name] = _loss_space(name, dict(changes), recipe, where, space)
    return spaces


def _parts(name: str) -> set[str]:
    """What makes a combination the loss it is: softmax adds nothing."""
    return set(members_of(name)) - {"softmax"}


def _entry(entry: Any, where: str) -> tuple[str, dict[str, Any]]:
    if isinstance(entry, str):
        return entry, {}
    if isinstance(entry, dict) and len(entry) == 1:
        (name, changes), = entry.items()
        if isinstance(name, str) and (isinstance(changes, dict) or changes is None):
            return name, changes or {}
    raise InputError(f"{where}: {entry!r:.200} is not a loss; allowed: a name, or a name with its hyperparameters")


def _loss_space(name: str, changes: dict[str, Any], recipe: Any, where: str, study_space: str) -> LossSpace:
    space = space_of(name, f"{where}: losses")
    declared: dict[str, Hyperparameter] = {**space.shared(), **space.hyperparameters}
    start = _start(name, changes.pop("space", None), study_space, f"{where}: losses.{name}.space")
    for key in changes:
        if key not in declared:
            allowed = ", ".join(["space", *declared])
            raise InputError(f"{where}: losses.{name}.{key}: unknown hyperparameter; allowed: {allowed}")
    searched, fixed = {}, {}
    for key, p in declared.items():
        if key in changes:
            wanted, field = changes[key], f"{where}: losses.{name}.{key}"
        elif getattr(recipe, key, None) is not None:
            wanted, field = getattr(recipe, key), f"{where}: recipe.{key}"
        else:
            wanted, field = start.get(key), f"{where}: space"
        result = p if wanted is None else narrow(p, wanted, field)
        if isinstance(result, Real | Choice) and is_searched(result) and _is_tuned(key, recipe):
            searched[key] = result
        else:
            fixed[key] = getattr(result, "default", result)
    return LossSpace(name, searched, fixed)


def _start(loss: str, own: Any, study_space: str, where: str) -> dict[str, Any]:
    """What the named space says of a loss, if anything; the loss's own choice of a space must know it."""
    named = named_space(study_space if own is None else own, where)
    found = {} if named is None else named.of(loss)
    if own not in (None, "default") and not found:
        raise InputError(f"{where}: {own} has nothing for {loss}; allowed: default, or a space that has it")
    return found


def _is_tuned(key: str, recipe: Any) -> bool:
    return key not in ("learning_rate", "weight_decay") or key in recipe.tune


def narrow(p: Hyperparameter, wanted: Any, where: str) -> Any:
    """A hyperparameter as the study wants it: a value fixes it, a range {low, high, log} or a list narrows it."""
    if isinstance(wanted, dict):
        return _range(p, wanted, where)
    if isinstance(wanted, list | tuple):
        if not wanted:
            raise InputError(f"{where}: an empty list; allowed: values")
        values = tuple(p.check(value, where) for value in wanted)
        return Choice(_nearest(p, values), values, p.source, p.meaning) if len(set(values)) > 1 else values[0]
    return p.check(wanted, where)


def _nearest(p: Hyperparameter, values: tuple[Any, ...]) -> Any:
    """The value of a list that is nearest to the default on its scale; else the first."""
    numbers = isinstance(p, Real) and not any(isinstance(value, OfClasses) for value in (p.default, *values))
    if p.default in values or not numbers:
        return p.default if p.default in values else values[0]
    log = p.log and min(*values, p.default) > 0
    scale = math.log if log else float
    return min(values, key=lambda value: abs(scale(value) - scale(p.default)))


def _range(p: Hyperparameter, wanted: dict[str, Any], where: str) -> Real:
    if not isinstance(p, Real):
        raise InputError(f"{where}: has no range; allowed: {p.bounds()}")
    for key in wanted:
        if key not in ("low", "high", "log", "default"):
            raise InputError(f"{where}.{key}: unknown key; allowed: low, high, log, default")
    log = wanted.get("log", p.log)
    if not isinstance(log, bool):
        raise InputError(f"{where}.log: {log!r} is not allowed; allowed: true or false")
    narrowed = p.narrowed(where, wanted.get("low", p.low), wanted.get("high", p.high), log)
    if "default" not in wanted:
        return narrowed
    default = p.check(wanted["default"], f"{where}.default")
    if not narrowed.low <= default <= narrowed.high:
        raise InputError(f"{where}.default: {default:g} is outside the range {narrowed.low:g} to {narrowed.high:g}")
    return replace(narrowed, default=default)
