"""Softmax and sigmoid cross-entropy, and what Kornblith adds to them."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from losstune.trainables.losses import parts
from losstune.trainables.losses.closed_forms import (
    Gradient,
    add_at,
    closed_form,
    minus_log_p,
    probabilities,
    refuse_second_derivative,
    set_at,
)
from losstune.trainables.losses.loss import BIAS, WEIGHT, Head, Loss
from losstune.trainables.losses.parts import Value, per_logit, pick, tiny


@closed_form
def label_smoothing(logits: Tensor, targets: Tensor, alpha: Value, scaled: bool = True) -> Gradient:
    """Cross-entropy with targets (1 - alpha) t + alpha / K, times 1 / (1 - alpha) if scaled (Kornblith Eq. 2).

    alpha in [0, 1); alpha = 0 is softmax. scaled=False is the form of Zhou Eq. 5, Kobayashi Eq. 13 and of
    torch.nn.functional.cross_entropy(label_smoothing=alpha); Kornblith's own code scales.
    """
    p, top, log_total = probabilities(logits)
    share = alpha / (1 - alpha)  # of the uniform targets, for one of the true target
    value = (top - pick(logits, targets)) + log_total + share * ((top - logits.mean(-1)) + log_total)
    p.mul_(per_logit(1 + share)).sub_(per_logit(share / logits.shape[-1]))
    scale = 1.0 if scaled else 1 - alpha
    return scale * value, add_at(p, targets, -torch.ones_like(value)), scale


@closed_form
def sigmoid(logits: Tensor, targets: Tensor) -> Gradient:
    """Binary cross-entropy summed over the classes (Kornblith Eq. 8): sum_k log(1 + e^(z_k)) - z_y (Eq. 9).

    Sum over classes and mean over examples, as the authors' code; others take the mean over both. The code subtracts
    log K from the logits in the model's output, here the biases start at -log K (Kornblith, after Eq. 9).
    Computed as Eq. 8, sum_{k != y} softplus(z_k) + softplus(-z_y): Eq. 9 cancels for confident targets.
    """
    true, z = pick(logits, targets), _whole_lanes(logits)
    matrix = set_at(z.relu(), targets, (-true).relu())
    positive, slope = matrix.sum(-1), z.sigmoid()
    torch.sub(slope.new_ones(()), slope, out=matrix)
    torch.minimum(matrix, slope, out=matrix)  # sigma(-|z|), of which softplus(z) = max(z, 0) - log(1 - sigma(-|z|))
    e = true.abs().neg_().exp_()  # of the true class without the cancellation of 1 - sigma(z_y)
    value = positive - _sum_log_1_minus(set_at(matrix, targets, e / (1 + e)))
    wrong = torch.maximum((-true).sign(), e) / (1 + e)  # sigma(-z_y)
    return value, set_at(slope[..., : logits.shape[-1]], targets, -wrong), 1.0


def _whole_lanes(logits: Tensor) -> Tensor:
    """The logits, with as many columns of minus infinity as make each member's a multiple of 32 in number.

    torch takes up to 32 elements at a time in its sigmoid, and rounds the last few of a tensor otherwise: without this
    an example's loss could depend on which members are computed beside its own.
    """
    if math.prod(logits.shape[-2:]) % 32 == 0:
        return logits
    return torch.nn.functional.pad(logits, (0, -logits.shape[-1] % 32), value=-math.inf)


def _sum_log_1_minus(x: Tensor) -> Tensor:
    """sum_k log(1 - x_k) for x in [0, 1/2]: (..., B, K) -> (..., B).

    The logarithms of products of 64 differences, none below 2^-64, and what the rounding of the differences left out,
    so that sums of small x keep their digits: a logarithm for each would take longer than all the rest.
    """
    rest = 1 - x
    whole = rest.shape[-1] // 64 * 64
    blocks = rest[..., :whole].unflatten(-1, (-1, 64)).prod(-1).log().sum(-1) if whole else 0.0
    products = blocks + rest[..., whole:].prod(-1).log()
    kept = torch.sub(rest.new_ones(()), rest, out=rest)  # of x, after 1 - x was rounded; this difference is exact
    return products + kept.sub_(x).sum(-1)


@closed_form
def squared_logits(logits: Tensor, beta: Value, half: bool = False) -> Gradient:
    """beta |z|^2 (Kornblith Eq. 5), or beta/2 |z|^2 as in the authors' code; beta >= 0; beta = 0 is softmax."""
    weight = beta * (0.5 if half else 1.0)
    return weight * torch.linalg.vector_norm(logits, dim=-1).square(), logits, 2 * weight


def normalized(logits: Tensor, tau: Value) -> Tensor:
    """z / (tau |z|) (Kornblith Eq. 6), tau > 0; zero logits stay zero, and their gradient is zero."""
    return _Normalized.apply(logits, per_logit(tau))


def _normal_and_scale(logits: Tensor, tau: Value) -> tuple[Tensor, Tensor]:
    """z / (tau |z|) and 1 / (tau |z|), both 0 for zero logits."""
    norm = torch.linalg.vector_norm(logits, dim=-1, keepdim=True)
    scale = torch.where(norm > tiny(logits), 1 / (norm * tau), 0.0)
    return logits * scale, scale


class _Normalized(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, tau: Value) -> Tensor:
        normal, scale = _normal_and_scale(logits, tau)
        ctx.save_for_backward(normal, scale)
        ctx.tau = tau
        return normal

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        refuse_second_derivative()
        normal, scale = ctx.saved_tensors
        along = upstream * normal
        inward = along.sum(-1, keepdim=True).mul_(scale * -(ctx.tau**2))
        return torch.mul(upstream, scale, out=along).addcmul_(normal, inward), None


@closed_form
def softmax_of_normalized(logits: Tensor, targets: Tensor, tau: Value) -> Gradient:
    """Softmax cross-entropy of the normalized logits (Kornblith Eq. 6), in one."""
    normal, scale = _normal_and_scale(logits, per_logit(tau))
    value, direction, _ = minus_log_p.__wrapped__(normal, targets)
    along = normal.mul_(direction).sum(-1, keepdim=True) * per_logit(tau) ** 2
    return value, direction.addcmul_(logits, -along * scale), scale.squeeze(-1)


def minus_log_classes(bias: Tensor) -> Tensor:
    """The bias -log K, at which every sigmoid starts near 1/K (Kornblith, after Eq. 9)."""
    return torch.full_like(bias, -math.log(len(bias)))


LOSSES: dict[str, Loss] = {
    "softmax": Loss(),
    "label_smoothing": Loss(label_smoothing),
    "dropout": Loss(dropout=parts.dropout),
    "final_layer_l2": Loss(penalties=(parts.squared_weights,)),
    "logit_penalty": Loss(penalties=(squared_logits,)),
    "logit_norm": Loss(transform=normalized, transformed_criterion=softmax_of_normalized),
    "cosine_softmax": Loss(head=Head(parts.cosine, {"weight": WEIGHT, "bias": BIAS}), scale=parts.by_temperature),
    "sigmoid": Loss(sigmoid, probabilities="sigmoid", initial={"bias": minus_log_classes}),
}
