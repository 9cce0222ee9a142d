"""Any network, one member at a time, convolutions in channels_last."""

from __future__ import annotations

import copy
import warnings

import torch
from torch import Tensor, nn

from losstune.trainables.backends.backend import Build, ByAutograd
from losstune.trainables.backends.compiling import keep_compiled_kernels
from losstune.trainables.rows import Layout, Named, Rows

# A member's part of a matrix of rows is not dense, so autograd adds gradients in another layout than it would choose.
warnings.filterwarnings("ignore", message="grad and param do not obey the gradient layout contract")


class Sequential(ByAutograd):
    """The network as its author wrote it, its parameters views of the member's row."""

    kind = "sequential"
    together = 1

    def __init__(self, network: nn.Module, build: Build, layout: Layout, members: int, dtype: torch.dtype):
        super().__init__(network, build, layout, members, dtype)
        self.module = self.computes = build()

    @classmethod
    def can_run(cls, network: nn.Module) -> bool:
        return True

    def compile(self) -> None:
        keep_compiled_kernels()
        # Not module.compile: of an nn.Sequential some versions of torch then compile only what lies inside.
        self.computes = torch.compile(self.module, dynamic=False)

    @classmethod
    def order_for(cls, network: nn.Module, input_shape: tuple[int, ...]) -> str:
        """channels_last, unless the network reads its activations as they lie in memory, as .view does."""
        if len(input_shape) != 3:
            return "plain"
        tried = copy.deepcopy(network).to(memory_format=torch.channels_last).eval()
        x = torch.zeros(2, *input_shape)
        try:
            with torch.no_grad(), torch.random.fork_rng(devices=[]):
                tried(x.contiguous(memory_format=torch.channels_last))
        except RuntimeError:
            return "plain"
        return cls.order

    def bind(self, rows: Rows) -> None:
        self.rows = rows
        for name, parameter in self.module.named_parameters():
            parameter.data = self.layout.view(rows.parameter, name, self.order)[0]
            parameter.grad = self.layout.view(rows.gradient, name, self.order)[0]
        for buffer in self.module.buffers():
            buffer.data = buffer.to(rows.parameter.device)

    def learned(self) -> list[Tensor]:
        return [parameter for parameter in self.module.parameters() if parameter.requires_grad]

    def forward(self, x: Tensor, training: bool = True) -> Tensor:
        self.module.train(training)
        last = self.order == "channels_last" and x.dim() == 5
        images = x[0].contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)
        low = self.dtype is not torch.float32
        with torch.set_grad_enabled(training), torch.autocast(x.device.type, self.dtype, enabled=low):
            self.features = self.computes(images).unsqueeze(0)
        return self.features.detach().float()

    def unbind(self) -> None:
        self.rows = None
        for parameter in self.module.parameters():
            parameter.grad = None
            parameter.data = parameter.data.new_empty(0)

    def buffers(self) -> list[Named]:
        return [dict(self.module.named_buffers())]
