"""Asynchronous successive halving within one loss: of those that have come to a rung, the best 1/factor go on."""

from __future__ import annotations

from bisect import insort


class Halving:
    """Decides as Optuna's SuccessiveHalvingPruner does, which looks at every trial again for each decision.

    With a thousand trials of a loss it takes a millisecond, and a minute for all decisions of a study that is resumed.
    """

    def __init__(self, first: int, factor: int, sign: int):
        self.first, self.factor, self.sign = first, factor, sign
        self._scores: list[list[float]] = []  # by rung, of all that came to it, the best first and lower is better
        self._rung: dict[int, int] = {}  # by trial, the next rung

    def stops(self, trial: int, epoch: int, score: float) -> bool:
        """Whether a trial stops with the score that it has at an epoch. Each score counts from then on."""
        rung, value = self._rung.get(trial, 0), -self.sign * score
        while epoch >= self.first * self.factor**rung:
            if rung == len(self._scores):
                self._scores.append([])
            scores = self._scores[rung]
            insort(scores, value)
            rung += 1
            self._rung[trial] = rung
            # The first to come are too few for a share of them: of those the best goes on.
            if value > scores[max(len(scores) // self.factor, 1) - 1]:
                return True
        return False
