"""From a study's `losses` and `recipe` to what is searched and what is fixed for every loss."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from losstune.spaces import Choice, Hyperparameter, InputError, Real, is_searched, space_of


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
        return {**ranges, **{name: f"= {value!r}" for name, value in self.fixed.items()}}


def resolve(losses: tuple[Any, ...], recipe: Any, where: str) -> dict[str, LossSpace]:
    """The space of each loss in the study's order; InputError names the entry that is wrong."""
    spaces: dict[str, LossSpace] = {}
    for index, entry in enumerate(losses):
        name, changes = _entry(entry, f"{where}: losses[{index}]")
        if name in spaces:
            raise InputError(f"{where}: losses[{index}]: {name} stands twice; allowed: once")
        spaces[name] = _loss_space(name, changes, recipe, where)
    return spaces


def _entry(entry: Any, where: str) -> tuple[str, dict[str, Any]]:
    if isinstance(entry, str):
        return entry, {}
    if isinstance(entry, dict) and len(entry) == 1:
        (name, changes), = entry.items()
        if isinstance(changes, dict) or changes is None:
            return name, changes or {}
    raise InputError(f"{where}: {entry!r} is not a loss; allowed: a name, or a name with its hyperparameters")


def _loss_space(name: str, changes: dict[str, Any], recipe: Any, where: str) -> LossSpace:
    space = space_of(name, f"{where}: losses")
    declared: dict[str, Hyperparameter] = {**space.shared(), **space.hyperparameters}
    for key in changes:
        if key not in declared:
            raise InputError(f"{where}: losses.{name}.{key}: unknown hyperparameter; allowed: {', '.join(declared)}")
    searched, fixed = {}, {}
    for key, p in declared.items():
        if key in changes:
            wanted, field = changes[key], f"{where}: losses.{name}.{key}"
        else:
            wanted, field = getattr(recipe, key, None), f"{where}: recipe.{key}"
        result = p if wanted is None else narrow(p, wanted, field)
        if isinstance(result, Real | Choice) and is_searched(result) and _is_tuned(key, recipe):
            searched[key] = result
        else:
            fixed[key] = getattr(result, "default", result)
    return LossSpace(name, searched, fixed)


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
        default = p.default if p.default in values else values[0]
        return Choice(default, values, p.source, p.meaning) if len(set(values)) > 1 else values[0]
    return p.check(wanted, where)


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
