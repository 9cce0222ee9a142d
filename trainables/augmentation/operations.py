"""The operations by name: OPERATIONS, with their parameters and what they do to an image's shape. Without torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from losstune.spaces.errors import InputError
from losstune.trainables.augmentation.parameters import Choice, Interval, Levels, Number, Parameter, Size, Whole

Shape = tuple[int, int, int]


def _unchanged(shape: Shape, parameters: Mapping[str, Any]) -> Shape:
    return shape


@dataclass(frozen=True)
class Operation:
    """An operation on images.

    step: "module:class"; the class takes the shape (C, H, W) of the images and the parameters, see Step.
    parameters: by name. output_shape: function(shape, all parameters) of the shape that the images have after it;
    raises InputError "what is wrong; allowed: ..." for a shape that the operation cannot take.
    """

    summary: str
    source: str
    step: str
    parameters: Mapping[str, Parameter]
    output_shape: Callable[[Shape, Mapping[str, Any]], Shape] = _unchanged

    def settled(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """All parameters: the given ones, the others at their defaults."""
        return {name: given.get(name, parameter.default) for name, parameter in self.parameters.items()}


def padding(pad: int | None, size: tuple[int, int] | None) -> int:
    """The padding of a random crop where none is given: 4 pixels, none for a crop of another size."""
    return (4 if size is None else 0) if pad is None else pad


def _cropped(shape: Shape, parameters: Mapping[str, Any]) -> Shape:
    channels, height, width = shape
    pad = padding(parameters["pad"], parameters["size"])
    size = parameters["size"] or (height, width)
    if size[0] > height + 2 * pad or size[1] > width + 2 * pad:
        padded = f" padded by {pad}" if pad else ""
        raise InputError(f"{size[0]} x {size[1]} is more than the images' {height} x {width}{padded}; "
                         f"allowed: up to {height + 2 * pad} x {width + 2 * pad}")  # fmt: skip
    return channels, *size


def _resized(shape: Shape, parameters: Mapping[str, Any]) -> Shape:
    return shape[0], *(parameters["size"] or shape[1:])


def _jittered(shape: Shape, parameters: Mapping[str, Any]) -> Shape:
    of_colour = [name for name in ("saturation", "hue") if parameters[name]]
    if of_colour and shape[0] != 3:
        raise InputError(f"{of_colour[0]} is of colour images, these have {_channels(shape)}; "
                         f"allowed: brightness, contrast")  # fmt: skip
    if shape[0] not in (1, 3):
        raise InputError(f"is for grey and colour images, these have {_channels(shape)}; allowed: 1 or 3")
    return shape


def _of_colour(shape: Shape, parameters: Mapping[str, Any]) -> Shape:
    if shape[0] != 3:
        raise InputError(f"is for colour images, these have {_channels(shape)}; allowed: 3")
    return _filled(shape, parameters)


def _filled(shape: Shape, parameters: Mapping[str, Any]) -> Shape:
    name = "fill" if "fill" in parameters else "value"
    if len(parameters[name]) not in (1, shape[0]):
        raise InputError(f"{name} has {len(parameters[name])} levels for images of {_channels(shape)}; "
                         f"allowed: a number, or one per channel")  # fmt: skip
    return shape


def _channels(shape: Shape) -> str:
    return f"{shape[0]} channel" if shape[0] == 1 else f"{shape[0]} channels"


_HERE = "losstune.trainables.augmentation"
_INTERPOLATION = Choice("nearest", ("nearest", "bilinear"))

OPERATIONS: dict[str, Operation] = {
    "crop": Operation(
        "zero padding on all sides, then a crop of `size` at a random place; pad: 4, or 0 where a size is given",
        "torchvision RandomCrop",
        f"{_HERE}.geometry:Crop",
        {"pad": Whole(None, 0, 1024), "size": Size()},
        _cropped,
    ),
    "flip": Operation(
        "mirrored left to right",
        "torchvision RandomHorizontalFlip",
        f"{_HERE}.geometry:Flip",
        {"probability": Number(0.5, 0, 1)},
    ),
    "random_resized_crop": Operation(
        "a crop of random area and aspect ratio, resized to `size` (bilinear, antialiased)",
        "Szegedy et al. 2015; torchvision RandomResizedCrop",
        f"{_HERE}.resizing:RandomResizedCrop",
        {"size": Size(), "scale": Interval((0.08, 1.0), 1e-6, 1), "ratio": Interval((3 / 4, 4 / 3), 0.01, 100)},
        _resized,
    ),
    "rotation": Operation(
        "turned about the middle by a random angle in degrees",
        "torchvision RandomRotation",
        f"{_HERE}.geometry:Rotation",
        {"degrees": Interval((-15, 15), -180, 180, around=0), "interpolation": _INTERPOLATION, "fill": Levels()},
        _filled,
    ),
    "color_jitter": Operation(
        "random factors of brightness, contrast and saturation and a shift of hue, in random order",
        "torchvision ColorJitter",
        f"{_HERE}.color:ColorJitter",
        {part: Interval(None, 0, math.inf, around=1, cut=True) for part in ("brightness", "contrast", "saturation")}
        | {"hue": Interval(None, -0.5, 0.5, around=0)},
        _jittered,
    ),
    "erasing": Operation(
        "a rectangle of random place, area and aspect ratio, filled with `value` (a grey level before normalization)",
        "Zhong et al. 2020; torchvision RandomErasing",
        f"{_HERE}.erasing:Erasing",
        {"probability": Number(0.5, 0, 1), "scale": Interval((0.02, 0.33), 0, 1),
         "ratio": Interval((0.3, 3.3), 0.01, 100), "value": Levels()},
        _filled,
    ),
    "cutout": Operation(
        "a square of `size` around a random pixel, filled with `value`; what is beyond the border is lost",
        "DeVries and Taylor 2017",
        f"{_HERE}.erasing:Cutout",
        {"size": Whole(16, 1, 4096), "value": Levels()},
        _filled,
    ),
    "autoaugment": Operation(
        "one of the 25 pairs of operations of a learned policy",
        "Cubuk et al. 2019; torchvision AutoAugment",
        f"{_HERE}.autoaugment:AutoAugment",
        {"policy": Choice("imagenet", ("imagenet", "cifar10", "svhn")), "interpolation": _INTERPOLATION,
         "fill": Levels()},
        _of_colour,
    ),
}  # fmt: skip
