"""The networks by name: ARCHITECTURES and LIBRARIES. No torch here, so that listing and checking are instant."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from losstune.spaces.errors import InputError
from losstune.trainables.user_files import split_reference

_HERE = "losstune.trainables.architectures"
_BATTASH = "Battash et al. 2021"


@dataclass(frozen=True)
class Architecture:
    """A network.

    builder: "module:function"; function(input_shape, num_classes, **arguments) returns an nn.Module from
    (B, *input_shape) to (B, K) whose last operation is an nn.Linear. That layer's first weights do not matter: each
    loss brings its own. min_size: the smallest height and width of images that it takes, those that its strides bring
    down to one pixel. decay_norm: whether the source lets weight decay also act on the parameters of normalization
    layers and on biases.
    """

    summary: str
    source: str
    input: Literal["any", "images"]
    builder: str
    min_size: int = 1
    decay_norm: bool = False
    arguments: Mapping[str, float] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Library:
    """Networks of another library, called library:NAME.

    builder: "module:function"; function(NAME, input_shape, num_classes) returns an nn.Module.
    """

    summary: str
    source: str
    builder: str


ARCHITECTURES: dict[str, Architecture] = {
    "mlp": Architecture(
        summary="two hidden layers of 128 and 64 units, ReLU",
        source="losstune",
        input="any",
        builder=f"{_HERE}.mlp:mlp",
    ),
    "linear": Architecture(
        summary="no hidden layer: a linear classifier",
        source=f"{_BATTASH} (UCI)",
        input="any",
        builder=f"{_HERE}.mlp:linear",
    ),
    "one_hidden_layer": Architecture(
        summary="one hidden layer with as many units as there are inputs, ReLU",
        source=f"{_BATTASH} (UCI)",
        input="any",
        builder=f"{_HERE}.mlp:one_hidden_layer",
    ),
    "small_cnn": Architecture(
        summary="three stride-2 convolutions (32, 64, 128) with batch norm, global average pooling; fast on a CPU",
        source="losstune",
        input="images",
        builder=f"{_HERE}.small_cnn:small_cnn",
        min_size=8,
    ),
    "all_cnn_c": Architecture(
        summary="All-CNN-C with batch norm, pooling before the last 1x1 convolution",
        source="Springenberg et al. 2015, Table 1, as changed in Kornblith et al. 2021, A.1",
        input="images",
        builder=f"{_HERE}.all_cnn_c:all_cnn_c",
        min_size=9,
    ),
    **{
        f"wrn_{depth}_{width}": Architecture(
            summary=f"Wide ResNet {depth}-{width}, pre-activation basic blocks",
            source=f"Zagoruyko and Komodakis 2016; {user}",
            input="images",
            builder=f"{_HERE}.wide_resnet:wide_resnet",
            min_size=4,
            decay_norm=True,
            arguments={"depth": depth, "width": width},
        )
        for depth, width, user in ((16, 8, "Kornblith et al. 2021, A.1"), (28, 10, "Demirkaya et al. 2020"))
    },
    **{
        f"resnet{depth}": Architecture(
            summary=f"ResNet-{depth} for CIFAR: 16, 32 and 64 channels",
            source=f"He et al. 2016a; {_BATTASH}",
            input="images",
            builder=f"{_HERE}.resnet_cifar:resnet_cifar",
            min_size=4,
            decay_norm=True,
            arguments={"depth": depth},
        )
        for depth in (20, 32, 44, 110)
    },
    **{
        f"resnet{depth}": Architecture(
            summary=f"ResNet-{depth}; a 3x3 stem for images of up to 64 x 64",
            source=f"He et al. 2016a; {_BATTASH}",
            input="images",
            builder=f"{_HERE}.resnet:resnet",
            min_size=8,
            decay_norm=True,
            arguments={"depth": depth},
        )
        for depth in (18, 34)
    },
    "resnet50": Architecture(
        summary="ResNet-50 v1.5, each block's last norm starts at 0; stems as resnet18",
        source="He et al. 2016a; Kornblith et al. 2021, A.1",
        input="images",
        builder=f"{_HERE}.resnet:resnet",
        min_size=8,
        arguments={"depth": 50},
    ),
    "preact_resnet18": Architecture(
        summary="pre-activation ResNet-18 for CIFAR",
        source=f"He et al. 2016b; {_BATTASH}, Chen et al. 2019 (COT)",
        input="images",
        builder=f"{_HERE}.preact_resnet:preact_resnet18",
        min_size=8,
        decay_norm=True,
    ),
    "resnext29": Architecture(
        summary="ResNeXt-29, 2x64d, for CIFAR",
        source=f"Xie et al. 2017; {_BATTASH}",
        input="images",
        builder=f"{_HERE}.resnext:resnext29",
        min_size=4,
        decay_norm=True,
        arguments={"cardinality": 2},
    ),
    **{
        name: Architecture(
            summary=f"ShuffleNet V2 {width:.1f}x; no early pooling of images of up to 64 x 64",
            source=f"Ma et al. 2018; {_BATTASH} ({data})",
            input="images",
            builder=f"{_HERE}.shufflenet:shufflenet_v2",
            min_size=8,
            decay_norm=True,
            arguments={"width": width},
        )
        for name, width, data in (("shufflenet_v2", 1, "CINIC-10"), ("shufflenet_v2_0.5", 0.5, "CIFAR-100"))
    },
    **{
        f"wrn50_{width:g}": Architecture(
            summary=f"WideResNet50-{width:g}: bottlenecks {width:g} x as wide; stems as resnet18",
            source="Zhou et al. 2022 (CIFAR)",
            input="images",
            builder=f"{_HERE}.resnet:wide_resnet50",
            min_size=8,
            decay_norm=True,
            arguments={"width": width},
        )
        for width in (0.25, 0.5, 1, 2)
    },
    **{
        f"wrn18_{width:g}": Architecture(
            summary=f"WideResNet18-{width:g}: stages {width:g} x as wide; stems as resnet18",
            source="Zhou et al. 2022 (miniImageNet)",
            input="images",
            builder=f"{_HERE}.resnet:wide_resnet18",
            min_size=8,
            decay_norm=True,
            arguments={"width": width},
        )
        for width in (0.25, 0.5, 1, 2)
    },
    "cnn13": Architecture(
        summary="the 13-layer network for CIFAR",
        source="Tarvainen and Valpola 2017; Kobayashi 2019",
        input="images",
        builder=f"{_HERE}.kobayashi:cnn13",
        min_size=12,
        decay_norm=True,
    ),
    "vgg16_mod": Architecture(
        summary="VGG-16-mod for ImageNet: batch norm, average pooling before the dense layers",
        source="Kobayashi 2018 and 2019",
        input="images",
        builder=f"{_HERE}.kobayashi:vgg16_mod",
        min_size=16,
        decay_norm=True,
    ),
}

LIBRARIES: dict[str, Library] = {
    "torchvision": Library(
        summary="any image classifier of torchvision's by its name there, untrained, as torchvision:mobilenet_v2",
        source="https://docs.pytorch.org/vision/stable/models.html",
        builder=f"{_HERE}.libraries:torchvision_model",
    ),
    "timm": Library(
        summary="any model of timm's by its name there, untrained, as timm:convnext_tiny; pip install timm",
        source="https://huggingface.co/docs/timm",
        builder=f"{_HERE}.libraries:timm_model",
    ),
}
_LIBRARY_NAME = re.compile(rf"({'|'.join(LIBRARIES)}):[\w.]+")
_OTHERS = ", ".join(f"{library}:NAME" for library in LIBRARIES) + ", or FILE.py:FUNCTION"


def check_architecture(spec: str, input_shape: tuple[int, ...] | None = None) -> None:
    """InputError when no network can be called spec, or when it does not take inputs of input_shape; without torch.

    Whether a library has a model of that name, and whether it takes the inputs, shows when it is built.
    """
    if split_reference(spec):
        return
    in_library = _LIBRARY_NAME.fullmatch(spec)
    if spec not in ARCHITECTURES and not in_library:
        close = difflib.get_close_matches(spec.lower().replace("-", "_"), ARCHITECTURES)
        meant = f"; did you mean {' or '.join(close)}?" if close else ""
        raise InputError(f"network: unknown network {spec!r}; allowed: {', '.join(ARCHITECTURES)}, {_OTHERS}{meant}")
    if input_shape is None or not in_library and ARCHITECTURES[spec].input == "any":
        return
    if len(input_shape) != 3:
        takes_any = ", ".join(name for name, entry in ARCHITECTURES.items() if entry.input == "any")
        raise InputError(f"network: {spec} needs images (C, H, W), but an example has shape {tuple(input_shape)}; "
                         f"allowed: {takes_any}, or FILE.py:FUNCTION")  # fmt: skip
    smallest = 1 if in_library else ARCHITECTURES[spec].min_size
    if min(input_shape[1:]) < smallest:
        raise InputError(f"network: {spec} cannot take images of {input_shape[1]} x {input_shape[2]}; "
                         f"allowed: at least {smallest} x {smallest}")  # fmt: skip
