"""AutoAugment: the policies and magnitudes of torchvision, each operation on all images of the batch that drew it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torchvision.transforms import AutoAugment as Reference
from torchvision.transforms import AutoAugmentPolicy
from torchvision.transforms.v2 import functional as vision

from losstune.trainables.augmentation.color import brightness, contrast, saturation, sharpness
from losstune.trainables.augmentation.geometry import affine, rotations
from losstune.trainables.augmentation.step import Draws, Step, by_kind

_BINS = 10  # magnitudes in the policies' notation


class AutoAugment(Step):
    """One of the policy's pairs of operations, each applied with its probability; signed ones either way."""

    def __init__(self, shape: tuple[int, int, int], policy: str, interpolation: str, fill: tuple[float, ...]):
        super().__init__(shape)
        self.interpolation, self.fill = interpolation, fill
        reference = Reference(AutoAugmentPolicy(policy))
        magnitudes = reference._augmentation_space(_BINS, shape[1:])

        def magnitude(name: str, level: int | None) -> float:
            return 0.0 if level is None else float(magnitudes[name][0][level])

        pairs = reference.policies
        self.kinds = torch.tensor([[_NAMES.index(name) for name, _, _ in pair] for pair in pairs])
        self.probabilities = torch.tensor([[probability for _, probability, _ in pair] for pair in pairs])
        self.magnitudes = torch.tensor(
            [[magnitude(name, level) for name, _, level in pair] for pair in pairs], dtype=torch.float64
        )
        self.signed = torch.tensor([[magnitudes[name][1] for name, _, _ in pair] for pair in pairs])

    def draw(self, generator: torch.Generator, count: int) -> Draws:
        """kind: (count, 2) int64, which of MAPS and then CHANGES is the first and the second operation, -1 for none;
        magnitude: (count, 2) float64, degrees, levels or what else its operation takes."""
        pair = torch.randint(0, len(self.kinds), (count,), generator=generator)
        applied = torch.rand(count, 2, generator=generator) <= self.probabilities[pair]
        negative = (torch.rand(count, 2, generator=generator) <= 0.5) & self.signed[pair]
        magnitude = torch.where(negative, -1, 1) * self.magnitudes[pair]
        return {"kind": torch.where(applied, self.kinds[pair], -1), "magnitude": magnitude}

    def __call__(self, images: Tensor, draws: Draws) -> Tensor:
        kinds, magnitudes = draws["kind"], draws["magnitude"]
        for turn in (0, 1):
            images = by_kind(images, kinds[:, turn], self._functions(magnitudes[:, turn]))
        return images

    def _functions(self, magnitudes: Tensor) -> dict[int, Callable[[Tensor, Tensor], Tensor]]:
        """by_kind's functions."""

        def mapped(of: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
            return lambda images, rows: affine(images, of(magnitudes[rows], images), self.interpolation, self.fill)

        def changed(of: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
            return lambda images, rows: of(images, magnitudes[rows])

        functions = [mapped(of) for of in MAPS.values()] + [changed(of) for of in CHANGES.values()]
        return dict(enumerate(functions))


def _map(count: Tensor, **entries: Tensor) -> Tensor:
    """The identity (N, 2, 3) with entries such as xy, what x is given of y."""
    place = {"xy": (0, 1), "x1": (0, 2), "yx": (1, 0), "y1": (1, 2)}
    maps = torch.eye(2, 3, dtype=torch.float64).repeat(len(count), 1, 1)
    for name, values in entries.items():
        maps[:, *place[name]] = values
    return maps


def posterize(images: Tensor, bits: Tensor) -> Tensor:
    """Only the highest bits of each level are kept."""
    masks = 256 - 2 ** (8 - bits.long())
    return images & masks.to(torch.uint8).to(images.device, non_blocking=True).view(-1, 1, 1, 1)


def solarize(images: Tensor, thresholds: Tensor) -> Tensor:
    """Levels from the threshold on are inverted."""
    least = thresholds.ceil().to(torch.uint8).to(images.device, non_blocking=True).view(-1, 1, 1, 1)
    return images ^ -(images >= least).to(torch.uint8)


# Shears fix the upper left corner, as in torchvision (and in the authors' code).
MAPS = {
    "ShearX": lambda m, images: _map(m, xy=m, x1=m * images.shape[2] / 2),
    "ShearY": lambda m, images: _map(m, yx=m, y1=m * images.shape[3] / 2),
    "TranslateX": lambda m, images: _map(m, x1=-m.trunc()),
    "TranslateY": lambda m, images: _map(m, y1=-m.trunc()),
    "Rotate": lambda m, images: rotations(m),
}
CHANGES = {
    "Brightness": lambda images, m: brightness(images, 1 + m),
    "Color": lambda images, m: saturation(images, 1 + m),
    "Contrast": lambda images, m: contrast(images, 1 + m),
    "Sharpness": lambda images, m: sharpness(images, 1 + m),
    "Posterize": posterize,
    "Solarize": solarize,
    "AutoContrast": lambda images, m: vision.autocontrast(images),
    "Equalize": lambda images, m: vision.equalize(images),
    "Invert": lambda images, m: ~images,
}
_NAMES = [*MAPS, *CHANGES]
