"""ResNeXt-29 for CIFAR (Xie et al. 2017), made of torchvision's bottlenecks."""

from __future__ import annotations

from torch import nn
from torchvision.models.resnet import Bottleneck

from losstune.trainables.architectures.blocks import conv_norm_relu, he_init, pooled_classifier, residual_stages


def resnext29(input_shape: tuple[int, int, int], num_classes: int, cardinality: int) -> nn.Sequential:
    """ResNeXt-29, cardinality x 64d: three stages of three bottlenecks, from images (B, C, H, W) to logits (B, K)."""
    network = nn.Sequential(
        *conv_norm_relu(input_shape[0], 64),
        *residual_stages(Bottleneck, 64, ((64, 3, 1), (128, 3, 2), (256, 3, 2)), groups=cardinality),
        *pooled_classifier(1024, num_classes),
    )
    he_init(network, "fan_out")
    return network
