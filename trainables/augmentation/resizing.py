"""Random resized crop: a box of random area and aspect ratio, resized to one size."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as vision

from losstune.trainables.augmentation.step import Draws, Step, in_pieces, uniform, whole_below

TRIES = 10
# Weights are whole multiples of 2^-15, as precise as torchvision's for uint8: then every partial sum of weights times
# levels is a whole number below 2^24 and exact in float32.
_UNIT = 2.0**15


class RandomResizedCrop(Step):
    """A box of an area uniform in `scale` (shares of the image's), its aspect ratio log-uniform in `ratio`, resized
    to `size` (height, width), bilinear with antialiasing.

    After ten boxes that do not fit in the image: the largest one in its middle of an aspect ratio within `ratio`.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        size: tuple[int, int] | None,
        scale: tuple[float, float],
        ratio: tuple[float, float],
    ):
        super().__init__(shape)
        self.size = size or shape[1:]
        self.scale, self.ratio = scale, ratio
        self.output_shape = (shape[0], *self.size)

    def draw(self, generator: torch.Generator, count: int, sizes: Tensor | None = None) -> Draws:
        """box: (count, 4) int64, see boxes; sizes: (count, 2) heights and widths, if not all as the input shape."""
        if sizes is None:
            sizes = torch.tensor(self.input_shape[1:]).expand(count, 2)
        return {"box": self.boxes(generator, sizes)}

    def boxes(self, generator: torch.Generator, sizes: Tensor) -> Tensor:
        """Boxes (B, 4) int64: top, left, height, width, in images of sizes (B, 2): height, width."""
        height, width = sizes.to(torch.float64).unbind(1)
        area = (height * width)[:, None] * uniform(generator, len(sizes), *self.scale, TRIES)
        ratio = uniform(generator, len(sizes), math.log(self.ratio[0]), math.log(self.ratio[1]), TRIES).exp()
        widths, heights = (area * ratio).sqrt().round(), (area / ratio).sqrt().round()
        fits = (0 < widths) & (widths <= width[:, None]) & (0 < heights) & (heights <= height[:, None])
        box_height, box_width = first_that(fits, heights, widths)
        missed = ~fits.any(1)
        box_height = torch.where(missed, torch.minimum(height, (width / self.ratio[0]).round()), box_height)
        box_width = torch.where(missed, torch.minimum(width, (height * self.ratio[1]).round()), box_width)
        top = whole_below(generator, height - box_height + 1)
        left = whole_below(generator, width - box_width + 1)
        top = torch.where(missed, ((height - box_height) / 2).floor().long(), top)
        left = torch.where(missed, ((width - box_width) / 2).floor().long(), left)
        return torch.stack([top, left, box_height.long(), box_width.long()], 1)

    def __call__(self, images: Tensor, draws: Draws) -> Tensor:
        return resized(images, draws["box"], self.size)

    def at_test(self, images: Tensor) -> Tensor:
        """The center crop of `size`; where the images are smaller, the largest of its aspect ratio, resized."""
        height, width = images.shape[-2:]
        if self.size == (height, width):
            return images
        shrink = min(1.0, height / self.size[0], width / self.size[1])
        box = [max(1, round(side * shrink)) for side in self.size]
        return vision.resize(vision.center_crop(images, box), list(self.size), antialias=True)


def first_that(fits: Tensor, *tries: Tensor) -> tuple[Tensor, ...]:
    """Of tries (B, T) the first that fits, (B,) each; the first of all where none does."""
    first = fits.to(torch.uint8).argmax(1, keepdim=True)
    return tuple(of.gather(1, first).squeeze(1) for of in tries)


@in_pieces
def resized(images: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """A box of each image (N, C, H, W) uint8, resized to size: bilinear, antialiased, rounded after each direction.

    boxes: (N, 4) int64 on the CPU: top, left, height, width.
    """
    top, left, height, width = boxes.to(torch.float64).unbind(1)
    across = _resized_rows(images.transpose(2, 3).contiguous(), left, width, size[1])
    return _resized_rows(across.transpose(2, 3).contiguous(), top, height, size[0])


def _resized_rows(images: Tensor, start: Tensor, length: Tensor, size: int) -> Tensor:
    """Images (N, C, P, Q), their rows [start, start + length) resized to (N, C, size, Q).

    A row of the result is the weighted sum of a few rows, which are copied whole: 2 to 3 times faster on a CPU than
    products with dense matrices of weights.
    """
    count, channels, pixels, _ = images.shape
    places, weights = _taps(start, length, size)
    first = torch.arange(count * channels).view(count, channels, 1) * pixels
    places = (first[..., None] + places.clamp_(0, pixels - 1)[:, None]).to(images.device, non_blocking=True)
    weights = weights.to(torch.float32).to(images.device, non_blocking=True)[:, None, :, None]
    rows = images.flatten(0, 2)
    total = torch.full((), _UNIT / 2, device=images.device)  # halves are rounded up, as torchvision does for uint8
    for tap in range(places.shape[-1]):
        part = rows.index_select(0, places[..., tap].flatten()).view(count, channels, size, -1)
        total = part.to(torch.float32).mul_(weights[..., tap]).add_(total)
    return total.mul_(1 / _UNIT).floor_().clamp_max_(255).to(images.dtype)


def _taps(start: Tensor, length: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Which rows (N, size, T) int64 make up each row of the result, and their weights (N, size, T), as many units
    each; a weight is 0 where fewer than T rows do."""
    scale = (length / size)[:, None]
    reach = scale.clamp_min(1.0)
    middle = start[:, None] + (torch.arange(size) + 0.5) * scale
    taps = torch.arange(math.ceil(2 * float(reach.max())))
    places = (middle - reach + 0.5).floor()[:, :, None] + taps
    weights = (1 - (places + 0.5 - middle[:, :, None]).abs() / reach[:, :, None]).clamp_min(0.0)
    inside = (places >= start[:, None, None]) & (places < (start + length)[:, None, None])
    weights = weights * inside
    return places.long(), (weights * (_UNIT / weights.sum(2, keepdim=True))).round()
