"""The ResNets that He et al. 2016a made for CIFAR: 20, 32, 44 or 110 layers."""

from __future__ import annotations

from torch import nn
from torchvision.models.resnet import BasicBlock

from losstune.trainables.architectures.blocks import (
    PadChannels,
    conv_norm_relu,
    he_init,
    pooled_classifier,
    residual_stages,
)


def resnet_cifar(input_shape: tuple[int, int, int], num_classes: int, depth: int) -> nn.Sequential:
    """From images (B, C, H, W) over three stages of (depth - 2) / 6 blocks, 16, 32 and 64 channels, to logits (B, K).

    Shortcuts have no parameters (option A).
    """
    count = (depth - 2) // 6
    network = nn.Sequential(
        *conv_norm_relu(input_shape[0], 16),
        *residual_stages(BasicBlock, 16, ((16, count, 1), (32, count, 2), (64, count, 2)), shortcut=PadChannels),
        *pooled_classifier(64, num_classes),
    )
    he_init(network)
    return network
