"""Common corruptions of images, made here: CORRUPTIONS, each at five severities. Without torch.

The families, and the severities up to 32 pixels, are those of CIFAR-10-C: Hendrycks and Dietterich 2019, "Benchmarking
Neural Network Robustness to Common Corruptions and Perturbations", and its authors' make_cifar_c.py. Left out are those
that need pictures of their own (frost), and those made for natural scenes (snow, fog, spatter, glass and zoom blur).
What differs from that code, so that numbers here are not those of its published files:

- Lengths in pixels (the widths of blurs) hold for images whose shorter side is up to 32 pixels; they grow in proportion
  above that, and do not shrink below it, where a blur narrower than a pixel would do nothing.
- pixelate takes at least one cell less per side at each severity than at the one before, where shares would round to
  the same, and a pixel across which the edge of a cell runs is a mixture: cells of 28 pixels in 26 would else jump.
- Motion blur is drawn along a line at a random angle within 45 degrees of horizontal, trailing as half of a normal
  distribution, as ImageMagick's is; edges are repeated by every blur.
- Values are rounded to the nearest grey level, not cut off. White need not be 255: see white_level.

Random draws are of NumPy's RandomState, whose streams never change, seeded by corruption, severity and the example's
index: the same for every loss, seed, batch and machine.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from losstune.spaces.errors import InputError
from losstune.trainables.seeds import derive

SEVERITIES = (1, 2, 3, 4, 5)
SMALLEST_SIDE = 8
NATIVE_SIDE = 32  # pixels of the images that the severities were chosen for
LARGEST_ANGLE = 45.0  # degrees, of motion blur
Draws = Iterator[np.random.RandomState]


@dataclass(frozen=True)
class Corruption:
    """A family. function(x (n, C, H, W) float64 in [0, 1], value, draws) -> the same shape, of any range; draws: a
    generator per example. values: of the five severities."""

    summary: str
    function: Callable[[np.ndarray, Any, Draws], np.ndarray]
    values: tuple[Any, ...]


def corrupt(images: np.ndarray, name: str, severity: int, indices: np.ndarray, white: int = 255) -> np.ndarray:
    """Images (n, C, H, W) uint8 as a corruption leaves them at a severity from 1 to 5: the same shape and type.

    indices: (n,) whole numbers, which example of its split each image is; what is random depends on that alone.
    white: the level of white, see white_level.
    InputError for what is not such images, sides below 8 pixels, unknown names and severities.
    """
    check_corruption(name)
    check_corruptible(images.shape[1:])
    if severity not in SEVERITIES or images.dtype != np.uint8 or len(indices) != len(images):
        raise InputError(f"{name}: severity {severity!r} of {len(images)} {images.dtype} images with {len(indices)} "
                         "indices; allowed: 1 to 5, of uint8 images with an index each")  # fmt: skip
    chosen = CORRUPTIONS[name]
    found = chosen.function(images / white, chosen.values[severity - 1], _draws(name, severity, indices))
    return np.rint(white * np.clip(found, 0, 1)).astype(np.uint8)


def white_level(images: np.ndarray) -> int:
    """255; of a data set in few levels, such as 0 to 16, whose images (n, C, H, W) are all below 128, their largest."""
    largest = int(images.max(initial=0))
    return 255 if largest >= 128 or largest == 0 else largest


def _draws(name: str, severity: int, indices: np.ndarray) -> Draws:
    """Of each example in turn, to be used before the next one is asked for: seeding one is quicker than making many."""
    own = np.random.RandomState()
    for index in indices:
        own.seed(derive("corruption", name, severity, int(index)) % 2**32)
        yield own


def check_corruption(name: str) -> None:
    """InputError for a name that is not among CORRUPTIONS."""
    if name not in CORRUPTIONS:
        raise InputError(f"unknown corruption {name!r}; allowed: {', '.join(CORRUPTIONS)}")


def check_corruptible(shape: tuple[int, ...]) -> None:
    """InputError where an example of this shape is no image that can be corrupted."""
    if len(shape) != 3 or min(shape[1:]) < SMALLEST_SIDE:
        raise InputError(f"corruptions are of images, and an example has shape {tuple(shape)}; allowed: (C, H, W) with "
                         f"sides of at least {SMALLEST_SIDE} pixels")  # fmt: skip


def _gaussian_noise(x: np.ndarray, scale: float, draws: Draws) -> np.ndarray:
    return x + np.stack([own.normal(0, scale, x.shape[1:]) for own in draws])


def _shot_noise(x: np.ndarray, photons: float, draws: Draws) -> np.ndarray:
    return np.stack([own.poisson(one * photons) for one, own in zip(x, draws, strict=True)]) / photons


def _impulse_noise(x: np.ndarray, share: float, draws: Draws) -> np.ndarray:
    """Salt and pepper: this share of the values becomes 0 or 1, with even chances."""
    drawn = np.stack([own.random_sample(x.shape[1:]) for own in draws])
    return np.where(drawn < share / 2, 0.0, np.where(drawn < share, 1.0, x))


def _gaussian_blur(x: np.ndarray, sigma: float, draws: Draws) -> np.ndarray:
    from scipy.ndimage import gaussian_filter

    return gaussian_filter(x, (0, 0, *(2 * [sigma * _scale(x)])), mode="nearest")


def _defocus_blur(x: np.ndarray, disk: tuple[float, float], draws: Draws) -> np.ndarray:
    """A disk of a radius, its edge smoothed over the next pixels by a normal distribution."""
    from scipy.ndimage import convolve, gaussian_filter

    radius, smooth = disk[0] * _scale(x), disk[1]
    reach = int(np.ceil(radius)) + 1
    rows, columns = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    kernel = gaussian_filter((rows**2 + columns**2 <= radius**2).astype(float), smooth, mode="constant", radius=1)
    return convolve(x, (kernel / kernel.sum())[None, None], mode="nearest")


def _motion_blur(x: np.ndarray, trail: tuple[float, float], draws: Draws) -> np.ndarray:
    length, sigma = (part * _scale(x) for part in trail)
    steps = np.arange(int(round(length)) + 1)
    weights = np.exp(-(steps**2) / (2 * sigma**2))
    weights /= weights.sum()
    angles = np.radians([own.uniform(-LARGEST_ANGLE, LARGEST_ANGLE) for own in draws])
    return np.stack([_trailing(one, angle, steps, weights) for one, angle in zip(x, angles, strict=True)])


def _trailing(image: np.ndarray, angle: float, steps: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The weighted sum of an image (C, H, W) moved by steps along an angle, between pixels linearly."""
    from scipy.ndimage import convolve

    reach = int(steps[-1]) + 1
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1))
    rows, columns = reach - steps * np.sin(angle), reach + steps * np.cos(angle)
    top, left = np.floor(rows).astype(int), np.floor(columns).astype(int)
    for down, beside in ((0, 0), (0, 1), (1, 0), (1, 1)):
        share = (1 - np.abs(rows - top - down)) * (1 - np.abs(columns - left - beside))
        np.add.at(kernel, (np.minimum(top + down, 2 * reach), left + beside), weights * share)
    return convolve(image, kernel[None], mode="nearest")


def _contrast(x: np.ndarray, share: float, draws: Draws) -> np.ndarray:
    mean = x.mean((2, 3), keepdims=True)
    return mean + share * (x - mean)


def _brightness(x: np.ndarray, more: float, draws: Draws) -> np.ndarray:
    """The value of hue, saturation and value is raised; of images that have not three channels every channel is."""
    if x.shape[1] != 3:
        return x + more
    value = x.max(1, keepdims=True)
    raised = np.minimum(value + more, 1)
    return np.where(value > 0, x * raised / np.where(value > 0, value, 1), raised)


def _pixelate(x: np.ndarray, share: float, draws: Draws) -> np.ndarray:
    """A coarser grid, each of its cells in the mean colour of what it covers; where an edge crosses a pixel, both."""
    rows, columns = (_through_cells(side, _cells(side, share)) for side in x.shape[2:])
    return rows @ x @ columns


def _through_cells(side: int, cells: int) -> np.ndarray:
    """What pixels become that are averaged over so many cells and drawn again: (side, side), symmetric."""
    edges, places = np.linspace(0, side, cells + 1)[:, None], np.arange(side)
    covered = np.maximum(np.minimum(edges[1:], places + 1) - np.maximum(edges[:-1], places), 0)
    return covered.T @ covered * cells / side


def _cells(side: int, share: float) -> int:
    """How many cells a side has at a severity, fewer than at the one before."""
    cells = side
    for of in CORRUPTIONS["pixelate"].values:
        cells = max(1, min(int(side * of), cells - 1))
        if of == share:
            break
    return cells


def _jpeg_compression(x: np.ndarray, quality: int, draws: Draws) -> np.ndarray:
    """Three channels are compressed together, others one by one."""
    images = np.rint(255 * x).astype(np.uint8)
    if x.shape[1] == 3:
        return np.stack([_through_jpeg(one.transpose(1, 2, 0), quality).transpose(2, 0, 1) for one in images]) / 255
    return np.stack([[_through_jpeg(channel, quality) for channel in one] for one in images]) / 255


def _through_jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


def _scale(x: np.ndarray) -> float:
    return max(1.0, min(x.shape[2:]) / NATIVE_SIDE)


CORRUPTIONS: dict[str, Corruption] = {
    "gaussian_noise": Corruption("normal noise on every value", _gaussian_noise, (0.04, 0.06, 0.08, 0.09, 0.10)),
    "shot_noise": Corruption("Poisson noise, of few photons", _shot_noise, (500, 250, 100, 75, 50)),
    "impulse_noise": Corruption("values that are black or white", _impulse_noise, (0.01, 0.02, 0.03, 0.05, 0.07)),
    "defocus_blur": Corruption("blur by a disk", _defocus_blur, ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2),
                                                                 (1.5, 0.1))),
    "gaussian_blur": Corruption("blur by a normal distribution", _gaussian_blur, (0.4, 0.6, 0.7, 0.8, 1.0)),
    "motion_blur": Corruption("blur along a line", _motion_blur, ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5))),
    "brightness": Corruption("brighter", _brightness, (0.05, 0.10, 0.15, 0.20, 0.30)),
    "contrast": Corruption("less contrast", _contrast, (0.75, 0.5, 0.4, 0.3, 0.15)),
    "pixelate": Corruption("a coarser grid", _pixelate, (0.95, 0.9, 0.85, 0.75, 0.65)),
    "jpeg_compression": Corruption("JPEG at a low quality", _jpeg_compression, (80, 65, 58, 50, 40)),
}  # fmt: skip
