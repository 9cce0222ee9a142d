"""Augmentation of whole batches of images, on their device: AUGMENTATIONS and resolve(). No torch at import."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from losstune.spaces.errors import InputError
from losstune.trainables.augmentation.operations import OPERATIONS
from losstune.trainables.augmentation.specification import Operations, checked
from losstune.trainables.augmentation.specification import output_shape as _output_shape

if TYPE_CHECKING:
    from losstune.trainables.augmentation.pipeline import Pipeline

__all__ = ["AUGMENTATIONS", "OPERATIONS", "Augmentation", "Operations", "check", "output_shape", "resolve"]


@dataclass(frozen=True)
class Augmentation:
    """Operations under a name. source: the paper that trains with them, or whose recipe they are."""

    summary: str
    source: str
    operations: tuple[Any, ...] = ()


_CIFAR_MEAN = [125, 123, 114]
_IMAGENET = {"random_resized_crop": {"size": 224}}
_KORNBLITH = {"random_resized_crop": {"size": 224, "scale": [0.1, 1]}}

AUGMENTATIONS: dict[str, Augmentation] = {
    "none": Augmentation("images as they are", "losstune"),
    "crop": Augmentation("zero padding by 4 pixels, random crop", "losstune", ("crop",)),
    "crop_flip": Augmentation(
        "zero padding by 4 pixels, random crop, random horizontal flip; usual for CIFAR",
        'He et al. 2016, 4.2; Battash et al. 2021 (CIFAR100); Zhou et al. 2022 ("standard")',
        ("crop", "flip"),
    ),
    "crop_flip_rotation": Augmentation(
        "crop_flip, rotation by up to 15 degrees (the paper names no angle)",
        "Battash et al. 2021 (CINIC-10, networks of more than a million parameters)",
        ("crop", "flip", {"rotation": {"degrees": 15}}),
    ),
    "crop_flip_erasing": Augmentation(
        "crop_flip, random erasing of half of the images",
        "Battash et al. 2021, Table 6 (random erasing without rotation)",
        ("crop", "flip", {"erasing": {"probability": 0.5}}),
    ),
    "crop_flip_jitter": Augmentation(
        "crop_flip, color jitter of 0.4 and a hue shift of up to 0.1 (the paper names no strengths)",
        "Battash et al. 2021, Table 6 (color jitter)",
        ("crop", "flip", {"color_jitter": {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1}}),
    ),
    "cifar_autoaugment": Augmentation(
        "crop_flip, AutoAugment's policy for CIFAR-10",
        "Cubuk et al. 2019",
        ("crop", "flip", {"autoaugment": {"policy": "cifar10"}}),
    ),
    "cifar_autoaugment_cutout": Augmentation(
        "cifar_autoaugment, a square of 16 pixels cut out (filled with CIFAR-10's mean color)",
        "Cubuk et al. 2019, 4.1; DeVries and Taylor 2017",
        ("crop", "flip", {"autoaugment": {"policy": "cifar10"}}, {"cutout": {"size": 16, "value": _CIFAR_MEAN}}),
    ),
    "imagenet": Augmentation(
        "random crop of 8 to 100% of the area, resized to 224, random flip; tested on the center crop",
        "PyTorch's training script, in Battash et al. 2021",
        (_IMAGENET, "flip"),
    ),
    "imagenet_kornblith": Augmentation(
        "random crop of 10 to 100% of the area, resized to 224, random flip; tested on the center crop",
        "Kornblith et al. 2021, A.1",
        (_KORNBLITH, "flip"),
    ),
    "imagenet_autoaugment": Augmentation(
        "imagenet_kornblith, AutoAugment's policy for ImageNet",
        "Kornblith et al. 2021, Table C.2; Cubuk et al. 2019",
        (_KORNBLITH, "flip", {"autoaugment": {"policy": "imagenet"}}),
    ),
}


def check(spec: Any, where: str = "recipe.augmentation") -> Operations:
    """A name of AUGMENTATIONS, or a list of operations, as checked and hashable operations, whatever the images.

    An operation is a name of OPERATIONS or {name: {parameter: value}}. Raises InputError with one line that names the
    field, what is wrong and what is allowed.
    """
    if isinstance(spec, str) and spec in AUGMENTATIONS:
        return checked(AUGMENTATIONS[spec].operations, where)
    if isinstance(spec, list | tuple):
        return checked(spec, where)
    allowed = ", ".join(AUGMENTATIONS)
    raise InputError(f"{where}: {spec!r} is not an augmentation; allowed: {allowed}, or a list of operations")


def output_shape(spec: Any, input_shape: tuple[int, ...], where: str = "recipe.augmentation") -> tuple[int, ...]:
    """The shape of what the network sees of inputs of input_shape; raises as resolve does. Without torch."""
    return _output_shape(check(spec, where), input_shape, where)


def resolve(spec: Any, input_shape: tuple[int, ...], where: str = "recipe.augmentation") -> Pipeline:
    """The pipeline of a spec (see check) for images of shape (C, H, W), uint8; for feature vectors only of none.

    Raises InputError as check does, and where the images are not such as an operation takes.
    """
    operations = check(spec, where)
    _output_shape(operations, input_shape, where)
    from losstune.trainables.augmentation.pipeline import Pipeline

    return Pipeline.of(operations, input_shape)
