"""Spaces of softmax and sigmoid cross-entropy and of what Kornblith adds to them."""

from losstune.spaces.hyperparameters import Option, Real
from losstune.spaces.shared import NON_NEGATIVE, POSITIVE, powers_of_ten
from losstune.spaces.space import Space

KORNBLITH = "Kornblith Tables A.1 and A.2"

# Defaults are Kornblith's CIFAR-10 column of Table A.2; ranges span every value of Tables A.1 and A.2.
SPACES: dict[str, Space] = {
    "softmax": Space("softmax cross-entropy", "Kornblith Eq. 1", {}, powers_of_ten(-0.75, -3.75)),
    "label_smoothing": Space(
        "cross-entropy with smoothed targets", "Kornblith Eq. 2; Zhou Eq. 5",
        {
            "alpha": Real(0.04, 0.01, 0.3, KORNBLITH, "share of the target spread over all classes",
                          legal=(0.0, 1.0, False, True)),
            "scaled": Option(True, "Kornblith Eq. 2", "times 1/(1 - alpha); false: Zhou Eq. 5, Kobayashi Eq. 13"),
        },
        powers_of_ten(-1, -3.75),
    ),
    "dropout": Space(
        "softmax with dropout on the penultimate features", "Kornblith Eq. 4",
        {"rho": Real(0.65, 0.5, 0.95, KORNBLITH, "probability to keep a feature", legal=(0.0, 1.0, True, False))},
        powers_of_ten(-1, -3.75), modifies=True,
    ),
    "final_layer_l2": Space(
        "softmax with extra L2 on the final layer's weights", "Kornblith section 2",
        {"lambda_final": Real(10**-1.5, 1e-4, 0.1, KORNBLITH, "weight of |W|^2 / 2, beyond the shared weight decay",
                              log=True, legal=NON_NEGATIVE)},
        powers_of_ten(-1, -3.5), modifies=True,
    ),
    "logit_penalty": Space(
        "softmax with a penalty on the logits' squared norm", "Kornblith Eq. 5",
        {
            "beta": Real(10**-2.83, 1e-5, 1e-2, KORNBLITH, "weight of |z|^2", log=True, legal=NON_NEGATIVE),
            "half": Option(False, "the authors' code", "beta/2 |z|^2, as the authors' code has it"),
        },
        powers_of_ten(-0.75, -3.75), modifies=True,
    ),
    "logit_norm": Space(
        "softmax of the normalized logits over a temperature", "Kornblith Eq. 6",
        {"tau": Real(0.14, 0.02, 0.5, KORNBLITH, "temperature", log=True, legal=POSITIVE)},
        powers_of_ten(-2, -4), modifies=True,
    ),
    "cosine_softmax": Space(
        "softmax of cosine similarities over a temperature, plus a bias", "Kornblith Eq. 7",
        {
            "tau": Real(0.08, 0.02, 0.5, KORNBLITH, "temperature", log=True, legal=POSITIVE),
            "normalize_features": Option(True, "Kornblith Eq. 7", "false: only the weights, as the authors' code"),
            "scale_loss": Option(False, "Kornblith footnote 1", "times tau, for training at low temperatures"),
        },
        powers_of_ten(-2.25, -4), modifies=True,
    ),
    "sigmoid": Space("sum of binary cross-entropies over classes", "Kornblith Eq. 8-9", {}, powers_of_ten(0, -3.75)),
}  # fmt: skip
