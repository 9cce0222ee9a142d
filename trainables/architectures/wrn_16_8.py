"""Wide ResNet 16-8 (Zagoruyko and Komodakis 2016)."""

from __future__ import annotations

from torch import Tensor, nn

from losstune.trainables.architectures.blocks import he_init


class Block(nn.Module):
    """A pre-activation basic block: (B, inputs, H, W) to (B, outputs, H / stride, W / stride)."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.norm1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False) if inputs != outputs else None

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.norm1(x))
        # As in the authors' code, a block that changes the width feeds its shortcut from the activated input.
        residual = x if self.shortcut is None else self.shortcut(out)
        return self.conv2(self.relu(self.norm2(self.conv1(out)))) + residual


def wide_resnet(input_shape: tuple[int, int, int], num_classes: int, depth: int, width: int) -> nn.Sequential:
    """Wide ResNet depth-width: 16 channels, then three groups of (depth - 4) / 6 blocks, He initialization."""
    blocks_per_group = (depth - 4) // 6
    layers: list[nn.Module] = [nn.Conv2d(input_shape[0], 16, 3, padding=1, bias=False)]
    channels = 16
    for outputs, stride in ((16 * width, 1), (32 * width, 2), (64 * width, 2)):
        for index in range(blocks_per_group):
            layers.append(Block(channels, outputs, stride if index == 0 else 1))
            channels = outputs
    layers += [nn.BatchNorm2d(channels), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    final = nn.Linear(channels, num_classes)
    nn.init.zeros_(final.bias)
    network = nn.Sequential(*layers, final)
    he_init(network)
    return network


def wrn_16_8(input_shape: tuple[int, int, int], num_classes: int) -> nn.Sequential:
    """From images (B, C, H, W) over groups of 128, 256 and 512 channels to logits (B, K)."""
    return wide_resnet(input_shape, num_classes, depth=16, width=8)
