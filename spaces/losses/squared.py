"""Spaces of squared errors of the logits."""

from losstune.spaces.hyperparameters import OfClasses, Real
from losstune.spaces.losses.cross_entropy import KORNBLITH
from losstune.spaces.shared import NON_NEGATIVE, POSITIVE, powers_of_ten
from losstune.spaces.space import Space

SPACES: dict[str, Space] = {
    "squared_error": Space(
        "weighted squared error of the logits", "Kornblith Eq. 10; Zhou Eq. 6",
        {
            "kappa": Real(8.0, 1.0, 20.0, KORNBLITH, "weight of the correct class", log=True, legal=POSITIVE),
            "M": Real(0.83, 0.5, 60.0, KORNBLITH, "target of the correct class", log=True, legal=POSITIVE),
            "loss_scale": Real(1.0, 1.0, 1.0, "Kornblith Eq. 10", "factor; the authors' code with scale 10 is 10 K",
                               legal=POSITIVE),
        },
        powers_of_ten(-1, -3.5),
    ),
    "quadratic": Space("half the squared error of the logits", "Demirkaya, Problem Setup", {}, powers_of_ten(-1, -3.5)),
    "ccql": Space(
        "quadratic loss with more weight on the correct class", "Demirkaya Eq. II.1",
        {"w": Real(OfClasses("sqrt(K - 1) - 1", lambda classes: (classes - 1) ** 0.5 - 1), 0.0, 32.0,
                   "Demirkaya, Numerical Experiments", "extra weight of the correct class", legal=NON_NEGATIVE)},
        powers_of_ten(-1, -3.5),
    ),
}  # fmt: skip
