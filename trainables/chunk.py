"""Members that are computed together: their rows, bound to a backend, and one step of their training."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from losstune.trainables.backends import Backend
from losstune.trainables.heads import Heads, Targets, in_order
from losstune.trainables.losses.combine import loss_of
from losstune.trainables.memory import is_out_of_memory
from losstune.trainables.optimizers import OPTIMIZERS, clip
from losstune.trainables.products import Products, TorchProducts
from losstune.trainables.recipe import Recipe
from losstune.trainables.rows import Layout, Named, Rows, stacked
from losstune.trainables.trial import Trial


@dataclass
class Member:
    """One seed of a trial, and how far it has come.

    parameter: its row (P,). state: what the optimizer keeps for each pass of a step, (passes, slots, P). average: the
    moving average of its row, if there is one. buffers: its networks' running statistics; average_buffers: theirs.
    """

    trial: Trial
    seed: int
    epoch: int
    parameter: Tensor
    state: Tensor
    average: Tensor | None = None
    buffers: Named = field(default_factory=dict)
    average_buffers: Named = field(default_factory=dict)
    step: int = 0  # of an epoch that has begun, the steps that are done
    total: float = 0.0  # the sum of its mean losses in these

    @property
    def stream(self) -> tuple[str, int, int]:
        """What its order and augmentation derive from: members that agree in it see the same batches."""
        return self.trial.phase, self.seed, self.epoch

    def to(self, device: torch.device) -> Member:
        """The same member on a device."""
        average = None if self.average is None else self.average.to(device)
        buffers, averages = ({name: value.to(device) for name, value in named.items()}
                             for named in (self.buffers, self.average_buffers))  # fmt: skip
        return replace(self, parameter=self.parameter.to(device), state=self.state.to(device), average=average,
                       buffers=buffers, average_buffers=averages)  # fmt: skip

    def copy(self) -> Member:
        """The same member, with tensors of its own."""
        average = None if self.average is None else self.average.clone()
        buffers, averages = ({name: value.clone() for name, value in named.items()}
                             for named in (self.buffers, self.average_buffers))  # fmt: skip
        return replace(self, parameter=self.parameter.clone(), state=self.state.clone(), average=average,
                       buffers=buffers, average_buffers=averages)  # fmt: skip


@dataclass
class StepInputs:
    """What one step of a chunk takes.

    x (n, B, *shape) normalized; targets with their shares; progress, rate (n, 1); factors: of optimizer and average,
    each (n, 1); draws: of dropout, one per member, or None. All on the chunk's device.
    """

    x: Tensor
    targets: Targets
    progress: Tensor
    rate: Tensor
    factors: list[Tensor]
    draws: list[Tensor | None]
    first: Tensor | None = None  # the mean losses (n,) of a first pass that is done already

    def tensors(self) -> list[Tensor]:
        """All that there are, in an order that depends on the chunk alone."""
        mixed = [value for pair in self.targets for value in pair]
        values = [self.x, *mixed, self.progress, self.rate, *self.factors, *self.draws]
        return [value for value in values if value is not None]

    def copy(self) -> StepInputs:
        def own(value: Tensor | None) -> Tensor | None:
            return None if value is None else value.clone()

        targets = [(own(t), own(share)) for t, share in self.targets]
        return StepInputs(own(self.x), targets, own(self.progress), own(self.rate), [*map(own, self.factors)],
                          [*map(own, self.draws)])  # fmt: skip


class OutOfMemory(Exception):
    """Memory ran out in a pass of a step. first: the mean losses (n,) of the passes before it, or None."""

    def __init__(self, first: Tensor | None):
        super().__init__("memory ran out")
        self.first = first


class Chunk:
    """Members in the order of their losses, bound to a backend. All take the same number of passes per step.

    layout_of: the layout of a loss's rows. in_features: of the final layers.
    """

    def __init__(
        self, members: list[Member], backend: Backend, layout_of: Callable[[str], Layout], recipe: Recipe,
        in_features: int, device: torch.device, products: Products = TorchProducts,
    ):  # fmt: skip
        self.members = sorted(members, key=lambda m: in_order(m.trial))
        self.backend, self.layout_of, self.recipe, self.device = backend, layout_of, recipe, device
        self.optimizer = OPTIMIZERS[recipe.optimizer]
        self.rows = self._rows()
        backend.bind(self.rows)
        self._load_buffers()
        self.heads = Heads([m.trial for m in self.members], self.rows, layout_of, device, products)
        self.in_features = in_features
        weights = recipe.class_weights
        self.class_weights = None if weights is None else torch.tensor(weights, device=device)
        self.taken_by: Callable[[Chunk, StepInputs], Tensor] | None = None  # what takes its steps faster, if anything
        self.own_widths = [(group.members, layout_of(self.members[group.members.start].trial.loss).width)
                           for group in self.heads.groups]  # fmt: skip

    def _rows(self) -> Rows:
        """The members' rows stacked; from now on theirs are views of them."""
        state = stacked([m.state for m in self.members])  # (n, passes, slots, P)
        averages = [m.average for m in self.members if m.average is not None]
        rows = Rows(
            stacked([m.parameter for m in self.members]), state.permute(1, 2, 0, 3).contiguous(),
            stacked([self._decay(m.trial) for m in self.members]).to(self.device),
            stacked(averages) if averages else None,
        )  # fmt: skip
        for index, member in enumerate(self.members):
            width = self.layout_of(member.trial.loss).width
            member.parameter = rows.parameter[index, :width]
            member.state = rows.state[:, :, index, :width]
            if averages:
                member.average = rows.average[index, :width]
        return rows

    def _decay(self, trial: Trial) -> Tensor:
        by = trial.learning_rate if self.recipe.weight_decay_as == "product" else 1.0
        return trial.weight_decay / by * self.layout_of(trial.loss).decay_mask()

    def refresh(self) -> None:
        """Let the members' buffers be those that are in use: a network may put new tensors in their place."""
        for member, live in zip(self.members, self.backend.buffers(), strict=True):
            member.buffers = live

    @torch.no_grad()
    def _load_buffers(self) -> None:
        for member, live in zip(self.members, self.backend.buffers(), strict=True):
            for name, buffer in live.items():
                buffer.copy_(member.buffers[name])
            member.buffers = live
        self.statistics = [value for m in self.members for value in m.buffers.values()]

    def detach(self) -> None:
        """Give the members copies of what the backend keeps for them, so that it may be used for others."""
        self.refresh()
        for member in self.members:
            member.buffers = {name: value.clone() for name, value in member.buffers.items()}
        self.backend.unbind()

    def take(self, inputs: StepInputs) -> Tensor:
        """One step of every member, the quickest way; their mean losses (n,)."""
        return self.step(inputs) if self.taken_by is None else self.taken_by(self, inputs)

    @torch.no_grad()
    def step(self, inputs: StepInputs, can_fail: bool = True) -> Tensor:
        """One step of every member; their mean losses (n,).

        OutOfMemory where memory runs out in forward or backward, if it can_fail; then parameters and statistics are as
        before that pass, and what it says of the passes before goes into the inputs of who goes on.
        """
        first, targets = inputs.first, self._weighted(inputs.targets)
        for index in range(0 if first is None else 1, self.heads.passes):
            try:
                features, means = self._gradients(inputs, targets, index > 0, can_fail)
            except (RuntimeError, MemoryError) as error:
                if can_fail and is_out_of_memory(error):
                    raise OutOfMemory(first) from error
                raise
            if index == 0:
                self.heads.move_state(features, inputs.targets[0][0])
            if self.recipe.clip_norm is not None:
                clip(self.rows.gradient, self.own_widths, self.recipe.clip_norm)
            factors = inputs.factors if self.rows.average is None else inputs.factors[:-1]
            self.optimizer.step(self.rows, self.rows.state[index], inputs.rate, factors, self.recipe)
            self.heads.constrain()
            first = means if first is None else first
        if self.rows.average is not None:
            self._follow(inputs.factors[-1])
        return first

    def _gradients(self, inputs: StepInputs, targets: Targets, second: bool, can_fail: bool) -> tuple[Tensor, Tensor]:
        """Features (n, B, d) and mean losses (n,); the gradients are in the rows."""
        before = [value.clone() for value in self.statistics] if can_fail else []
        try:
            features = self.backend.forward(inputs.x)
            means, gradient = self.heads.gradients(features, targets, inputs.progress, inputs.draws, second)
            self.backend.backward(gradient)
        except (RuntimeError, MemoryError):
            for value, old in zip(self.statistics, before, strict=False):
                value.copy_(old)
            self.backend.forget()
            raise
        return features, means

    def _follow(self, share: Tensor) -> None:
        self.refresh()
        self.rows.average.lerp_(self.rows.parameter, share)
        for member, own in zip(self.members, share, strict=True):
            for name, value in member.buffers.items():
                kept = member.average_buffers[name]
                kept.lerp_(value, own.squeeze()) if value.is_floating_point() else kept.copy_(value)

    def _weighted(self, targets: Targets) -> Targets:
        """Targets whose weights count the recipe's class weights."""
        if self.class_weights is None:
            return targets
        weights = [self.class_weights[t] for t, _ in targets]
        return [(t, weight if share is None else weight * share)
                for (t, share), weight in zip(targets, weights, strict=True)]  # fmt: skip

    @torch.no_grad()
    def logits(self, x: Tensor) -> Tensor:
        """Transformed logits (n, B, K) of the same normalized inputs (B, *shape) for every member."""
        shared = x.unsqueeze(0).expand(len(self.members), *x.shape)
        return self.heads.logits(self.backend.forward(shared, training=False))

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """Averages of weights and statistics in their place, to be evaluated."""
        self.refresh()
        kept = [{name: value.clone() for name, value in m.buffers.items()} for m in self.members]
        with self.rows.averaged():
            _write([m.buffers for m in self.members], [m.average_buffers for m in self.members])
            try:
                yield
            finally:
                _write([m.buffers for m in self.members], kept)


def _write(places: list[Named], values: list[Named]) -> None:
    for into, those in zip(places, values, strict=True):
        for name, value in those.items():
            into[name].copy_(value)


def partition(members: list[Member], together: int) -> list[list[Member]]:
    """Members in chunks of at most so many: those of as many passes per step, as far in an epoch, ordered by loss."""
    parts, kinds = [], {id(m): (loss_of(m.trial.loss).passes, m.step) for m in members}
    for kind in sorted(set(kinds.values())):
        same = sorted((m for m in members if kinds[id(m)] == kind), key=lambda m: in_order(m.trial))
        parts += [same[start : start + together] for start in range(0, len(same), together)]
    return parts
