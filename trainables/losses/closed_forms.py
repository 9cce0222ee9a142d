"""What every family of losses is made of: log-probabilities of the true class, and criteria with their own gradients.

Shapes: logits (..., B, K), targets (..., B) of int64, result (..., B). A hyperparameter is a float or a tensor that
broadcasts against the result, so that one call serves many members, each with its own value: logits (n, B, K) with
alpha (n, 1).

Value and gradient are given in closed form: differentiating them operation by operation would read and write the (B, K)
matrix three to ten times as often. The gradient cannot be differentiated again, and says so when that is tried.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from losstune.trainables.losses.parts import pick

FEW = 32  # classes
Gradient = tuple[Tensor, Tensor, Tensor | float]  # value, direction, size
Formula = Callable[..., Gradient]


def closed_form(formula: Formula) -> Callable[..., Tensor]:
    """A criterion or penalty from a formula that gives its value and its gradient.

    formula: -> value (..., B), direction (..., B, K), and size, a number or (..., B): the gradient by the logits is
    size times direction. The criterion keeps it as its attribute formula, for who wants the gradient without autograd.
    """

    @functools.wraps(formula)
    def criterion(logits: Tensor, *args: Any, **others: Any) -> Tensor:
        return _ClosedForm.apply(logits, formula, args, others)

    criterion.formula = formula
    return criterion


class _ClosedForm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, formula: Formula, args: tuple[Any, ...], others: dict[str, Any]) -> Tensor:
        value, direction, size = formula(logits, *args, **others)
        ctx.save_for_backward(direction)
        ctx.size, ctx.owned = size, direction is not logits
        return value

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None, None]:
        refuse_second_derivative()
        (direction,) = ctx.saved_tensors
        size = (upstream * ctx.size).unsqueeze(-1)
        if ctx.owned and not torch.compiler.is_compiling() and not _graph_is_kept():
            return direction.mul_(size), None, None, None
        return direction * size, None, None, None


# What torch asks before it reuses its own compiled functions' buffers; where it is missing the graph counts as kept.
_graph_is_kept = getattr(torch._C._autograd, "_get_current_graph_task_keep_graph", lambda: True)


def refuse_second_derivative() -> None:
    """RuntimeError in a backward pass whose own graph is wanted (create_graph=True): it would lack this gradient."""
    if torch.is_grad_enabled() and not torch.compiler.is_compiling():
        raise RuntimeError("losstune's losses give their gradient in closed form, which cannot be differentiated "
                           "again: for second derivatives write the loss in torch's own functions")  # fmt: skip


def probabilities(logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """softmax(z) (..., B, K), max z, and log sum exp (z - max z), both (..., B)."""
    if logits.shape[-1] > FEW or math.prod(logits.shape[-2:]) % 32:
        p = logits.softmax(-1)
        return p, logits.amax(-1), -p.amax(-1).log()  # the largest probability is 1 over that sum
    # torch's softmax takes a row at a time: for few classes that costs three times as much as all rows together. Whole
    # vectors only, because the last few elements of a tensor may be rounded otherwise.
    top = logits.amax(-1, keepdim=True)
    p = (logits - top).exp_()
    total = p.sum(-1, keepdim=True)
    return p.div_(total), top.squeeze(-1), total.log().squeeze(-1)


@closed_form
def minus_log_p(logits: Tensor, targets: Tensor) -> Gradient:
    """-log p_y, p = softmax(z) (Kornblith Eq. 1)."""
    p, top, log_total = probabilities(logits)
    u = (top - pick(logits, targets)) + log_total
    return u, add_at(p, targets, -torch.ones_like(u)), 1.0


softmax = minus_log_p  # softmax cross-entropy


def others(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """q, the softmax over the classes other than y, and log q, both (..., B, K) and 0 at y (Kobayashi Eq. 9)."""
    log_q = set_at(logits.clone(), targets, torch.full_like(logits[..., 0], -torch.inf))
    q, top, log_total = probabilities(log_q)
    log_q.sub_(top.unsqueeze(-1)).sub_(log_total.unsqueeze(-1))
    return q, set_at(log_q, targets, torch.zeros_like(top))


def set_at(matrix: Tensor, targets: Tensor, values: Tensor) -> Tensor:
    """matrix (..., B, K) with its entries at y replaced by values (..., B), in place."""
    return matrix.scatter_(-1, targets.unsqueeze(-1), values.unsqueeze(-1))


def add_at(matrix: Tensor, targets: Tensor, values: Tensor) -> Tensor:
    """matrix (..., B, K) with values (..., B) added to its entries at y, in place."""
    return matrix.scatter_add_(-1, targets.unsqueeze(-1), values.unsqueeze(-1))


