"""Optimizers over the rows of many members, each with its own learning rate and weight decay: OPTIMIZERS."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from losstune.trainables.recipe import Recipe
from losstune.trainables.rows import Rows


@dataclass(frozen=True)
class Optimizer:
    """An optimizer. slots: how many tensors (n, P) it keeps between steps.

    step: (rows, state (slots, n, P), rate (n, 1), factors, recipe); moves rows.parameter by rows.gradient, which it may
    overwrite. factors: what a step needs besides, each (n, 1): what factors_at gives for how many steps a member has
    taken with this one, from 1. In Python's floats, because a vectorized power may round otherwise at another place.
    """

    slots: int
    step: Callable[[Rows, Tensor, Tensor, Sequence[Tensor], Recipe], None]
    factors_at: Callable[[int, Recipe], tuple[float, ...]] = lambda steps, recipe: ()


def sgd(rows: Rows, state: Tensor, rate: Tensor, factors: Sequence[Tensor], recipe: Recipe) -> None:
    """SGD with heavy-ball momentum, as torch.optim.SGD takes it; weight decay is added to the gradient."""
    (momentum,) = state
    rows.gradient.addcmul_(rows.parameter, rows.decay)
    torch.add(rows.gradient, momentum, alpha=recipe.momentum, out=momentum)
    rows.parameter.addcmul_(momentum, -rate)


def sgd_nesterov(rows: Rows, state: Tensor, rate: Tensor, factors: Sequence[Tensor], recipe: Recipe) -> None:
    """SGD with Nesterov momentum, as torch.optim.SGD takes it; weight decay is added to the gradient."""
    (momentum,) = state
    rows.gradient.addcmul_(rows.parameter, rows.decay)
    torch.add(rows.gradient, momentum, alpha=recipe.momentum, out=momentum)
    rows.gradient.add_(momentum, alpha=recipe.momentum)
    rows.parameter.addcmul_(rows.gradient, -rate)


def adamw(rows: Rows, state: Tensor, rate: Tensor, factors: Sequence[Tensor], recipe: Recipe) -> None:
    """AdamW (Loshchilov and Hutter 2019), as torch.optim.AdamW takes it; weight decay is apart from the gradient."""
    (first, second), (bias1, root_bias2) = state, factors
    beta1, beta2 = recipe.betas
    rows.parameter.addcmul_(rows.parameter * rows.decay, -rate)
    first.lerp_(rows.gradient, 1 - beta1)
    second.mul_(beta2).addcmul_(rows.gradient, rows.gradient, value=1 - beta2)
    denominator = second.sqrt().div_(root_bias2).add_(recipe.eps)
    rows.parameter.addcmul_(first.div(denominator), -rate / bias1)


def adam_biases(steps: int, recipe: Recipe) -> tuple[float, float]:
    """1 - beta1^t and the root of 1 - beta2^t (Kingma and Ba 2015, Algorithm 1)."""
    beta1, beta2 = recipe.betas
    return 1 - beta1**steps, math.sqrt(1 - beta2**steps)


OPTIMIZERS: dict[str, Optimizer] = {
    "sgd": Optimizer(1, sgd),
    "sgd_nesterov": Optimizer(1, sgd_nesterov),
    "adamw": Optimizer(2, adamw, adam_biases),
}


def clip(gradient: Tensor, parts: list[tuple[slice, int]], largest: float) -> None:
    """Scale each member's gradient (n, P) to a norm of at most largest, as torch.nn.utils.clip_grad_norm_ does.

    parts: members with the width of their own row: what lies beyond belongs to wider rows in the same matrix, and
    summing over it would round otherwise. A gradient that is not finite stays so, and is that member's alone.
    """
    for members, width in parts:
        own = gradient[members, :width]
        norm = torch.linalg.vector_norm(own, dim=1, keepdim=True)
        own.mul_((largest / (norm + 1e-6)).clamp(max=1.0))


def share_of_new(steps: int, decay: float) -> float:
    """How far a moving average goes towards the weights after so many steps: 1 - min(decay, (1 + t) / (10 + t)).

    As TensorFlow's ExponentialMovingAverage with num_updates: a constant decay would hold on to the initial weights
    for 1 / (1 - decay) steps.
    """
    return 1 - min(decay, (1 + steps) / (10 + steps))
