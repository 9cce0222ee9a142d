"""Members that are computed together: their rows, grouped by loss, and one step of their training."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from losstune.trainables.backends import Backend, leaf
from losstune.trainables.losses import LOSSES, Loss
from losstune.trainables.recipe import Recipe, nesterov_step
from losstune.trainables.rows import HEAD_BIAS, HEAD_WEIGHT, Layout, Named, Rows
from losstune.trainables.trial import Trial, is_number


@dataclass
class Member:
    """One seed of a trial: its row of parameters and momentum, its buffers, and how far it has come."""

    trial: Trial
    seed: int
    epoch: int
    parameter: Tensor
    momentum: Tensor
    buffers: Named = field(default_factory=dict)


@dataclass
class _Group:
    loss: Loss
    members: slice
    hyperparameters: dict[str, Any]
    weight: Tensor
    bias: Tensor


class Chunk:
    """Members sorted by group, bound to a backend. Rows follow the members' order."""

    def __init__(self, members: list[Member], backend: Backend, layout: Layout, recipe: Recipe, device: torch.device):
        self.members = sorted(members, key=lambda m: m.trial.group())
        self.backend, self.layout, self.recipe, self.device = backend, layout, recipe, device
        decay = [m.trial.weight_decay / m.trial.learning_rate for m in self.members]
        self.rows = Rows(
            torch.stack([m.parameter for m in self.members]),
            torch.stack([m.momentum for m in self.members]),
            torch.tensor(decay).unsqueeze(1).mul(layout.decay_mask()).to(device),
        )
        for row, member in enumerate(self.members):
            member.parameter, member.momentum = self.rows.parameter[row], self.rows.momentum[row]
        backend.bind(self.rows)
        self.groups = self._groups()

    def _groups(self) -> list[_Group]:
        groups, start = [], 0
        for _, same in groupby(self.members, key=lambda m: m.trial.group()):
            trials = [member.trial for member in same]
            members = slice(start, start + len(trials))
            groups.append(_Group(
                LOSSES[trials[0].loss], members, self._columns(trials),
                leaf(self.layout, self.rows, HEAD_WEIGHT, members), leaf(self.layout, self.rows, HEAD_BIAS, members),
            ))  # fmt: skip
            start += len(trials)
        return groups

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
        """One step on normalized inputs (n, B, *shape); progress and learning rate (n, 1). Each mean loss (n,)."""
        self.rows.gradient.zero_()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.precision == "bfloat16"):
            features = self.backend.features(x, training=True)
        weights = self._example_weights(targets)
        losses = []
        sizes = [group.members.stop - group.members.start for group in self.groups]
        for group, part in zip(self.groups, features.float().split(sizes), strict=True):
            m = group.members
            uniform = self._uniform(part, noise[m]) if group.loss.drops_features else None
            value = group.loss(
                part, group.weight, group.bias, targets[m], progress[m], group.hyperparameters, uniform
            )  # (n, B)
            losses.append((value if weights is None else value * weights[m]).mean(1))
        total = torch.cat(losses)
        # A mean over members would divide every learning rate by their number.
        total.sum().backward()
        nesterov_step(self.rows, learning_rate, self.recipe.momentum)
        return total.detach()

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
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.precision == "bfloat16"):
            features = self.backend.features(shared, training=False)
        sizes = [group.members.stop - group.members.start for group in self.groups]
        parts = features.float().split(sizes)
        return torch.cat([
            group.loss.logits(part, group.weight, group.bias, group.hyperparameters)
            for group, part in zip(self.groups, parts, strict=True)
        ])  # fmt: skip
