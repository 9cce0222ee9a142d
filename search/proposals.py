"""What to try next, and what to give up early: one Optuna study per loss, rebuilt from the ledger by replay."""

from __future__ import annotations

import warnings
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.pruners import BasePruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import TrialState, create_trial

from losstune.search.ranges import LossSpace
from losstune.search.study import HalvingPart
from losstune.spaces import Choice, Real
from losstune.trainables.seeds import derive

optuna.logging.set_verbosity(optuna.logging.ERROR)
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


class Proposals:
    """The configurations of one loss: asked, reported, told. Numbers count the asks of this loss from 0.

    Every ask has a seed of its own, of (study, loss, number): the same history asks the same configuration.
    """

    def __init__(self, study: str, space: LossSpace, method: str, greater_is_better: bool, halving: HalvingPart | None):
        self.name, self.space, self.method = study, space, method
        self.distributions = {name: _distribution(p) for name, p in space.searched.items()}
        direction = "maximize" if greater_is_better else "minimize"
        self.ids: list[int] = []  # Optuna's own, by number
        self.study = optuna.create_study(direction=direction, sampler=RandomSampler(seed=0), pruner=_pruner(halving))

    def ask(self, number: int) -> dict[str, Any]:
        """The next configuration, the loss's default first."""
        if number == 0:
            self.study.enqueue_trial(self.space.default())
        self.study.sampler = self._sampler(number)
        trial = self.study.ask(self.distributions)
        self.ids.append(trial._trial_id)
        if trial.number != number:
            raise RuntimeError(f"{self.space.loss}: asked number {trial.number}, the ledger expects {number}")
        return trial.params

    def restore(self, parameters: dict[str, Any]) -> None:
        """An ask that the ledger holds, in its place."""
        self.study.add_trial(
            create_trial(state=TrialState.RUNNING, params=parameters, distributions=self.distributions)
        )
        self.ids.append(self.study.get_trials(deepcopy=False)[-1]._trial_id)

    def report(self, number: int, epoch: int, score: float) -> bool:
        """A score at a rung; whether successive halving stops the trial there."""
        trial = optuna.trial.Trial(self.study, self.ids[number])
        trial.report(score, epoch)
        return trial.should_prune()

    def tell(self, number: int, state: str, score: float | None) -> None:
        """A trial's end. A failed one is told as complete with the worst score: TPE does not see failures."""
        if state == "stopped":
            self.study.tell(number, state=TrialState.PRUNED)
        elif state == "cut":
            self.study.tell(number, state=TrialState.FAIL)
        else:
            self.study.tell(number, score)

    def _sampler(self, number: int) -> BaseSampler:
        # 32 bits, which is what numpy's generator takes.
        seed = derive(self.name, "proposals", self.space.loss, number) % 2**32
        return TPESampler(seed=seed) if self.method == "tpe" else RandomSampler(seed=seed)


def _distribution(p: Real | Choice) -> BaseDistribution:
    if isinstance(p, Choice):
        return CategoricalDistribution(p.choices)
    return FloatDistribution(p.low, p.high, log=p.log)


def _pruner(halving: HalvingPart | None) -> BasePruner:
    if halving is None:
        return NopPruner()
    return SuccessiveHalvingPruner(
        min_resource=halving.first, reduction_factor=halving.factor, min_early_stopping_rate=0, bootstrap_count=0
    )
