"""What the trainer needs to know of a configuration. Without torch, so that the search can hold it too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Trial:
    """One configuration of one loss as the trainer needs it.

    hyperparameters: the loss's own, all of them. weight_decay: lambda~, the product with the learning rate.
    phase, seeds: what the members' random draws derive from. epochs: how many to train of the recipe's full length.
    """

    id: str
    loss: str
    hyperparameters: dict[str, Any]
    learning_rate: float
    weight_decay: float
    phase: str
    seeds: tuple[int, ...]
    epochs: int

    def group(self) -> tuple:
        """Trials of one group share a call of the loss: same loss, same hyperparameters other than numbers."""
        named = {k: v for k, v in self.hyperparameters.items() if not is_number(v)}
        return (self.loss, *sorted((k, str(v)) for k, v in named.items()))


def is_number(value: Any) -> bool:
    return isinstance(value, float | int) and not isinstance(value, bool)
