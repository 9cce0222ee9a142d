"""Kornblith's coarse-to-fine search (Appendix A.1): which points come next, after what has been asked and scored.

1. coarse: learning rates by half decades from 10^-2 to 10^0.5, weight decay products from 10^-4.5 to 10^-3, crossed
   with the loss's own hyperparameters: lists whole, a range at its low end, middle and high end.
2. extended: while the best lies on the edge of the learning rates or weight decays, the grid grows by a step there,
   over all values of the other one, with the loss's own hyperparameters at their best; at most 4 times per side.
3. fine: half steps around the best learning rate and weight decay, own hyperparameters at their best.

What comes next is computed anew from the whole history, so that a search goes on the same from any record of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from losstune.search.points import ENDED, History, Point, Stage, crossed, default_first, key, unasked
from losstune.search.ranges import LossSpace
from losstune.search.scales import Legal, at, cut, evenly, middle, position
from losstune.spaces import SHARED, Choice, Real

START = {"learning_rate": (10**-2, 10**0.5), "weight_decay": (10**-4.5, 10**-3)}
DECADES_PER_STEP = 0.5
LINEAR_LEVELS = 5  # of a learning rate or weight decay that the study searches on a linear scale
OWN_LEVELS = 3
MOST_EXTENSIONS = 4  # per side; the paper's were made by hand


@dataclass(frozen=True)
class Axis:
    """The learning rates, or weight decays, of the grid, ascending."""

    values: tuple[float, ...]
    log: bool
    legal: Legal

    def place(self, value: float) -> int:
        """Which of the values it is."""
        return min(range(len(self.values)), key=lambda i: abs(self.values[i] - value))

    def past(self, end: float, upper: bool) -> float:
        """What lies one of the grid's steps past a value, downwards or upwards."""
        inner, last = self.values[-2:] if upper else self.values[1::-1]
        return at(position(end, self.log) + position(last, self.log) - position(inner, self.log), self.log)

    def beyond(self, upper: bool) -> float | None:
        """One step past an end, within the legal bounds; None where there is nothing."""
        end = self.values[-1 if upper else 0]
        return cut(self.past(end, upper), end, self.legal)

    def grown(self, upper: bool) -> Axis:
        """With one step more at an end, where that is legal."""
        value = self.beyond(upper)
        if value is None:
            return self
        return replace(self, values=(*self.values, value) if upper else (value, *self.values))

    def around(self, value: float) -> Axis:
        """The neighbours of a value and what lies half-way to them, at double the granularity."""
        place = self.place(value)
        below = self.values[place - 1] if place else self.beyond(upper=False)
        above = self.values[place + 1] if place + 1 < len(self.values) else self.beyond(upper=True)
        best = self.values[place]
        near = [(n, middle(n, best, self.log)) for n in (below, above) if n is not None]
        return replace(self, values=tuple(sorted({best, *(v for pair in near for v in pair)})))


def axes(space: LossSpace) -> dict[str, Axis]:
    """The starting grid of learning rate and weight decay, as far as they are searched.

    What the study gives as a list or a range of its own stands in the place of the paper's.
    """
    return {name: _axis(name, space.searched[name]) for name in START if name in space.searched}


def _axis(name: str, p: Real | Choice) -> Axis:
    shared = SHARED[name]
    if isinstance(p, Choice):
        return Axis(tuple(sorted(set(p.choices))), shared.log and min(p.choices) > 0, shared.legal)
    ours = (p.low, p.high, p.log) == (shared.low, shared.high, shared.log)
    low, high = START[name] if ours else (p.low, p.high)
    steps = round((position(high, True) - position(low, True)) / DECADES_PER_STEP) if p.log else LINEAR_LEVELS - 1
    return Axis(tuple(evenly(low, high, max(1, steps) + 1, p.log)), p.log, p.legal)


def levels(space: LossSpace) -> dict[str, list[Any]]:
    """The values of each searched hyperparameter in the coarse grid."""
    shared = axes(space)
    return {name: list(shared[name].values) if name in shared else _own(p) for name, p in space.searched.items()}


def _own(p: Real | Choice) -> list[Any]:
    return list(dict.fromkeys(p.choices)) if isinstance(p, Choice) else evenly(p.low, p.high, OWN_LEVELS, p.log)


def reach(axis: Axis) -> tuple[float, float]:
    """Between what the values lie, however the results turn out."""
    for _ in range(MOST_EXTENSIONS + 2):  # one for the fine points beyond the last edge, one to spare
        axis = axis.grown(upper=False).grown(upper=True)
    return axis.values[0], axis.values[-1]


def stage(study: str, space: LossSpace, trials: int, history: History, sign: int) -> Stage:
    """What is left to ask after a history; nothing for now while the results of a stage are still out.

    sign: 1 where a higher score is better, -1 where a lower one is.
    """
    grid, coarse = axes(space), levels(space)
    known = crossed(coarse)
    left = unasked(known, history)
    if left or not grid:
        return Stage("coarse", left, not grid, default_first(study, space, coarse))
    grown: Counter = Counter()
    while not _still_out(known, history):
        best = _best(known, history, sign)
        if best is None:
            return Stage("fine", [], True)  # no configuration trained to its end: around what?
        wider = _extended(grid, best, grown)
        if wider == grid:
            return _slice("fine", {name: axis.around(best[name]) for name, axis in grid.items()}, best, history)
        extended = _slice("extended", wider, best, history)
        if extended.left:
            return extended
        grid, known = wider, [*known, *_over(wider, best)]
    return Stage("waiting", [], False)


def _slice(name: str, grid: Mapping[str, Axis], best: Point, history: History) -> Stage:
    """What was not asked of a grid at the best values of the loss's own hyperparameters, nearest to the best first."""
    return Stage(name, unasked(_over(grid, best), history), name == "fine", _towards(best, grid))


def _over(grid: Mapping[str, Axis], best: Point) -> list[Point]:
    return crossed({name: grid[name].values if name in grid else [value] for name, value in best.items()})


def _towards(best: Point, grid: Mapping[str, Axis]) -> Callable[[Point], int]:
    def steps(point: Point) -> int:
        return sum((axis.place(point[name]) - axis.place(best[name])) ** 2 for name, axis in grid.items())

    return steps


def _still_out(known: list[Point], history: History) -> bool:
    points = {key(point) for point in known}
    return any(row["state"] not in ENDED and key(row["parameters"]) in points for row in history)


def _best(known: list[Point], history: History, sign: int) -> Point | None:
    """The best configuration of full length among the points of a stage and those before it; of equal ones the first.

    What later stages found does not count, so that a history decides at each stage as it did then.
    """
    points = {key(point): point for point in known}
    full = [row for row in history if row["state"] == "complete" and row["score"] is not None
            and key(row["parameters"]) in points]  # fmt: skip
    found = max(full, key=lambda row: sign * row["score"], default=None)
    return None if found is None else points[key(found["parameters"])]


def _extended(grid: Mapping[str, Axis], best: Point, grown: Counter) -> dict[str, Axis]:
    """The grid with a step more at every edge that the best lies on; counts them, and adds no more than allowed."""
    wider = dict(grid)
    for name, axis in grid.items():
        for upper, end in ((False, axis.values[0]), (True, axis.values[-1])):
            if best[name] == end and grown[name, upper] < MOST_EXTENSIONS:
                wider[name] = wider[name].grown(upper)
                grown[name, upper] += 1
    return wider
