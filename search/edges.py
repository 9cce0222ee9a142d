"""Whether a search range was too narrow: which chosen values lie at an end of what was searched, and what to try."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from losstune.search import coarse_to_fine
from losstune.search.methods import stage_of, wanted
from losstune.search.ranges import LossSpace
from losstune.search.scales import Legal, cut, further, position
from losstune.search.study import SearchPart
from losstune.spaces import Choice, Hyperparameter, Real, space_of

NEAR = 0.02  # of the range's width on its scale: so near to an end is at it, and so little beyond an end is nothing
EXACTLY = 1e-9
Row = Mapping[str, Any]
Edge = dict[str, Any]  # loss, hyperparameter, value, bound, side ("lower" | "upper"), try: [low, high]


@dataclass(frozen=True)
class Span:
    """What was searched of a hyperparameter. below, above: what to try at least beyond each end; near: see NEAR."""

    low: float
    high: float
    below: float
    above: float
    log: bool
    legal: Legal
    near: float = EXACTLY

    def share(self, a: float, b: float) -> float:
        """How far apart two values are, as a share of the width."""
        width = position(self.high, self.log) - position(self.low, self.log)
        return abs(position(a, self.log) - position(b, self.log)) / width


def find_edges(spaces: Mapping[str, LossSpace], search: SearchPart, rows: Sequence[Row], choices: Iterable[Row],
               greater_is_better: bool) -> list[Edge]:  # fmt: skip
    """The flags of a study: of each loss's chosen configuration, or of its best one so far where none is chosen.

    rows: the ledger's search trials; choices: its latest choices. Values are numbers, spaces those of the study's data.
    """
    chosen, sign = {row["loss"]: row["trial"] for row in choices}, 1 if greater_is_better else -1
    found = []
    for loss, space in spaces.items():
        own = sorted((row for row in rows if row["loss"] == loss), key=lambda row: row["number"])
        current = _current([row for row in own if row["id"] == chosen.get(loss, row["id"])], sign)
        if current is not None:
            over = loss in chosen or _asked_out(space, search, own, sign)
            tried = [row["parameters"] for row in own] if search.method == "coarse_to_fine" else None
            found += edges(space, current, tried, over)
    return found


def _current(rows: list[Row], sign: int) -> dict[str, Any] | None:
    """The parameters of the best configuration of full length; of equal ones the first."""
    full = [row for row in rows if row["state"] == "complete" and row["score"] is not None]
    best = max(full, key=lambda row: sign * row["score"], default=None)
    return None if best is None else best["parameters"]


def _asked_out(space: LossSpace, search: SearchPart, rows: list[Row], sign: int) -> bool:
    if any(row["state"] == "running" for row in rows):
        return False
    # The order of the asks does not matter here, and so neither does the study's name.
    return len(rows) >= wanted(space, search, len(rows), stage_of("", space, search, rows, sign), 0)


def edges(space: LossSpace, parameters: Mapping[str, Any], tried: Sequence[Mapping[str, Any]] | None = None,
          over: bool = True) -> list[Edge]:  # fmt: skip
    """The flags of one configuration of a loss.

    tried: all that was asked, where the search went on from where it started (coarse_to_fine); over: whether it ended.
    Until then an edge of its learning rates or weight decays is no news: it will go on there.
    """
    found = []
    moving = coarse_to_fine.axes(space) if tried is not None else {}
    for name, p in space.searched.items():
        value = _number(parameters[name])
        if value is None or (name in moving and not over):
            continue
        span = _moved(moving[name], [point[name] for point in tried or ()]) if name in moving else _span(space, name, p)
        if span is not None:
            found += [{"loss": space.loss, "hyperparameter": name, **flag} for flag in _flags(span, value)]
    return found


def _flags(span: Span, value: float) -> list[Edge]:
    """At most one: the end that the value is at, if there is something legal to try beyond it."""
    for side, bound, wish in (("lower", span.low, span.below), ("upper", span.high, span.above)):
        if span.share(value, bound) <= span.near:
            beyond = cut(wish, bound, span.legal)
            if beyond is not None and span.share(beyond, bound) > NEAR:
                wider = [beyond, span.high] if side == "lower" else [span.low, beyond]
                return [{"value": value, "bound": bound, "side": side, "try": wider}]
    return []


def _span(space: LossSpace, name: str, p: Real | Choice) -> Span | None:
    """Of a range half its width more, of a list of numbers a step more; None for named choices."""
    if isinstance(p, Real):
        below, above = further(p.high, p.low, p.log, 0.5), further(p.low, p.high, p.log, 0.5)
        return Span(p.low, p.high, below, above, p.log, p.legal, NEAR)
    declared = _declared(space.loss, name)
    legal = _legal(declared)
    if legal is None or not _are_numbers(p.choices):
        return None
    values = sorted(set(map(float, p.choices)))
    log = getattr(declared, "log", False) and values[0] > 0
    below, above = further(values[1], values[0], log), further(values[-2], values[-1], log)
    return Span(values[0], values[-1], below, above, log, legal)


def _moved(axis: coarse_to_fine.Axis, tried: Sequence[float]) -> Span | None:
    """What a coarse-to-fine search came to, and a step of its coarse grid more."""
    low, high = min(tried), max(tried)
    if not low < high:
        return None
    return Span(low, high, axis.past(low, upper=False), axis.past(high, upper=True), axis.log, axis.legal)


def _declared(loss: str, name: str) -> Hyperparameter:
    space = space_of(loss)
    return {**space.shared(), **space.hyperparameters}[name]


def _legal(p: Hyperparameter) -> Legal | None:
    """Between what a study may set it; None where that is not an interval of numbers."""
    if isinstance(p, Real):
        return p.legal
    numbers = getattr(p, "numbers", None)
    if numbers is None and isinstance(p, Choice) and _are_numbers(p.choices):
        numbers = min(map(_number, p.choices)), max(map(_number, p.choices))
    return None if numbers is None else (*numbers, False, False)


def _are_numbers(choices: Sequence[Any]) -> bool:
    return all(_number(choice) is not None for choice in choices)


def _number(value: Any) -> float | None:
    """A choice as a number; "0" is one, as schedules name it, "0,0.5" is none."""
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None
