"""What a hyperparameter is: its type, the values its formula allows, and the range that is searched by default."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from losstune.spaces.errors import InputError


@dataclass(frozen=True)
class OfClasses:
    """A value that depends on the number of classes K. text: its formula, as "sqrt(K - 1) - 1"."""

    text: str
    of: Callable[[int], float]

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Real:
    """A real hyperparameter.

    legal: the interval the formula allows, as (low, high, low_is_open, high_is_open).
    low, high: the default search range, both ends included; log: whether it is searched on a logarithmic scale.
    default: a number, or a function of the number of classes.
    source: the paper and table the default and the range come from.
    """

    default: float | OfClasses
    low: float
    high: float
    source: str
    meaning: str
    log: bool = False
    legal: tuple[float, float, bool, bool] = (-math.inf, math.inf, True, True)

    def check(self, value: Any, where: str) -> float | OfClasses:
        """The value as a float; InputError names the bound when it is outside the legal interval."""
        if isinstance(value, OfClasses):
            return value  # ours, not the user's
        if isinstance(value, bool) or not isinstance(value, numbers.Real):
            raise InputError(f"{where}: {value!r} is not a number; allowed: {self.bounds()}")
        low, high, low_open, high_open = self.legal
        too_low = value <= low if low_open else value < low
        too_high = value >= high if high_open else value > high
        if math.isnan(value) or too_low or too_high:
            raise InputError(f"{where}: {value} is out of bounds; allowed: {self.bounds()}")
        return float(value)

    def bounds(self) -> str:
        """The legal interval as text, for example "[0, 1)"."""
        low, high, low_open, high_open = self.legal
        return f"{'(' if low_open else '['}{low:g}, {high:g}{')' if high_open else ']'}"

    def narrowed(self, where: str, low: float, high: float, log: bool) -> Real:
        """The same hyperparameter searched over another range; InputError when the range is not legal."""
        low, high = self.check(low, f"{where}.low"), self.check(high, f"{where}.high")
        if not low < high:
            raise InputError(f"{where}: low ({low:g}) must be below high ({high:g})")
        if log and low <= 0:
            raise InputError(f"{where}.low: {low:g} cannot be searched on a log scale; allowed: above 0")
        middle = math.sqrt(low * high) if log else (low + high) / 2
        kept = isinstance(self.default, OfClasses) or low <= self.default <= high
        default = self.default if kept else middle
        return replace(self, low=low, high=high, log=log, default=default)

    def describe(self) -> str:
        """The default range as text, for example "0.02 to 0.5, log"."""
        if self.low == self.high:
            return "fixed"
        return f"{self.low:g} to {self.high:g}, {'log' if self.log else 'linear'}"


@dataclass(frozen=True)
class Choice:
    """A hyperparameter with a few named values; numbers: the closed interval of plain numbers that are legal too."""

    default: Any
    choices: tuple[Any, ...]
    source: str
    meaning: str
    numbers: tuple[float, float] | None = None

    def check(self, value: Any, where: str) -> Any:
        """The choice the value names (the number 0 names "0"), or a legal number; InputError lists them otherwise."""
        if isinstance(value, int | float) and not isinstance(value, bool):
            if f"{value:g}" in self.choices:
                return f"{value:g}"
            if self.numbers and self.numbers[0] <= value <= self.numbers[1]:
                return float(value)
        elif value in self.choices:
            return value
        raise InputError(f"{where}: {value!r} is not allowed; allowed: {self.bounds()}")

    def bounds(self) -> str:
        named = "one of " + ", ".join(f'"{c}"' for c in self.choices)
        return named + (f", or a number in [{self.numbers[0]:g}, {self.numbers[1]:g}]" if self.numbers else "")

    def describe(self) -> str:
        return "{" + ", ".join(map(str, self.choices)) + "}"


@dataclass(frozen=True)
class Option:
    """A switch between two published forms of a loss. It is set, never searched."""

    default: bool
    source: str
    meaning: str

    def check(self, value: Any, where: str) -> bool:
        if not isinstance(value, bool):
            raise InputError(f"{where}: {value!r} is not allowed; allowed: true or false")
        return value

    def bounds(self) -> str:
        return "true or false"

    def describe(self) -> str:
        return "fixed"


Hyperparameter = Real | Choice | Option
