"""What to try next, and what to give up early: one Optuna study per loss, rebuilt from the ledger by replay."""

from __future__ import annotations

import warnings
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from losstune.search import coarse_to_fine
from losstune.search.halving import Halving
from losstune.search.looked_at import LookedAt
from losstune.search.methods import stage_of, wanted
from losstune.search.points import Stage
from losstune.search.ranges import LossSpace
from losstune.search.study import SearchPart
from losstune.spaces import Choice, Real
from losstune.trainables.seeds import derive

optuna.logging.set_verbosity(optuna.logging.ERROR)
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


class Proposals:
    """The configurations of one loss: asked, reported, told. Numbers count the asks of this loss from 0.

    Every ask has a seed of its own, of (study, loss, number): the same history asks the same configuration. A planned
    method (grid, coarse_to_fine) needs none: its next configuration follows from the history. TPE looks at 250 ended
    trials at most, see LookedAt, so that an ask costs about the same however many there are.
    """

    def __init__(self, study: str, space: LossSpace, search: SearchPart, greater_is_better: bool):
        self.name, self.space, self.search = study, space, search
        self.sign = 1 if greater_is_better else -1
        self.distributions = distributions_of(space, search.method)
        direction = "maximize" if greater_is_better else "minimize"
        self.ids: list[int] = []  # Optuna's own, by number
        self.history: list[dict[str, Any]] = []  # parameters, state and score, by number
        self._stage: tuple[Stage | None] | None = None  # what is left to ask, until the history changes
        self.halving = search.halving and Halving(search.halving.first, search.halving.factor, self.sign)
        self.trials = LookedAt(greater_is_better)
        self.study = optuna.create_study(storage=self.trials, direction=direction, sampler=RandomSampler(seed=0))

    def stage(self) -> Stage | None:
        """What a planned method has left to ask for now; None for one that draws."""
        if self._stage is None:
            self._stage = (stage_of(self.name, self.space, self.search, self.history, self.sign),)
        return self._stage[0]

    def wanted(self, most: int) -> int:
        """How many configurations this loss is asked in all, where any loss has been asked so many at most."""
        return wanted(self.space, self.search, len(self.history), self.stage(), most)

    def ask(self, number: int) -> dict[str, Any] | None:
        """The next configuration, the loss's default or what is nearest to it first.

        None while the results that decide what comes next are still out.
        """
        stage = self.stage()
        point = self.space.default() if stage is None else stage.next()
        if point is None:
            return None
        if stage is not None or number == 0:
            self.study.enqueue_trial(point)
        self.study.sampler = self._sampler(number)
        with self.trials.bounded():
            trial = self.study.ask(self.distributions)
        self._asked(trial._trial_id, trial.params)
        if trial.number != number:
            raise RuntimeError(f"{self.space.loss}: asked number {trial.number}, the ledger expects {number}")
        return trial.params

    def restore(self, parameters: dict[str, Any], scores: dict[int, float], state: str, score: float | None,
                worst: float) -> None:  # fmt: skip
        """An ask that the ledger holds, in its place, with what was reported of it by epoch and how it ended."""
        ended, value = told(state, score, worst)
        if ended == TrialState.PRUNED and scores:
            value = scores[max(scores)]  # as Optuna itself takes it
        self.study.add_trial(create_trial(state=ended, value=value, params=parameters, distributions=self.distributions,
                                          intermediate_values=scores))  # fmt: skip
        self._asked(self.study.get_trials(deepcopy=False)[-1]._trial_id, parameters)
        self.history[-1].update(state=state, score=None if state == "running" else score)

    def decided(self, number: int, epoch: int, score: float) -> None:
        """A score that halving has seen already: the next ones are compared with it."""
        if self.halving:
            self.halving.stops(number, epoch, score)

    def _asked(self, trial_id: int, parameters: dict[str, Any]) -> None:
        self.ids.append(trial_id)
        self.trials.note(trial_id)
        self.history.append({"parameters": parameters, "state": "running", "score": None})
        self._stage = None

    def report(self, number: int, epoch: int, score: float) -> bool:
        """A score at a rung; whether successive halving stops the trial there."""
        optuna.trial.Trial(self.study, self.ids[number]).report(score, epoch)
        return self.halving is not None and self.halving.stops(number, epoch, score)

    def tell(self, number: int, state: str, score: float | None, worst: float) -> None:
        """A trial's end. A failed one is told as complete with the worst score: TPE does not see failures."""
        self.history[number].update(state=state, score=score)
        self._stage = None
        ended, value = told(state, score, worst)
        self.study.tell(number, value) if value is not None else self.study.tell(number, state=ended)
        self.trials.note(self.ids[number])

    def _sampler(self, number: int) -> BaseSampler:
        # 32 bits, which is what numpy's generator takes.
        seed = derive(self.name, "proposals", self.space.loss, number) % 2**32
        return _Sampler(seed, self.distributions) if self.search.method == "tpe" else RandomSampler(seed=seed)


class _Sampler(TPESampler):
    """TPE over a space that is known. Optuna would infer the same from all trials, for a fifth of what an ask costs.
    """

    def __init__(self, seed: int, distributions: dict[str, BaseDistribution]):
        super().__init__(seed=seed)
        self._known = {name: one for name, one in sorted(distributions.items()) if not one.single()}

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._known


def told(state: str, score: float | None, worst: float) -> tuple[TrialState, float | None]:
    """What Optuna is told of a trial in a state."""
    unfinished = {"running": TrialState.RUNNING, "stopped": TrialState.PRUNED, "cut": TrialState.FAIL}
    if state in unfinished:
        return unfinished[state], None
    return TrialState.COMPLETE, worst if state == "failed" or score is None else score


def distributions_of(space: LossSpace, method: str) -> dict[str, BaseDistribution]:
    """What Optuna is told of the space; a coarse-to-fine search goes beyond where it starts."""
    found = {name: _distribution(p) for name, p in space.searched.items()}
    if method == "coarse_to_fine":
        for name, axis in coarse_to_fine.axes(space).items():
            found[name] = FloatDistribution(*coarse_to_fine.reach(axis), log=axis.log)
    return found


def _distribution(p: Real | Choice) -> BaseDistribution:
    if isinstance(p, Choice):
        return CategoricalDistribution(p.choices)
    return FloatDistribution(p.low, p.high, log=p.log)
