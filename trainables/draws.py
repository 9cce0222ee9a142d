"""What an epoch draws, derived from seed and epoch alone: order, augmentation, dropout, mixing; and its schedule."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from losstune.trainables.chunk import Member
from losstune.trainables.heads import Targets
from losstune.trainables.optimizers import OPTIMIZERS, share_of_new
from losstune.trainables.recipe import Recipe
from losstune.trainables.seeds import derive, generator

Stream = tuple[str, int, int]  # phase, seed, epoch: members that agree in these see the same batches


@dataclass(frozen=True)
class Draws:
    """The draws of one study's recipe. steps: per epoch."""

    study: str
    recipe: Recipe
    examples: int

    @property
    def steps(self) -> int:
        return self.examples // self.recipe.batch_size

    def order(self, streams: list[Stream]) -> Tensor:
        """The examples of each step, (u, steps, B); a last incomplete batch is left out."""
        return torch.stack([self._order(*stream) for stream in streams])

    def _order(self, phase: str, seed: int, epoch: int) -> Tensor:
        draw = torch.randperm(self.examples, generator=generator(self.study, phase, seed, "order", epoch))
        return draw[: self.steps * self.recipe.batch_size].view(self.steps, -1)

    def augmentation(self, streams: list[Stream], step: int) -> list[torch.Generator]:
        return [generator(self.study, phase, seed, "augmentation", epoch, step) for phase, seed, epoch in streams]

    def dropout(self, members: list[Member]) -> list[torch.Generator]:
        """Generators of the whole epoch, one per member."""
        return [generator(self.study, m.trial.phase, m.seed, "dropout", m.epoch) for m in members]

    def network(self, member: Member, step: int) -> int:
        """The seed of what a network draws itself, such as dropout between its layers."""
        return derive(self.study, member.trial.phase, member.seed, "network", member.epoch, step)

    def mixed(self, x: Tensor, targets: Tensor, streams: list[Stream], step: int) -> tuple[Tensor, Targets]:
        """A step's batches as the recipe mixes them, (u, B, *shape), and the targets (u, B) with their shares.

        Mixup (Zhang et al. 2018): each example with another of its batch, one share per batch from Beta(a, a).
        """
        if self.recipe.mixup is None:
            return x, [(targets, None)]
        partners, shares = (drawn.to(x.device) for drawn in self._mixing(streams, step))
        others = torch.stack([own[partner] for own, partner in zip(x, partners, strict=True)])
        keep = shares.view(-1, *[1] * (x.dim() - 1))
        return x * keep + others * (1 - keep), [(targets, shares), (targets.gather(1, partners), 1 - shares)]

    def _mixing(self, streams: list[Stream], step: int) -> tuple[Tensor, Tensor]:
        """Partners (u, B), places in the batch, and the share (u, 1) that an example keeps."""
        partners, shares = [], []
        for phase, seed, epoch in streams:
            draw = generator(self.study, phase, seed, "mixup", epoch, step)
            partners.append(torch.randperm(self.recipe.batch_size, generator=draw))
            uniform = np.random.RandomState(derive(self.study, phase, seed, "mixup share", epoch, step) % 2**32)
            shares.append(uniform.beta(self.recipe.mixup, self.recipe.mixup))
        return torch.stack(partners), torch.tensor(shares, dtype=torch.float32).unsqueeze(1)

    def schedule(self, members: list[Member]) -> list[Tensor]:
        """Progress, learning rate and the optimizer's and average's factors at every step, each (steps, n, 1).

        In double precision and by operations that are rounded exactly: a vectorized cosine may round differently at
        another place of the stack.
        """
        columns = [_at_epoch(self.recipe, self.steps, m.epoch) for m in members]
        table = np.stack(columns, axis=2)  # (2 + factors, steps, n)
        table[1] *= np.array([m.trial.learning_rate for m in members])
        return [torch.from_numpy(rows.astype(np.float32)).unsqueeze(2) for rows in table]


@lru_cache(maxsize=512)
def _at_epoch(recipe: Recipe, steps: int, epoch: int) -> np.ndarray:
    """Progress, the learning rate's share of its peak, and factors, at every step of an epoch: (2 + factors, steps)."""
    full, factors_at = recipe.epochs * steps, OPTIMIZERS[recipe.optimizer].factors_at
    rows = []
    for done in range(epoch * steps, (epoch + 1) * steps):
        progress = done / full
        factors = factors_at(done + 1, recipe)
        average = () if recipe.average is None else (share_of_new(done + 1, recipe.average),)
        rows.append([progress, recipe.schedule.rate(1.0, progress, recipe.epochs), *factors, *average])
    return np.array(rows, dtype=np.float64).T.copy()
