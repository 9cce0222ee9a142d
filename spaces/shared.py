"""The hyperparameters that are tuned for every loss alike (Kornblith, Appendix A.1)."""

from __future__ import annotations

import math

from losstune.spaces.hyperparameters import Real

POSITIVE = (0.0, math.inf, True, True)
NON_NEGATIVE = (0.0, math.inf, False, True)

# Kornblith's coarse grid runs from 10^-2 to 10^0.5 and was extended where the best lay on its edge: Table A.2 ends
# at 10^-2.25. The weight decay grid runs from 10^-4.5 to 10^-3; one half-decade is added at each end.
SHARED = {
    "learning_rate": Real(
        default=0.1, low=10**-2.5, high=10**0.5, log=True, legal=POSITIVE,
        source="Kornblith A.1, Table A.2", meaning="peak learning rate, eta",
    ),
    "weight_decay": Real(
        default=10**-3.75, low=10**-5, high=10**-2.5, log=True, legal=NON_NEGATIVE,
        source="Kornblith A.1, Table A.2",
        meaning="product of learning rate and weight decay, lambda~: the penalty is lambda~ / (2 eta) |w|^2",
    ),
}  # fmt: skip


def powers_of_ten(learning_rate_exponent: float, weight_decay_exponent: float) -> dict[str, float]:
    """A learning rate and a weight decay product by their exponents, as Kornblith's Table A.2 gives them."""
    return {"learning_rate": 10**learning_rate_exponent, "weight_decay": 10**weight_decay_exponent}
