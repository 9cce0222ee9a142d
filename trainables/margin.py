"""The margin that the softmax loss has without being told to: Kobayashi 2019, "Large Margin In Softmax Cross-Entropy
Loss"."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def margin_bias(logits: Tensor, targets: Tensor) -> Tensor:
    """The bias rho-hat of each example (N,), float64, of logits (N, K) and targets (N,) int64: Eq. 7.

    log sum_{c != y} exp(f_c - f_c*), c* the class other than y with the largest logit: the amount by which the softmax
    loss, read as softplus(f_c* - f_y + rho-hat), Eq. 6, asks for more than f_y > f_c*. In [0, log(K - 1)]: 0 where one
    wrong class stands out, log(K - 1) where all wrong classes look alike. NaN with one class.
    """
    # In float64: at log(K - 1) the differences between losses and epochs are in its last digits.
    others = logits.double().scatter(1, targets.unsqueeze(1), -math.inf)
    return torch.logsumexp(others - others.amax(1, keepdim=True), 1)
