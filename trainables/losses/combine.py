"""Losses by name: ours, other packages', and combinations, whose parts are put together."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import fields, replace
from functools import cache
from typing import Any

import torch

from losstune.spaces import InputError, Space, check_hyperparameters, members_of, qualified, space_of
from losstune.spaces.plugins import plugin
from losstune.trainables.losses import LOSSES
from losstune.trainables.losses.loss import Loss, Parameter, Part, names_of
from losstune.trainables.trial import is_number

# A loss has one of each of these at most.
_SINGLE = ("criterion", "head", "transform", "margin", "scale", "dropout", "update", "second_pass")
_GIVEN = {"logits", "targets", "features", "progress", "uniform", "weight", "bias"}  # what parts may name besides


@cache
def loss_of(name: str) -> Loss:
    """The loss of a name or of a combination of names.

    Raises InputError for an unknown name, for parts that exclude each other (two final layers, two criteria), and for
    parts that name what there is not.
    """
    space = space_of(name)
    members = members_of(name)
    if len(members) == 1:
        loss = _single(name)
    else:
        names = qualified({member: space_of(member) for member in members})
        loss = _renamed(_single(members[0]), names[members[0]])
        for member in members[1:]:
            loss = _joined(name, loss, _renamed(_single(member), names[member]), member)
    _check_names(name, loss, space)
    if loss.passes != space.passes:
        raise InputError(f"{name}: passes: its space says {space.passes}, its loss takes {loss.passes}; "
                         "allowed: the same")  # fmt: skip
    if any(member not in LOSSES for member in members):
        _check_result(name, loss)
    return loss


def check_fits(name: str, in_features: int, num_classes: int) -> None:
    """InputError when the final layer of a loss needs more features than there are."""
    least_features = space_of(name).least_features
    least = least_features(num_classes) if least_features else 1
    if in_features < least:
        raise InputError(f"{name}: in_features: {in_features} penultimate features are too few for {num_classes} "
                         f"classes; allowed: {least} or more")  # fmt: skip


def _single(name: str) -> Loss:
    if name in LOSSES:
        return LOSSES[name]
    try:
        loss = plugin(name).make()
    except Exception as error:  # whatever another package's code raises
        raise InputError(f"{name}: its plugin fails ({type(error).__name__}: {error}); allowed: a make() that gives a "
                         "Loss") from error  # fmt: skip
    if not isinstance(loss, Loss):
        raise InputError(f"{name}: its plugin makes a {type(loss).__name__}; "
                         "allowed: a losstune.trainables.losses.Loss")  # fmt: skip
    return loss


def _joined(name: str, base: Loss, extra: Loss, member: str) -> Loss:
    """The base with everything in which the extra one differs from softmax."""
    plain, changes = Loss(), {}
    if base.criterion == plain.criterion and extra.transformed_criterion:
        changes["transformed_criterion"] = extra.transformed_criterion  # of softmax
    if extra.criterion != plain.criterion:
        changes["transformed_criterion"] = None
    for slot in _SINGLE:
        own = getattr(extra, slot)
        if own == getattr(plain, slot):
            continue
        if getattr(base, slot) != getattr(plain, slot):
            raise InputError(f"{name}: {slot}: {member} brings one, and there is one already; allowed: one of a kind")
        changes[slot] = own
    return replace(
        base, **changes, penalties=base.penalties + extra.penalties, state={**base.state, **extra.state},
        initial={**base.initial, **extra.initial},
    )  # fmt: skip


def _renamed(loss: Loss, names: Mapping[str, str]) -> Loss:
    """A loss whose hyperparameters are called as in the combination."""
    if all(own == outer for own, outer in names.items()):
        return loss

    def rename(value: Any) -> Any:
        if callable(value):
            return _Renamed(value, names)
        if isinstance(value, tuple):
            return tuple(map(rename, value))
        if isinstance(value, Mapping):
            return {key: rename(own) for key, own in value.items()}
        return replace(value, initial=rename(value.initial)) if isinstance(value, Parameter) else value

    head = loss.head
    changed = replace(head, logits=rename(head.logits), parameters=rename(head.parameters))
    own = {f.name: getattr(loss, f.name) for f in fields(loss) if f.name not in ("head", "probabilities")}
    plain = Loss()
    renamed = {slot: rename(value) for slot, value in own.items() if value != getattr(plain, slot)}
    return replace(loss, **renamed, head=head if head == plain.head else changed)


class _Renamed:
    """A part that takes some hyperparameters by other names."""

    def __init__(self, part: Part, names: Mapping[str, str]):
        self.part = part
        self.names = {names.get(own, own): own for own in names_of(part)}
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        self.__signature__ = inspect.Signature([inspect.Parameter(outer, kind) for outer in self.names])

    def __call__(self, **values: Any) -> Any:
        return self.part(**{self.names[outer]: value for outer, value in values.items()})


def _check_result(name: str, loss: Loss) -> None:
    """A dry call: another package's loss gives one value per example, of several members at once."""
    members, batch, classes, features = 2, 3, 4, 8
    hp = check_hyperparameters(name, {}, num_classes=classes)
    columns = {key: torch.full((members, 1), value) if is_number(value) else value for key, value in hp.items()}
    start = loss.start(torch.randn(classes, features), torch.zeros(classes), hp)
    parameters = {key: value.expand(members, *value.shape) for key, value in start.items()}
    x, y = torch.randn(members, batch, features), torch.zeros(members, batch, dtype=torch.int64)
    try:
        value = loss(x, parameters, y, torch.zeros(members, 1), columns)
    except Exception as error:
        raise InputError(f"{name}: fails on logits (2, 3, 4) and targets (2, 3): {type(error).__name__}: {error}; "
                         "allowed: parts for (..., B, K) and (..., B)") from error  # fmt: skip
    if value.shape != (members, batch):
        raise InputError(f"{name}: gives {tuple(value.shape)} for logits (2, 3, 4) and targets (2, 3); "
                         "allowed: a value per example, (2, 3)")  # fmt: skip


def _check_names(name: str, loss: Loss, space: Space) -> None:
    known = _GIVEN - {"weight", "bias"} | set(loss.parameters) | set(space.hyperparameters)
    starts = [*(p.initial for p in loss.parameters.values()), *loss.initial.values()]
    for part in loss.parts:
        missing = set(names_of(part)) - known - ({"weight", "bias"} if part in starts else set())
        if missing:
            what = getattr(part, "__name__", type(part).__name__)
            raise InputError(f"{name}: {what} takes {', '.join(sorted(missing))}, which this loss does not have; "
                             f"allowed: {', '.join(sorted(known))}")  # fmt: skip
