"""What a parameter of an augmentation may be, and its value in one form. Without torch."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from losstune.spaces.errors import InputError


@dataclass(frozen=True)
class Number:
    """A number in [low, high]."""

    default: float
    low: float
    high: float

    def check(self, value: Any, where: str) -> float:
        return _within(_number(value, where, self), self, where)

    def allowed(self) -> str:
        return f"a number in [{self.low:g}, {self.high:g}]"


@dataclass(frozen=True)
class Whole:
    """A whole number from low to high; default None: the operation's own, as its summary says."""

    default: int | None
    low: int
    high: int

    def check(self, value: Any, where: str) -> int:
        number = _within(_number(value, where, self), self, where)
        if number != int(number):
            raise InputError(f"{where}: {value} is not a whole number; allowed: {self.allowed()}")
        return int(number)

    def allowed(self) -> str:
        return f"a whole number from {self.low} to {self.high}"


@dataclass(frozen=True)
class Interval:
    """A pair (low, high) within [low, high]; with `around`, a number v too: from around - v to around + v.

    Where a number reaches below `low` the interval is cut there if cut, and refused otherwise.
    """

    default: tuple[float, float] | None
    low: float
    high: float
    around: float | None = None
    cut: bool = False

    def check(self, value: Any, where: str) -> tuple[float, float]:
        if self.around is not None and isinstance(value, numbers.Real):
            width = _number(value, where, self)
            if width < 0:
                raise InputError(f"{where}: {value} is below 0; allowed: {self.allowed()}")
            first, last = self.around - width, self.around + width
            first = max(first, self.low) if self.cut else first
        else:
            first, last = (_number(part, where, self) for part in _pair(value, where, self))
        if not self.low <= first <= last <= self.high:
            raise InputError(f"{where}: {_shown(value)} is out of bounds; allowed: {self.allowed()}")
        return first, last

    def allowed(self) -> str:
        pair = f"a pair [low, high] within [{self.low:g}, {self.high:g}]"
        if self.around is None:
            return pair
        widest = self.high - self.around
        return f"a number in [0, {widest:g}], or {pair}" if math.isfinite(widest) else f"a number >= 0, or {pair}"


@dataclass(frozen=True)
class Size:
    """Height and width in pixels: a whole number for both, or a pair; default None: those of the images."""

    default: tuple[int, int] | None = None

    def check(self, value: Any, where: str) -> tuple[int, int]:
        parts = (value, value) if isinstance(value, numbers.Real) else _pair(value, where, self)
        height, width = (Whole(None, 1, 4096).check(part, where) for part in parts)
        return height, width

    def allowed(self) -> str:
        return "pixels from 1 to 4096, or a pair [height, width] of them"


@dataclass(frozen=True)
class Levels:
    """What a pixel is filled with: a grey level in [0, 255], or a list of one per channel."""

    default: tuple[float, ...] = (0.0,)

    def check(self, value: Any, where: str) -> tuple[float, ...]:
        level = Number(0, 0, 255)
        if isinstance(value, list | tuple) and value:
            return tuple(level.check(part, where) for part in value)
        if isinstance(value, numbers.Real):
            return (level.check(value, where),)
        raise InputError(f"{where}: {_shown(value)} is not a grey level; allowed: {self.allowed()}")

    def allowed(self) -> str:
        return "a number in [0, 255], or a list of one per channel"


@dataclass(frozen=True)
class Choice:
    """One of a few names."""

    default: str
    choices: tuple[str, ...]

    def check(self, value: Any, where: str) -> str:
        if value not in self.choices:
            raise InputError(f"{where}: {_shown(value)} is not known; allowed: {self.allowed()}")
        return value

    def allowed(self) -> str:
        return ", ".join(self.choices)


Parameter = Number | Whole | Interval | Size | Levels | Choice


def _number(value: Any, where: str, parameter: Parameter) -> float:
    # YAML's true and false are numbers to Python.
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not math.isfinite(value):
        raise InputError(f"{where}: {_shown(value)} is not a number; allowed: {parameter.allowed()}")
    return float(value)


def _within(number: float, parameter: Number | Whole, where: str) -> float:
    if not parameter.low <= number <= parameter.high:
        raise InputError(f"{where}: {number:g} is out of bounds; allowed: {parameter.allowed()}")
    return number


def _pair(value: Any, where: str, parameter: Parameter) -> Sequence[Any]:
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise InputError(f"{where}: {_shown(value)} is not a pair; allowed: {parameter.allowed()}")
    return value


def _shown(value: Any) -> str:
    text = repr(list(value) if isinstance(value, tuple) else value)
    return text if len(text) <= 60 else f"{text[:57]}..."
