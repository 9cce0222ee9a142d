"""Image files as examples: decoded by torchvision when they are used. torch is imported when the first is."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from losstune.spaces.errors import InputError
from losstune.trainables.datasets import dataset
from losstune.trainables.datasets.dataset import OnDisk

if TYPE_CHECKING:
    import torch

FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "GIF")  # in Pillow's names; MPO: JPEG as some cameras write it
ALLOWED = "JPEG, PNG, WebP or GIF"
_GREY_MODES = ("1", "L", "LA", "I", "I;16", "I;16B")


@dataclass(frozen=True, eq=False)
class ImageFiles(OnDisk):
    """Images below root. names: (M,) bytes, relative paths of all, index refers to them; example_shape: as stored.

    native: every file has exactly the stored height and width. Others are stored as their middle: the shorter side is
    resized to the stored one (bilinear, with antialiasing), then the center is cropped, as torchvision's Resize and
    CenterCrop do. One channel: all are grey; else all are decoded to RGB (alpha is dropped, CMYK converted, 16 bits
    become 8). Rotations that cameras note in EXIF are not applied, as in torchvision's ImageFolder.
    """

    root: str
    names: np.ndarray
    native: bool

    def path(self, index: int) -> str:
        """The path of example `index`."""
        return os.path.join(self.root, os.fsdecode(self.names[self.index[index]]))

    def read(self, indices: np.ndarray) -> np.ndarray:
        """See OnDisk: images (m, C, H, W) as stored."""
        images = np.empty((len(indices), *self.example_shape), np.uint8)
        for image, index in zip(images, indices, strict=True):
            image[:] = _stored(self._decode(int(index)), self.example_shape[1:]).numpy()
        return images

    def sizes(self, indices: np.ndarray) -> np.ndarray:
        """Heights and widths (m, 2) int64 of the files themselves, from their headers."""
        return np.array([header(self.path(int(index)), self.where)[:2] for index in indices]).reshape(-1, 2)

    def crops(self, index: int, boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Boxes (m, 4) of one image at its own resolution, (top, left, height, width) in pixels, each resized to size
        (bilinear, with antialiasing): (m, C, *size) uint8. It is decoded once."""
        image = self._decode(index)
        cuts = [image[:, top : top + h, left : left + w] for top, left, h, w in boxes.tolist()]
        return np.stack([_resized(cut, size).numpy() for cut in cuts])

    def hash_into(self, digest: Any) -> None:
        """Names and lengths of all files, and the bytes of every k-th."""
        paths = [self.path(index) for index in range(len(self))]
        try:
            lengths = [os.path.getsize(path) for path in paths]
            for name, length in zip(self.names[self.index], lengths, strict=True):
                digest.update(name + f"\0{length}\n".encode())
            for path in paths[:: max(1, -(-sum(lengths) // dataset.HASHED))]:
                with open(path, "rb") as file:
                    digest.update(file.read())
        except OSError as error:
            raise InputError(f"{self.where}: {error.filename} cannot be read: {error.strerror}") from None

    def _decode(self, index: int) -> torch.Tensor:
        """An image (C, H, W) uint8 at its own resolution."""
        import torch
        from torchvision.io import ImageReadMode, decode_image

        path = self.path(index)
        mode = ImageReadMode.GRAY if self.example_shape[0] == 1 else ImageReadMode.RGB
        try:
            # Not decode_image's own reader, which takes no name that is not UTF-8.
            image = decode_image(torch.from_numpy(np.fromfile(path, np.uint8)), mode=mode)
        except (OSError, RuntimeError) as error:
            raise _unreadable(path, error, self.where) from None
        if image.dim() == 4:  # of an animation, the first
            image = image[0]
        return (image.to(torch.int32) >> 8).to(torch.uint8) if image.dtype == torch.uint16 else image


def header(path: str, where: str) -> tuple[int, int, bool]:
    """Height, width and whether it is grey, of an image file, without decoding it; InputError when it is none."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            kind, mode, (width, height) = image.format, image.mode, image.size
    except UnidentifiedImageError:
        raise InputError(f"{where}: {path} is not an image; allowed: {ALLOWED}") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise _unreadable(path, error, where) from None
    if kind not in FORMATS:
        raise InputError(f"{where}: {path} is a {kind} image; allowed: {ALLOWED}")
    return height, width, kind != "GIF" and mode in _GREY_MODES


def _unreadable(path: str, error: Exception, where: str) -> InputError:
    # Of torchvision's message, what follows the place in its source.
    reason = " ".join(re.split(r"\.cpp:\d+, ", str(getattr(error, "strerror", None) or error))[-1].split())
    return InputError(f"{where}: {path} cannot be decoded: {reason}; allowed: whole {ALLOWED} files")


def _stored(image: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """The middle of an image in the stored size."""
    height, width = image.shape[1:]
    if (height, width) == tuple(size):
        return image
    side, shorter = size[0], min(height, width)
    # Rounded down, as torchvision's Resize has it; the crop's place as its CenterCrop has it.
    longer = max(side, int(side * max(height, width) / shorter))
    resized = _resized(image, (side, longer) if height <= width else (longer, side))
    top, left = (round((length - side) / 2) for length in resized.shape[1:])
    return resized[:, top : top + side, left : left + side]


def _resized(image: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    from torch.nn.functional import interpolate

    if tuple(image.shape[1:]) == tuple(size):
        return image
    return interpolate(image[None], tuple(size), mode="bilinear", antialias=True)[0]
