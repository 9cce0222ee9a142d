"""The part of a loss's trials that TPE looks at: its cost per ask grows with them, and thousands of them add little."""

from __future__ import annotations

import contextlib
import math
from bisect import insort
from collections.abc import Container, Iterator

from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState

BEST, OTHERS = 25, 225  # trials that have ended; with them TPE takes as many for good, 25, as it takes of any more


class LookedAt(InMemoryStorage):
    """Optuna's trials of one study in memory. Within `bounded` whoever wants all of them is given a part.

    TPE weighs where good trials lie against where the others lie. Its good ones are a tenth of all that have ended, but
    at most the 25 best: those are in the part, so that they are the same whatever else is. Of the others as many as
    OTHERS stand for all, evenly spread over their numbers. With them go all that run. What is given follows from what
    is recorded of the trials alone, not from the order in which they ended. Up to BEST + OTHERS it is all.
    """

    def __init__(self, greater_is_better: bool):
        super().__init__()
        self._sign = -1 if greater_is_better else 1
        self._best: list[tuple[tuple[float, ...], int]] = []  # rank, the best first, and id; as many as BEST
        self._others: list[tuple[int, int]] = []  # turn and id; as many as OTHERS
        self._running: set[int] = set()
        self._bounded = False
        self._part: list[FrozenTrial] | None = None  # what is given in an ask, which wants it several times

    @contextlib.contextmanager
    def bounded(self) -> Iterator[None]:
        self._bounded, self._part = True, None
        try:
            yield
        finally:
            self._bounded, self._part = False, None

    def note(self, trial_id: int) -> None:
        """A trial is new, or has ended."""
        trial = self.get_trial(trial_id)
        if trial.state == TrialState.RUNNING:
            self._running.add(trial_id)
            return
        self._running.discard(trial_id)
        if trial.state not in (TrialState.COMPLETE, TrialState.PRUNED):
            return
        insort(self._best, (self._rank(trial), trial_id))
        if len(self._best) > BEST:
            worst = self._best.pop()[1]
            insort(self._others, (_turn(worst), worst))
            del self._others[OTHERS:]

    def _rank(self, trial: FrozenTrial) -> tuple[float, ...]:
        """As TPE orders them, the best lowest: complete ones, then those that were stopped, by how far they came."""
        if trial.state == TrialState.COMPLETE:
            return 0.0, 0.0, self._sign * trial.value
        if not trial.intermediate_values:
            return 2.0, 0.0, 0.0
        step, value = max(trial.intermediate_values.items())
        return 1.0, -step, math.inf if math.isnan(value) else self._sign * value

    def get_all_trials(self, study_id: int, deepcopy: bool = True,
                       states: Container[TrialState] | None = None) -> list[FrozenTrial]:  # fmt: skip
        if not self._bounded or states == (TrialState.WAITING,):  # the next one, if it is given
            return super().get_all_trials(study_id, deepcopy, states)
        if self._part is None:
            ids = sorted([*(trial for _, trial in self._best), *(trial for _, trial in self._others), *self._running])
            self._part = [self.get_trial(trial) for trial in ids]
        return [trial for trial in self._part if states is None or trial.state in states]


def _turn(number: int) -> int:
    """An order in which any first few of some numbers lie evenly among them: multiples of the golden ratio do."""
    return number * 2654435769 % 2**32
