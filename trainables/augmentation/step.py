"""What every operation has in common, and how one works on a part of a batch.

Bits. An image's result must not depend on the images beside it, nor on its place among them. A vectorized kernel may
round differently in its body and in its remainder where it fuses two operations (add with alpha, addcmul, lerp), and a
sum may be taken in another order. So the steps use fused kernels and sums only where every partial result is exact,
and single multiplications, additions and the like elsewhere: those are rounded the same everywhere.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

Draws = dict[str, Tensor]


class Step:
    """An operation on images of one shape, (N, C, H, W) uint8.

    draw makes its random parameters on the CPU, from the generator alone, the first dimension of each the image. The
    call is a function of images and draws, on the images' device.
    """

    def __init__(self, shape: tuple[int, int, int]):
        self.input_shape = self.output_shape = shape

    def draw(self, generator: torch.Generator, count: int) -> Draws:
        raise NotImplementedError

    def __call__(self, images: Tensor, draws: Draws) -> Tensor:
        raise NotImplementedError

    def at_test(self, images: Tensor) -> Tensor:
        """What evaluation sees: the images as they are, unless the operation changes their size."""
        return images


def uniform(generator: torch.Generator, count: int, low: float, high: float, *shape: int) -> Tensor:
    """(count, *shape) float64, uniform in [low, high)."""
    return low + (high - low) * torch.rand(count, *shape, generator=generator, dtype=torch.float64)


def whole_below(generator: torch.Generator, ends: Tensor) -> Tensor:
    """For each end (float64 of whole numbers >= 1) a whole number from 0 to end - 1, all alike probable; int64."""
    drawn = torch.rand(ends.shape, generator=generator, dtype=torch.float64)
    return (drawn * ends).floor().clamp_max(ends - 1).to(torch.int64)


def columns(values: Tensor, images: Tensor) -> Tensor:
    """Values (N,) of the CPU as (N, 1, 1, 1) float32 on the images' device."""
    return values.to(torch.float32).to(images.device, non_blocking=True).view(-1, 1, 1, 1)


def in_pieces(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """function(images, of each image, ...) for a few images at a time, for functions that work in float32.

    On a CPU the temporaries then stay in the cache and in the allocator's hands: 2 to 10 times faster on 500 images of
    32 x 32 than at once. On a GPU the pieces only bound the memory.
    """

    @functools.wraps(function)
    def pieces(images: Tensor, of_each: Tensor, *same: Any) -> Tensor:
        levels = 2**26 if images.is_cuda else 2**18
        count = max(2, levels // max(1, images[:1].numel()))
        if len(images) <= count:
            return function(images, of_each, *same)
        parts = zip(images.split(count), of_each.split(count), strict=True)
        return torch.cat([function(part, of_part, *same) for part, of_part in parts])

    return pieces


def by_kind(images: Tensor, kinds: Tensor, functions: Mapping[int, Callable[[Tensor, Tensor], Tensor]]) -> Tensor:
    """Each image through the function of its kind; images of other kinds pass unchanged.

    kinds: (N,) int64 on the CPU, so that nothing waits for a GPU. functions: function(part (n, C, H, W), rows (n,) of
    the part in the batch, on the CPU) -> (n, C, H, W).
    """
    rows = {kind: (kinds == kind).nonzero().flatten() for kind in functions}
    rows = {kind: at for kind, at in rows.items() if len(at)}
    if not rows:
        return images
    source, end = torch.arange(len(images)), len(images)
    parts = [images]
    for kind, at in rows.items():
        part = images.index_select(0, at.to(images.device, non_blocking=True))
        parts.append(functions[kind](part, at))
        source[at] = torch.arange(end, end + len(at))
        end += len(at)
    # Appended and selected: writing rows of bytes in place (index_copy_) takes five times as long.
    return torch.cat(parts).index_select(0, source.to(images.device, non_blocking=True))
