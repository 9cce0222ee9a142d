"""How to train, apart from the loss: optimizer, schedule, class weights, precision."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from losstune.trainables.rows import Rows


@dataclass(frozen=True)
class Recipe:
    """epochs is the full length, by which schedule and progress are measured, however early a trial ends.

    class_weights: one per class, or None; the loss of an example is multiplied by its class's weight.
    precision: "float32" or "bfloat16" (network in bfloat16, masters, final layer and loss in float32).
    """

    epochs: int = 27
    batch_size: int = 64
    momentum: float = 0.9
    augmentation: str = "none"
    class_weights: tuple[float, ...] | None = None
    precision: str = "float32"


def cosine(learning_rate: float, progress: float) -> float:
    """Cosine decay without restarts (Kornblith A.1): eta/2 (1 + cos(pi progress))."""
    return learning_rate * 0.5 * (1 + math.cos(math.pi * progress))


@torch.no_grad()
def nesterov_step(rows: Rows, learning_rate: Tensor, momentum: float, index: int = 0) -> None:
    """One step of SGD with Nesterov momentum, as torch.optim.SGD takes it; learning_rate (n, 1), a row each.

    index: which pass of the step it is; each has a momentum of its own.
    """
    rows.gradient.addcmul_(rows.parameter, rows.decay)
    rows.momentum[index].mul_(momentum).add_(rows.gradient)
    rows.gradient.add_(rows.momentum[index], alpha=momentum)
    rows.parameter.addcmul_(rows.gradient, -learning_rate)
