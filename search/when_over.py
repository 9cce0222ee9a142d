"""How Ray Tune is told that a study needs no lane any more, however many it still waits to place."""

from __future__ import annotations

from typing import Any

from ray import tune


class WhenOver(tune.Stopper):
    """Ends Tune's loop once over is set."""

    def __init__(self) -> None:
        self.over = False

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False  # a lane ends by itself

    def stop_all(self) -> bool:
        return self.over
