"""The papers' own grids and settings: NAMED_SPACES, selected in a study by `space: kornblith-cifar10`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from losstune.spaces.errors import InputError
from losstune.spaces.hyperparameters import OfClasses
from losstune.spaces.lookup import space_of
from losstune.spaces.losses import SPACES
from losstune.spaces.space import members_of, qualified


@dataclass(frozen=True)
class NamedSpace:
    """A paper's settings, in the notation of a study's `losses`: a value is fixed, a list is searched as it stands.

    shared: learning rate and weight decay (the product), for all losses. losses: each loss's own hyperparameters.
    Losses that a paper does not have keep their default space.
    """

    summary: str
    source: str
    shared: Mapping[str, Any]
    losses: Mapping[str, Mapping[str, Any]]

    def of(self, loss: str) -> dict[str, Any]:
        """What this space says of a loss or a combination: empty where the paper has none of its losses."""
        members = members_of(loss)
        own = {name: self.losses[name] for name in members if name in self.losses}
        if not own:
            return {}
        names = qualified({name: space_of(name) for name in members})
        values = {names[name][key]: value for name, changes in own.items() for key, value in changes.items()}
        return {**self.shared, **values}


def _decades(first: float, last: float, step: float = 0.5) -> list[float]:
    return [10 ** (first + step * i) for i in range(round((last - first) / step) + 1)]


_COARSE = {"learning_rate": _decades(-2, 0.5), "weight_decay": _decades(-4.5, -3)}

NAMED_SPACES: dict[str, NamedSpace] = {
    "kornblith-imagenet": NamedSpace(
        "Kornblith's grids for ResNet-50 on ImageNet",
        "Kornblith A.1, Table A.1; the losses as in the authors' code: beta/2, weights normalized, squares summed",
        {"learning_rate": 1.6, "weight_decay": 1.6 * 8e-5},
        {
            "softmax": {}, "sigmoid": {},
            "squared_error": {"kappa": 9.0, "M": 60.0, "loss_scale": OfClasses("10 K", lambda classes: 10.0 * classes)},
            "dropout": {"rho": [0.6, 0.65, 0.7, 0.75, 0.8, 0.85]},
            "label_smoothing": {"alpha": [0.08, 0.09, 0.1, 0.11, 0.12]},
            "final_layer_l2": {"lambda_final": [4e-4, 6e-4, 8e-4, 1e-3]},
            "logit_penalty": {"beta": [5e-5, 1e-4, 2e-4, 4e-4, 6e-4, 8e-4], "half": True},
            "logit_norm": {"tau": [0.03, 0.04, 0.05, 0.06]},
            "cosine_softmax": {"tau": [0.04, 0.045, 0.05, 0.06, 0.07, 0.08], "normalize_features": False},
        },
    ),
    "kornblith-cifar10": NamedSpace(
        "Kornblith's coarse grid of learning rate and weight decay, losses as found for CIFAR-10",
        "Kornblith A.1, Table A.2, the losses as in the equations: the code for CIFAR is not public", _COARSE,
        {
            "softmax": {}, "sigmoid": {}, "squared_error": {"kappa": 8.0, "M": 0.83}, "logit_norm": {"tau": 0.14},
            "final_layer_l2": {"lambda_final": 10**-1.5}, "cosine_softmax": {"tau": 0.08}, "dropout": {"rho": 0.65},
            "label_smoothing": {"alpha": 0.04}, "logit_penalty": {"beta": 10**-2.83},
        },
    ),
    "kornblith-cifar100": NamedSpace(
        "Kornblith's coarse grid of learning rate and weight decay, losses as found for CIFAR-100",
        "Kornblith A.1, Table A.2, the losses as in the equations: the code for CIFAR is not public", _COARSE,
        {
            "softmax": {}, "sigmoid": {}, "squared_error": {"kappa": 6.0, "M": 12.0}, "logit_norm": {"tau": 0.11},
            "final_layer_l2": {"lambda_final": 10**-3.33}, "cosine_softmax": {"tau": 0.1}, "dropout": {"rho": 0.75},
            "label_smoothing": {"alpha": 0.18}, "logit_penalty": {"beta": 10**-2.83},
        },
    ),
    "kobayashi": NamedSpace(
        "Kobayashi's lambdas for the 13-layer network on CIFAR-100", "Kobayashi 4.1 and 4.3, Tables 1, 2 and 4",
        {"learning_rate": 0.1, "weight_decay": 0.1 * 1e-4},
        {
            "softmax": {}, "hinge": {}, "super_symmetric": {}, "margin_softmax": {"margin": 1.0},
            "label_smoothing": {"alpha": [0.01, 0.05, 0.1, 0.3], "scaled": False},
            "large_margin": {"lam": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]},
        },
    ),
    "zhou": NamedSpace(
        "Zhou's fixed values", "Zhou section 4 (the code smooths by 0.05); the squared error as in the code, a mean",
        {"learning_rate": 0.1, "weight_decay": 0.1 * 5e-4},
        {
            "softmax": {}, "focal": {"gamma": 3.0, "alpha": 1.0}, "label_smoothing": {"alpha": 0.1, "scaled": False},
            "squared_error": {"kappa": 1.0, "M": 15.0, "loss_scale": 1.0},
        },
    ),
    "battash": NamedSpace(
        "Battash's schedules of F for CIFAR-100", "Battash, Scheduling and Experiments",
        {"learning_rate": 0.1, "weight_decay": 0.1 * 1e-4},
        {
            "softmax": {}, "expectation": {}, "cot": {}, "ce_el": {"F": ["0", "0,0.5", "0-0.5"]},
            "ce_matched": {"F": "0-0.5"}, "focal": {"gamma": 2.0, "alpha": 0.25},
        },
    ),
    "demirkaya": NamedSpace(
        "Demirkaya's w, whose learning rate was tuned by hand", "Demirkaya, Numerical Experiments", {},
        {
            "softmax": {}, "quadratic": {},
            "ccql": {"w": [SPACES["ccql"].hyperparameters["w"].default,
                           OfClasses("K - 2", lambda classes: classes - 2.0)]},
        },
    ),
}  # fmt: skip


def named_space(name: Any, where: str) -> NamedSpace | None:
    """A named space; None for "default". InputError lists those there are."""
    if name == "default":
        return None
    if not isinstance(name, str) or name not in NAMED_SPACES:
        raise InputError(f"{where}: unknown space {name!r}; allowed: default, {', '.join(NAMED_SPACES)}")
    return NAMED_SPACES[name]
