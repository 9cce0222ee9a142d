"""The parameters of many members as the rows of one matrix, so that one optimizer step serves them all."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

# Rows are padded to whole vector registers: an element's arithmetic must not depend on the member's place.
ALIGNMENT = 64
HEAD_WEIGHT, HEAD_BIAS = "head.weight", "head.bias"
Named = dict[str, Tensor]


@dataclass(frozen=True)
class Entry:
    """Where one parameter lies in a row."""

    name: str
    shape: tuple[int, ...]
    offset: int
    decays: bool

    @property
    def size(self) -> int:
        return torch.Size(self.shape).numel()


class Layout:
    """The places of a network's parameters, and of its final layer's, in a row.

    Weight decay acts on matrices and kernels, on norm parameters and biases only where decay_norm says so.
    """

    def __init__(self, backbone: nn.Module, in_features: int, num_classes: int, decay_norm: bool = False):
        frozen = {name for name, p in backbone.named_parameters() if not p.requires_grad}
        shapes = {name: tuple(p.shape) for name, p in backbone.named_parameters()}
        shapes |= {HEAD_WEIGHT: (num_classes, in_features), HEAD_BIAS: (num_classes,)}
        self.entries: dict[str, Entry] = {}
        offset = 0
        for name, shape in shapes.items():
            entry = Entry(name, shape, offset, (decay_norm or len(shape) > 1) and name not in frozen)
            self.entries[name] = entry
            offset += -(-entry.size // ALIGNMENT) * ALIGNMENT
        self.width = offset

    def decay_mask(self) -> Tensor:
        """1 where weight decay acts, 0 elsewhere: (P,)."""
        mask = torch.zeros(self.width)
        for entry in self.entries.values():
            mask[entry.offset : entry.offset + entry.size] = float(entry.decays)
        return mask

    def view(self, matrix: Tensor, name: str, channels_last: bool = False) -> Tensor:
        """One parameter of every row of (n, P): (n, *shape), sharing memory; kernels in channels_last on request."""
        entry = self.entries[name]
        part = matrix[:, entry.offset : entry.offset + entry.size]
        if channels_last and len(entry.shape) == 4:
            out, into, height, width = entry.shape
            return part.unflatten(1, (out, height, width, into)).permute(0, 1, 4, 2, 3)
        return part.unflatten(1, entry.shape)

    def pack(self, named: Named, channels_last: bool) -> Tensor:
        """A row (P,) from parameters by name."""
        row = torch.zeros(1, self.width)
        for name in self.entries:
            self.view(row, name, channels_last)[0].copy_(named[name])
        return row[0]

    def unpack(self, row: Tensor, channels_last: bool) -> Named:
        """Parameters by name, copied out of a row (P,) to the CPU."""
        return {name: self.view(row.unsqueeze(0), name, channels_last)[0].cpu().contiguous().clone()
                for name in self.entries}  # fmt: skip


class Rows:
    """Parameters, gradients and momentum of n members, each (n, P), and the decay lambda~ / eta of each place."""

    def __init__(self, parameter: Tensor, momentum: Tensor, decay: Tensor):
        self.parameter, self.momentum, self.decay = parameter, momentum, decay
        self.gradient = torch.zeros_like(parameter)

    def finite(self) -> Tensor:
        """Which members' parameters are all finite: (n,) of bool."""
        return torch.isfinite(self.parameter.sum(1))
