"""The data where the arithmetic is: one tensor on the device, normalized as it is used."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from losstune.trainables.augmentation import AUGMENTATIONS
from losstune.trainables.datasets import Split


class Normalization:
    """Mean and standard deviation of the training inputs: per channel of images (C, 1, 1), per feature (D,)."""

    def __init__(self, x: np.ndarray):
        axes = (0, 2, 3) if x.ndim == 4 else (0,)
        shape = (-1, 1, 1) if x.ndim == 4 else (-1,)
        std = x.std(axes, dtype=np.float64)
        self.mean = torch.tensor(x.mean(axes, dtype=np.float64), dtype=torch.float32).reshape(shape)
        self.scale = torch.tensor(1 / np.where(std > 0, std, 1.0), dtype=torch.float32).reshape(shape)

    def __call__(self, x: Tensor) -> Tensor:
        return (x.to(torch.float32) - self.mean.to(x.device)) * self.scale.to(x.device)


class Inputs:
    """A split as tensors on a device: x (N, *shape) as stored (uint8 images stay uint8), y (N,) int64."""

    def __init__(self, split: Split, normalization: Normalization, device: torch.device | str = "cpu"):
        # The arrays may lie read-only in shared memory; torch wants to be told that nothing writes to them.
        self.x = _as_tensor(split.x).to(device)
        self.y = _as_tensor(split.y).to(device)
        self.normalization = normalization

    def __len__(self) -> int:
        return len(self.y)

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs and targets of indices (n, B), as stored: (n, B, *shape) and (n, B)."""
        flat = indices.flatten()
        x = self.x.index_select(0, flat).unflatten(0, indices.shape)
        return x, self.y.index_select(0, flat).unflatten(0, indices.shape)

    def normalized(self, start: int, stop: int) -> Tensor:
        return self.normalization(self.x[start:stop])


def _as_tensor(array: np.ndarray) -> Tensor:
    if array.flags.writeable:
        return torch.from_numpy(array)
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return torch.from_numpy(array)


def augmented(x: Tensor, name: str, generators: Sequence[torch.Generator]) -> Tensor:
    """Images (n, B, C, H, W) augmented, each member's by its own generator; feature vectors pass unchanged."""
    if name == "none" or x.dim() != 5:
        return x
    return torch.stack([AUGMENTATIONS[name](images, g) for images, g in zip(x, generators, strict=True)])
