"""The networks of Kobayashi 2019 as the author's code has them: a 13-layer CNN and a modified VGG-16."""

from __future__ import annotations

from torch import nn

from losstune.trainables.architectures.blocks import (
    GlobalAveragePool,
    conv_norm_relu,
    he_init,
    pooled_classifier,
)


def cnn13(input_shape: tuple[int, int, int], num_classes: int) -> nn.Sequential:
    """The 13-layer network for CIFAR, after Tarvainen and Valpola 2017, from images (B, C, H, W) to logits (B, K)."""
    network = nn.Sequential(
        *conv_norm_relu(input_shape[0], 128),
        *conv_norm_relu(128, 128),
        *conv_norm_relu(128, 128),
        nn.MaxPool2d(2),
        *conv_norm_relu(128, 256),
        *conv_norm_relu(256, 256),
        *conv_norm_relu(256, 256),
        nn.MaxPool2d(2),
        *conv_norm_relu(256, 512, padding=0),
        *conv_norm_relu(512, 256),
        *conv_norm_relu(256, 128),
        *pooled_classifier(128, num_classes),
    )
    he_init(network, "fan_out")
    return network


def vgg16_mod(input_shape: tuple[int, int, int], num_classes: int) -> nn.Sequential:
    """VGG-16-mod: VGG-16 with batch norm; a 1x1 convolution in place of the last pooling and the first dense layer.

    From images (B, C, H, W) to logits (B, K). Its 4,096 channels are averaged over the image, and the second dense
    layer is written as a 1x1 convolution of that average.
    """
    layers, inputs = [], input_shape[0]
    for outputs, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(count):
            layers += _vgg_layer(inputs, outputs)
            inputs = outputs
        layers.append(nn.MaxPool2d(2))
    del layers[-1]
    layers += [*_vgg_layer(512, 4096, size=1, padding=0), GlobalAveragePool()]
    layers += [*_vgg_layer(4096, 4096, size=1, padding=0), nn.Flatten()]
    network = nn.Sequential(*layers, nn.Linear(4096, num_classes))
    for part in network:
        if isinstance(part, nn.Conv2d):
            nn.init.normal_(part.weight, std=0.01)
            nn.init.zeros_(part.bias)
    return network


def _vgg_layer(inputs: int, outputs: int, size: int = 3, padding: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, size, padding=padding)
    return [convolution, nn.BatchNorm2d(outputs, eps=1e-4), nn.ReLU(inplace=True)]
