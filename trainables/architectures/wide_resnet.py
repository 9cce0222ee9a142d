"""Wide ResNets for small images (Zagoruyko and Komodakis 2016)."""

from __future__ import annotations

from torch import nn

from losstune.trainables.architectures.blocks import he_init, pooled_classifier, pre_activation_stages


def wide_resnet(input_shape: tuple[int, int, int], num_classes: int, depth: int, width: int) -> nn.Sequential:
    """Wide ResNet depth-width, from images (B, C, H, W) to logits (B, K).

    16 channels, then three groups of (depth - 4) / 6 pre-activation blocks with 16, 32 and 64 times width channels.
    Without the dropout of the paper's last experiments: here dropout is one of the losses that are compared.
    """
    count = (depth - 4) // 6
    network = nn.Sequential(
        nn.Conv2d(input_shape[0], 16, 3, padding=1, bias=False),
        *pre_activation_stages(16, ((16 * width, count, 1), (32 * width, count, 2), (64 * width, count, 2))),
        nn.BatchNorm2d(64 * width),
        nn.ReLU(inplace=True),
        *pooled_classifier(64 * width, num_classes),
    )
    he_init(network)
    return network
