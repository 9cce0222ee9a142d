"""All-CNN-C (Springenberg et al. 2015, "Striving for simplicity", Table 1) as Kornblith et al. 2021 train it (A.1)."""

from __future__ import annotations

from torch import nn

from losstune.trainables.architectures.blocks import conv_norm_relu, pooled_classifier


def all_cnn_c(input_shape: tuple[int, int, int], num_classes: int) -> nn.Sequential:
    """From images (B, C, H, W) to logits (B, K).

    Batch norm between layers, and the global average pooling before the last 1x1 convolution, which therefore is a
    linear layer. Without the original's dropout: here dropout is one of the losses that are compared.
    """
    return nn.Sequential(
        *conv_norm_relu(input_shape[0], 96),
        *conv_norm_relu(96, 96),
        *conv_norm_relu(96, 96, stride=2),
        *conv_norm_relu(96, 192),
        *conv_norm_relu(192, 192),
        *conv_norm_relu(192, 192, stride=2),
        *conv_norm_relu(192, 192, padding=0),  # 8x8 to 6x6, the size that the original averages over
        *conv_norm_relu(192, 192, size=1, padding=0),
        *pooled_classifier(192, num_classes),
    )
