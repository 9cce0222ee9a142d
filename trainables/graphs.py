"""A chunk's step as a CUDA graph: small networks spend most of a step on launching kernels, one by one."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from losstune.trainables.chunk import Chunk, StepInputs

WARM_UP = 3  # steps before the capture, on a stream of their own, as torch asks


class CapturedStep:
    """Takes a chunk's steps: the first few as they are, then by replaying a graph of one.

    The chunk's tensors stay where they are as long as it exists; what a step takes is copied to where the graph reads.
    Where a step cannot be captured it goes on being taken as it is, and tell hears the reason. It does not hold the
    chunk, which holds it: in a cycle both would stay until Python looks for cycles.
    """

    def __init__(self, tell: Callable[[str], None]):
        self.tell = tell
        self.taken = 0
        self.graph: torch.cuda.CUDAGraph | None = None
        self.inputs: StepInputs | None = None
        self.means: Tensor | None = None
        self.why: str | None = None

    def __call__(self, chunk: Chunk, inputs: StepInputs) -> Tensor:
        if inputs.first is not None:  # half of a step
            return chunk.step(inputs)
        if self.graph is None and self.why is None and self.taken >= WARM_UP:
            self._capture(chunk, inputs)
        if self.graph is None:
            self.taken += 1
            return self._apart(chunk, inputs) if self.why is None else chunk.step(inputs)
        for into, value in zip(self.inputs.tensors(), inputs.tensors(), strict=True):
            into.copy_(value)
        self.graph.replay()
        return self.means.clone()

    @staticmethod
    def _apart(chunk: Chunk, inputs: StepInputs) -> Tensor:
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            means = chunk.step(inputs)
        torch.cuda.current_stream().wait_stream(side)
        return means

    def _capture(self, chunk: Chunk, inputs: StepInputs) -> None:
        graph, static = torch.cuda.CUDAGraph(), inputs.copy()
        try:
            with torch.cuda.graph(graph):
                means = chunk.step(static, can_fail=False)
        except RuntimeError as error:
            torch.cuda.synchronize()
            self.why = " ".join(str(error).split())[:200]
            self.tell(f"steps are taken one operation after the other, for they cannot be a CUDA graph: {self.why}")
            return
        self.graph, self.inputs, self.means = graph, static, means
