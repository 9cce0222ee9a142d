"""ResNets of four stages (He et al. 2016a), made of torchvision's blocks, and Zhou et al.'s widened ones."""

from __future__ import annotations

from torch import nn
from torchvision.models.resnet import BasicBlock, Bottleneck

from losstune.trainables.architectures.blocks import he_init, pooled_classifier, residual_stages, resnet_stem

_BLOCKS = {18: (BasicBlock, (2, 2, 2, 2)), 34: (BasicBlock, (3, 4, 6, 3)), 50: (Bottleneck, (3, 4, 6, 3))}
_PLANES, _STRIDES = (64, 128, 256, 512), (1, 2, 2, 2)


def resnet(input_shape: tuple[int, int, int], num_classes: int, depth: int) -> nn.Sequential:
    """ResNet-18, -34 or -50 as torchvision has it ("v1.5": a bottleneck strides in its 3x3 convolution).

    From images (B, C, H, W) to logits (B, K). Images of up to 64 x 64 meet a 3x3 stem without pooling, as in the code
    of Battash et al. 2021; larger ones the original's. ResNet-50 is Kornblith et al. 2021's (A.1, footnote 2): the
    scale of the last norm in each block starts at 0.
    """
    block, counts = _BLOCKS[depth]
    network = nn.Sequential(
        *resnet_stem(input_shape),
        *residual_stages(block, 64, zip(_PLANES, counts, _STRIDES, strict=True)),
        *pooled_classifier(512 * block.expansion, num_classes),
    )
    he_init(network, "fan_out")
    for part in network:
        if isinstance(part, Bottleneck):
            nn.init.zeros_(part.bn3.weight)
    return network


def wide_resnet50(input_shape: tuple[int, int, int], num_classes: int, width: float) -> nn.Sequential:
    """Zhou et al. 2022's WideResNet50-width: the middle convolution of a bottleneck has width times its channels.

    A ResNet-50 otherwise, with the same stems, its weights drawn as PyTorch does; all as in the authors' code.
    """
    _, counts = _BLOCKS[50]
    stages = zip(_PLANES, counts, _STRIDES, strict=True)
    return nn.Sequential(
        *resnet_stem(input_shape),
        *residual_stages(Bottleneck, 64, stages, base_width=64 * width),
        *pooled_classifier(512 * Bottleneck.expansion, num_classes),
    )


def wide_resnet18(input_shape: tuple[int, int, int], num_classes: int, width: float) -> nn.Sequential:
    """Zhou et al. 2022's WideResNet18-width: every stage of a ResNet-18 has width times its channels.

    The authors' code has WideResNet50 alone; this is the WRN-18 of Zagoruyko and Komodakis 2016 (3.5), whom they cite.
    """
    _, counts = _BLOCKS[18]
    planes = [int(width * channels) for channels in _PLANES]
    return nn.Sequential(
        *resnet_stem(input_shape),
        *residual_stages(BasicBlock, 64, zip(planes, counts, _STRIDES, strict=True)),
        *pooled_classifier(planes[-1], num_classes),
    )
