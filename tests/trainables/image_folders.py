"""Small image folders in ImageNet's layout, for tests of data on disk."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("n01440764", "n01443537", "n02102040")


def pixels(height: int, width: int, seed: int) -> np.ndarray:
    """A smooth coloured image (H, W, 3), as photographs are: JPEG keeps it nearly, and resizing has edges to meet."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (5, 6, 3), np.uint8)).resize((width, height), Image.BICUBIC)
    return np.asarray(coarse).copy()


def write(path: Path, image: np.ndarray, mode: str | None = None) -> None:
    """Write (H, W) or (H, W, 3) as the suffix says, first converted to a mode of Pillow's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(image)
    kind = {"quality": 95, "format": "JPEG"} if path.suffix.lower() in (".jpg", ".jpeg") else {}
    (picture.convert(mode) if mode else picture).save(path, **kind)


def image_net(
    root: Path, sizes: Callable[[int], tuple[int, int]], train: int = 4, val: int = 2, suffix: str = ".JPEG",
    mode: str | None = None, classes: tuple[str, ...] = CLASSES,
) -> Path:  # fmt: skip
    """root/train/CLASS/CLASS_0.JPEG ... and root/val/CLASS/...; sizes(number) -> (height, width)."""
    number = 0
    for part, count in (("train", train), ("val", val)):
        for name in classes:
            for index in range(count):
                write(root / part / name / f"{name}_{index}{suffix}", pixels(*sizes(number), number), mode)
                number += 1
    return root


def varied(number: int) -> tuple[int, int]:
    """Sizes that differ, wider and higher ones."""
    return 30 + 7 * (number % 5), 33 + 11 * (number % 3)
