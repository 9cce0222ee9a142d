"""Fully connected networks of all members as batched matrix products, with a backward pass written by hand."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from losstune.trainables.backends.backend import Backend, Build, has_hooks, ties_parameters
from losstune.trainables.rows import Layout, Rows


@dataclass
class _Linear:
    """A layer bound to rows: weight (n, out, in), bias (n, out), their gradients, and whether a ReLU follows."""

    name: str
    relu: bool
    weight: Tensor | None = None
    bias: Tensor | None = None
    weight_gradient: Tensor | None = None
    bias_gradient: Tensor | None = None


class Batched(Backend):
    """Chains of Flatten, then Linear and ReLU, or Flatten alone. Autograd would take a third longer on small layers."""

    kind = "batched"
    order = "inputs_first"  # what products of these matrices are quickest with

    def __init__(self, network: nn.Module, build: Build, layout: Layout, members: int, dtype: torch.dtype):
        super().__init__(network, build, layout, members, dtype)
        self.layers: list[_Linear] = []
        self.inputs: list[Tensor] = []
        self.weights: list[Tensor] = []
        for name, module in network.named_children():
            if isinstance(module, nn.Linear):
                self.layers.append(_Linear(name, relu=False))
            elif isinstance(module, nn.ReLU):
                self.layers[-1].relu = True

    @classmethod
    def can_run(cls, network: nn.Module) -> bool:
        """Whether the network is nothing but a chain of Flatten, then Linear (with bias) and ReLU, each used once.

        Subclasses, shared modules, parametrizations and hooks compute something else than their layers say.
        """
        if type(network) is not nn.Sequential or has_hooks(network):
            return False
        if any(map(has_hooks, network.children())) or ties_parameters(network):
            return False
        chain = [layer for layer in network._modules.values() if type(layer) is not nn.Identity]
        starts = [type(layer) for layer in chain[:2]] in ([nn.Flatten], [nn.Flatten, nn.Linear])
        return starts and len(set(map(id, chain))) == len(chain) and all(map(_is_plain, chain))

    def bind(self, rows: Rows) -> None:
        for layer in self.layers:
            for kind in ("weight", "bias"):
                name = f"{layer.name}.{kind}"
                setattr(layer, kind, self.layout.view(rows.parameter, name, self.order))
                setattr(layer, f"{kind}_gradient", self.layout.view(rows.gradient, name, self.order))

    def unbind(self) -> None:
        for layer in self.layers:
            layer.weight = layer.bias = layer.weight_gradient = layer.bias_gradient = None

    def forget(self) -> None:
        self.inputs, self.weights = [], []

    @torch.no_grad()
    def forward(self, x: Tensor, training: bool = True) -> Tensor:
        x = x.flatten(2).to(self.dtype)
        self.inputs, self.weights = [], []
        for layer in self.layers:
            weight = layer.weight.to(self.dtype)
            self.inputs.append(x)
            self.weights.append(weight)
            x = self.products.linear(x, weight, layer.bias.to(self.dtype))
            if layer.relu:
                x.relu_()
        self.inputs.append(x)
        return x.float()

    @torch.no_grad()
    def backward(self, gradient: Tensor) -> None:
        gradient = gradient.to(self.dtype)
        for index, layer in reversed(list(enumerate(self.layers))):
            if layer.relu:
                torch.ops.aten.threshold_backward.grad_input(
                    gradient, self.inputs[index + 1], 0, grad_input=gradient
                )  # fmt: skip
            if self.dtype is torch.float32:
                self.products.by_weight(gradient, self.inputs[index], layer.weight_gradient)
                torch.sum(gradient, 1, out=layer.bias_gradient)
            else:
                layer.weight_gradient.copy_(torch.bmm(gradient.transpose(1, 2), self.inputs[index]))
                torch.sum(gradient, 1, dtype=torch.float32, out=layer.bias_gradient)
            if index:
                gradient = self.products.by_input(gradient, self.weights[index])
        self.forget()


def _is_plain(layer: nn.Module) -> bool:
    if type(layer) is nn.Flatten:
        return (layer.start_dim, layer.end_dim) == (1, -1)
    if type(layer) is nn.Linear:
        return layer.bias is not None and layer.weight.requires_grad and layer.bias.requires_grad
    return type(layer) is nn.ReLU
