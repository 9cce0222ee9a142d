"""Augmentation of whole batches of images, on their device: AUGMENTATIONS. torch is imported when one is used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Augmentation:
    """Zero padding by `pad` pixels, a random crop back to the image's size, a horizontal flip with probability 1/2."""

    summary: str
    pad: int = 0
    flip: bool = False

    def __call__(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Images (B, C, H, W) of any type, each with its own draws; the same shape, type and device.

        All draws are made on the generator's device, from it alone, and moved: a seed means the same everywhere.
        """
        if not (self.pad or self.flip):
            return images
        pixels = _pixels(images, self.pad, self.flip, generator).to(images.device, non_blocking=True)
        # One gather over flat pixels: 2 to 5 times faster on a CPU than windows or indexing by rows and columns.
        import torch.nn.functional as F

        padded = F.pad(images, (self.pad,) * 4) if self.pad else images
        gathered = padded.flatten(2).gather(2, pixels[:, None].expand(-1, images.shape[1], -1))
        return gathered.view(images.shape)


AUGMENTATIONS: dict[str, Augmentation] = {
    "none": Augmentation("images as they are"),
    "crop": Augmentation("zero padding by 4 pixels, random crop", pad=4),
    "crop_flip": Augmentation("zero padding by 4 pixels, random crop, random horizontal flip; usual for CIFAR",
                              pad=4, flip=True),
}  # fmt: skip


def _pixels(images: torch.Tensor, pad: int, flip: bool, generator: torch.Generator) -> torch.Tensor:
    """For each pixel of the result, its place in the flat padded image: (B, H W) int64."""
    import torch

    count, _, height, width = images.shape
    device = generator.device
    offsets = torch.randint(0, 2 * pad + 1, (2, count, 1), generator=generator, device=device)
    rows = torch.arange(height, device=device) + offsets[0]
    columns = torch.arange(width, device=device).expand(count, width)
    if flip:
        flipped = torch.randint(0, 2, (count, 1), generator=generator, device=device, dtype=torch.bool)
        columns = torch.where(flipped, width - 1 - columns, columns)
    columns = columns + offsets[1]
    return (rows[:, :, None] * (width + 2 * pad) + columns[:, None, :]).flatten(1)
