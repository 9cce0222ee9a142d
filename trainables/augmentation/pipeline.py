"""Operations one after another: all draws first, on the CPU, then batched arithmetic where the images are."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

import torch
from torch import Tensor

from losstune.trainables.augmentation.operations import OPERATIONS
from losstune.trainables.augmentation.resizing import RandomResizedCrop
from losstune.trainables.augmentation.specification import Operations
from losstune.trainables.augmentation.step import Draws, Step


class Pipeline:
    """Steps for images of input_shape (C, H, W); output_shape: of what comes out. Without steps anything passes."""

    def __init__(self, steps: Sequence[Step], input_shape: tuple[int, ...]):
        self.steps = tuple(steps)
        self.input_shape = tuple(input_shape)
        self.output_shape = self.steps[-1].output_shape if self.steps else self.input_shape

    @classmethod
    def of(cls, operations: Operations, input_shape: tuple[int, ...]) -> Pipeline:
        """The pipeline of operations that are known to fit inputs of input_shape."""
        steps: list[Step] = []
        for name, given in operations:
            operation = OPERATIONS[name]
            module, step = operation.step.split(":")
            shape = steps[-1].output_shape if steps else tuple(input_shape)
            steps.append(getattr(importlib.import_module(module), step)(shape, **operation.settled(dict(given))))
        return cls(steps, input_shape)

    @property
    def is_identity(self) -> bool:
        return not self.steps

    @property
    def crop(self) -> RandomResizedCrop | None:
        """The random resized crop that the pipeline begins with, which a reader of files may do as it decodes."""
        return self.steps[0] if self.steps and isinstance(self.steps[0], RandomResizedCrop) else None

    @property
    def without_crop(self) -> Pipeline:
        """What is left to do for a reader that has done the crop."""
        return self if self.crop is None else Pipeline(self.steps[1:], self.crop.output_shape)

    def draw(self, generator: torch.Generator, count: int, sizes: Tensor | None = None) -> Draws:
        """The random parameters of count images, from the generator (of the CPU) alone; tensors (count, ...).

        sizes: (count, 2) heights and widths of the files that `crop` is done on, where they differ.
        """
        draws = {}
        for place, step in enumerate(self.steps):
            own = step.draw(generator, count, sizes) if place == 0 and self.crop else step.draw(generator, count)
            draws |= {f"{place}.{name}": values for name, values in own.items()}
        return draws

    def __call__(self, images: Tensor, draws: Draws) -> Tensor:
        """Images (N, C, H, W) uint8 -> (N, *output_shape) uint8 on their device.

        An image's result depends on its own draws alone; on a CPU bit for bit, whatever is beside it.
        """
        for place, step in enumerate(self.steps):
            prefix = f"{place}."
            images = step(images, {k.removeprefix(prefix): v for k, v in draws.items() if k.startswith(prefix)})
        return images

    def at_test(self, images: Tensor) -> Tensor:
        """What evaluation sees of images (N, C, H, W): themselves, or their middle where training crops."""
        for step in self.steps:
            images = step.at_test(images)
        return images
