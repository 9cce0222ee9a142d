"""How to train, apart from the loss: optimizer, schedule, averaging, class weights, precision."""

from __future__ import annotations

from dataclasses import dataclass

from losstune.trainables.augmentation import Operations
from losstune.trainables.schedules import Schedule


@dataclass(frozen=True)
class Recipe:
    """epochs is the full length, by which schedule and progress are measured, however early a trial ends.

    optimizer: "sgd_nesterov", "sgd" or "adamw"; momentum is SGD's, betas and eps are AdamW's.
    weight_decay_as: what a trial's weight_decay is: "product", lambda~ = eta lambda, eta the peak learning rate
    (Kornblith, Table A.2), or "coefficient", lambda itself.
    clip_norm: the largest norm of a member's gradient over all of its parameters (Zhou 4: 2); None: any.
    average: the decay per step of the exponential moving average of the weights (Kornblith A.1: 0.9999), or None.
    mixup: alpha of the Beta distribution that mixes inputs are drawn with (Kornblith, Table C.2: 0.1 to 0.4), or None.
    class_weights: one per class, or None; the loss of an example is multiplied by its class's weight.
    precision: "float32" or "bfloat16" (network in bfloat16, masters, final layer and loss in float32).
    augmentation: what augmentation.resolve takes; () is none.
    """

    epochs: int = 27
    batch_size: int = 64
    optimizer: str = "sgd_nesterov"
    momentum: float = 0.9
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    schedule: Schedule = Schedule()
    weight_decay_as: str = "product"
    clip_norm: float | None = None
    average: float | None = None
    mixup: float | None = None
    class_weights: tuple[float, ...] | None = None
    precision: str = "float32"
    augmentation: str | Operations = ()
