"""A fully connected network."""

from __future__ import annotations

import math

from torch import nn


def mlp(input_shape: tuple[int, ...], num_classes: int) -> nn.Sequential:
    """From (B, *input_shape) over 128 and 64 ReLU units to logits (B, K).

    Strictly Flatten, Linear and ReLU in sequence: a batched backend reads it layer by layer.
    """
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(math.prod(input_shape), 128),
        nn.ReLU(),
        nn.Linear(128, 64),
        nn.ReLU(),
        nn.Linear(64, num_classes),
    )
