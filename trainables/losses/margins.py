"""Losses that ask for a margin between the true class and the others. y: the true class, c: another one."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from losstune.trainables.losses.closed_forms import Gradient, closed_form, minus_log_p, others, set_at
from losstune.trainables.losses.loss import WEIGHT, Head, Loss
from losstune.trainables.losses.parts import Value, of_target, pick, tiny, without_bias


@closed_form
def diversity(logits: Tensor, targets: Tensor, lam: Value, divergence: str = "symmetric") -> Gradient:
    """lam times the divergence between q, the softmax over the other classes, and their uniform distribution u.

    lam >= 0; lam = 0 is softmax, and the penalty is 0 for K = 2. divergence: "q_u" is D(q||u) and "u_q" D(u||q)
    (Kobayashi Eq. 10); "symmetric" is half their sum, Eq. 8 with its 1/2, so that lam times it is Eq. 11's lambda / 2
    (...), as in the author's code. The gradient flows through q.
    """
    q, log_q = others(logits, targets)
    count = logits.shape[-1] - 1
    of_q, of_u = {"symmetric": (0.5, 0.5), "q_u": (1.0, 0.0), "u_q": (0.0, 1.0)}[divergence]
    mean = log_q.sum(-1) / count  # of log q under u, then under q
    terms = log_q.mul_(q)
    mean_q = terms.sum(-1)
    value = of_q * (math.log(count) + mean_q) - of_u * (math.log(count) + mean)
    # of_q q (log q - mean_q) + of_u (q - u)
    gradient = q.mul_((of_u - of_q * mean_q).unsqueeze(-1)).add_(terms, alpha=of_q).sub_(of_u / count)
    return lam * value, set_at(gradient, targets, torch.zeros_like(value)), lam


@closed_form
def hinge(logits: Tensor, targets: Tensor) -> Gradient:
    """1 / (K - 1) sum_{c != y} max(0, z_c - z_y + 1) (Kobayashi Eq. 14).

    This is torch's multi_margin_loss times K / (K - 1), which divides by K.
    """
    count = logits.shape[-1] - 1
    over = (logits - (pick(logits, targets) - 1).unsqueeze(-1)).clamp_min_(0)
    set_at(over, targets, torch.zeros_like(over[..., 0]))
    value = over.sum(-1) / count
    violated = over.sign_()
    return value, set_at(violated, targets, -violated.sum(-1)), 1 / count


@closed_form
def crammer_singer(logits: Tensor, targets: Tensor) -> Gradient:
    """max(0, max_{c != y} z_c - z_y + 1) (Kobayashi sections 2.1 and 3; Crammer and Singer).

    Kobayashi finds that deep networks do not train with it: only two logits have a gradient.
    """
    other, at = logits.scatter(-1, targets.unsqueeze(-1), -torch.inf).max(-1)
    value = (other - pick(logits, targets) + 1).clamp_min(0)
    one = torch.ones_like(value)
    return value, set_at(set_at(torch.zeros_like(logits), at, one), targets, -one), value.sign()


def margin_softmax(logits: Tensor, targets: Tensor, margin: Value) -> Tensor:
    """softplus(LSE_{c != y} z_c - z_y + margin): softmax cross-entropy with z_y lowered (Kobayashi Eq. 15).

    margin >= 0; Kobayashi takes 1; margin = 0 is softmax.
    """
    lower = torch.zeros_like(logits[..., 0]) - margin
    return minus_log_p(logits.scatter_add(-1, targets.unsqueeze(-1), lower.unsqueeze(-1)), targets)


def annealed(progress: Value) -> Value:
    """lambda of L-Softmax over training: 1000 (1 + 0.75 progress)^-35, from plain softmax to the margin.

    The authors' MNIST example (base 1000, gamma 0.000025, power 35 over 30,000 iterations), by share of the full length
    instead of iterations: 80 at 10%, 0.014 at 50% of training. For hard data they stop at 5 or 10.
    """
    return 1000 * (1 + 0.75 * progress) ** -35


def angular_margin(
    logits: Tensor, targets: Tensor, features: Tensor, weight: Tensor, progress: Value, m: str, annealing: bool = True
) -> Tensor:
    """Logits z = W x with z_y = |w_y| |x| [lambda cos th + psi(th)] / (1 + lambda), psi = (-1)^k cos(m th) - 2k.

    th: the angle between w_y and x; k: the whole number with th in [k pi / m, (k + 1) pi / m]; m in {1, 2, 3, 4}; m = 1
    leaves the logits (Liu et al. 2016, Kobayashi's LSM). lambda: annealed(progress); annealing=False: 0.
    """
    norms = features.norm(dim=-1) * of_target(weight, targets).norm(dim=-1)
    cos = (pick(logits, targets) / norms.clamp_min(tiny(norms))).clamp(-1, 1)
    times = int(m)
    k = sum((cos < math.cos(j * math.pi / times)).to(cos.dtype) for j in range(1, times))
    psi = (1 - 2 * (k % 2)) * _CHEBYSHEV[times](cos) - 2 * k
    share = 1 / (1 + annealed(progress)) if annealing else 1.0
    more = share * norms * (psi - cos)
    return logits.scatter_add(-1, targets.unsqueeze(-1), more.unsqueeze(-1).to(logits.dtype))


# cos(m th) as a polynomial of cos th: its slope stays finite where that of the arc cosine does not.
_CHEBYSHEV = {
    1: lambda c: c,
    2: lambda c: 2 * c**2 - 1,
    3: lambda c: 4 * c**3 - 3 * c,
    4: lambda c: 8 * c**4 - 8 * c**2 + 1,
}

LOSSES: dict[str, Loss] = {
    "large_margin": Loss(penalties=(diversity,)),
    "hinge": Loss(hinge, probabilities=None),
    "crammer_singer": Loss(crammer_singer, probabilities=None),
    "margin_softmax": Loss(margin_softmax),
    "large_margin_softmax": Loss(head=Head(without_bias, {"weight": WEIGHT}), margin=angular_margin),
}
