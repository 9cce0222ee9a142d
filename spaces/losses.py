"""The search space of every loss: SPACES, from loss name to its hyperparameters. No torch here."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from losstune.spaces.errors import InputError
from losstune.spaces.hyperparameters import Choice, Hyperparameter, Option, Real
from losstune.spaces.shared import NON_NEGATIVE, POSITIVE, SHARED


@dataclass(frozen=True)
class Space:
    """What is searched for one loss.

    hyperparameters: the loss's own, by the paper's name.
    defaults: the learning rate and weight decay that the paper found for this loss, asked first.
    """

    summary: str
    source: str
    hyperparameters: dict[str, Hyperparameter] = field(default_factory=dict)
    defaults: dict[str, float] = field(default_factory=dict)

    def shared(self) -> dict[str, Real]:
        """Learning rate and weight decay with this loss's defaults."""
        return {name: replace(p, default=self.defaults.get(name, p.default)) for name, p in SHARED.items()}


def _table_a2(learning_rate_exponent: float, weight_decay_exponent: float) -> dict[str, float]:
    return {"learning_rate": 10**learning_rate_exponent, "weight_decay": 10**weight_decay_exponent}


KORNBLITH = "Kornblith Tables A.1 and A.2"

# Defaults are Kornblith's CIFAR-10 column of Table A.2; ranges span every value of Tables A.1 and A.2.
SPACES: dict[str, Space] = {
    "softmax": Space("softmax cross-entropy", "Kornblith Eq. 1", {}, _table_a2(-0.75, -3.75)),
    "label_smoothing": Space(
        "cross-entropy with smoothed targets", "Kornblith Eq. 2; Zhou Eq. 5",
        {
            "alpha": Real(0.04, 0.01, 0.3, KORNBLITH, "share of the target spread over all classes",
                          legal=(0.0, 1.0, False, True)),
            "scaled": Option(True, "Kornblith Eq. 2", "times 1/(1 - alpha); false: Zhou Eq. 5, Kobayashi Eq. 13"),
        },
        _table_a2(-1, -3.75),
    ),
    "dropout": Space(
        "softmax with dropout on the penultimate features", "Kornblith Eq. 4",
        {"rho": Real(0.65, 0.5, 0.95, KORNBLITH, "probability to keep a feature", legal=(0.0, 1.0, True, False))},
        _table_a2(-1, -3.75),
    ),
    "final_layer_l2": Space(
        "softmax with extra L2 on the final layer's weights", "Kornblith section 2",
        {"lambda_final": Real(10**-1.5, 1e-4, 0.1, KORNBLITH, "weight of |W|^2 / 2, beyond the shared weight decay",
                              log=True, legal=NON_NEGATIVE)},
        _table_a2(-1, -3.5),
    ),
    "logit_penalty": Space(
        "softmax with a penalty on the logits' squared norm", "Kornblith Eq. 5",
        {
            "beta": Real(10**-2.83, 1e-5, 1e-2, KORNBLITH, "weight of |z|^2", log=True, legal=NON_NEGATIVE),
            "half": Option(False, "the authors' code", "beta/2 |z|^2, as the authors' code has it"),
        },
        _table_a2(-0.75, -3.75),
    ),
    "logit_norm": Space(
        "softmax of the normalized logits over a temperature", "Kornblith Eq. 6",
        {"tau": Real(0.14, 0.02, 0.5, KORNBLITH, "temperature", log=True, legal=POSITIVE)},
        _table_a2(-2, -4),
    ),
    "cosine_softmax": Space(
        "softmax of cosine similarities over a temperature, plus a bias", "Kornblith Eq. 7",
        {
            "tau": Real(0.08, 0.02, 0.5, KORNBLITH, "temperature", log=True, legal=POSITIVE),
            "normalize_features": Option(True, "Kornblith Eq. 7", "false: only the weights, as the authors' code"),
            "scale_loss": Option(False, "Kornblith footnote 1", "times tau, for training at low temperatures"),
        },
        _table_a2(-2.25, -4),
    ),
    "sigmoid": Space("sum of binary cross-entropies over classes", "Kornblith Eq. 8-9", {}, _table_a2(0, -3.75)),
    "squared_error": Space(
        "weighted squared error of the logits", "Kornblith Eq. 10; Zhou Eq. 6",
        {
            "kappa": Real(8.0, 1.0, 20.0, KORNBLITH, "weight of the correct class", log=True, legal=POSITIVE),
            "M": Real(0.83, 0.5, 60.0, KORNBLITH, "target of the correct class", log=True, legal=POSITIVE),
            "loss_scale": Real(1.0, 1.0, 1.0, "Kornblith Eq. 10", "factor; the authors' code with scale 10 is 10 K",
                               legal=POSITIVE),
        },
        _table_a2(-1, -3.5),
    ),
    "ce_el": Space(
        "cross-entropy and expectation loss mixed on a schedule", "Battash Eq. 12-14",
        {"F": Choice("0", ("0", "0,0.5", "0-0.5"), "Battash, Scheduling; Table 1",
                     "probability that gets the largest gradient, over training", numbers=(0.0, 0.5))},
        _table_a2(-0.75, -3.75),
    ),
}  # fmt: skip


def space_of(loss: str, where: str = "loss") -> Space:
    """The space of a loss by name; InputError lists the losses there are."""
    if loss not in SPACES:
        raise InputError(f"{where}: unknown loss {loss!r}; allowed: {', '.join(SPACES)}")
    return SPACES[loss]


def check_hyperparameters(loss: str, given: dict[str, Any], where: str | None = None) -> dict[str, Any]:
    """All hyperparameters of a loss: the given ones checked against their bounds, the others at their defaults.

    Raises InputError for an unknown loss or hyperparameter and for a value out of bounds.
    """
    own = space_of(loss).hyperparameters
    where = where or loss
    for name in given:
        if name not in own:
            raise InputError(f"{where}.{name}: unknown hyperparameter; allowed: {', '.join(own) or 'none'}")
    return {name: p.check(given[name], f"{where}.{name}") if name in given else p.default for name, p in own.items()}


def is_searched(p: Hyperparameter) -> bool:
    """Whether a hyperparameter varies in a search: options and ranges of one point do not."""
    if isinstance(p, Real):
        return p.low < p.high
    return isinstance(p, Choice) and len(p.choices) > 1


__all__ = ["SPACES", "SHARED", "Space", "space_of", "check_hyperparameters", "is_searched"]
