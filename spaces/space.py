"""The space of a loss: what it is made of, and how the spaces of combined losses are composed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from losstune.spaces.errors import InputError
from losstune.spaces.hyperparameters import Choice, Hyperparameter, OfClasses, Real
from losstune.spaces.shared import SHARED


@dataclass(frozen=True)
class Space:
    """What is searched for one loss.

    hyperparameters: the loss's own, by the paper's name.
    defaults: the learning rate and weight decay that the paper found for this loss, asked first.
    passes: forward and backward passes per step, which its member-epochs count for.
    least_features: of the number of classes, how many penultimate features the formula needs.
    known_to_fail: the source that reports that deep networks do not train well with it; empty for the others.
    modifies: whether the loss is softmax cross-entropy and something more, so that it may be added to another one.
    """

    summary: str
    source: str
    hyperparameters: Mapping[str, Hyperparameter] = field(default_factory=dict)
    defaults: Mapping[str, float] = field(default_factory=dict)
    passes: int = 1
    least_features: Callable[[int], int] | None = None
    known_to_fail: str = ""
    modifies: bool = False

    def shared(self) -> dict[str, Real]:
        """Learning rate and weight decay with this loss's defaults."""
        return {name: replace(p, default=self.defaults.get(name, p.default)) for name, p in SHARED.items()}


def members_of(name: str) -> list[str]:
    """The losses of a combination: "label_smoothing+dropout" -> both, the base first."""
    return name.split("+")


def qualified(spaces: Mapping[str, Space]) -> dict[str, dict[str, str]]:
    """Per loss of a combination, what each of its hyperparameters is called there.

    A name that several of them have is qualified by the loss: center+large_margin has center_lam and large_margin_lam.
    """
    count = Counter(name for space in spaces.values() for name in space.hyperparameters)
    return {
        loss: {name: name if count[name] == 1 else f"{loss}_{name}" for name in space.hyperparameters}
        for loss, space in spaces.items()
    }


def combined(spaces: Mapping[str, Space]) -> Space:
    """The space of a combination: the base's learning rate and weight decay, everybody's own hyperparameters."""
    base = next(iter(spaces.values()))
    names = qualified(spaces)
    least = [space.least_features for space in spaces.values() if space.least_features]
    return Space(
        " with ".join(space.summary for space in spaces.values()),
        "; ".join(dict.fromkeys(space.source for space in spaces.values())),
        {names[loss][own]: p for loss, space in spaces.items() for own, p in space.hyperparameters.items()},
        base.defaults,
        max(space.passes for space in spaces.values()),
        (lambda classes: max(of(classes) for of in least)) if least else None,
    )


def settled(value: Any, num_classes: int) -> Any:
    """A value for so many classes: what is given as a function of their number is computed."""
    return value.of(num_classes) if isinstance(value, OfClasses) else value


def is_searched(p: Hyperparameter) -> bool:
    """Whether a hyperparameter varies in a search: options and ranges of one point do not."""
    if isinstance(p, Real):
        return p.low < p.high
    return isinstance(p, Choice) and len(p.choices) > 1


def check_given(space: Space, given: Mapping[str, Any], where: str, num_classes: int | None = None) -> dict[str, Any]:
    """All hyperparameters of a space: the given ones checked against their bounds, the others at their defaults."""
    own = space.hyperparameters
    for name in given:
        if name not in own:
            raise InputError(f"{where}.{name}: unknown hyperparameter; allowed: {', '.join(own) or 'none'}")
    values = {name: p.check(given[name], f"{where}.{name}") if name in given else p.default for name, p in own.items()}
    return values if num_classes is None else {name: settled(value, num_classes) for name, value in values.items()}
