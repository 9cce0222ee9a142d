"""The points that a planned search has still to ask of a loss: what makes two the same, and which one comes next."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from losstune.search.ranges import LossSpace
from losstune.search.scales import position
from losstune.spaces import Choice

Point = dict[str, Any]
# Of one loss, in the order of its numbers: "parameters", "state" and "score", as the ledger's trials have them.
History = Sequence[Mapping[str, Any]]
ENDED = ("complete", "stopped", "failed")


@dataclass(frozen=True)
class Stage:
    """What is left to ask of a loss until results decide what follows.

    left: the points; order: they are asked from the lowest on; last: whether nothing follows, whatever the results.
    """

    name: str
    left: list[Point]
    last: bool
    order: Callable[[Point], Any] = lambda point: 0

    def next(self) -> Point | None:
        return min(self.left, key=self.order, default=None)


def key(point: Mapping[str, Any]) -> tuple:
    """What two equal points have in common: numbers to nine digits, so that another machine's rounding is no change."""
    return tuple(
        f"{value:.9g}" if isinstance(value, int | float) else repr(value) for _, value in sorted(point.items())
    )


def crossed(levels: Mapping[str, Sequence[Any]]) -> list[Point]:
    """Every combination of the values."""
    return [dict(zip(levels, values, strict=True)) for values in product(*levels.values())]


def unasked(points: Iterable[Point], history: History) -> list[Point]:
    """The points that the history does not hold, each once."""
    asked = {key(row["parameters"]) for row in history}
    return list({k: point for point in points if (k := key(point)) not in asked}.values())


def default_first(study: str, space: LossSpace, levels: Mapping[str, Sequence[Any]]) -> Callable[[Point], Any]:
    """An order of a grid: the point nearest to the loss's default, then all others in a seeded shuffle.

    A grid that the hours cut short is then a random part of it, for every loss.
    """
    from losstune.trainables.seeds import derive  # torch, which a look at a study's standing need not load

    default = space.default()
    first = key({name: _nearest(values, default[name], space, name) for name, values in levels.items()})

    def order(point: Point) -> tuple[bool, int]:
        found = key(point)
        return found != first, derive(study, "grid", space.loss, *found)

    return order


def _nearest(values: Sequence[Any], default: Any, space: LossSpace, name: str) -> Any:
    """The value nearest to a default on its scale; the lower of two that are equally near."""
    p = space.searched[name]
    if isinstance(p, Choice) or default in values:
        return default
    return min(sorted(values), key=lambda v: round(abs(position(v, p.log) - position(default, p.log)), 9))


def size(levels: Mapping[str, Sequence[Any]]) -> int:
    return math.prod(map(len, levels.values()))
