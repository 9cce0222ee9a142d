"""Losses for the user's own training loop: make_loss for logits, make_head for a final layer with its loss."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from losstune.spaces import InputError, check_hyperparameters, space_of
from losstune.trainables.losses import LOSSES, Loss


class LogitLoss:
    """A loss of logits: loss(logits (B, K), targets (B,) int64, progress in [0, 1)) -> (B,)."""

    def __init__(self, name: str, num_classes: int, **hyperparameters: Any):
        self.name, self.num_classes = name, _check_classes(name, num_classes)
        self.hyperparameters = check_hyperparameters(name, hyperparameters)
        self.loss: Loss = LOSSES[name]
        if self.loss.needs_features:
            raise InputError(f"{name}: needs the penultimate features or the final layer; use make_head({name!r}, ...)")

    def __call__(self, logits: Tensor, targets: Tensor, progress: float = 0.0) -> Tensor:
        _check_batch(self.name, logits, targets, self.num_classes)
        _check_progress(self.name, progress)
        logits = self.loss.transformed(logits, self.hyperparameters)
        return self.loss.of_logits(logits, targets, progress, self.hyperparameters)


class Head(nn.Module):
    """A final layer with its loss: head(x) gives transformed logits, head.loss(x, targets, progress) the loss.

    Parameters: weight (K, d) and bias (K,). In training mode the dropout loss draws from torch's global generator.
    """

    def __init__(self, name: str, in_features: int, num_classes: int, **hyperparameters: Any):
        super().__init__()
        self.name, self.num_classes = name, _check_classes(name, num_classes)
        self.hyperparameters = check_hyperparameters(name, hyperparameters)
        self.objective: Loss = LOSSES[name]
        if not isinstance(in_features, int) or in_features < 1:
            raise InputError(f"{name}: in_features: {in_features!r} is not allowed; allowed: a whole number from 1")
        layer = nn.Linear(in_features, num_classes)
        if self.objective.initial_bias is not None:
            nn.init.constant_(layer.bias, self.objective.initial_bias(num_classes))
        self.weight, self.bias = layer.weight, layer.bias

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, d) to the transformed logits (B, K) that the loss's probabilities are made of."""
        return self.objective.logits(x, self.weight, self.bias, self.hyperparameters)

    def loss(self, x: Tensor, targets: Tensor, progress: float = 0.0) -> Tensor:
        """Features (B, d) and targets (B,) to the loss per example (B,), penalties included."""
        _check_batch(self.name, x, targets, None)
        if x.shape[1] != self.weight.shape[1]:
            raise InputError(f"{self.name}: features: {x.shape[1]} columns; allowed: {self.weight.shape[1]}")
        if targets.numel() and not 0 <= int(targets.min()) <= int(targets.max()) < self.num_classes:
            raise InputError(f"{self.name}: targets: out of range; allowed: 0 to {self.num_classes - 1}")
        _check_progress(self.name, progress)
        uniform = torch.rand_like(x) if self.training and self.objective.drops_features else None
        return self.objective(x, self.weight, self.bias, targets, progress, self.hyperparameters, uniform)

    def extra_repr(self) -> str:
        return f"{self.name}, in_features={self.weight.shape[1]}, num_classes={self.num_classes}"


def make_loss(name: str, num_classes: int, **hyperparameters: Any) -> LogitLoss:
    """The criterion of a loss that needs logits only; the others raise InputError and name make_head.

    Raises InputError for an unknown loss or hyperparameter, a value out of bounds, and num_classes below 2.
    """
    space_of(name)
    return LogitLoss(name, num_classes, **hyperparameters)


def make_head(name: str, in_features: int, num_classes: int, **hyperparameters: Any) -> Head:
    """A final layer (an nn.Module) with the loss of that name; raises InputError as make_loss does."""
    space_of(name)
    return Head(name, in_features, num_classes, **hyperparameters)


def _check_classes(name: str, num_classes: int) -> int:
    if not isinstance(num_classes, int) or num_classes < 2:
        raise InputError(f"{name}: num_classes: {num_classes!r} is not allowed; allowed: a whole number from 2")
    return num_classes


def _check_batch(name: str, values: Tensor, targets: Tensor, num_classes: int | None) -> None:
    what, columns = ("features", "d") if num_classes is None else ("logits", "K")
    if values.dim() != 2 or targets.dim() != 1 or len(values) != len(targets):
        shapes = f"{tuple(values.shape)} and targets: {tuple(targets.shape)}"
        raise InputError(f"{name}: {what}: shape {shapes}; allowed: (B, {columns}) and (B,)")
    if not values.is_floating_point():
        raise InputError(f"{name}: {what}: {values.dtype} is not allowed; allowed: a floating-point type")
    if targets.dtype != torch.int64:
        raise InputError(f"{name}: targets: {targets.dtype} is not allowed; allowed: torch.int64")
    if num_classes is None:
        return
    if values.shape[1] != num_classes:
        raise InputError(f"{name}: logits: {values.shape[1]} classes; allowed: {num_classes}")
    if targets.numel() and not 0 <= int(targets.min()) <= int(targets.max()) < num_classes:
        raise InputError(f"{name}: targets: out of range; allowed: 0 to {num_classes - 1}")


def _check_progress(name: str, progress: float) -> None:
    if not 0 <= progress < 1:
        raise InputError(f"{name}: progress: {progress!r} is out of bounds; allowed: [0, 1)")
