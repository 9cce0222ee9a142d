"""A loss as a composition of parts: final layer, logit transform, criterion, penalties, and what few losses need."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch import Tensor

from losstune.trainables.losses import closed_forms, parts

Part = Callable[..., Any]
Hyperparameters = Mapping[str, Any]
Named = dict[str, Tensor]


@dataclass(frozen=True)
class Parameter:
    """A tensor of the final layer. shape: of (num_classes, in_features).

    initial: its value at the start, from what it names of weight (K, d) and bias (K), drawn as torch.nn.Linear draws
    them, and the hyperparameters. decays: whether weight decay acts on it. learned: whether the optimizer moves it;
    otherwise it is state, which only the loss's update moves.
    """

    shape: Callable[[int, int], tuple[int, ...]]
    initial: Part
    decays: bool = False
    learned: bool = True


def weight_as_drawn(weight: Tensor) -> Tensor:
    return weight


def bias_as_drawn(bias: Tensor) -> Tensor:
    return bias


def vector_per_class(classes: int, features: int) -> tuple[int, int]:
    return classes, features


def number_per_class(classes: int, features: int) -> tuple[int]:
    return (classes,)


WEIGHT = Parameter(vector_per_class, weight_as_drawn, decays=True)
BIAS = Parameter(number_per_class, bias_as_drawn)


@dataclass(frozen=True)
class Head:
    """A final layer.

    logits: of the features, its parameters and hyperparameters, by name -> (..., B, K).
    constraint: of some of its parameters -> the same ones as {name: value}, applied at the start and after every step.
    """

    logits: Part
    parameters: Mapping[str, Parameter]
    constraint: Part | None = None


LINEAR = Head(parts.linear, {"weight": WEIGHT, "bias": BIAS})


@dataclass(frozen=True)
class Loss:
    """A training objective.

    Every part is a function that takes what it needs by name: logits (..., B, K), targets (..., B), features
    (..., B, d), the final layer's parameters and state, progress in [0, 1), and hyperparameters by the paper's name.

    criterion: -> (..., B), of the transformed logits.
    head: the final layer. transform: of the logits -> logits. margin: of the head's logits, in training only -> logits.
    transformed_criterion: transform and criterion in one, where that is quicker; it stands in for both unless a penalty
    needs the transformed logits.
    penalties: -> (..., B) or (..., 1), added to the criterion, of the logits as the criterion sees them.
    scale: -> a factor on criterion and penalties.
    dropout: of the penultimate features and uniform draws of their shape -> features, in training only.
    state, update: what the loss remembers between steps, and how a step moves it: -> {name: value}.
    initial: other starts of the head's parameters, by their names.
    second_pass: the criterion of a second forward and backward pass and optimizer step, for every step.
    probabilities: "softmax", "sigmoid" (normalized over classes), or None where the loss defines none.
    """

    criterion: Part = closed_forms.softmax
    head: Head = LINEAR
    transform: Part | None = None
    transformed_criterion: Part | None = None
    margin: Part | None = None
    penalties: tuple[Part, ...] = ()
    scale: Part | None = None
    dropout: Part | None = None
    state: Mapping[str, Parameter] = field(default_factory=dict)
    update: Part | None = None
    initial: Mapping[str, Part] = field(default_factory=dict)
    second_pass: Part | None = None
    probabilities: str | None = "softmax"

    @property
    def passes(self) -> int:
        """Forward and backward passes per step."""
        return 1 if self.second_pass is None else 2

    @property
    def parts(self) -> list[Part]:
        """Every part there is, for what they name to be checked."""
        head = [self.head.logits, self.head.constraint, *(p.initial for p in self.parameters.values())]
        logits = [self.margin, self.transform, self.criterion, self.transformed_criterion, self.second_pass]
        own = [self.dropout, *logits, *self.penalties, self.scale, self.update]
        return [part for part in (*head, *own, *self.initial.values()) if part is not None]

    @property
    def parameters(self) -> dict[str, Parameter]:
        """The final layer's parameters and the loss's state."""
        return {**self.head.parameters, **self.state}

    @property
    def needs_features(self) -> bool:
        """Whether logits alone are not enough: then the loss is had through make_head, not make_loss."""
        more = {"features", *self.parameters}
        used = (self.criterion, self.margin, self.transform, self.scale, self.second_pass, *self.penalties)
        return self.head != LINEAR or bool(self.dropout) or any(more & set(names_of(p)) for p in used if p)

    def start(self, weight: Tensor, bias: Tensor, hp: Hyperparameters) -> Named:
        """The final layer's parameters and state at the start, from weight (K, d) and bias (K) as they are drawn."""
        drawn = {**hp, "weight": weight, "bias": bias}
        start = {name: call(self.initial.get(name, p.initial), drawn) for name, p in self.parameters.items()}
        return {**start, **self.constrained(start)}

    def constrained(self, parameters: Named) -> Named:
        """The parameters that a constraint changes, as it wants them; empty without one."""
        return call(self.head.constraint, parameters) if self.head.constraint else {}

    def moved(self, parameters: Named, features: Tensor, targets: Tensor, hp: Hyperparameters) -> Named:
        """The state after a step on these features and targets; empty for a loss without."""
        values = {**hp, **parameters, "features": features.detach(), "targets": targets}
        return call(self.update, values) if self.update else {}

    def logits(self, features: Tensor, parameters: Named, hp: Hyperparameters) -> Tensor:
        """Transformed logits (..., B, K) of features (..., B, d), as at evaluation: without margin and dropout."""
        return self.transformed(call(self.head.logits, {**hp, **parameters, "features": features}), hp)

    def transformed(self, logits: Tensor, hp: Hyperparameters) -> Tensor:
        """The logits that criterion, penalties and probabilities see."""
        return call(self.transform, {**hp, "logits": logits}) if self.transform else logits

    def of_logits(
        self, logits: Tensor, targets: Tensor, progress: float | Tensor, hp: Hyperparameters, second: bool = False
    ) -> Tensor:
        """Loss per example (..., B) of logits as the final layer gives them, for losses that need no more."""
        return self._value({**hp, "logits": logits, "targets": targets, "progress": progress}, second)

    def closed_form(self, second: bool = False) -> tuple[Part, ...] | None:
        """Formulas of value and gradient by the logits, to be summed, where the loss is nothing else; else None."""
        if self.needs_features or self.margin or self.scale:
            return None
        if second or self.penalties or not self.transformed_criterion:
            if self.transform:
                return None
            criterion = self.second_pass if second else self.criterion
        else:
            criterion = self.transformed_criterion
        formulas = [getattr(part, "formula", None) for part in (criterion, *(() if second else self.penalties))]
        return None if None in formulas else tuple(formulas)

    def value_and_gradient(
        self, logits: Tensor, targets: Tensor, progress: Tensor, hp: Hyperparameters, weight: Tensor | float,
        second: bool = False,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """Loss per example (..., B), and the gradient (..., B, K) by the logits of its sum weighted by weight (..., B).

        Of a loss in closed form, without autograd.
        """
        values = {**hp, "logits": logits, "targets": targets, "progress": progress}
        total = gradient = None
        for formula in self.closed_form(second):
            value, direction, size = call(formula, values)
            factor = size * weight
            factor = factor.unsqueeze(-1) if isinstance(factor, Tensor) else factor
            part = direction * factor if direction is logits else direction.mul_(factor)
            total, gradient = (value, part) if total is None else (total + value, gradient.add_(part))
        return total, gradient

    def __call__(
        self, features: Tensor, parameters: Named, targets: Tensor, progress: float | Tensor, hp: Hyperparameters,
        uniform: Tensor | None = None, second: bool = False,
    ) -> Tensor:  # fmt: skip
        """Loss per example (..., B), penalties included, or the second pass's.

        uniform: draws in [0, 1) of the features' shape for dropout, or None to leave it off.
        """
        values = {**hp, **parameters, "features": features, "targets": targets, "progress": progress}
        if self.dropout and uniform is not None:
            values["features"] = call(self.dropout, {**values, "uniform": uniform})
        values["logits"] = call(self.head.logits, values)
        return self._value(values, second)

    def _value(self, values: dict[str, Any], second: bool) -> Tensor:
        """The criterion with margin, transform, penalties and scale, of everything by name."""
        if values["logits"].dtype in (torch.bfloat16, torch.float16):
            values["logits"] = values["logits"].float()
        if self.margin:
            values["logits"] = call(self.margin, values)
        whole = None if second or self.penalties else self.transformed_criterion
        if self.transform and not whole:
            values["logits"] = call(self.transform, values)
        if second:
            return call(self.second_pass, values)
        value = call(whole or self.criterion, values)
        for penalty in self.penalties:
            value = value + call(penalty, values)
        return value * call(self.scale, values) if self.scale else value


def call(part: Part, values: Mapping[str, Any]) -> Any:
    """A part called with what it names."""
    return part(**{name: values[name] for name in names_of(part)})


@cache
def names_of(part: Part) -> tuple[str, ...]:
    """What a part takes, by the names of its parameters."""
    return tuple(inspect.signature(part).parameters)
