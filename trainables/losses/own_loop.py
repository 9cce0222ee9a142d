"""Losses for the user's own training loop: make_loss for logits, make_head for a final layer with its loss."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import torch
from torch import Tensor, nn

from losstune.spaces import InputError, check_hyperparameters, space_of
from losstune.trainables.losses.combine import check_fits, loss_of
from losstune.trainables.losses.loss import Named


class LogitLoss:
    """A loss of logits: loss(logits (B, K), targets (B,) int64, progress in [0, 1)) -> (B,).

    passes: 2 for a loss that takes a second forward and backward pass and optimizer step per batch, on second_pass.
    Logits in bfloat16 or float16 are taken to float32, in which the loss comes back.
    """

    def __init__(self, name: str, num_classes: int, **hyperparameters: Any):
        self.name, self.num_classes = name, _check_classes(name, num_classes)
        self.hyperparameters = check_hyperparameters(name, hyperparameters, num_classes=num_classes)
        self.loss = loss_of(name)
        self.passes = self.loss.passes
        if self.loss.needs_features:
            raise InputError(f"{name}: needs the penultimate features or the final layer; use make_head({name!r}, ...)")

    def __call__(self, logits: Tensor, targets: Tensor, progress: float = 0.0) -> Tensor:
        _check_logits(self.name, logits, targets, self.num_classes)
        _check_progress(self.name, progress)
        return self.loss.of_logits(logits, targets, progress, self.hyperparameters)

    def second_pass(self, logits: Tensor, targets: Tensor, progress: float = 0.0) -> Tensor:
        """What the second pass minimizes: (B, K), (B,) -> (B,). InputError for a loss of one pass."""
        _check_second(self.name, self.passes)
        _check_logits(self.name, logits, targets, self.num_classes)
        _check_progress(self.name, progress)
        return self.loss.of_logits(logits, targets, progress, self.hyperparameters, second=True)


class Head(nn.Module):
    """A final layer with its loss: head(x) gives transformed logits, head.loss(x, targets, progress) the loss.

    Its parameters are those of the loss's own final layer: weight (K, d) and bias (K) for most. State, such as class
    centers, is a buffer, which loss moves in training mode, as batch norm does with its own. A constraint holds again
    whenever the head is used. In training mode the dropout loss draws from torch's global generator.
    """

    def __init__(self, name: str, in_features: int, num_classes: int, **hyperparameters: Any):
        super().__init__()
        self.name, self.num_classes = name, _check_classes(name, num_classes)
        self.hyperparameters = check_hyperparameters(name, hyperparameters, num_classes=num_classes)
        self.objective = loss_of(name)
        self.passes = self.objective.passes
        if not isinstance(in_features, Integral) or isinstance(in_features, bool) or in_features < 1:
            raise InputError(f"{name}: in_features: {in_features!r} is not allowed; allowed: a whole number from 1")
        check_fits(name, in_features, num_classes)
        self.in_features = int(in_features)
        layer = nn.Linear(in_features, num_classes)
        with torch.no_grad():
            start = self.objective.start(layer.weight, layer.bias, self.hyperparameters)
        for key, parameter in self.objective.parameters.items():
            value = start[key].detach().clone()
            if parameter.learned:
                self.register_parameter(key, nn.Parameter(value))
            else:
                self.register_buffer(key, value)

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, d) to the transformed logits (B, K) that the loss's probabilities are made of."""
        self._check_features(x)
        return self.objective.logits(self._cast(x), self._tensors(), self.hyperparameters)

    def loss(self, x: Tensor, targets: Tensor, progress: float = 0.0) -> Tensor:
        """Features (B, d) and targets (B,) to the loss per example (B,), penalties included."""
        value = self._value(x, targets, progress)
        if self.training:
            with torch.no_grad():
                moved = self.objective.moved(self._tensors(), self._cast(x), targets, self.hyperparameters)
                for key, state in moved.items():
                    setattr(self, key, state)  # a new tensor: the old one may be needed in the backward pass
        return value

    def second_pass(self, x: Tensor, targets: Tensor, progress: float = 0.0) -> Tensor:
        """What the second pass of a two-pass loss minimizes, as loss. InputError for a loss of one pass."""
        _check_second(self.name, self.passes)
        return self._value(x, targets, progress, second=True)

    def _value(self, x: Tensor, targets: Tensor, progress: float, second: bool = False) -> Tensor:
        _check_batch(self.name, "features", "d", x, targets, self.num_classes)
        self._check_features(x)
        _check_progress(self.name, progress)
        x = self._cast(x)
        uniform = torch.rand_like(x) if self.training and self.objective.dropout else None
        return self.objective(x, self._tensors(), targets, progress, self.hyperparameters, uniform, second)

    def _tensors(self) -> Named:
        """Parameters and state by name, the constraint restored."""
        tensors = {key: getattr(self, key) for key in self.objective.parameters}
        with torch.no_grad():
            for _ in range(2):  # twice, so that rounding far from the constraint does not ask for it again
                for key, value in self.objective.constrained(tensors).items():
                    # Only if something has changed it: writing into what a backward pass still needs is an error.
                    rounding = 1000 * torch.finfo(value.dtype).eps * value.abs().max()
                    if (value - tensors[key]).abs().max() > rounding:
                        tensors[key].copy_(value)
        return tensors

    def _check_features(self, x: Tensor) -> None:
        if x.dim() < 1 or x.shape[-1] != self.in_features:
            columns = x.shape[-1] if x.dim() else 0
            raise InputError(f"{self.name}: features: {columns} columns; allowed: {self.in_features}")

    def _cast(self, x: Tensor) -> Tensor:
        """Features of half precision, as from an autocast network, in the parameters' own."""
        own = next(iter(self.state_dict().values())).dtype
        return x.to(own) if x.dtype in (torch.bfloat16, torch.float16) else x

    def extra_repr(self) -> str:
        return f"{self.name}, in_features={self.in_features}, num_classes={self.num_classes}"


def make_loss(name: str, num_classes: int, **hyperparameters: Any) -> LogitLoss:
    """The criterion of a loss that needs logits only; the others raise InputError and name make_head.

    Its gradient is in closed form: second derivatives (create_graph=True) and torch.func raise RuntimeError.
    Raises InputError for an unknown loss or hyperparameter, a value out of bounds, and num_classes below 2.
    """
    space_of(name)
    return LogitLoss(name, num_classes, **hyperparameters)


def make_head(name: str, in_features: int, num_classes: int, **hyperparameters: Any) -> Head:
    """A final layer (an nn.Module) with the loss of that name; raises InputError as make_loss does.

    Second derivatives raise RuntimeError, as make_loss's.
    """
    space_of(name)
    return Head(name, in_features, num_classes, **hyperparameters)


def _check_classes(name: str, num_classes: int) -> int:
    if not isinstance(num_classes, Integral) or isinstance(num_classes, bool) or num_classes < 2:
        raise InputError(f"{name}: num_classes: {num_classes!r} is not allowed; allowed: a whole number from 2")
    return int(num_classes)


def _check_logits(name: str, logits: Tensor, targets: Tensor, num_classes: int) -> None:
    _check_batch(name, "logits", "K", logits, targets, num_classes)
    if logits.shape[1] != num_classes:
        raise InputError(f"{name}: logits: {logits.shape[1]} classes; allowed: {num_classes}")


def _check_batch(name: str, what: str, columns: str, values: Tensor, targets: Tensor, num_classes: int) -> None:
    if values.dim() != 2 or targets.dim() != 1 or len(values) != len(targets):
        shapes = f"{tuple(values.shape)} and targets: {tuple(targets.shape)}"
        raise InputError(f"{name}: {what}: shape {shapes}; allowed: (B, {columns}) and (B,)")
    if not values.is_floating_point():
        raise InputError(f"{name}: {what}: {values.dtype} is not allowed; allowed: a floating-point type")
    if targets.dtype != torch.int64:
        raise InputError(f"{name}: targets: {targets.dtype} is not allowed; allowed: torch.int64")
    if targets.numel() and not 0 <= int(targets.min()) <= int(targets.max()) < num_classes:
        raise InputError(f"{name}: targets: out of range; allowed: 0 to {num_classes - 1}")


def _check_progress(name: str, progress: float) -> None:
    if not 0 <= progress < 1:
        raise InputError(f"{name}: progress: {progress!r} is out of bounds; allowed: [0, 1)")


def _check_second(name: str, passes: int) -> None:
    if passes < 2:
        raise InputError(f"{name}: second_pass: this loss takes one pass; allowed: loss")
