"""Any network on a GPU, each member with kernels of its own, side by side: one CUDA stream per member.

A small network's kernels fill a fraction of a GPU and take as long as it takes to start them. In the graph of a step
the members are branches, and the GPU computes as many at once as there is room for.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import cache
from typing import ClassVar

import torch
from torch import Tensor, nn

from losstune.trainables.backends.backend import Backend, Build, is_random
from losstune.trainables.backends.sequential import Sequential
from losstune.trainables.rows import Layout, Named, Rows


class Streams(Backend):
    """Members as Sequential computes them, at once where there is a GPU."""

    kind = "streams"
    devices: ClassVar[tuple[str, ...]] = ("cuda",)

    def __init__(self, network: nn.Module, build: Build, layout: Layout, members: int, dtype: torch.dtype):
        super().__init__(network, build, layout, members, dtype)
        self.parts = [Sequential(network, build, layout, 1, dtype) for _ in range(members)]

    @classmethod
    def can_run(cls, network: nn.Module) -> bool:
        """Networks that draw no random numbers: members share a generator, and a draw would depend on the place."""
        return not is_random(network)

    @classmethod
    def order_for(cls, network: nn.Module, input_shape: tuple[int, ...]) -> str:
        return Sequential.order_for(network, input_shape)

    def compile(self) -> None:
        for part in self.parts:
            part.compile()

    def bind(self, rows: Rows) -> None:
        for index, part in enumerate(self.parts):
            part.order = self.order
            part.bind(rows.of(index))

    def unbind(self) -> None:
        for part in self.parts:
            part.unbind()

    def forget(self) -> None:
        for part in self.parts:
            part.forget()

    def forward(self, x: Tensor, training: bool = True) -> Tensor:
        features = []
        with _side_by_side(x.device, self.members) as beside:
            for index, part in enumerate(self.parts):
                with beside(index):
                    features.append(part.forward(x[index : index + 1], training))
        return torch.cat(features)

    def backward(self, gradient: Tensor) -> None:
        with _side_by_side(gradient.device, self.members) as beside:
            for index, part in enumerate(self.parts):
                with beside(index):
                    part.backward(gradient[index : index + 1])

    def buffers(self) -> list[Named]:
        return [part.buffers()[0] for part in self.parts]


@contextlib.contextmanager
def _side_by_side(device: torch.device, count: int) -> Iterator:
    """beside(i): a context in which work goes to the i-th of so many streams; at the end the caller's waits for all.

    Memory that one of them has freed it may use again at once: whatever it does comes after what the caller's did.
    """
    if device.type != "cuda":
        yield lambda index: contextlib.nullcontext()
        return
    streams, own = _streams(device, count), torch.cuda.current_stream(device)
    for stream in streams:
        stream.wait_stream(own)
    try:
        yield lambda index: torch.cuda.stream(streams[index])
    finally:
        for stream in streams:
            own.wait_stream(stream)


@cache
def _streams(device: torch.device, count: int) -> list[torch.cuda.Stream]:
    return [torch.cuda.Stream(device) for _ in range(count)]
