"""Layers that more than one convolutional network is made of."""

from __future__ import annotations

from torch import nn


def conv_norm_relu(inputs: int, outputs: int, size: int = 3, stride: int = 1, padding: int = 1) -> list[nn.Module]:
    """Convolution, batch norm, ReLU. The convolution has no bias: batch norm would subtract it."""
    return [
        nn.Conv2d(inputs, outputs, size, stride=stride, padding=padding, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    ]


def he_init(module: nn.Module) -> None:
    """He et al. 2015 initialization of every convolution: normal, variance 2 / (k k outputs), as in Wide ResNet."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
