"""Steps, middles and ends on a hyperparameter's scale, logarithmic or linear, within its legal bounds."""

from __future__ import annotations

import math

Legal = tuple[float, float, bool, bool]  # low, high, low is open, high is open


def position(value: float, log: bool) -> float:
    """Where a value lies on its scale."""
    return math.log10(value) if log else value


def at(place: float, log: bool) -> float:
    """The value at a place of the scale, without the last digits, which differ between machines."""
    return float(f"{10**place if log else place:.12g}")


def evenly(low: float, high: float, count: int, log: bool) -> list[float]:
    """So many values from low to high, both included, evenly on the scale."""
    first, last = position(low, log), position(high, log)
    inner = [at(first + (last - first) * i / (count - 1), log) for i in range(1, count - 1)]
    return [low, *inner, high]


def middle(a: float, b: float, log: bool) -> float:
    return at((position(a, log) + position(b, log)) / 2, log)


def further(inner: float, end: float, log: bool, share: float = 1.0) -> float:
    """What lies beyond an end, as far as that is from inner, times share."""
    return at(position(end, log) + share * (position(end, log) - position(inner, log)), log)


def cut(value: float, end: float, legal: Legal) -> float | None:
    """A value beyond a range's end, brought within the legal bounds; None where the end reaches the bound already.

    Towards a bound that is itself illegal it goes half of the way that is left.
    """
    low, high, low_open, high_open = legal
    bound, is_open = (high, high_open) if value > end else (low, low_open)
    outside = value >= bound if value > end else value <= bound
    if not outside:
        return value
    if end == bound:
        return None
    return (end + bound) / 2 if is_open else bound
