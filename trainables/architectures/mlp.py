"""Fully connected networks.

Strictly Flatten, Linear and ReLU in sequence: a batched backend reads them layer by layer.
"""

from __future__ import annotations

import math

from torch import nn


def mlp(input_shape: tuple[int, ...], num_classes: int) -> nn.Sequential:
    """From (B, *input_shape) over 128 and 64 ReLU units to logits (B, K)."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(math.prod(input_shape), 128),
        nn.ReLU(),
        nn.Linear(128, 64),
        nn.ReLU(),
        nn.Linear(64, num_classes),
    )


def linear(input_shape: tuple[int, ...], num_classes: int) -> nn.Sequential:
    """Battash et al. 2021's linear classifier: from (B, *input_shape) to logits (B, K) in one layer."""
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(input_shape), num_classes))


def one_hidden_layer(input_shape: tuple[int, ...], num_classes: int) -> nn.Sequential:
    """Battash et al. 2021's second network for tables: as many ReLU units as there are inputs, then logits (B, K)."""
    inputs = math.prod(input_shape)
    return nn.Sequential(nn.Flatten(), nn.Linear(inputs, inputs), nn.ReLU(), nn.Linear(inputs, num_classes))
