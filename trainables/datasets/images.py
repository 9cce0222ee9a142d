"""Images in the layouts and ranges that people keep them in, as uint8 (N, C, H, W)."""

from __future__ import annotations

import numpy as np

from losstune.spaces.errors import InputError

_SHAPES = "(N, H, W), (N, H, W, 1), (N, H, W, 3) or (N, C, H, W) with C below H and W"
_VALUES = "0 to 255, or 0 to 1"


def as_images(x_train: np.ndarray, x_test: np.ndarray, where: str) -> tuple[np.ndarray, np.ndarray]:
    """Both arrays as uint8 (N, C, H, W), contiguous; InputError names layouts and ranges.

    Layouts: (N, H, W); (N, H, W, C) with C 1 or 3; (N, C, H, W). Values, judged over both arrays together: whole
    numbers from 0 to 255 stay as they are (of any type; 0 to 16 stays 0 to 16: the trainer normalizes); fractions
    from 0 to 1 are multiplied by 255 and rounded; other fractions up to 255, where the largest is at least 128, are
    rounded. Rounding loses at most half of one grey level in 255.
    """
    pair = [channels_first(x, f"{where}: {name}") for x, name in ((x_train, "x_train"), (x_test, "x_test"))]
    scale = _scale(pair, where)
    return as_uint8(pair[0], scale), as_uint8(pair[1], scale)


def channels_first(x: np.ndarray, where: str) -> np.ndarray:
    """A view (N, C, H, W) of images in any layout that as_images takes; only the shape is looked at."""
    if x.ndim == 3:
        return x[:, None]
    _, second, third, last = x.shape
    if last in (1, 3) and not (second in (1, 3) and third > last):
        return x.transpose(0, 3, 1, 2)
    if second in (1, 3) or second < min(third, last):
        return x
    raise InputError(f"{where}: has shape {x.shape}; allowed: {_SHAPES}")


def _scale(pair: list[np.ndarray], where: str) -> float:
    """What values are multiplied by."""
    if all(x.dtype in (np.uint8, np.bool_) for x in pair):
        return 1.0
    low, high = min(float(x.min()) for x in pair), max(float(x.max()) for x in pair)
    if low < 0 or high > 255:
        raise InputError(f"{where}: images hold values from {low:g} to {high:g}; allowed: {_VALUES}")
    if all(x.dtype.kind != "f" or bool((x == np.rint(x)).all()) for x in pair):
        return 1.0
    if high <= 1:
        return 255.0
    highs = [float(x.max()) for x in pair]
    if min(highs) <= 1:
        raise InputError(f"{where}: x_train goes up to {highs[0]:g}, x_test up to {highs[1]:g}; allowed: the same "
                         f"range, {_VALUES}")  # fmt: skip
    if high < 128:
        raise InputError(f"{where}: images hold fractions from {low:g} to {high:g}, too coarse when rounded; "
                         f"allowed: {_VALUES}")  # fmt: skip
    return 1.0


def as_uint8(x: np.ndarray, scale: float = 1.0) -> np.ndarray:
    """Images as contiguous uint8; fractions are multiplied by scale and rounded."""
    if x.dtype.kind == "f":
        x = np.rint(x * scale)
    return np.ascontiguousarray(x, dtype=np.uint8)
