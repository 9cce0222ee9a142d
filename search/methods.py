"""The search methods: what one still asks of a loss, and how many configurations a loss is asked in all."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from losstune.search import coarse_to_fine, grids
from losstune.search.points import History, Stage
from losstune.search.ranges import LossSpace

if TYPE_CHECKING:
    from losstune.search.study import SearchPart, Study

# Methods that know their points: (study's name, space, search.trials, history, sign) -> what is left to ask. The others
# draw each configuration, as many as search.trials.
PLANNED: dict[str, Callable[[str, LossSpace, int, History, int], Stage]] = {
    "grid": grids.stage,
    "coarse_to_fine": coarse_to_fine.stage,
}


def stage_of(study: str, space: LossSpace, search: SearchPart, history: History, sign: int) -> Stage | None:
    """What is left to ask of a loss after a history; None where the method draws instead of planning."""
    plan = PLANNED.get(search.method)
    return None if plan is None else plan(study, space, search.trials, history, sign)


def wanted(space: LossSpace, search: SearchPart, asked: int, stage: Stage | None, most: int) -> int:
    """How many configurations a loss is asked in all, those included: search.trials, or fewer where there are no more.

    A loss with nothing to search has one configuration. What a coarse-to-fine search comes to is known in its last
    stage; until then it may take all of search.trials. most: what any loss has been asked. Where that is more, because
    search.trials was larger once, every loss gets as many, as far as its method has them: budgets stay equal.
    """
    if not space.searched:
        return 1
    most = max(search.trials, most)
    return most if stage is None or not stage.last else min(most, asked + len(stage.left))


def wanted_of(study: Study, loss: str, history: History, greater_is_better: bool, most: int) -> int:
    """`wanted` of one of a study's losses, after what the ledger holds of it."""
    space = study.spaces[loss]
    stage = stage_of(study.name, space, study.search, history, 1 if greater_is_better else -1)
    return wanted(space, study.search, len(history), stage, most)
