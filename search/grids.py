"""The grid of a loss: lists and named choices whole, ranges cut into as many levels as search.trials allows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from losstune.search.points import History, Stage, crossed, default_first, unasked
from losstune.search.ranges import LossSpace
from losstune.search.scales import evenly
from losstune.spaces import Choice, InputError, Real


def levels(space: LossSpace, trials: int) -> dict[str, list[Any]]:
    """The values of each searched hyperparameter, so that the whole grid has at most so many points.

    A range has both its ends, evenly on its scale between them. The range with the fewest levels is given one more
    as long as the grid stays within trials; where that is too many, the next one.
    """
    ranges = {name: p for name, p in space.searched.items() if isinstance(p, Real)}
    count = dict.fromkeys(ranges, 2)
    room = trials // math.prod(map(len, _lists(space).values()))
    while (grows := _grows(count, room)) is not None:
        count[grows] += 1
    cut = {name: evenly(p.low, p.high, count[name], p.log) for name, p in ranges.items()}
    return {name: {**_lists(space), **cut}[name] for name in space.searched}


def smallest(space: LossSpace) -> dict[str, int]:
    """How many values each searched hyperparameter has in the smallest grid: two of a range."""
    lists = _lists(space)
    return {name: len(lists[name]) if name in lists else 2 for name in space.searched}


def check_grids(spaces: Mapping[str, LossSpace], trials: int, where: str) -> None:
    """InputError where a loss's smallest grid has more points than search.trials: it names the largest one."""
    sizes = {loss: math.prod(smallest(space).values()) for loss, space in spaces.items()}
    loss = max(sizes, key=lambda loss: sizes[loss])
    if sizes[loss] > trials:
        parts = " x ".join(f"{name} {count}" for name, count in smallest(spaces[loss]).items())
        raise InputError(f"{where}: search.trials: {trials} is too few for the grid of {loss}, which has at least "
                         f"{sizes[loss]} points ({parts}); allowed: {sizes[loss]} or more")  # fmt: skip


def stage(study: str, space: LossSpace, trials: int, history: History, sign: int) -> Stage:
    """The points of the grid that the history does not hold."""
    found = levels(space, trials)
    return Stage("grid", unasked(crossed(found), history), True, default_first(study, space, found))


def _lists(space: LossSpace) -> dict[str, list[Any]]:
    return {name: list(dict.fromkeys(p.choices)) for name, p in space.searched.items() if isinstance(p, Choice)}


def _grows(count: dict[str, int], room: int) -> str | None:
    """The range with the fewest levels among those that may have one more; None when none may."""
    for name in sorted(count, key=count.__getitem__):
        if math.prod({**count, name: count[name] + 1}.values()) <= room:
            return name
    return None
