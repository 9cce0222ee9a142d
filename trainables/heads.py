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

    def __init__(self, trials: list[Trial], rows: Rows, layout_of: Callable[[str], Layout], device: torch.device):
        self.groups: list[_Group] = []
        self.device, start = device, 0
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
        gradient = torch.empty_like(features)
        means = []
        if self.of_logits:
            means += self._through_logits(features, gradient, targets, progress, second)
        if self.of_features:
            means += self._through_autograd(features, gradient, targets, progress, draws, second)
        return torch.cat(means), gradient

    def _through_logits(
        self, features: Tensor, gradient: Tensor, targets: Targets, progress: Tensor, second: bool
    ) -> list[Tensor]:
        x = features[self.linear]
        logits = torch.baddbmm(self.bias.unsqueeze(1), x, self.weight.transpose(1, 2))
        means, parts = [], []
        for group in self.of_logits:
            mean, part = _of_logits(group, logits[group.members], targets, progress, second)
            means.append(mean)
            parts.append(part)
        by_logits = torch.cat(parts) if len(parts) > 1 else parts[0]
        torch.bmm(by_logits.transpose(1, 2), x, out=self.weight_gradient)
        torch.sum(by_logits, 1, out=self.bias_gradient)
        torch.bmm(by_logits, self.weight, out=gradient[self.linear])
        return means

    def _through_autograd(
        self, features: Tensor, gradient: Tensor, targets: Targets, progress: Tensor, draws: list[Tensor | None],
        second: bool,
    ) -> list[Tensor]:  # fmt: skip
        means, leaves, places = [], [], []
        for group in self.of_features:
            m = group.members
            x = features[m].detach().requires_grad_()
            learned = {key: group.parameters[key].detach().requires_grad_() for key in group.gradients}
            uniform = torch.stack(draws[m]) if group.loss.dropout else None
            with torch.enable_grad():
                parameters = {**group.parameters, **learned}
                values = [
                    group.loss(x, parameters, t, progress[m], group.hyperparameters, uniform, second)
                    for t, _ in _of(targets, m)
                ]
                means.append(sum(map(_mean, values, [weight for _, weight in _of(targets, m)])))
            leaves += [x, *learned.values()]
            places += [gradient[m], *group.gradients.values()]
        with torch.enable_grad():
            found = torch.autograd.grad(torch.cat(means).sum(), leaves, allow_unused=True)
        for place, value in zip(places, found, strict=True):
            place.zero_() if value is None else place.copy_(value)
        return [mean.detach() for mean in means]

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


def _of(targets: Targets, members: slice) -> Targets:
    """The targets and weights of a slice of the members."""
    return [(t[members], None if weight is None else weight[members]) for t, weight in targets]


def _mean(values: Tensor, weight: Tensor | None) -> Tensor:
    """Weighted values (n, B) to their means over the examples (n,)."""
    return (values if weight is None else values * weight).mean(1)


def _of_logits(
    group: _Group, logits: Tensor, targets: Targets, progress: Tensor, second: bool
) -> tuple[Tensor, Tensor]:
    """Mean losses (n,) and the gradient (n, B, K) of their sum by the logits."""
    m, batch = group.members, logits.shape[1]
    mean = gradient = None
    for t, weight in _of(targets, m):
        share = 1 / batch if weight is None else weight / batch
        value, part = group.loss.logit_gradient(logits, t, progress[m], group.hyperparameters, share, second)
        value = _mean(value, weight)
        mean, gradient = (value, part) if mean is None else (mean + value, gradient + part)
    return mean, gradient
