"""A loss as a composition of parts: final layer, logit transform, criterion, penalties."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from losstune.trainables.losses import criteria, parts

Hyperparameters = dict[str, Any]


@dataclass(frozen=True)
class Loss:
    """A training objective.

    criterion: (logits, targets, [progress], its hyperparameters) -> (..., B).
    head: (features, weight, bias, its hyperparameters) -> logits; transform: (logits, its hyperparameters) -> logits.
    logit_penalties, weight_penalties: added per example, of the transformed logits and of the final layer's weight.
    scale: (its hyperparameters) -> a factor on the whole.
    drops_features: dropout on the penultimate features with keep probability rho.
    probabilities: "softmax", "sigmoid" (normalized over classes), or None where the loss defines none.
    initial_bias: the final layer's bias at the start, of the number of classes; None: as torch.nn.Linear.
    Every part takes its hyperparameters by the paper's name.
    """

    criterion: Callable[..., Tensor] = criteria.softmax
    head: Callable[..., Tensor] = parts.linear
    transform: Callable[..., Tensor] | None = None
    logit_penalties: tuple[Callable[..., Tensor], ...] = ()
    weight_penalties: tuple[Callable[..., Tensor], ...] = ()
    drops_features: bool = False
    scale: Callable[..., float | Tensor] | None = None
    probabilities: str | None = "softmax"
    initial_bias: Callable[[int], float] | None = None

    @property
    def needs_features(self) -> bool:
        """Whether logits alone are not enough: then the loss is had through make_head, not make_loss."""
        return self.head is not parts.linear or bool(self.weight_penalties) or self.drops_features

    def logits(self, features: Tensor, weight: Tensor, bias: Tensor, hp: Hyperparameters) -> Tensor:
        """Transformed logits (..., B, K), from features (..., B, d), weight (..., K, d) and bias (..., K)."""
        return self.transformed(_call(self.head, hp, features, weight, bias), hp)

    def transformed(self, logits: Tensor, hp: Hyperparameters) -> Tensor:
        """The logits that criterion, penalties and probabilities see."""
        return _call(self.transform, hp, logits) if self.transform else logits

    def of_logits(self, logits: Tensor, targets: Tensor, progress: float | Tensor, hp: Hyperparameters) -> Tensor:
        """Loss per example (..., B) of transformed logits, logit penalties included."""
        value = _call(self.criterion, {**hp, "progress": progress}, logits, targets)
        for penalty in self.logit_penalties:
            value = value + _call(penalty, hp, logits)
        return value * _call(self.scale, hp) if self.scale else value

    def __call__(
        self, features: Tensor, weight: Tensor, bias: Tensor, targets: Tensor,
        progress: float | Tensor, hp: Hyperparameters, uniform: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """Loss per example (..., B), penalties included; uniform: draws for dropout, or None to leave it off."""
        if self.drops_features and uniform is not None:
            features = parts.dropout(features, uniform, hp["rho"])
        value = self.of_logits(self.logits(features, weight, bias, hp), targets, progress, hp)
        for penalty in self.weight_penalties:
            value = value + _call(penalty, hp, weight)
        return value


def _call(part: Callable[..., Any], hp: Hyperparameters, *tensors: Tensor) -> Any:
    return part(*tensors, **{name: hp[name] for name in _own_names(part)})


_NAMES: dict[Callable, tuple[str, ...]] = {}


def _own_names(part: Callable) -> tuple[str, ...]:
    """The names of a part's hyperparameters: its parameters after the tensors."""
    if part not in _NAMES:
        tensors = {"logits", "targets", "features", "weight", "bias"}
        _NAMES[part] = tuple(name for name in inspect.signature(part).parameters if name not in tensors)
    return _NAMES[part]


def minus_log_classes(num_classes: int) -> float:
    """The bias at which every sigmoid starts near 1/K (Kornblith, after Eq. 9)."""
    return -math.log(num_classes)
