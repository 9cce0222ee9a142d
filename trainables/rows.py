"""The parameters of many members as the rows of one matrix, so that one optimizer step serves them all."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

# Rows are padded to whole vector registers: an element's arithmetic must not depend on the member's place.
ALIGNMENT = 64
HEAD = "head."  # begins the names of the final layer's parameters and of the loss's state
Named = dict[str, Tensor]
_NORMALIZATIONS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


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
    """The places of parameters in a row."""

    def __init__(self, entries: dict[str, Entry], width: int):
        self.entries, self.width = entries, width

    @classmethod
    def of_backbone(cls, backbone: nn.Module, decay_norm: bool = False) -> Layout:
        """A network's parameters. Weight decay acts on matrices and kernels, and on norms and biases if decay_norm."""
        frozen = {name for name, p in backbone.named_parameters() if not p.requires_grad}
        spared = set() if decay_norm else _norms_and_biases(backbone)
        shapes = {name: tuple(p.shape) for name, p in backbone.named_parameters()}
        return cls({}, 0).extended(shapes, {name: name not in frozen | spared for name in shapes})
    def extended(self, shapes: Mapping[str, tuple[int, ...]], decays: Mapping[str, bool]) -> Layout:
        """This layout with more parameters behind its own."""
        entries, offset = dict(self.entries), self.width
        for name, shape in shapes.items():
            entries[name] = Entry(name, shape, offset, decays[name])
            offset += -(-entries[name].size // ALIGNMENT) * ALIGNMENT
        return Layout(entries, offset)

    def decay_mask(self) -> Tensor:
        """1 where weight decay acts, 0 elsewhere: (P,)."""
        mask = torch.zeros(self.width)
        for entry in self.entries.values():
            mask[entry.offset : entry.offset + entry.size] = float(entry.decays)
        return mask

    def view(self, matrix: Tensor, name: str, order: str = "plain") -> Tensor:
        """One parameter of every row of (n, P): (n, *shape), sharing memory.

        order: how it lies there: "channels_last" for kernels, "inputs_first" for the matrices of a network's layers.
        """
        entry = self.entries[name]
        part = matrix[:, entry.offset : entry.offset + entry.size]
        if order == "inputs_first" and len(entry.shape) == 2 and not name.startswith(HEAD):
            return part.unflatten(1, entry.shape[::-1]).transpose(1, 2)
        if order == "channels_last" and len(entry.shape) == 4:
            out, into, height, width = entry.shape
            return part.unflatten(1, (out, height, width, into)).permute(0, 1, 4, 2, 3)
        return part.unflatten(1, entry.shape)

    def pack(self, named: Named, order: str) -> Tensor:
        """A row (P,) from parameters by name."""
        row = torch.zeros(1, self.width)
        for name in self.entries:
            self.view(row, name, order)[0].copy_(named[name])
        return row[0]

    def unpack(self, row: Tensor, order: str) -> Named:
        """Parameters by name, copied out of a row (P,) to the CPU."""
        return {name: self.view(row.unsqueeze(0), name, order)[0].cpu().contiguous().clone()
                for name in self.entries}  # fmt: skip


class Rows:
    """What is moved of n members: parameters and gradients (n, P), the decay lambda of each place (n, P), what the
    optimizer keeps for each pass of a step (passes, slots, n, P), and moving averages of the parameters, or None."""

    def __init__(self, parameter: Tensor, state: Tensor, decay: Tensor, average: Tensor | None = None):
        self.parameter, self.state, self.decay, self.average = parameter, state, decay, average
        self.gradient = torch.zeros_like(parameter)

    def of(self, index: int) -> Rows:
        """One member's rows, sharing memory."""
        own, member = copy.copy(self), slice(index, index + 1)
        own.parameter, own.gradient, own.decay = self.parameter[member], self.gradient[member], self.decay[member]
        own.state = self.state[:, :, member]
        own.average = None if self.average is None else self.average[member]
        return own

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """The averages in the parameters' place."""
        kept = self.parameter.clone()
        self.parameter.copy_(self.average)
        try:
            yield
        finally:
            self.parameter.copy_(kept)


def _norms_and_biases(backbone: nn.Module) -> set[str]:
    """The names of a network's vectors, and of what its normalizations learn, which may have more dimensions."""
    norms = [name for name, part in backbone.named_modules() if isinstance(part, _NORMALIZATIONS)]
    return {name for name, p in backbone.named_parameters() if p.dim() < 2 or name.rpartition(".")[0] in norms}


def stacked(rows: list[Tensor]) -> Tensor:
    """Rows (..., P), each of its own width P, padded with zeros to the widest: (n, ..., P)."""
    width = max(row.shape[-1] for row in rows)
    return torch.stack([torch.nn.functional.pad(row, (0, width - row.shape[-1])) for row in rows])


def leaf(layout: Layout, rows: Rows, name: str, members: slice = slice(None), order: str = "plain") -> Tensor:
    """A parameter of the given members as a leaf of autograd whose gradient is a view of the rows' gradient."""
    value = layout.view(rows.parameter[members], name, order).detach().requires_grad_()
    value.grad = layout.view(rows.gradient[members], name, order)
    return value
