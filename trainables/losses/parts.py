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


def pick(values: Tensor, targets: Tensor) -> Tensor:
    """values[..., y]: (..., B, K) and (..., B) -> (..., B)."""
    return values.gather(-1, targets.unsqueeze(-1)).squeeze(-1)


def of_target(rows: Tensor, targets: Tensor) -> Tensor:
    """Each example's row of a matrix per class: rows (..., K, d) and targets (..., B) -> (..., B, d)."""
    return rows.gather(-2, targets.unsqueeze(-1).expand(*targets.shape, rows.shape[-1]))


def linear(features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """W x + b."""
    if features.dim() == 3:
        return torch.baddbmm(bias.unsqueeze(-2), features, weight.transpose(-1, -2))
    return features @ weight.transpose(-1, -2) + bias.unsqueeze(-2)


def without_bias(features: Tensor, weight: Tensor) -> Tensor:
    """W x."""
    return features @ weight.transpose(-1, -2)


def cosine(features: Tensor, weight: Tensor, bias: Tensor, tau: Value, normalize_features: bool = True) -> Tensor:
    """cos(W_k, x) / tau + b_k (Kornblith Eq. 7), tau > 0.

    normalize_features=False normalizes W only, as the authors' code, which also divides the bias by tau: the same
    logits, but a bias that learns faster.
    """
    if normalize_features:
        features = functional.normalize(features, dim=-1, eps=tiny(features))
    weight = functional.normalize(weight, dim=-1, eps=tiny(weight))
    return (features @ weight.transpose(-1, -2)) / per_logit(tau) + bias.unsqueeze(-2)


def by_temperature(tau: Value, scale_loss: bool = False) -> Value:
    """The factor tau on the loss, if asked for: stable training at low temperatures (Kornblith footnote 1)."""
    return tau if scale_loss else 1.0


def dropout(features: Tensor, uniform: Tensor, rho: Value) -> Tensor:
    """x * xi / rho with xi ~ Bernoulli(rho) (Kornblith Eq. 4): the penultimate features as the final layer sees them.

    rho in (0, 1] is the probability to keep a feature; rho = 1 is softmax. Others' "dropout rate" is 1 - rho; Table C.1
    calls rho beta. uniform: draws in [0, 1) of the features' shape.
    """
    return features * (uniform < per_logit(rho)).to(features.dtype) / per_logit(rho)


def squared_weights(weight: Tensor, lambda_final: Value) -> Tensor:
    """lambda_final / 2 |W|^2 of the final layer's weight, not its bias, the same for every example: (..., 1).

    Kornblith section 2, "extra final layer L2", with the 1/2 of the authors' code; lambda_final >= 0, beyond the weight
    decay that all losses share; lambda_final = 0 is softmax.
    """
    return 0.5 * lambda_final * weight.square().sum((-1, -2)).unsqueeze(-1)


def tiny(values: Tensor) -> float:
    """The least norm to divide by: 1e-12 underflows when squared in float32, and makes a zero's gradient NaN."""
    return torch.finfo(values.dtype).tiny ** 0.5
