"""Rectangles that are filled: random erasing and cutout."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from losstune.trainables.augmentation.resizing import TRIES, first_that
from losstune.trainables.augmentation.step import Draws, Step, uniform, whole_below


class Erasing(Step):
    """With the given probability a rectangle of an area uniform in `scale` (shares of the image's), its aspect ratio
    log-uniform in `ratio`, filled with `value`; none after ten that are not smaller than the image."""

    def __init__(
        self,
        shape: tuple[int, int, int],
        probability: float,
        scale: tuple[float, float],
        ratio: tuple[float, float],
        value: tuple[float, ...],
    ):
        super().__init__(shape)
        self.probability, self.scale, self.ratio, self.value = probability, scale, ratio, value

    def draw(self, generator: torch.Generator, count: int) -> Draws:
        """box: (count, 4) int64: top, left, height, width; of height and width 0 where nothing is erased."""
        _, height, width = self.input_shape
        chosen = torch.rand(count, generator=generator) < self.probability
        area = height * width * uniform(generator, count, *self.scale, TRIES)
        ratio = uniform(generator, count, math.log(self.ratio[0]), math.log(self.ratio[1]), TRIES).exp()
        heights, widths = (area * ratio).sqrt().round(), (area / ratio).sqrt().round()
        fits = (heights < height) & (widths < width)
        erased = chosen & fits.any(1)
        box_height, box_width = (side * erased for side in first_that(fits, heights, widths))
        top = whole_below(generator, height - box_height + 1)
        left = whole_below(generator, width - box_width + 1)
        return {"box": torch.stack([top, left, box_height.long(), box_width.long()], 1)}

    def __call__(self, images: Tensor, draws: Draws) -> Tensor:
        return filled(images, draws["box"], self.value)


class Cutout(Step):
    """A square of `size` pixels around a uniform pixel, filled with `value`; what is beyond the border is lost."""

    def __init__(self, shape: tuple[int, int, int], size: int, value: tuple[float, ...]):
        super().__init__(shape)
        self.size, self.value = size, value

    def draw(self, generator: torch.Generator, count: int) -> Draws:
        """box: (count, 4) int64: top, left, height, width; may begin above or left of the image."""
        middle = [torch.randint(0, side, (count,), generator=generator) for side in self.input_shape[1:]]
        sides = torch.full((2, count), self.size)
        return {"box": torch.cat([torch.stack(middle) - self.size // 2, sides]).T}

    def __call__(self, images: Tensor, draws: Draws) -> Tensor:
        return filled(images, draws["box"], self.value)


def filled(images: Tensor, boxes: Tensor, value: tuple[float, ...]) -> Tensor:
    """Images (N, C, H, W), a box of each filled with a level, or one per channel.

    boxes: (N, 4) int64 on the CPU: top, left, height, width.
    """
    top, left, height, width = boxes.to(images.device, non_blocking=True)[:, :, None].unbind(1)
    row = torch.arange(images.shape[2], device=images.device)
    column = torch.arange(images.shape[3], device=images.device)
    # All bits set inside. As bits it takes a fifth of the time of torch.where on a CPU.
    rows = -((row >= top) & (row < top + height)).to(torch.uint8)[:, None, :, None]
    inside = rows & -((column >= left) & (column < left + width)).to(torch.uint8)[:, None, None, :]
    level = torch.tensor(value, device=images.device).round_().to(torch.uint8).view(-1, 1, 1)
    return images ^ ((images ^ level) & inside)
