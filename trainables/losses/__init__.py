"""Every loss, as a composition of parts: LOSSES. Hyperparameters and their bounds are declared in losstune.spaces."""

from __future__ import annotations

from losstune.trainables.losses import cross_entropy, geometry, margins, squared, true_probability
from losstune.trainables.losses.loss import Loss

LOSSES: dict[str, Loss] = {
    **cross_entropy.LOSSES,
    **squared.LOSSES,
    **true_probability.LOSSES,
    **margins.LOSSES,
    **geometry.LOSSES,
}

__all__ = ["LOSSES", "Loss"]
