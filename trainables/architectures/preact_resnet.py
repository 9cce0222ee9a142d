"""Pre-activation ResNet-18 (He et al. 2016b) as Battash et al. 2021 and Chen et al. 2019 train it on CIFAR."""

from __future__ import annotations

from torch import nn

from losstune.trainables.architectures.blocks import pooled_classifier, pre_activation_stages


def preact_resnet18(input_shape: tuple[int, int, int], num_classes: int) -> nn.Sequential:
    """From images (B, C, H, W) over stages of 64, 128, 256 and 512 channels to logits (B, K).

    As in both papers' code, the last block's sum is pooled as it is, without the norm and ReLU that He et al. put
    behind it, and weights start as PyTorch draws them.
    """
    return nn.Sequential(
        nn.Conv2d(input_shape[0], 64, 3, padding=1, bias=False),
        *pre_activation_stages(64, ((64, 2, 1), (128, 2, 2), (256, 2, 2), (512, 2, 2))),
        *pooled_classifier(512, num_classes),
    )
