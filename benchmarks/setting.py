"""What the trainer's benchmarks share: images of any content, stacks on them, and how steps are timed."""

from __future__ import annotations

import time

import numpy as np
import torch

from losstune.spaces import space_of
from losstune.trainables.augmentation import check, resolve
from losstune.trainables.backends import Choice
from losstune.trainables.datasets import Split
from losstune.trainables.inputs import Inputs, Normalization
from losstune.trainables.network import Network
from losstune.trainables.recipe import Recipe
from losstune.trainables.trainer import Stack
from losstune.trainables.trial import Trial


def images(count: int, shape: tuple[int, ...], classes: int = 10) -> Split:
    """Random pixels and labels: their content does not matter to how long a step takes."""
    draw = np.random.RandomState(0)
    return Split(
        draw.randint(0, 256, (count, *shape)).astype(np.uint8), draw.randint(0, classes, count).astype(np.int64)
    )


def make_stack(network: str, split: Split, members: int, choice: Choice, device: str, augmentation: str = "none",
               source: str | None = None, **recipe) -> Stack:  # fmt: skip
    """A stack full of members of one loss, each a seed of its own."""
    shape = split.x.shape[1:]
    inputs = Inputs(split, Normalization(split.x[:5000]), device, resolve(augmentation, shape))
    spec, how = Network(network, shape, 10, source=source), Recipe(augmentation=check(augmentation), **recipe)
    stack = Stack("benchmark", spec, how, inputs, inputs, None, device, members, choice)
    shared = space_of("softmax").shared()
    rates = shared["learning_rate"].default, shared["weight_decay"].default
    for seed in range(members):
        stack.join(Trial(f"{seed}", "softmax", {}, *rates, "benchmark", (seed,), 100))
    return stack


def samples_per_second(stack: Stack, steps: int, repeats: int = 5) -> float:
    """Training samples of all members per second: the quickest of some repeats, after a warm-up."""
    stack.rehearse(6)
    best = float("inf")
    for _ in range(repeats):
        started = now(stack.device)
        stack.rehearse(steps)
        best = min(best, now(stack.device) - started)
    members = sum(map(len, stack.members.values()))
    return members * stack.recipe.batch_size * steps / best


def now(device: torch.device) -> float:
    """Seconds; on a CPU of this process, so that what runs beside it counts less."""
    if device.type == "cuda":
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()
