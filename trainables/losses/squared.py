"""Squared errors of the logits. They define no probabilities."""

from __future__ import annotations

import torch
from torch import Tensor

from losstune.trainables.losses.closed_forms import Gradient, closed_form, set_at
from losstune.trainables.losses.loss import Loss
from losstune.trainables.losses.parts import Value, pick


@closed_form
def squared_error(
    logits: Tensor, targets: Tensor, kappa: Value, M: Value, loss_scale: Value = 1.0  # noqa: N803
) -> Gradient:
    """loss_scale / K [kappa (z_y - M)^2 + sum_{k != y} z_k^2] (Kornblith Eq. 10).

    kappa, M, loss_scale > 0; kappa = M = loss_scale = 1 is the mean squared error. Eq. 10 divides by K; the authors'
    code sums over classes and scales by 10, which is loss_scale = 10 K here. Zhou Eq. 6 is loss_scale = K; Zhou's code
    takes the mean over classes, loss_scale = 1.
    """
    return _weighted(logits, targets, kappa, M, loss_scale / logits.shape[-1])


@closed_form
def quadratic(logits: Tensor, targets: Tensor) -> Gradient:
    """1/2 |t - z|^2 (Demirkaya, Problem Setup)."""
    return _weighted(logits, targets, 1.0, 1.0, 0.5)


@closed_form
def ccql(logits: Tensor, targets: Tensor, w: Value) -> Gradient:
    """1/2 |t - z|^2 + w/2 (1 - z_y)^2 (Demirkaya Eq. II.1): squared_error with kappa = 1 + w, M = 1, loss_scale = K/2.

    w >= 0; w = 0 is quadratic, and so is the default w = sqrt(K - 1) - 1 at K = 2. In the text of Eq. II.1 the second
    term is garbled, "(1^T f(x)[y])^2"; read as (1 - f(x)[y])^2, since the paper says that w -> infinity leaves a loss
    that the all-ones prediction makes zero.
    """
    return _weighted(logits, targets, 1.0 + w, 1.0, 0.5)


def _weighted(logits: Tensor, targets: Tensor, kappa: Value, M: Value, scale: Value) -> Gradient:  # noqa: N803
    """scale [kappa (z_y - M)^2 + sum_{k != y} z_k^2] and its gradient."""
    error = pick(logits, targets) - M
    wrong = set_at(logits.clone(), targets, torch.zeros_like(error))
    value = scale * (kappa * error.square() + torch.linalg.vector_norm(wrong, dim=-1).square())
    return value, set_at(wrong, targets, kappa * error), 2 * scale


LOSSES: dict[str, Loss] = {
    "squared_error": Loss(squared_error, probabilities=None),
    "quadratic": Loss(quadratic, probabilities=None),
    "ccql": Loss(ccql, probabilities=None),
}
