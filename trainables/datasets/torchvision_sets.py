"""Data sets that torchvision reads from the user's data root; nothing is ever downloaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from losstune.spaces.errors import InputError
from losstune.trainables.datasets.dataset import Dataset, Split


def load_fashion_mnist(data_root: Path) -> Dataset:
    """60,000 and 10,000 images (N, 1, 28, 28)."""
    from torchvision.datasets import FashionMNIST

    return _load("fashion_mnist", FashionMNIST, data_root)


def load_cifar10(data_root: Path) -> Dataset:
    """50,000 and 10,000 images (N, 3, 32, 32)."""
    from torchvision.datasets import CIFAR10

    return _load("cifar10", CIFAR10, data_root)


def load_cifar100(data_root: Path) -> Dataset:
    """50,000 and 10,000 images (N, 3, 32, 32)."""
    from torchvision.datasets import CIFAR100

    return _load("cifar100", CIFAR100, data_root)


def _load(name: str, kind: Callable[..., Any], data_root: Path) -> Dataset:
    try:
        parts = [kind(data_root, train=train, download=False) for train in (True, False)]
    except Exception as error:  # torchvision raises whatever a damaged file makes it stumble over
        message = " ".join(str(error).split())
        raise InputError(f"data: {name}: torchvision cannot read the files under {data_root}: "
                         f"{type(error).__name__}: {message}; allowed: the published, unchanged files"
                         ) from error  # fmt: skip
    train, test = (_split(part) for part in parts)
    return Dataset(name, train, test, len(parts[0].classes), tuple(parts[0].classes))


def _split(part: Any) -> Split:
    """torchvision keeps (N, H, W) tensors or (N, H, W, C) arrays, uint8."""
    x = np.asarray(part.data)
    x = x[:, None] if x.ndim == 3 else x.transpose(0, 3, 1, 2)
    return Split(np.ascontiguousarray(x), np.asarray(part.targets, dtype=np.int64))
