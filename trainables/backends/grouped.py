"""Convolutional networks of all members as one: convolutions in as many groups as there are members, in channels_last.

Activations are (B, n C, H, W), member after member along the channels. What has no parameters, a ReLU, a pooling, a sum
of two branches, then computes all members as it is; layers with parameters are replaced by stacked ones.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from losstune.trainables.architectures.blocks import GlobalAveragePool, PadChannels
from losstune.trainables.backends.backend import Build, ByAutograd, has_hooks, ties_parameters
from losstune.trainables.backends.compiling import keep_compiled_kernels
from losstune.trainables.rows import Layout, Named, Rows, leaf

# Layers that act on each channel or place alone, whatever the number of channels.
_WITHOUT_PARAMETERS = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SiLU, nn.GELU, nn.Hardswish, nn.Hardsigmoid, nn.Sigmoid, nn.Tanh,
    nn.Identity, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.ZeroPad2d, PadChannels,
    GlobalAveragePool,
)  # fmt: skip


class _Stacked(nn.Module):
    """A layer of n members. leaves: its parameters by name, (n, *shape), bound to rows."""

    def __init__(self, layer: nn.Module, name: str, members: int):
        super().__init__()
        self.layer_name, self.n = name, members
        self.names = [key for key, _ in layer.named_parameters(recurse=False)]
        self.leaves: Named = {}

    def of(self, key: str) -> Tensor:
        """A parameter of all members, (n, *shape). A dummy beside a single member shares its parameters."""
        value = self.leaves[key]
        return value if len(value) == self.n else value.expand(self.n, *value.shape[1:])

    def flat(self, key: str) -> Tensor | None:
        return self.of(key).flatten() if key in self.leaves else None


class _Conv2d(_Stacked):
    def __init__(self, layer: nn.Conv2d, name: str, members: int):
        super().__init__(layer, name, members)
        self.stride, self.padding, self.dilation = layer.stride, layer.padding, layer.dilation
        self.groups = layer.groups

    def forward(self, x: Tensor) -> Tensor:
        # (n, out, in, h, w) lies in the rows as (n, out, h, w, in): one copy makes it a kernel in channels_last.
        weight = self.of("weight").permute(0, 1, 3, 4, 2).flatten(0, 1).permute(0, 3, 1, 2)
        return F.conv2d(x, weight, self.flat("bias"), self.stride, self.padding, self.dilation, self.n * self.groups)


class _BatchNorm2d(_Stacked):
    def __init__(self, layer: nn.BatchNorm2d, name: str, members: int):
        super().__init__(layer, name, members)
        self.momentum, self.eps = layer.momentum, layer.eps
        for key, value in layer.named_buffers():
            self.register_buffer(key, value.expand(members, *value.shape).clone())

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.num_batches_tracked.add_(1)
        mean, var = self.running_mean.view(-1), self.running_var.view(-1)
        weight, bias = self.flat("weight"), self.flat("bias")
        return F.batch_norm(x, mean, var, weight, bias, self.training, self.momentum, self.eps)


class _GroupNorm(_Stacked):
    def __init__(self, layer: nn.GroupNorm, name: str, members: int):
        super().__init__(layer, name, members)
        self.groups, self.eps = layer.num_groups, layer.eps

    def forward(self, x: Tensor) -> Tensor:
        return F.group_norm(x, self.n * self.groups, self.flat("weight"), self.flat("bias"), self.eps)


class _Linear(_Stacked):
    def __init__(self, layer: nn.Linear, name: str, members: int):
        super().__init__(layer, name, members)

    def forward(self, x: Tensor) -> Tensor:
        x = x.unflatten(1, (self.n, -1)).transpose(0, 1)
        weight = self.of("weight").transpose(1, 2)
        y = torch.baddbmm(self.of("bias").unsqueeze(1), x, weight) if "bias" in self.leaves else torch.bmm(x, weight)
        return y.transpose(0, 1).flatten(1)


_STACKED = {nn.Conv2d: _Conv2d, nn.BatchNorm2d: _BatchNorm2d, nn.GroupNorm: _GroupNorm, nn.Linear: _Linear}


class Grouped(ByAutograd):
    """One network whose every layer is as wide as those of all members together."""

    kind = "grouped"

    def __init__(self, network: nn.Module, build: Build, layout: Layout, members: int, dtype: torch.dtype):
        super().__init__(network, build, layout, members, dtype)
        # A convolution of one group is another kernel, with other rounding: a single member has a dummy beside it.
        self.width = max(2, members)
        self.module, self.stacked = _stacked(build(), self.width)
        self.computes = self.module

    @classmethod
    def can_run(cls, network: nn.Module) -> bool:
        """Whether every layer is one that has a stacked form, or needs none.

        What a network's own forward does between its layers is not seen: a comparison of the results tells.
        """
        parts = list(network.modules())
        layers = [part for part in parts if not list(part.children())]
        convolves = any(isinstance(layer, nn.Conv2d) for layer in layers)
        containers = [part for part in parts if list(part.children())]
        plain = not any(has_hooks(part) or part._parameters or part._buffers for part in containers)
        return convolves and plain and not ties_parameters(network) and all(map(_can_stack, layers))

    @classmethod
    def is_exact(cls, network: nn.Module) -> bool:
        """Where the processor has AVX-512 and channels fill its vector registers.

        Else the rounding of a kernel's last channels depends on company; on processors without AVX-512 oneDNN takes
        other kernels for other numbers of groups. A study on such a CPU is not computed this way, see check_backend.
        """
        whole = all(layer.out_channels % 8 == 0 for layer in network.modules() if isinstance(layer, nn.Conv2d))
        return whole and torch.backends.cpu.get_cpu_capability() == "AVX512"

    def compile(self) -> None:
        keep_compiled_kernels()
        # Not module.compile: of an nn.Sequential some versions of torch then compile only what lies inside.
        self.computes = torch.compile(self.module, dynamic=False)

    def bind(self, rows: Rows) -> None:
        self.rows = rows
        for layer in self.stacked:
            layer.to(rows.parameter.device)
            layer.leaves = {key: leaf(self.layout, rows, f"{layer.layer_name}.{key}", order=self.order)
                            for key in layer.names}  # fmt: skip

    def learned(self) -> list[Tensor]:
        return [value for layer in self.stacked for value in layer.leaves.values()]

    def forward(self, x: Tensor, training: bool = True) -> Tensor:
        self.module.train(training)
        if len(x) < self.width:
            x = x.expand(self.width, *x.shape[1:])
        # (n, B, C, H, W) to (B, n C, H, W) in channels_last
        x = x.permute(1, 3, 4, 0, 2).flatten(3).permute(0, 3, 1, 2)
        low = self.dtype is not torch.float32
        with torch.set_grad_enabled(training), torch.autocast(x.device.type, self.dtype, enabled=low):
            y = self.computes(x)
            self.features = y.unflatten(1, (self.width, -1)).flatten(2).transpose(0, 1)[: self.members]
        return self.features.detach().float()

    def unbind(self) -> None:
        self.rows = None
        for layer in self.stacked:
            layer.leaves = {}

    def buffers(self) -> list[Named]:
        layers = [layer for layer in self.stacked if layer._buffers]
        return [
            {f"{layer.layer_name}.{key}": value[member] for layer in layers for key, value in layer._buffers.items()}
            for member in range(self.members)
        ]


def _can_stack(layer: nn.Module) -> bool:
    if has_hooks(layer):
        return False
    if type(layer) is nn.Flatten:
        return (layer.start_dim, layer.end_dim) == (1, -1)
    if type(layer) is nn.Conv2d:
        return layer.padding_mode == "zeros" and _all_learned(layer)
    if type(layer) is nn.BatchNorm2d:
        return layer.track_running_stats and layer.momentum is not None and _all_learned(layer)
    return type(layer) in _WITHOUT_PARAMETERS or type(layer) in _STACKED and _all_learned(layer)


def _all_learned(layer: nn.Module) -> bool:
    return all(p.requires_grad for p in layer.parameters())


def _stacked(network: nn.Module, members: int) -> tuple[nn.Module, list[_Stacked]]:
    """The network with its layers replaced by stacked ones, and those."""
    layers = []
    for name, layer in list(network.named_modules()):
        if type(layer) in _STACKED:
            stacked = _STACKED[type(layer)](layer, name, members)
            layers.append(stacked)
            if not name:
                return stacked, layers
            parent, _, child = name.rpartition(".")
            setattr(network.get_submodule(parent), child, stacked)
    return network, layers
