"""The parts of a loss beside its criterion: final layers, logit transforms, dropout, penalties.

Shapes: features (..., B, d), weight (..., K, d), bias (..., K), logits (..., B, K). A hyperparameter is a float or
a tensor that broadcasts against a per-example value (..., B), for example (n, 1).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

Value = float | Tensor


def per_logit(value: Value) -> Value:
    """A per-example hyperparameter made to broadcast against logits or features."""
    return value.unsqueeze(-1) if isinstance(value, Tensor) else value


def linear(features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """W x + b."""
    if features.dim() == 3:
        return torch.baddbmm(bias.unsqueeze(-2), features, weight.transpose(-1, -2))
    return features @ weight.transpose(-1, -2) + bias.unsqueeze(-2)


def cosine(features: Tensor, weight: Tensor, bias: Tensor, tau: Value, normalize_features: bool = True) -> Tensor:
    """cos(W_k, x) / tau + b_k (Kornblith Eq. 7); normalize_features=False normalizes W only, as the authors' code."""
    if normalize_features:
        features = functional.normalize(features, dim=-1, eps=_tiny(features))
    weight = functional.normalize(weight, dim=-1, eps=_tiny(weight))
    return (features @ weight.transpose(-1, -2)) / per_logit(tau) + bias.unsqueeze(-2)


def by_temperature(tau: Value, scale_loss: bool = False) -> Value:
    """The factor tau on the loss, if asked for: stable training at low temperatures (Kornblith footnote 1)."""
    return tau if scale_loss else 1.0


def normalized(logits: Tensor, tau: Value) -> Tensor:
    """z / (tau |z|) (Kornblith Eq. 6); zero logits stay zero."""
    return functional.normalize(logits, dim=-1, eps=_tiny(logits)) / per_logit(tau)


def dropout(features: Tensor, uniform: Tensor, rho: Value) -> Tensor:
    """x * xi / rho with xi ~ Bernoulli(rho) (Kornblith Eq. 4); uniform: draws in [0, 1) of the features' shape."""
    return features * (uniform < per_logit(rho)).to(features.dtype) / per_logit(rho)


def squared_logits(logits: Tensor, beta: Value, half: bool = False) -> Tensor:
    """beta |z|^2 (Kornblith Eq. 5), or beta/2 |z|^2 as in the authors' code: (..., B)."""
    return beta * logits.square().sum(-1) * (0.5 if half else 1.0)


def squared_weights(weight: Tensor, lambda_final: Value) -> Tensor:
    """lambda_final / 2 |W|^2, the same for every example: (..., 1)."""
    return 0.5 * lambda_final * weight.square().sum((-1, -2)).unsqueeze(-1)


def _tiny(values: Tensor) -> float:
    # The default of 1e-12 underflows when squared in float32, and would turn a zero vector's gradient into NaN.
    return torch.finfo(values.dtype).tiny ** 0.5
