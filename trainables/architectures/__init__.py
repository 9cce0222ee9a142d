"""The networks by name: ARCHITECTURES. No torch here, so that listing and checking are instant."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from losstune.spaces.errors import InputError
from losstune.trainables.user_files import split_reference


@dataclass(frozen=True)
class Architecture:
    """A network.

    builder: "module:function"; function(input_shape, num_classes) returns an nn.Module from (B, *input_shape) to
    (B, K) whose last operation is an nn.Linear. min_size: the smallest height and width of images that it takes.
    decay_norm: whether weight decay also acts on the parameters of normalization layers.
    """

    summary: str
    source: str
    input: Literal["any", "images"]
    builder: str
    min_size: int = 1
    decay_norm: bool = False


ARCHITECTURES: dict[str, Architecture] = {
    "mlp": Architecture(
        summary="two hidden layers of 128 and 64 units, ReLU",
        source="losstune",
        input="any",
        builder="losstune.trainables.architectures.mlp:mlp",
    ),
    "small_cnn": Architecture(
        summary="three stride-2 convolutions (32, 64, 128) with batch norm, global average pooling; fast on a CPU",
        source="losstune",
        input="images",
        builder="losstune.trainables.architectures.small_cnn:small_cnn",
        min_size=8,
    ),
    "all_cnn_c": Architecture(
        summary="All-CNN-C with batch norm, pooling before the last 1x1 convolution",
        source="Springenberg et al. 2015, Table 1, as changed in Kornblith et al. 2021, A.1",
        input="images",
        builder="losstune.trainables.architectures.all_cnn_c:all_cnn_c",
        min_size=9,
    ),
    "wrn_16_8": Architecture(
        summary="Wide ResNet 16-8, pre-activation basic blocks; weight decay also on batch norm",
        source="Zagoruyko and Komodakis 2016; Kornblith et al. 2021, A.1",
        input="images",
        builder="losstune.trainables.architectures.wrn_16_8:wrn_16_8",
        min_size=8,
        decay_norm=True,
    ),
}


def check_architecture(spec: str, input_shape: tuple[int, ...] | None = None) -> None:
    """InputError when no network is called spec, or when it does not take inputs of input_shape; without torch."""
    if split_reference(spec):
        return
    if spec not in ARCHITECTURES:
        raise InputError(f"network: unknown network {spec!r}; allowed: {', '.join(ARCHITECTURES)}, or FILE.py:FUNCTION")
    architecture = ARCHITECTURES[spec]
    if input_shape is None or architecture.input == "any":
        return
    if len(input_shape) != 3:
        takes_any = ", ".join(name for name, entry in ARCHITECTURES.items() if entry.input == "any")
        raise InputError(f"network: {spec} needs images (C, H, W), but an example has shape {tuple(input_shape)}; "
                         f"allowed: {takes_any}, or FILE.py:FUNCTION")  # fmt: skip
    if min(input_shape[1:]) < architecture.min_size:
        raise InputError(f"network: {spec} cannot take images of {input_shape[1]} x {input_shape[2]}; "
                         f"allowed: at least {architecture.min_size} x {architecture.min_size}")  # fmt: skip
