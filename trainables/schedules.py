"""How the learning rate moves over training: SCHEDULES. In Python's floats, so that its bits depend on nothing else."""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass, fields
from fractions import Fraction
from typing import Any

from losstune.spaces.errors import InputError


@dataclass(frozen=True)
class Constant:
    """The peak, throughout."""

    def share(self, progress: float, epochs: int, warmup: int) -> float:
        """The share of the peak at a step after the warmup; progress and epochs as Schedule.rate takes them."""
        return 1.0


@dataclass(frozen=True)
class Cosine:
    """Cosine decay to 0 without restarts, step by step: (1 + cos(pi progress)) / 2 (Kornblith A.1, CIFAR)."""

    def share(self, progress: float, epochs: int, warmup: int) -> float:
        start = warmup / epochs
        return 0.5 * (1 + math.cos(math.pi * ((progress - start) / (1 - start))))


@dataclass(frozen=True)
class Steps:
    """Times factor at each place: a share of the full length below 1, or a whole number of epochs done.

    Zhou 4: 0.1 at a third and two thirds of the iterations. Battash: 0.1 at 120, 160 and 200 of 240 epochs.
    Demirkaya IV: 1/4 at the end of epochs 50, 80, 110, 150 and 170 of 200.
    """

    at: tuple[float, ...] = (1 / 3, 2 / 3)
    factor: float = 0.1

    def share(self, progress: float, epochs: int, warmup: int) -> float:
        return self.factor ** sum(progress >= _share_done(place, epochs) for place in self.at)


@dataclass(frozen=True)
class Exponential:
    """Times rate after each epoch (Kornblith A.1, ImageNet: 0.975, after 10 epochs of warmup; Table C.3: 0.985)."""

    rate: float = 0.975

    def share(self, progress: float, epochs: int, warmup: int) -> float:
        return self.rate ** _whole_epochs(progress, epochs, warmup)


@dataclass(frozen=True)
class LogLinear:
    """Evenly on a log scale, epoch by epoch, from the peak in the first epoch to `to` times the peak in the last.

    Kobayashi 4.1: from 0.1 to 0.0001 over 50 epochs; in the author's code 50 values, both ends among them.
    """

    to: float = 0.001

    def share(self, progress: float, epochs: int, warmup: int) -> float:
        return self.to ** (_whole_epochs(progress, epochs, warmup) / max(1, epochs - warmup - 1))


def _share_done(place: float, epochs: int) -> float:
    """A place of Steps as a share of the full length."""
    # Progress is a quotient as well, both rounded correctly: the first step of an epoch meets its place exactly.
    return place if place < 1 else place / epochs


def _whole_epochs(progress: float, epochs: int, warmup: int) -> int:
    """How many epochs are done since the warmup."""
    # The product may fall short of a whole number by a rounding; a step is far more than 1e-9 of an epoch.
    return math.floor(progress * epochs + 1e-9) - warmup


Kind = Constant | Cosine | Steps | Exponential | LogLinear
SCHEDULES: dict[str, type[Kind]] = {
    "cosine": Cosine,
    "constant": Constant,
    "steps": Steps,
    "exponential": Exponential,
    "log_linear": LogLinear,
}


@dataclass(frozen=True)
class Schedule:
    """A kind of decay behind a linear warmup: `warmup` epochs from 0 to the peak, step by step (Kornblith A.1).

    What follows the warmup is fitted into the epochs that are left; steps stay where they are written.
    """

    kind: Kind = Cosine()
    warmup: int = 0

    def rate(self, learning_rate: float, progress: float, epochs: int) -> float:
        """The learning rate of a step, from the peak.

        progress: the share of the full length that is done, (steps done) / (epochs x steps per epoch), in [0, 1).
        epochs: the full length, however early a trial ends.
        """
        start = self.warmup / epochs
        if progress < start:
            return learning_rate * (progress / start)
        return learning_rate * self.kind.share(progress, epochs, self.warmup)

    @property
    def spec(self) -> str | dict[str, dict[str, Any]]:
        """The schedule as a study file writes it in full, plain data: a name, or a name with its settings."""
        name = next(name for name, kind in SCHEDULES.items() if kind is type(self.kind))
        settings = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self.kind).items()}
        settings |= {"warmup": self.warmup} if self.warmup else {}
        return {name: settings} if settings else name


def resolve(spec: Any, epochs: int) -> Schedule:
    """The schedule that a study means: a name of SCHEDULES, or {name: settings}, among which warmup may be.

    epochs: the full length. InputError names the setting of recipe.schedule that is wrong.
    """
    name, settings = next(iter(spec.items())) if isinstance(spec, dict) and len(spec) == 1 else (spec, {})
    if not isinstance(name, str) or name not in SCHEDULES:
        raise InputError(f"recipe.schedule: unknown schedule {name!r}; allowed: {', '.join(SCHEDULES)}, "
                         f"or one of these with its settings, such as {{cosine: {{warmup: 5}}}}")  # fmt: skip
    where, known = f"recipe.schedule.{name}", [*(field.name for field in fields(SCHEDULES[name])), "warmup"]
    settings = {} if settings is None else settings
    if not isinstance(settings, dict):
        raise InputError(f"{where}: {settings!r} is not a mapping; allowed: {', '.join(known)}")
    for key in settings:
        if key not in known:
            raise InputError(f"{where}.{key}: unknown key; allowed: {', '.join(known)}")
    settings = {**asdict(SCHEDULES[name]()), "warmup": 0, **settings}
    warmup = _warmup(settings.pop("warmup"), epochs, f"{where}.warmup")
    own = {key: _places(value, epochs, warmup, f"{where}.at") if key == "at" else _share(value, f"{where}.{key}")
           for key, value in settings.items()}  # fmt: skip
    return Schedule(SCHEDULES[name](**own), warmup)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _warmup(value: Any, epochs: int, where: str) -> int:
    if not _is_number(value) or value % 1 != 0 or not 0 <= value < epochs:
        raise InputError(f"{where}: {value!r} is not allowed; allowed: whole epochs below recipe.epochs, {epochs}")
    return int(value)


def _share(value: Any, where: str) -> float:
    if not _is_number(value) or not 0 < value <= 1:
        raise InputError(f"{where}: {value!r} is out of bounds; allowed: (0, 1]")
    return float(value)


def _places(value: Any, epochs: int, warmup: int, where: str) -> tuple[float, ...]:
    """Places in training, in their order, none before the end of the warmup."""
    if not isinstance(value, list | tuple) or not value:
        raise InputError(f"{where}: {value!r} is not a list of places; allowed: shares of the full length such as "
                         f"1/3 or 0.5, or whole epochs")  # fmt: skip
    places = tuple(_place(place, epochs, where) for place in value)
    shares = [_share_done(place, epochs) for place in places]
    for index, share in enumerate(shares):
        if index and share <= shares[index - 1]:
            raise InputError(f"{where}: {value[index]} does not come after {value[index - 1]}; allowed: places in "
                             f"their order")  # fmt: skip
        if share < warmup / epochs:
            raise InputError(f"{where}: {value[index]} is within the warmup; allowed: from epoch {warmup} on")
    return places


def _place(value: Any, epochs: int, where: str) -> float:
    is_quotient = isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}/[1-9][0-9]{0,8}", value)
    place = float(Fraction(value)) if is_quotient else value
    if not _is_number(place) or not place > 0 or (place > 1 and place % 1 != 0):
        raise InputError(f"{where}: {value!r} is no place in training; allowed: a share of the full length such as 1/3 "
                         f"or 0.5, or whole epochs")  # fmt: skip
    if place == 1 and isinstance(value, float):
        raise InputError(f"{where}: 1.0 is the end of training; allowed: a share below 1, or 1 for the first epoch")
    if place >= epochs:
        raise InputError(f"{where}: {value} is beyond the end; allowed: below recipe.epochs, {epochs}")
    return float(place) if place < 1 else int(place)
