"""ShuffleNet V2 (Ma et al. 2018), made of torchvision's units."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.models.shufflenetv2 import InvertedResidual

from losstune.trainables.architectures.blocks import conv_norm_relu, is_small, pooled_classifier

_CHANNELS = {0.5: (48, 96, 192), 1: (116, 232, 464)}  # of the three stages, by width (Table 5)


class Unit(InvertedResidual):
    """Torchvision's unit; it splits and shuffles each member's channels apart, and in channels_last."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__(inputs, outputs, stride)
        self.half = outputs // 2
        if stride == 1:
            self.branch1 = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        left = right = x
        if self.stride == 1:
            halves = x.permute(0, 2, 3, 1).unflatten(3, (-1, 2, self.half)).unbind(4)
            left, right = (half.flatten(3).permute(0, 3, 1, 2) for half in halves)
        branches = [branch.permute(0, 2, 3, 1) for branch in (self.branch1(left), self.branch2(right))]
        return torch.stack(branches, 4).flatten(3).permute(0, 3, 1, 2)


def shufflenet_v2(input_shape: tuple[int, int, int], num_classes: int, width: float) -> nn.Sequential:
    """From images (B, C, H, W) over three stages to logits (B, K); weights start as PyTorch draws them.

    Images of up to 64 x 64 meet a stem of stride 1 without pooling, as in the code of Battash et al. 2021.
    """
    small = is_small(input_shape)
    layers = conv_norm_relu(input_shape[0], 24, stride=1 if small else 2)
    if not small:
        layers.append(nn.MaxPool2d(3, stride=2, padding=1))
    inputs = 24
    for outputs, count in zip(_CHANNELS[width], (4, 8, 4), strict=True):
        layers.append(Unit(inputs, outputs, 2))
        layers += [Unit(outputs, outputs, 1) for _ in range(count - 1)]
        inputs = outputs
    layers += conv_norm_relu(inputs, 1024, size=1, padding=0)
    return nn.Sequential(*layers, *pooled_classifier(1024, num_classes))
