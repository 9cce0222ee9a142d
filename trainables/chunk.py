"""Members that are computed together: their rows, grouped by loss, and one step of their training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from losstune.trainables.backends import Backend, leaf
from losstune.trainables.losses.combine import loss_of
from losstune.trainables.losses.loss import Loss
from losstune.trainables.recipe import Recipe, nesterov_step
from losstune.trainables.rows import HEAD, Layout, Named, Rows, stacked
from losstune.trainables.trial import Trial, is_number


@dataclass
class Member:
    """One seed of a trial: its row of parameters (P,), a momentum for each pass of a step (passes, P), its buffers, and
    how far it has come."""

    trial: Trial
    seed: int
    epoch: int
    parameter: Tensor
    momentum: Tensor
    buffers: Named = field(default_factory=dict)


@dataclass
class _Group:
    """Members that share a call of their loss. parameters: the final layer's, by name, each (n, *shape)."""

    loss: Loss
    members: slice
    hyperparameters: dict[str, Any]
    parameters: Named

    @property
    def size(self) -> int:
        return self.members.stop - self.members.start


class Chunk:
    """Members sorted by group, bound to a backend. Rows follow the members' order.

    All members take the same number of passes per step. layout_of: the layout of a loss's rows.
    """

    def __init__(
        self, members: list[Member], backend: Backend, layout_of: Callable[[str], Layout], recipe: Recipe,
        device: torch.device,
    ):  # fmt: skip
        self.members = sorted(members, key=lambda m: m.trial.group())
        self.backend, self.layout_of, self.recipe, self.device = backend, layout_of, recipe, device
        self.rows = Rows(
            stacked([m.parameter for m in self.members]),
            stacked([m.momentum for m in self.members]).transpose(0, 1).contiguous(),
            stacked([self._decay(m.trial) for m in self.members]).to(device),
        )
        for row, member in enumerate(self.members):
            width = layout_of(member.trial.loss).width
            member.parameter = self.rows.parameter[row, :width]
            member.momentum = self.rows.momentum[:, row, :width]
        backend.bind(self.rows)
        self.groups = self._groups()
        self.passes = self.groups[0].loss.passes

    def _decay(self, trial: Trial) -> Tensor:
        return trial.weight_decay / trial.learning_rate * self.layout_of(trial.loss).decay_mask()

    def _groups(self) -> list[_Group]:
        groups, start = [], 0
        for _, same in groupby(self.members, key=lambda m: m.trial.group()):
            trials = [member.trial for member in same]
            members = slice(start, start + len(trials))
            loss = loss_of(trials[0].loss)
            groups.append(_Group(loss, members, self._columns(trials), self._head(loss, trials[0].loss, members)))
            start += len(trials)
        return groups

    def _head(self, loss: Loss, name: str, members: slice) -> Named:
        """What the optimizer moves as leaves of autograd, state as it lies in the rows."""
        layout = self.layout_of(name)
        return {
            key: leaf(layout, self.rows, HEAD + key, members) if parameter.learned
            else layout.view(self.rows.parameter[members], HEAD + key)
            for key, parameter in loss.parameters.items()
        }  # fmt: skip

    def _columns(self, trials: list[Trial]) -> dict[str, Any]:
        """Numbers as a tensor (n, 1), a row each; everything else as the one value that the group shares."""
        first = trials[0].hyperparameters
        return {
            name: torch.tensor([float(t.hyperparameters[name]) for t in trials], device=self.device).unsqueeze(1)
            if is_number(value) else value
            for name, value in first.items()
        }  # fmt: skip

    def step(
        self, x: Tensor, targets: Tensor, progress: Tensor, learning_rate: Tensor, noise: list[torch.Generator]
    ) -> Tensor:
        """One step on normalized inputs (n, B, *shape); progress and learning rate (n, 1). The mean losses (n,)."""
        first = None
        for index in range(self.passes):
            self.rows.gradient.zero_()
            parts = self._features(x, training=True)
            means = self._mean_losses(parts, targets, progress, noise, second=index > 0)
            # A mean over members would divide every learning rate by their number.
            means.sum().backward()
            if index == 0:
                self._move_state(parts, targets)
            nesterov_step(self.rows, learning_rate, self.recipe.momentum, index)
            self._constrain()
            first = means.detach() if first is None else first
        return first

    def _mean_losses(
        self, parts: tuple[Tensor, ...], targets: Tensor, progress: Tensor, noise: list[torch.Generator], second: bool
    ) -> Tensor:
        """Each member's loss, the mean over its examples (n,). parts: the features of each group."""
        weights, losses = self._example_weights(targets), []
        for group, part in zip(self.groups, parts, strict=True):
            m = group.members
            uniform = self._uniform(part, noise[m]) if group.loss.dropout else None
            value = group.loss(
                part, group.parameters, targets[m], progress[m], group.hyperparameters, uniform, second
            )  # (n, B)
            losses.append((value if weights is None else value * weights[m]).mean(1))
        return torch.cat(losses)

    @torch.no_grad()
    def _move_state(self, parts: tuple[Tensor, ...], targets: Tensor) -> None:
        for group, part in zip(self.groups, parts, strict=True):
            moved = group.loss.moved(group.parameters, part, targets[group.members], group.hyperparameters)
            for key, value in moved.items():
                group.parameters[key].copy_(value)

    @torch.no_grad()
    def _constrain(self) -> None:
        for group in self.groups:
            for key, value in group.loss.constrained(group.parameters).items():
                group.parameters[key].copy_(value)

    def _features(self, x: Tensor, training: bool) -> tuple[Tensor, ...]:
        """Penultimate features in float32, a tensor (n, B, d) per group."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.precision == "bfloat16"):
            features = self.backend.features(x, training)
        return features.float().split([group.size for group in self.groups])

    def _example_weights(self, targets: Tensor) -> Tensor | None:
        if self.recipe.class_weights is None:
            return None
        return torch.tensor(self.recipe.class_weights, device=self.device)[targets]

    def _uniform(self, features: Tensor, noise: list[torch.Generator]) -> Tensor:
        """Draws for dropout (n, B, d), each member's from its own generator."""
        return torch.stack([torch.rand(features.shape[1:], generator=g) for g in noise]).to(self.device)

    @torch.no_grad()
    def logits(self, x: Tensor) -> Tensor:
        """Transformed logits (n, B, K) of the same normalized inputs (B, *shape) for every member."""
        shared = x.unsqueeze(0).expand(len(self.members), *x.shape)
        return torch.cat([
            group.loss.logits(part, group.parameters, group.hyperparameters)
            for group, part in zip(self.groups, self._features(shared, training=False), strict=True)
        ])  # fmt: skip
