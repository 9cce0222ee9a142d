"""Brightness, contrast, saturation, hue and sharpness by a factor per image, and color jitter of the first four.

All as torchvision computes them for uint8: results are cut to [0, 255] and truncated.
"""

from __future__ import annotations

import torch
from torch import Tensor

from losstune.trainables.augmentation.step import Draws, Step, by_kind, columns, in_pieces, uniform


class ColorJitter(Step):
    """Brightness, contrast and saturation by factors uniform in their intervals, hue shifted by a share of the circle
    uniform in its; in an order of the image's own. None: left as it is."""

    def __init__(self, shape: tuple[int, int, int], **intervals: tuple[float, float] | None):
        super().__init__(shape)
        self.intervals = {name: interval for name, interval in intervals.items() if interval is not None}

    def draw(self, generator: torch.Generator, count: int) -> Draws:
        """order: (count, n) int64, which of the n parts comes when; factors: (count, n) float64, of each part."""
        parts = len(self.intervals)
        order = torch.rand(count, parts, generator=generator).argsort(1)
        factors = [uniform(generator, count, *interval) for interval in self.intervals.values()]
        return {"order": order, "factors": torch.stack(factors, 1) if factors else torch.zeros(count, 0)}

    def __call__(self, images: Tensor, draws: Draws) -> Tensor:
        order, factors = draws["order"], draws["factors"]
        adjust = {
            part: lambda images, rows, part=part, name=name: ADJUST[name](images, factors[rows, part])
            for part, name in enumerate(self.intervals)
        }
        for turn in order.unbind(1):
            images = by_kind(images, turn, adjust)
        return images


@in_pieces
def brightness(images: Tensor, factors: Tensor) -> Tensor:
    """Images (N, C, H, W) uint8 times factors (N,) float64 of the CPU."""
    return _truncated(images * columns(factors, images))


@in_pieces
def contrast(images: Tensor, factors: Tensor) -> Tensor:
    """Blended with the mean grey level of each."""
    grey = images if images.shape[1] == 1 else _grey(images)
    mean = grey.sum((1, 2, 3), dtype=torch.float64) / grey[0].numel()  # a sum of whole numbers: exact
    return _blended(images, mean.to(torch.float32).view(-1, 1, 1, 1), factors)


@in_pieces
def saturation(images: Tensor, factors: Tensor) -> Tensor:
    """Blended with its grey levels; colour images."""
    return _blended(images, _grey(images), factors)


@in_pieces
def hue(images: Tensor, shifts: Tensor) -> Tensor:
    """The hue moved by a share of the colour circle, in [-0.5, 0.5]; saturation and value stay; colour images."""
    red, green, blue = images.to(torch.float32).unbind(1)
    lowest = torch.minimum(torch.minimum(red, green), blue)
    chroma = torch.maximum(torch.maximum(red, green), blue) - lowest
    # In sixths of the circle: how far from red, on the green or on the blue side. One formula for all three sides:
    # torch.where takes as long as ten additions.
    from_red = 1 + (green + blue - red - lowest) / chroma.clamp_min(1.0)
    place = torch.copysign(from_red, green - blue) + columns(shifts * 6, images)[:, 0]
    place = place - 6 * (place / 6).floor_()
    # Red is full within one of 0, green of 2, blue of 4, and each falls linearly beside.
    full = torch.stack([(place - 3).abs_() - 1, 2 - (place - 2).abs_(), 2 - (place - 4).abs_()], 1).clamp_(0, 1)
    return _truncated((lowest[:, None] + chroma[:, None] * full) * (255.999 / 255))


@in_pieces
def sharpness(images: Tensor, factors: Tensor) -> Tensor:
    """Blended with the mean over 3 x 3 pixels, the middle one five times; the border stays."""
    if min(images.shape[-2:]) <= 2:
        return images
    levels = images.to(torch.float32)
    across = levels[:, :, :, :-2] + levels[:, :, :, 1:-1] + levels[:, :, :, 2:]
    inner = levels[:, :, 1:-1, 1:-1]
    smooth = across[:, :, :-2] + across[:, :, 1:-1] + across[:, :, 2:] + 4 * inner
    smooth = smooth.mul_(1 / 13).round_()
    result = images.clone()
    result[:, :, 1:-1, 1:-1] = _truncated(inner + (smooth - inner) * columns(1 - factors, images))
    return result


ADJUST = {"brightness": brightness, "contrast": contrast, "saturation": saturation, "hue": hue}


def _grey(images: Tensor) -> Tensor:
    """(N, 1, H, W) float32, whole numbers."""
    red, green, blue = images.split(1, 1)
    return (red * 0.2989 + green * 0.587 + blue * 0.114).floor_()


def _blended(images: Tensor, others: Tensor, factors: Tensor) -> Tensor:
    """factor * images + (1 - factor) * others, in two products and a sum, see the note on bits in step."""
    return _truncated(images * columns(factors, images) + others * columns(1 - factors, images))


def _truncated(levels: Tensor) -> Tensor:
    return levels.clamp_(0, 255).to(torch.uint8)
