"""Where a pixel comes from: random crop, flip, rotation, and any affine map."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.transforms.v2 import functional as vision

from losstune.trainables.augmentation.operations import padding
from losstune.trainables.augmentation.step import Draws, Step, by_kind, in_pieces, uniform


class Crop(Step):
    """Zero padding by `pad` on all sides, then a crop of `size` (height, width) at a random place."""

    def __init__(self, shape: tuple[int, int, int], pad: int | None, size: tuple[int, int] | None):
        super().__init__(shape)
        channels, height, width = shape
        self.pad = padding(pad, size)
        self.size = size or (height, width)
        self.output_shape = (channels, *self.size)

    def draw(self, generator: torch.Generator, count: int) -> Draws:
        """top, left: (count,) int64, of the crop in the padded image."""
        ends = [side + 2 * self.pad - crop + 1 for side, crop in zip(self.input_shape[1:], self.size, strict=True)]
        top, left = (torch.randint(0, end, (count,), generator=generator) for end in ends)
        return {"top": top, "left": left}

    def __call__(self, images: Tensor, draws: Draws) -> Tensor:
        channels, height, width = self.input_shape
        padded = functional.pad(images, (self.pad,) * 4).contiguous()
        height, width = height + 2 * self.pad, width + 2 * self.pad
        # The rows of all crops, each a window of the flat padded images: whole rows are copied. On a CPU a gather of
        # pixels takes 3 to 20 times as long, indexing windows of whole images by their places 4 times.
        windows = padded.view(-1).as_strided((padded.numel() - self.size[1] + 1, self.size[1]), (1, 1))
        first = torch.arange(len(images)) * (channels * height * width) + draws["top"] * width + draws["left"]
        first = first.to(images.device, non_blocking=True)
        channel = torch.arange(channels, device=images.device) * (height * width)
        row = torch.arange(self.size[0], device=images.device) * width
        rows = first[:, None, None] + channel[:, None] + row
        return windows.index_select(0, rows.flatten()).view(len(images), *self.output_shape)

    def at_test(self, images: Tensor) -> Tensor:
        """The center crop where the crop has another size than the images."""
        return images if self.size == tuple(images.shape[-2:]) else vision.center_crop(images, list(self.size))


class Flip(Step):
    """Mirrored left to right with the given probability."""

    def __init__(self, shape: tuple[int, int, int], probability: float):
        super().__init__(shape)
        self.probability = probability

    def draw(self, generator: torch.Generator, count: int) -> Draws:
        """flip: (count,) bool."""
        return {"flip": torch.rand(count, generator=generator) < self.probability}

    def __call__(self, images: Tensor, draws: Draws) -> Tensor:
        return by_kind(images, draws["flip"].long(), {1: lambda part, _: part.flip(3)})


class Rotation(Step):
    """Turned about the middle by a uniform angle of `degrees` (low, high), counterclockwise; `fill` comes in."""

    def __init__(
        self,
        shape: tuple[int, int, int],
        degrees: tuple[float, float],
        interpolation: str,
        fill: tuple[float, ...],
    ):
        super().__init__(shape)
        self.degrees, self.interpolation, self.fill = degrees, interpolation, fill

    def draw(self, generator: torch.Generator, count: int) -> Draws:
        """angle: (count,) float64, degrees."""
        return {"angle": uniform(generator, count, *self.degrees)}

    def __call__(self, images: Tensor, draws: Draws) -> Tensor:
        return affine(images, rotations(draws["angle"]), self.interpolation, self.fill)


def rotations(degrees: Tensor) -> Tensor:
    """The maps (N, 2, 3) of affine() that turn images counterclockwise by degrees (N,), float64 as the maps.

    Where a kernel's last bit depended on an angle's place in the batch, the rounding to float32 would hide it.
    """
    angles = degrees * (math.pi / 180)
    cos, sin, zero = angles.cos(), angles.sin(), torch.zeros_like(angles)
    return torch.stack([cos, -sin, zero, sin, cos, zero], 1).view(-1, 2, 3)


@in_pieces
def affine(images: Tensor, maps: Tensor, interpolation: str, fill: tuple[float, ...]) -> Tensor:
    """Images (N, C, H, W) uint8, each through its map.

    maps: (N, 2, 3) float64 on the CPU, from the place (x, y, 1) of a pixel of the result to the place (x, y) that it
    is taken from, in pixels from the image's middle. interpolation: "nearest" or "bilinear". fill: levels from beyond
    the border, one or one per channel.
    """
    _, _, height, width = images.shape
    # grid_sample's units: -1 and 1 are the borders. Sums of single products, so that no image's bits depend on others.
    scaled = (maps / torch.tensor([[width / 2], [height / 2]], dtype=maps.dtype)).to(torch.float32)
    scaled = scaled.to(images.device, non_blocking=True)[:, :, :, None, None]
    x = torch.arange(width, device=images.device, dtype=torch.float32) - (width - 1) / 2
    y = torch.arange(height, device=images.device, dtype=torch.float32)[:, None] - (height - 1) / 2
    grid = scaled[:, :, 0] * x + scaled[:, :, 1] * y + scaled[:, :, 2]
    level = torch.tensor(fill, device=images.device).view(-1, 1, 1)
    values = images.to(torch.float32) - level
    # The last dimension strided by a plane: grid_sample reads it as fast as one that is contiguous.
    sampled = functional.grid_sample(values, grid.movedim(1, 3), interpolation, "zeros", align_corners=False)
    return (sampled + level).round_().to(images.dtype)
