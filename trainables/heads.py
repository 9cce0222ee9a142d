"""Final layers and losses of a chunk's members: values, and gradients by the features and by their own parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from losstune.trainables.losses.combine import loss_of
from losstune.trainables.losses.loss import Loss
from losstune.trainables.products import Products
from losstune.trainables.rows import HEAD, Layout, Named, Rows
from losstune.trainables.trial import Trial, is_number

# Targets (n, B) int64, and the weight of their losses, (n, B) or (n, 1), or None where all weigh 1; more than one pair
# where targets are mixed.
Targets = list[tuple[Tensor, Tensor | None]]


@dataclass
class _Group:
    """Members that share a call of their loss. parameters, gradients: the final layer's by name, each (n, *shape),
    views of the rows; gradients only of what is learned."""

    loss: Loss
    members: slice
    hyperparameters: dict[str, Any]
    parameters: Named
    gradients: Named = field(default_factory=dict)

    @property
    def size(self) -> int:
        return self.members.stop - self.members.start


def in_order(trial: Trial) -> tuple:
    """What members are sorted by: those whose loss needs the logits alone come first, groups stay together."""
    return loss_of(trial.loss).needs_features, trial.group()


class Heads:
    """Losses of members in the order of in_order. Rows follow that order.

    The losses that need the logits alone share one matrix product, whatever they are, and have their gradients in
    closed form where they can; the others go through autograd.
    """

    def __init__(
        self, trials: list[Trial], rows: Rows, layout_of: Callable[[str], Layout], device: torch.device,
        products: Products,
    ):  # fmt: skip
        self.groups: list[_Group] = []
        self.device, self.products, start = device, products, 0
        for _, same in groupby(trials, key=in_order):
            own = list(same)
            members = slice(start, start + len(own))
            self.groups.append(self._group(own, members, rows, layout_of(own[0].loss)))
            start += len(own)
        self.of_logits = [group for group in self.groups if not group.loss.needs_features]
        self.of_features = [group for group in self.groups if group.loss.needs_features]
        self.linear = slice(0, sum(group.size for group in self.of_logits))
        if self.of_logits:
            layout = layout_of(trials[0].loss)  # the backbone, weight and bias: the same for all of them
            self.weight, self.weight_gradient = (layout.view(m[self.linear], f"{HEAD}weight")
                                                 for m in (rows.parameter, rows.gradient))  # fmt: skip
            self.bias, self.bias_gradient = (layout.view(m[self.linear], f"{HEAD}bias")
                                             for m in (rows.parameter, rows.gradient))  # fmt: skip

    def _group(self, trials: list[Trial], members: slice, rows: Rows, layout: Layout) -> _Group:
        loss = loss_of(trials[0].loss)
        own = {key: layout.view(rows.parameter[members], HEAD + key) for key in loss.parameters}
        gradients = {key: layout.view(rows.gradient[members], HEAD + key)
                     for key, parameter in loss.parameters.items() if parameter.learned}  # fmt: skip
        return _Group(loss, members, self._columns(trials), own, gradients)

    def _columns(self, trials: list[Trial]) -> dict[str, Any]:
        """Numbers as a tensor (n, 1), a row each; everything else as the one value that the group shares."""
        first = trials[0].hyperparameters
        return {
            name: torch.tensor([float(t.hyperparameters[name]) for t in trials], device=self.device).unsqueeze(1)
            if is_number(value) else value
            for name, value in first.items()
        }  # fmt: skip

    @property
    def passes(self) -> int:
        return self.groups[0].loss.passes

    def draw(self, noise: Iterable[torch.Generator], batch: int, width: int) -> list[Tensor | None]:
        """Each member's uniform draws for a step of dropout (batch, width), from its own generator; None without."""
        drops = [group.loss.dropout is not None for group in self.groups for _ in range(group.size)]
        return [torch.rand((batch, width), generator=g) if drop else None for g, drop in zip(noise, drops, strict=True)]

    @torch.no_grad()
    def gradients(
        self, features: Tensor, targets: Targets, progress: Tensor, draws: list[Tensor | None], second: bool
    ) -> tuple[Tensor, Tensor]:
        """The mean losses (n,) and the gradient (n, B, d) of their sum by the features (n, B, d).

        A mean over members would divide every learning rate by their number. Gradients of the final layers are left in
        the rows. progress (n, 1); draws: what draw gave.
        """
        gradient, step = torch.empty_like(features), _Step(targets, progress, second)
        x = features[self.linear]
        logits = self.products.linear(x, self.weight, self.bias) if self.of_logits else None
        by_logits = torch.empty_like(logits) if self.of_logits else None
        for group in self.of_logits:
            if group.loss.closed_form(second):
                step.in_closed_form(group, logits, by_logits)
            else:
                step.by_autograd_of_logits(group, logits, by_logits)
        for group in self.of_features:
            uniform = torch.stack(draws[group.members]) if group.loss.dropout else None
            step.by_autograd(group, features, gradient, uniform)
        means = step.finish()
        if self.of_logits:
            self.products.by_weight(by_logits, x, self.weight_gradient)
            torch.sum(by_logits, 1, out=self.bias_gradient)
            self.products.by_input(by_logits, self.weight, gradient[self.linear])
        return means, gradient

    @torch.no_grad()
    def move_state(self, features: Tensor, targets: Tensor) -> None:
        """Move what losses remember between steps."""
        for group in self.of_features:
            m = group.members
            moved = group.loss.moved(group.parameters, features[m], targets[m], group.hyperparameters)
            for key, value in moved.items():
                group.parameters[key].copy_(value)

    @torch.no_grad()
    def constrain(self) -> None:
        """Restore what a final layer's constraint says of its parameters."""
        for group in self.of_features:
            for key, value in group.loss.constrained(group.parameters).items():
                group.parameters[key].copy_(value)

    @torch.no_grad()
    def logits(self, features: Tensor) -> Tensor:
        """Transformed logits (n, B, K) of features (n, B, d)."""
        return torch.cat([group.loss.logits(features[group.members], group.parameters, group.hyperparameters)
                          for group in self.groups])  # fmt: skip


class _Step:
    """The losses of one step. What needs autograd is gathered for a single backward pass: each costs as much as several
    groups in closed form."""

    def __init__(self, targets: Targets, progress: Tensor, second: bool):
        self.targets, self.progress, self.second = targets, progress, second
        self.means: list[Tensor] = []
        self.wanted: list[Tensor] = []  # means whose gradients autograd is to find
        self.leaves: list[Tensor] = []
        self.places: list[Tensor] = []  # where the leaves' gradients go

    def in_closed_form(self, group: _Group, logits: Tensor, by_logits: Tensor) -> None:
        m, batch, means, parts = group.members, logits.shape[1], [], []
        for t, weight in self._targets(m):
            share = 1 / batch if weight is None else weight / batch
            value, part = group.loss.value_and_gradient(
                logits[m], t, self.progress[m], group.hyperparameters, share, self.second
            )
            means.append(_mean(value, weight))
            parts.append(part)
        by_logits[m].copy_(sum(parts[1:], parts[0]))
        self.means.append(sum(means[1:], means[0]))

    def by_autograd_of_logits(self, group: _Group, logits: Tensor, by_logits: Tensor) -> None:
        m = group.members
        z = logits[m].detach().requires_grad_()
        with torch.enable_grad():
            self._want(m, lambda t: group.loss.of_logits(z, t, self.progress[m], group.hyperparameters, self.second))
        self.leaves.append(z)
        self.places.append(by_logits[m])

    def by_autograd(self, group: _Group, features: Tensor, gradient: Tensor, uniform: Tensor | None) -> None:
        m = group.members
        x = features[m].detach().requires_grad_()
        learned = {key: group.parameters[key].detach().requires_grad_() for key in group.gradients}
        parameters = {**group.parameters, **learned}
        with torch.enable_grad():
            self._want(m, lambda t: group.loss(x, parameters, t, self.progress[m], group.hyperparameters, uniform,
                                               self.second))  # fmt: skip
        self.leaves += [x, *learned.values()]
        self.places += [gradient[m], *group.gradients.values()]

    def finish(self) -> Tensor:
        """The mean losses (n,); every gradient is in its place."""
        if self.wanted:
            with torch.enable_grad():
                total = torch.cat(self.wanted).sum()
            found = torch.autograd.grad(total, self.leaves, allow_unused=True)
            for place, value in zip(self.places, found, strict=True):
                place.zero_() if value is None else place.copy_(value)
        return torch.cat(self.means)

    def _want(self, members: slice, values: Callable[[Tensor], Tensor]) -> None:
        mean = sum(_mean(values(t), weight) for t, weight in self._targets(members))
        self.wanted.append(mean)
        self.means.append(mean.detach())

    def _targets(self, members: slice) -> Targets:
        """The targets and weights of a slice of the members."""
        return [(t[members], None if weight is None else weight[members]) for t, weight in self.targets]


def _mean(values: Tensor, weight: Tensor | None) -> Tensor:
    """Weighted values (n, B) to their means over the examples (n,)."""
    return (values if weight is None else values * weight).mean(1)
