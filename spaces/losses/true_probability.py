"""Spaces of losses of the softmax probability of the true class, Battash's mixture among them."""

from losstune.spaces.hyperparameters import Choice, Real
from losstune.spaces.shared import NON_NEGATIVE, powers_of_ten
from losstune.spaces.space import Space

_SOFTMAX = powers_of_ten(-0.75, -3.75)
_SCHEDULES = ("0", "0,0.5", "0-0.5")

SPACES: dict[str, Space] = {
    "focal": Space(
        "cross-entropy with less weight on what is already sure", "Zhou Eq. 4; Battash Eq. 2",
        {
            "gamma": Real(2.0, 0.25, 5.0, "Zhou: 3; Battash: 2", "focusing parameter", legal=NON_NEGATIVE),
            "alpha": Real(1.0, 1.0, 1.0, "Zhou Eq. 4", "factor; Battash: 0.25 with gamma 2", legal=NON_NEGATIVE),
        },
        _SOFTMAX,
    ),
    "expectation": Space("expected zero-one loss, 1 - p_y", "Battash Eq. 9", {}, _SOFTMAX,
                         known_to_fail="Battash, after Eq. 11"),
    "ce_el": Space(
        "cross-entropy and expectation loss mixed on a schedule", "Battash Eq. 12-14",
        {"F": Choice("0", _SCHEDULES, "Battash, Scheduling; Table 1",
                     "probability that gets the largest gradient, over training", numbers=(0.0, 0.5))},
        _SOFTMAX,
    ),
    "ce_matched": Space(
        "cross-entropy with the gradient volume of Battash's mixture: the control", "Battash Eq. 20-22",
        {
            "F": Choice("0", _SCHEDULES, "Battash, Scheduling", "the mixture that is matched", numbers=(0.0, 0.5)),
            "volume": Choice("target", ("target", "other"), "Battash Eq. 21, 22",
                             "of the gradient of the true class's logit, or of another's"),
        },
        _SOFTMAX,
    ),
    "mae": Space("mean absolute error of the probabilities, 2 (1 - p_y)", "Battash Eq. 3", {},
                 powers_of_ten(-1, -3.75), known_to_fail="Battash, after Eq. 3"),
    "gce": Space(
        "generalized cross-entropy, between cross-entropy and 1 - p_y", "Zhang and Sabuncu 2018, in Battash",
        {
            "q": Real(0.7, 0.05, 1.0, "Zhang and Sabuncu 2018", "0: cross-entropy; 1: 1 - p_y",
                      legal=(0.0, 1.0, True, False)),
            "k": Real(0.0, 0.0, 0.0, "Zhang and Sabuncu 2018", "truncation: p_y up to k gives a constant; theirs 0.5",
                      legal=(0.0, 1.0, False, True)),
        },
        _SOFTMAX,
    ),
    "tamed_ce": Space(
        "tamed cross-entropy, which grows slower than cross-entropy for improbable targets",
        "Martinez and Stiefelhagen 2018, in Battash Eq. 4",
        {"alpha": Real(0.5, 0.0, 2.0, "Martinez and Stiefelhagen 2018", "0: cross-entropy", legal=NON_NEGATIVE)},
        _SOFTMAX,
    ),
    "mpce": Space("cross-entropy times the gap to the largest probability", "Battash Eq. 7", {}, _SOFTMAX,
                  known_to_fail="Battash, after Eq. 7"),
    "cot": Space(
        "cross-entropy, then in a second pass the complement entropy", "Chen et al. 2019, in Battash Eq. 6", {},
        _SOFTMAX, passes=2,
    ),
}  # fmt: skip
