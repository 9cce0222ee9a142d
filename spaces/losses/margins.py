"""Spaces of losses that ask for a margin between the true class and the others."""

from losstune.spaces.hyperparameters import Choice, Option, Real
from losstune.spaces.shared import NON_NEGATIVE, powers_of_ten
from losstune.spaces.space import Space

_SOFTMAX = powers_of_ten(-0.75, -3.75)

SPACES: dict[str, Space] = {
    "large_margin": Space(
        "softmax with a penalty on the diversity of the other classes' logits", "Kobayashi Eq. 11",
        {
            "lam": Real(0.3, 0.1, 1.0, "Kobayashi Table 1, section 4.2", "weight of the divergence",
                        legal=NON_NEGATIVE),
            "divergence": Choice("symmetric", ("symmetric", "u_q", "q_u"), "Kobayashi Eq. 8, 10; Table 1",
                                 "mean of both, D(u||q), or D(q||u)"),
        },
        _SOFTMAX, modifies=True,
    ),
    "hinge": Space("hinge, mean over the other classes", "Kobayashi Eq. 14", {}, powers_of_ten(-1, -3.75)),
    "crammer_singer": Space("hinge of the largest other logit", "Kobayashi sections 2.1 and 3", {},
                            powers_of_ten(-1.5, -3.75), known_to_fail="Kobayashi sections 3 and 4.3"),
    "margin_softmax": Space(
        "softmax whose true logit is lowered by a margin", "Kobayashi Eq. 15",
        {"margin": Real(1.0, 0.25, 4.0, "Kobayashi Eq. 15", "0: softmax", log=True, legal=NON_NEGATIVE)},
        _SOFTMAX,
    ),
    "large_margin_softmax": Space(
        "L-Softmax: the true class's angle counts m times", "Liu et al. 2016, in Kobayashi Table 4",
        {
            "m": Choice("4", ("1", "2", "3", "4"), "Liu et al. 2016", "angular margin; 1: softmax without bias"),
            "annealing": Option(True, "Liu et al. 2016", "from plain softmax to the margin over training"),
        },
        powers_of_ten(-1, -3.75), modifies=True,
    ),
}  # fmt: skip
