"""Layers that more than one convolutional network is made of.

A batched backend computes n members as one network whose activations are (B, n C, H, W). So what rearranges channels
here works on C channels at a time, and everything with parameters is a plain module of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch.nn.functional as F
from torch import Tensor, nn

SMALL = 64  # height or width, pixels: up to here a stem keeps the resolution, as the papers do on CIFAR


def conv_norm_relu(inputs: int, outputs: int, size: int = 3, stride: int = 1, padding: int = 1) -> list[nn.Module]:
    """Convolution, batch norm, ReLU. The convolution has no bias: batch norm would subtract it."""
    return [
        nn.Conv2d(inputs, outputs, size, stride=stride, padding=padding, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    ]


def is_small(input_shape: tuple[int, int, int]) -> bool:
    """Whether images (C, H, W) are too small for a stem that divides their size by four."""
    return min(input_shape[1:]) <= SMALL


def resnet_stem(input_shape: tuple[int, int, int]) -> list[nn.Module]:
    """From images to 64 channels: 7x7 of stride 2 and max-pooling; for small images 3x3, which keeps their size."""
    if is_small(input_shape):
        return conv_norm_relu(input_shape[0], 64)
    return [*conv_norm_relu(input_shape[0], 64, size=7, stride=2, padding=3), nn.MaxPool2d(3, stride=2, padding=1)]


class GlobalAveragePool(nn.Module):
    """The mean of each channel: (B, C, H, W) to (B, C, 1, 1), as nn.AdaptiveAvgPool2d(1).

    That one's gradient comes in another memory layout than activations in channels_last, and whatever takes both is
    then slow: it costs a small network a tenth of its step on a CPU.
    """

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1).flatten(1, 2).mean(1)[:, :, None, None]


def pooled_classifier(features: int, num_classes: int) -> list[nn.Module]:
    """Global average pooling and the final layer."""
    return [GlobalAveragePool(), nn.Flatten(), nn.Linear(features, num_classes)]


def projection(inputs: int, outputs: int, stride: int) -> nn.Module:
    """A shortcut between different shapes, option B of He et al. 2016a: 1x1 convolution and batch norm."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs))


class PadChannels(nn.Module):
    """A shortcut between different shapes, option A of He et al. 2016a: every stride-th pixel, and channels of zeros.

    From (B, inputs, H, W) to (B, outputs, H / stride, W / stride); half of the zeros lie before, half behind.
    """

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.inputs, self.stride = inputs, stride
        self.before = (outputs - inputs) // 2
        self.behind = outputs - inputs - self.before

    def forward(self, x: Tensor) -> Tensor:
        x = x[..., :: self.stride, :: self.stride].unflatten(1, (-1, self.inputs))
        return F.pad(x, (0, 0, 0, 0, self.before, self.behind)).flatten(1, 2)


def residual_stages(
    block: Callable[..., nn.Module], inputs: int, stages: Iterable[tuple[int, int, int]],
    shortcut: Callable[[int, int, int], nn.Module] = projection, **options: float,
) -> list[nn.Module]:  # fmt: skip
    """Torchvision's residual blocks in a row.

    block(inputs, planes, stride, shortcut or None, **options) returns a block to planes * block.expansion channels.
    stages: (planes, blocks, stride of the first block) of each.
    """
    layers = []
    for planes, count, first_stride in stages:
        outputs = planes * block.expansion
        for stride in (first_stride, *[1] * (count - 1)):
            between = shortcut(inputs, outputs, stride) if stride != 1 or inputs != outputs else None
            layers.append(block(inputs, planes, stride, between, **options))
            inputs = outputs
    return layers


class PreActivationBlock(nn.Module):
    """The basic block of He et al. 2016b: (B, inputs, H, W) to (B, outputs, H / stride, W / stride)."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.norm1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.relu = nn.ReLU(inplace=True)
        changes = stride != 1 or inputs != outputs
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False) if changes else None

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.norm1(x))
        # A block that changes the shape feeds its shortcut from the activated input.
        residual = x if self.shortcut is None else self.shortcut(out)
        return self.conv2(self.relu(self.norm2(self.conv1(out)))) + residual


def pre_activation_stages(inputs: int, stages: Iterable[tuple[int, int, int]]) -> list[nn.Module]:
    """Pre-activation blocks in a row; stages: (channels, blocks, stride of the first block) of each."""
    layers = []
    for outputs, count, first_stride in stages:
        for stride in (first_stride, *[1] * (count - 1)):
            layers.append(PreActivationBlock(inputs, outputs, stride))
            inputs = outputs
    return layers


def he_init(module: nn.Module, mode: str = "fan_in") -> None:
    """He et al. 2015 initialization of every convolution: normal, variance 2 / n.

    n: k k inputs ("fan_in") or k k outputs ("fan_out") of a k x k kernel, as each network's source has it.
    """
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, mode=mode, nonlinearity="relu")
