"""Every loss, as a composition of parts: LOSSES. Hyperparameters and their bounds are declared in losstune.spaces."""

from __future__ import annotations

from losstune.trainables.losses import criteria, parts
from losstune.trainables.losses.loss import Loss, minus_log_classes

LOSSES: dict[str, Loss] = {
    "softmax": Loss(),
    "label_smoothing": Loss(criteria.label_smoothing),
    "dropout": Loss(drops_features=True),
    "final_layer_l2": Loss(weight_penalties=(parts.squared_weights,)),
    "logit_penalty": Loss(logit_penalties=(parts.squared_logits,)),
    "logit_norm": Loss(transform=parts.normalized),
    "cosine_softmax": Loss(head=parts.cosine, scale=parts.by_temperature),
    "sigmoid": Loss(criteria.sigmoid, probabilities="sigmoid", initial_bias=minus_log_classes),
    "squared_error": Loss(criteria.squared_error, probabilities=None),
    "ce_el": Loss(criteria.ce_el),
}

__all__ = ["LOSSES", "Loss"]
