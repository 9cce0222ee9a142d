"""PolyLoss (Leng et al. 2022, Poly-1) as a loss of losstune: cross-entropy plus epsilon (1 - p_y)."""

from losstune.spaces import LossPlugin, Real, Space

SPACE = Space(
    summary="cross-entropy with another first coefficient of its expansion in 1 - p_y",
    source="Leng et al. 2022",
    hyperparameters={
        "epsilon": Real(
            default=1.0, low=-0.9, high=6.0, source="Leng et al. 2022", meaning="weight of 1 - p_y",
            legal=(-1.0, float("inf"), False, True),
        ),
    },
    defaults={"learning_rate": 10**-0.75, "weight_decay": 10**-3.75},
)  # fmt: skip


def make():
    """The loss itself. torch is imported here, so that `losstune losses` stays instant."""
    import torch

    from losstune.trainables.losses import Loss
    from losstune.trainables.losses.closed_forms import minus_log_p

    def poly(logits, targets, epsilon):
        """logits (..., B, K), targets (..., B) -> (..., B); epsilon: a number, or a tensor that broadcasts to that."""
        u = minus_log_p(logits, targets)
        return u - epsilon * torch.expm1(-u)

    return Loss(poly)


POLY = LossPlugin(SPACE, make)
