"""How the networks of a stack are computed: all members in one batched program, or member after member."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn

from losstune.trainables.rows import Layout, Named, Rows

# A member's part of a matrix of rows is not dense, so autograd adds gradients in another layout than it would choose.
warnings.filterwarnings("ignore", message="grad and param do not obey the gradient layout contract")


class Batched:
    """Fully connected networks of all members as batched matrix products."""

    channels_last = False
    together = True

    def __init__(self, backbone: nn.Module, layout: Layout):
        self.layout = layout
        self.steps = [(name, module) for name, module in backbone.named_modules() if not list(module.children())]
        self.leaves: Named = {}

    @staticmethod
    def can_run(backbone: nn.Module) -> bool:
        """Whether the network is nothing but a chain of Flatten, then Linear (with bias) and ReLU, each used once.

        Subclasses, shared modules, parametrizations and hooks compute something else than their layers say.
        """
        if type(backbone) is not nn.Sequential or _has_hooks(backbone):
            return False
        chain = list(backbone._modules.values())
        starts_flat = bool(chain) and type(chain[0]) is nn.Flatten
        return starts_flat and len(set(map(id, chain))) == len(chain) and all(map(_is_plain, chain))

    def bind(self, rows: Rows) -> None:
        """Make the network's parameters views of the rows, so that gradients arrive there."""
        self.leaves = {}
        for name, module in self.steps:
            for kind in ("weight", "bias") if isinstance(module, nn.Linear) else ():
                self.leaves[f"{name}.{kind}"] = leaf(self.layout, rows, f"{name}.{kind}")

    def features(self, x: Tensor, training: bool) -> Tensor:
        """Inputs (n, B, *shape) to penultimate features (n, B, d)."""
        x = x.flatten(2)
        for name, module in self.steps:
            if isinstance(module, nn.Linear):
                weight, bias = self.leaves[f"{name}.weight"], self.leaves[f"{name}.bias"]
                x = torch.baddbmm(bias.unsqueeze(1), x, weight.transpose(1, 2))
            elif isinstance(module, nn.ReLU):
                x = x.relu()
        return x

    def buffers(self) -> Named:
        return {}

    def load_buffers(self, buffers: Named) -> None:
        """Nothing to load: these networks have no buffers."""


def _is_plain(layer: nn.Module) -> bool:
    if _has_hooks(layer):
        return False
    if type(layer) is nn.Flatten:
        return (layer.start_dim, layer.end_dim) == (1, -1)
    if type(layer) is nn.Linear:
        return layer.bias is not None and layer.weight.requires_grad and layer.bias.requires_grad
    return type(layer) in (nn.ReLU, nn.Identity)


def _has_hooks(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks or module._backward_hooks)


class Sequential:
    """Any network, one member at a time, convolutions in channels_last."""

    channels_last = True
    together = False

    def __init__(self, backbone: nn.Module, layout: Layout):
        self.layout = layout
        self.module = backbone.to(memory_format=torch.channels_last)

    def bind(self, rows: Rows) -> None:
        """Make the one member's parameters views of its row, so that gradients arrive there."""
        for name, parameter in self.module.named_parameters():
            parameter.data = self.layout.view(rows.parameter, name, True)[0]
            parameter.grad = self.layout.view(rows.gradient, name, True)[0]

    def features(self, x: Tensor, training: bool) -> Tensor:
        """Inputs (1, B, *shape) to penultimate features (1, B, d)."""
        self.module.train(training)
        images = x[0].contiguous(memory_format=torch.channels_last) if x.dim() == 5 else x[0]
        return self.module(images).unsqueeze(0)

    def buffers(self) -> Named:
        """Running statistics by name, copied to the CPU."""
        return {name: buffer.cpu().clone() for name, buffer in self.module.named_buffers()}

    def load_buffers(self, buffers: Named) -> None:
        for name, buffer in self.module.named_buffers():
            buffer.copy_(buffers[name])


Backend = Batched | Sequential


def choose(backbone: nn.Module) -> type[Batched] | type[Sequential]:
    """Batched matrix products for fully connected networks, member after member for the rest."""
    return Batched if Batched.can_run(backbone) else Sequential


def leaf(layout: Layout, rows: Rows, name: str, members: slice = slice(None)) -> Tensor:
    """A parameter of the given members as a leaf of autograd whose gradient is a view of the rows' gradient."""
    value = layout.view(rows.parameter[members], name).detach().requires_grad_()
    value.grad = layout.view(rows.gradient[members], name)
    return value
