"""Criteria: pure functions of logits and targets that give one value per example.

Shapes: logits (..., B, K), targets (..., B) of int64, result (..., B). A hyperparameter is a float or a tensor that
broadcasts against the result, so that one call serves many members, each with its own value: logits (n, B, K) with
alpha (n, 1). progress is the share of the full training length that is done, in [0, 1), as float or such a tensor.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

Value = float | Tensor


def _pick(values: Tensor, targets: Tensor) -> Tensor:
    """values[..., y]: (..., B, K) and (..., B) -> (..., B)."""
    return values.gather(-1, targets.unsqueeze(-1)).squeeze(-1)


def softmax(logits: Tensor, targets: Tensor) -> Tensor:
    """Softmax cross-entropy, -log p_y (Kornblith Eq. 1)."""
    return -_pick(functional.log_softmax(logits, -1), targets)


def label_smoothing(logits: Tensor, targets: Tensor, alpha: Value, scaled: bool = True) -> Tensor:
    """Cross-entropy with targets (1 - alpha) t + alpha / K, times 1 / (1 - alpha) if scaled (Kornblith Eq. 2).

    scaled=False is the form of Zhou Eq. 5 and Kobayashi Eq. 13. alpha = 0 is softmax.
    """
    log_p = functional.log_softmax(logits, -1)
    true, uniform = -_pick(log_p, targets), -log_p.mean(-1)
    if scaled:
        return true + alpha / (1 - alpha) * uniform
    return (1 - alpha) * true + alpha * uniform


def sigmoid(logits: Tensor, targets: Tensor) -> Tensor:
    """Binary cross-entropy summed over the classes (Kornblith Eq. 8): sum_k softplus(z_k) - z_y (Eq. 9).

    Computed as Eq. 8: Eq. 9 cancels for confident targets.
    """
    true = targets.unsqueeze(-1)
    signed = (-logits).scatter(-1, true, logits.gather(-1, true))
    return -functional.logsigmoid(signed).sum(-1)


def squared_error(logits: Tensor, targets: Tensor, kappa: Value, M: Value, loss_scale: Value = 1.0) -> Tensor:  # noqa: N803
    """loss_scale / K [kappa (z_y - M)^2 + sum_{k != y} z_k^2] (Kornblith Eq. 10).

    The authors' code sums over classes and scales by 10: loss_scale = 10 K here. Zhou Eq. 6 is loss_scale = K.
    """
    true = _pick(logits, targets)
    others = logits.square().scatter(-1, targets.unsqueeze(-1), 0.0).sum(-1)
    return loss_scale / logits.shape[-1] * (kappa * (true - M).square() + others)


def focus(F: float | str, progress: Value) -> Value:  # noqa: N803
    """The value of F at a point of training (Battash, Scheduling): constant, 95% then 5%, or six equal phases."""
    if F == "0,0.5":
        late = progress >= 0.95
        return late * 0.5 if isinstance(late, Tensor) else 0.5 * late
    if F == "0-0.5":
        phase = (progress * 6).floor() if isinstance(progress, Tensor) else progress * 6 // 1
        return phase / 10
    return float(F)


def mixture_weights(F: Value) -> tuple[Value, Value]:  # noqa: N803
    """The weights a of cross-entropy and b of expectation loss that focus on F (Battash Eq. 14).

    F < 0.5: a = 1, b = 1 / (1 - 2F); F = 0.5: a = 0, b = 1.
    """
    if not isinstance(F, Tensor):
        return (1.0, 1 / (1 - 2 * F)) if F < 0.5 else (0.0, 1.0)
    below = F < 0.5
    return below.to(F.dtype), torch.where(below, 1 / (1 - 2 * F).clamp_min(1e-6), 1.0)


def ce_el(logits: Tensor, targets: Tensor, progress: Value, F: float | str) -> Tensor:  # noqa: N803
    """a (-log p_y) + b (1 - p_y) with a, b of the scheduled F (Battash Eq. 12 and 14)."""
    a, b = mixture_weights(focus(F, progress))
    log_p = _pick(functional.log_softmax(logits, -1), targets)
    return -a * log_p - b * torch.expm1(log_p)
