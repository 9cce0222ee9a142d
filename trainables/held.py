"""The trials of a lane: those that it trains, and those that are to join."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from losstune.trainables.messages import Order


@dataclass
class Held:
    """A trial in the stack: what was ordered, the epochs not reported yet and their seconds.

    saved: the lane's training seconds at its last checkpoint.
    """

    order: Order
    saved: float
    curve: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0


@dataclass(frozen=True)
class Coming:
    """A trial that is to join, and the state it goes on from, None: its start."""

    order: Order
    state: dict | None

    @property
    def epoch(self) -> int:
        return 0 if self.state is None else self.state["epoch"]

    @property
    def due(self) -> int:
        """The lane's clock when it is to join."""
        return self.order.joined + self.epoch
