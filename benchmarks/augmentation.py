"""Augmentation of 50,000 colour images 32 x 32 as a lane does it, against torchvision on PIL images in a DataLoader.

    python benchmarks/augmentation.py [--images 50000]

One thread and no worker processes on both sides, batches of 500, in random order, from uint8 images in memory to
augmented and normalized float32 batches; the images are random, since what they show does not matter. The peer runs a
tenth of the images. Printed per named augmentation: images per second of both, the fastest of runs in turns, their
ratio, and what 50,000 images take.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from losstune.trainables.augmentation import AUGMENTATIONS, resolve
from losstune.trainables.datasets import Split
from losstune.trainables.inputs import Inputs, Normalization
from losstune.trainables.memory import keep_freed_memory

SHAPE, BATCH, ROUNDS = (3, 32, 32), 500, 3
CROP_FLIP = [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip()]
AUTOAUGMENT = transforms.AutoAugment(transforms.AutoAugmentPolicy.CIFAR10)
# What the peer does on PIL images, and after ToTensor and Normalize.
PEER: dict[str, tuple[list[Callable], list[Callable]]] = {
    "none": ([], []),
    "crop": (CROP_FLIP[:1], []),
    "crop_flip": (CROP_FLIP, []),
    "crop_flip_rotation": ([*CROP_FLIP, transforms.RandomRotation(15)], []),
    "crop_flip_erasing": (CROP_FLIP, [transforms.RandomErasing(0.5)]),
    "crop_flip_jitter": ([*CROP_FLIP, transforms.ColorJitter(0.4, 0.4, 0.4, 0.1)], []),
    "cifar_autoaugment": ([*CROP_FLIP, AUTOAUGMENT], []),
}


class Images(Dataset):
    """Images (N, 32, 32, 3) uint8 through transforms of PIL images, as torchvision's CIFAR10 does it."""

    def __init__(self, images: np.ndarray, transform: Callable):
        self.images, self.transform = images, transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), 0


def peer(name: str, images: np.ndarray, normalization: Normalization) -> Callable[[], int]:
    """One epoch of the peer; returns how many images it took."""
    mean, std = normalization.mean.flatten() / 255, 1 / (255 * normalization.scale.flatten())
    before, after = PEER[name]
    normalize = transforms.Normalize(mean.tolist(), std.tolist())
    chain = transforms.Compose([*before, transforms.ToTensor(), normalize, *after])
    loader = DataLoader(Images(images.transpose(0, 2, 3, 1).copy(), chain), BATCH, shuffle=True)
    return lambda: sum(len(x) for x, _ in loader)


def lane(name: str, images: np.ndarray, normalization: Normalization) -> Callable[[], int]:
    """One epoch of the inputs of a lane; returns how many images it took."""
    split = Split(images, np.zeros(len(images), np.int64))
    inputs = Inputs(split, normalization, augmentation=resolve(name, SHAPE))
    generator = torch.Generator().manual_seed(0)

    def epoch() -> int:
        order = torch.randperm(len(images), generator=generator).view(1, -1, BATCH)
        return sum(x.shape[1] for x, _ in inputs.batches(order, lambda step: [generator]))

    return epoch


def rate(epoch: Callable[[], int]) -> float:
    """Images per second."""
    started = time.perf_counter()
    return epoch() / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=50_000, help="a multiple of 5,000")
    count = parser.parse_args().images
    torch.set_num_threads(1)
    keep_freed_memory()  # as a lane does
    images = np.random.default_rng(0).integers(0, 256, (count, *SHAPE), dtype=np.uint8)
    normalization = Normalization(images)
    print(f"torch {torch.__version__}, {count} images {SHAPE}, batches of {BATCH}, one thread; images per second")
    print(f"{'augmentation':28}{'losstune':>12}{'PIL':>10}{'ratio':>8}{'s per 50,000':>16}")
    for name in (name for name in AUGMENTATIONS if name in PEER):
        ours, theirs = lane(name, images, normalization), peer(name, images[: count // 10], normalization)
        ours()
        rates = [(rate(ours), rate(theirs)) for _ in range(ROUNDS)]
        fast, slow = (max(side) for side in zip(*rates, strict=True))
        seconds = f"{50_000 / fast:.2f} / {50_000 / slow:.1f}"
        print(f"{name:28}{fast:12,.0f}{slow:10,.0f}{fast / slow:8.1f}{seconds:>16}", flush=True)


if __name__ == "__main__":
    main()
