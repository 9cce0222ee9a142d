"""Losses of the softmax probability p_y of the true class, Battash's mixture among them.

Each is a function of u = -log p_y, written so that value and gradient stay finite for p_y of 0 and of 1.
"""

from __future__ import annotations

import torch
from torch import Tensor

from losstune.trainables.losses.closed_forms import (
    Gradient,
    add_at,
    closed_form,
    minus_log_p,
    others,
    probabilities,
    softmax,
)
from losstune.trainables.losses.loss import Loss
from losstune.trainables.losses.parts import Value, pick


def focal(logits: Tensor, targets: Tensor, gamma: Value, alpha: Value = 1.0) -> Tensor:
    """-alpha (1 - p_y)^gamma log p_y (Zhou Eq. 4; Battash Eq. 2, whose experiments take gamma = 2, alpha = 0.25).

    gamma, alpha >= 0; gamma = 0 and alpha = 1 is softmax. alpha is in neither equation, only in Battash's text. This is
    the softmax's focal loss; Lin et al. (2017) and torchvision take the sigmoid's.
    """
    u = minus_log_p(logits, targets)
    # At p_y = 1 the power's slope is infinite for gamma < 1, while that of the product is zero.
    wrong = torch.where(u > 0, -torch.expm1(-u), 1.0)
    return alpha * wrong**gamma * u


def expectation(logits: Tensor, targets: Tensor) -> Tensor:
    """1 - p_y (Battash Eq. 9), the expected zero-one loss; gce with q = 1."""
    return -torch.expm1(-minus_log_p(logits, targets))


def mae(logits: Tensor, targets: Tensor) -> Tensor:
    """|t - p|_1 = 2 (1 - p_y) (Battash Eq. 3), the sum over classes; others take their mean."""
    return 2 * expectation(logits, targets)


def focus(F: float | str | Tensor, progress: Value) -> Value:  # noqa: N803
    """The value of F at a point of training (Battash, Scheduling): constant, 95% then 5%, or six equal phases."""
    if F == "0,0.5":
        late = progress >= 0.95
        return late * 0.5 if isinstance(late, Tensor) else 0.5 * late
    if F == "0-0.5":
        phase = (progress * 6).floor() if isinstance(progress, Tensor) else progress * 6 // 1
        return phase / 10
    return F if isinstance(F, Tensor) else float(F)


def mixture_weights(F: Value) -> tuple[Value, Value]:  # noqa: N803
    """The weights a of cross-entropy and b of expectation loss that focus on F (Battash Eq. 14).

    F < 0.5: a = 1, b = 1 / (1 - 2F); F = 0.5: a = 0, b = 1.
    """
    if not isinstance(F, Tensor):
        return (1.0, 1 / (1 - 2 * F)) if F < 0.5 else (0.0, 1.0)
    below = F < 0.5
    return below.to(F.dtype), torch.where(below, 1 / (1 - 2 * F).clamp_min(1e-6), 1.0)


def ce_el(logits: Tensor, targets: Tensor, progress: Value, F: float | str) -> Tensor:  # noqa: N803
    """a (-log p_y) + b (1 - p_y) with a, b of the scheduled F (Battash Eq. 12 and 14).

    F: "0" (cross-entropy plus expectation loss throughout), "0,0.5", "0-0.5", or a number in [0, 0.5]; 0.5 is
    expectation. progress is of the full length of training, never of a rung.
    """
    a, b = mixture_weights(focus(F, progress))
    u = minus_log_p(logits, targets)
    return a * u - b * torch.expm1(-u)


def ce_matched(logits: Tensor, targets: Tensor, progress: Value, F: float | str, volume: str = "target") -> Tensor:  # noqa: N803
    """Cross-entropy times the ratio of the volume of ce_el's gradient at F to that of its own (Battash Eq. 20-22).

    volume="target": of the gradient of the true class's logit, Eq. 21: a + b/3. volume="other": of another class's,
    Eq. 22: a + b/2, over the whole unit square as the paper integrates. The paper multiplies "the learning rate for the
    cross entropy loss": the factor is on the loss, so that weight decay keeps its own rate. It matches "strategy 3",
    F = "0-0.5", and does not say which volume its best result took.
    """
    a, b = mixture_weights(focus(F, progress))
    return (a + b / (3 if volume == "target" else 2)) * minus_log_p(logits, targets)


def gce(logits: Tensor, targets: Tensor, q: Value, k: Value = 0.0) -> Tensor:
    """(1 - p_y^q) / q, q in (0, 1] (Zhang and Sabuncu 2018); q -> 0 is cross-entropy, q = 1 expectation.

    k in [0, 1): where p_y <= k the constant (1 - k^q) / q instead, their truncated variant, without its
    pruning step. k = 0 truncates nothing.
    """
    u = minus_log_p(logits, targets)
    ceiling = -torch.log(torch.as_tensor(k, dtype=u.dtype, device=u.device))  # infinite for k = 0
    # Where the constant applies the gradient is zero, not that of the value at the ceiling.
    u = torch.where(u < ceiling, u, ceiling.expand_as(u).detach().clamp_max(torch.finfo(u.dtype).max))
    return -torch.expm1(-q * u) / q


def tamed_ce(logits: Tensor, targets: Tensor, alpha: Value) -> Tensor:
    """[(1 - log p_y)^(1 - alpha) - 1] / (1 - alpha), alpha >= 0 (Martinez and Stiefelhagen 2018).

    alpha = 0 is cross-entropy, alpha = 1 log(1 - log p_y). Battash Eq. 4 has 1 / (1 - alpha) where the 1 in the bracket
    stands here. That differs by a constant, so not in its gradient; but it has no limit at alpha = 1, this form has.
    """
    log = torch.log1p(minus_log_p(logits, targets))
    return log * _slope((1 - alpha) * log)


def _slope(x: Tensor) -> Tensor:
    """(e^x - 1) / x, and its limit 1 + x/2 around 0."""
    near = x.abs() < torch.finfo(x.dtype).eps ** 0.5
    return torch.where(near, 1 + x / 2, torch.expm1(x) / torch.where(near, torch.ones_like(x), x))


@closed_form
def mpce(logits: Tensor, targets: Tensor) -> Gradient:
    """-(max_j p_j - p_y) log p_y, the gradient through both factors (Battash Eq. 7).

    Zero where the true class is the most probable one. Battash reports that it does not converge.
    """
    p, top, log_total = probabilities(logits)
    u = (top - pick(logits, targets)) + log_total
    most, true = p.amax(-1), pick(p, targets)
    gap = most - true
    # The most probable class as one-hot, shared where several are: quicker than torch's argmax.
    first = (p / most.unsqueeze(-1)).floor_()
    share = most * u / first.sum(-1)
    # With t = one-hot y, m = the one of the most probable: gap (p - t) + u [most (m - p) - true (t - p)].
    p.mul_((gap * (1 - u)).unsqueeze(-1)).addcmul_(first, share.unsqueeze(-1))
    return gap * u, add_at(p, targets, -(gap + true * u)), 1.0


@closed_form
def complement_entropy(logits: Tensor, targets: Tensor) -> Gradient:
    """-H(q) / K, q = p without y renormalized: sum_{c != y} q_c log q_c / K (Battash Eq. 6, Chen et al. 2019).

    The second pass of cot: after cross-entropy's step the batch is computed again, and this takes a step of its own,
    with the same learning rate and weight decay and a momentum of its own, as in the authors' code. Battash Eq. 6 is
    H(q), which is to be maximized, without the 1/K that the code has.
    """
    q, log_q = others(logits, targets)
    terms, classes = log_q.mul_(q), logits.shape[-1]
    value = terms.sum(-1)
    return value / classes, terms.addcmul_(q, -value.unsqueeze(-1)), 1 / classes


LOSSES: dict[str, Loss] = {
    "focal": Loss(focal),
    "expectation": Loss(expectation),
    "ce_el": Loss(ce_el),
    "ce_matched": Loss(ce_matched),
    "mae": Loss(mae),
    "gce": Loss(gce),
    "tamed_ce": Loss(tamed_ce),
    "mpce": Loss(mpce),
    "cot": Loss(softmax, second_pass=complement_entropy),
}
