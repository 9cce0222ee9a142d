"""One epoch of one chunk: which batches its members see, at which rates, and what they have lost so far."""

from __future__ import annotations

import torch
from torch import Tensor

from losstune.trainables.chunk import Chunk, StepInputs
from losstune.trainables.draws import Draws, Stream
from losstune.trainables.heads import Targets


class ChunkEpoch:
    """A chunk's way through an epoch, or what is left of it: its members have come equally far.

    streams: all that the batches hold, of which each member sees one. begin: the steps that are done. total: the sum of
    each member's mean losses so far, (n,).
    """

    def __init__(self, chunk: Chunk, streams: list[Stream], draws: Draws, device: torch.device):
        self.chunk, self.streams, self.draws, self.device = chunk, streams, draws, device
        place = [streams.index(m.stream) for m in chunk.members]
        # A view where there is nothing to bring together, else a copy per member.
        in_place = place == list(range(place[0], place[0] + len(place)))
        self.place = slice(place[0], place[-1] + 1) if in_place else torch.tensor(place, device=device)
        self.tables = [table.to(device) for table in draws.schedule(chunk.members)]
        drops = any(group.loss.dropout for group in chunk.heads.groups)
        self.noise = draws.dropout(chunk.members) if drops else None
        self.drawn: list[Tensor | None] | None = None  # of a step that has begun
        self.begin = chunk.members[0].step
        self.total = torch.tensor([m.total for m in chunk.members], device=device)
        if self.noise is not None:
            for _ in range(self.begin):
                self._draw(draws.recipe.batch_size)
        self.first: Tensor | None = None  # of a step of which one pass is done

    def step(self, step: int, x: Tensor, targets: Targets, seed_network: bool) -> None:
        """One step on the batches of all streams, x (u, B, *shape), targets (u, B)."""
        if seed_network:
            seed = self.draws.network(self.chunk.members[0], step)
            torch.default_generator.manual_seed(seed)  # torch.manual_seed looks for every kind of device, every time
            if self.device.type == "cuda":
                torch.cuda.manual_seed(seed)
        if self.drawn is None:
            self.drawn = [None] * len(self.chunk.members) if self.noise is None else self._draw(x.shape[1])
        progress, rate, *factors = (table[step] for table in self.tables)
        own = [(self._own(t), None if share is None else self._own(share)) for t, share in targets]
        inputs = StepInputs(self._own(x), own, progress, rate, factors, self.drawn, self.first)
        self.total += self.chunk.take(inputs)
        self.drawn = self.first = None

    def interrupted_at(self, steps: int) -> None:
        """Note in the members how far they have come, when so many of the epoch's steps are done."""
        if steps > self.begin:
            for member, total in zip(self.chunk.members, self.total.tolist(), strict=True):
                member.step, member.total = steps, total

    def _own(self, values: Tensor) -> Tensor:
        """What each member sees of the values (u, ...) of all streams: (n, ...)."""
        return values[self.place] if isinstance(self.place, slice) else values.index_select(0, self.place)

    def _draw(self, batch: int) -> list[Tensor | None]:
        drawn = self.chunk.heads.draw(self.noise, batch, self.chunk.in_features)
        return [None if draw is None else draw.to(self.device, non_blocking=True) for draw in drawn]

    def taken_over(self, chunk: Chunk, start: int, first: Tensor | None) -> ChunkEpoch:
        """The same epoch, in the middle of it, for a chunk of some of the members, from the start-th.

        first: the mean losses (n,) of the first pass of the step that has begun, if it is done.
        """
        part, stop = ChunkEpoch(chunk, self.streams, self.draws, self.device), start + len(chunk.members)
        if self.noise is not None and part.noise is not None:
            part.noise, part.drawn = self.noise[start:stop], self.drawn[start:stop]
        part.total = self.total[start:stop].clone()
        part.first = None if first is None else first[start:stop].clone()
        return part
