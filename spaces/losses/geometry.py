"""Spaces of losses that shape features and classifier: centers, Gaussian mixtures, simplices."""

from losstune.spaces.hyperparameters import Real
from losstune.spaces.shared import NON_NEGATIVE, POSITIVE, powers_of_ten
from losstune.spaces.space import Space


def _simplex(classes: int) -> int:
    """The dimensions of a simplex with so many corners."""
    return classes - 1


SPACES: dict[str, Space] = {
    "gaussian_mixture": Space(
        "L-GM: softmax of a Gaussian mixture's log densities, with a margin and a likelihood term",
        "Wan et al. 2018, in Kobayashi Table 4",
        {
            "alpha": Real(0.3, 0.0, 1.0, "Wan et al. 2018", "margin: the true class's distance counts 1 + alpha times",
                          legal=NON_NEGATIVE),
            "lam": Real(0.1, 1e-3, 1.0, "Wan et al. 2018", "weight of the likelihood term", log=True,
                        legal=NON_NEGATIVE),
        },
        powers_of_ten(-1.5, -4), modifies=True,
    ),
    "super_symmetric": Space(
        "softmax with the final layer held to a simplex of learned size", "Kobayashi section 3, Table 2", {},
        powers_of_ten(-0.75, -3.75), least_features=_simplex, modifies=True,
    ),
    "center": Space(
        "softmax with the features drawn to their class's moving center", "Wen et al. 2016, in Kobayashi section 3",
        {
            "lam": Real(0.003, 1e-4, 0.1, "Wen et al. 2016", "weight of |x - c_y|^2 / 2", log=True,
                        legal=NON_NEGATIVE),
            "center_rate": Real(0.5, 0.1, 1.0, "Wen et al. 2016", "how far a step moves a center",
                                legal=(0.0, 1.0, False, False)),
        },
        powers_of_ten(-1, -3.75), modifies=True,
    ),
    "mmc": Space(
        "half the squared distance to fixed centers", "Pang et al. 2020, in Battash Eq. 5",
        {"C_mm": Real(10.0, 3.0, 100.0, "Pang et al. 2020: 10 and 100", "norm of the centers", log=True,
                      legal=POSITIVE)},
        powers_of_ten(-1.5, -4), least_features=_simplex,
    ),
}  # fmt: skip
