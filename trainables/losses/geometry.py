"""Losses that shape features and classifier: Gaussian mixtures, simplices, centers."""

from __future__ import annotations

import torch
from torch import Tensor

from losstune.trainables.losses.loss import WEIGHT, Head, Loss, Parameter, vector_per_class
from losstune.trainables.losses.parts import Value, of_target, per_logit, without_bias


def log_densities(features: Tensor, means: Tensor, log_variances: Tensor) -> Tensor:
    """-d_k - 1/2 log det L_k, d_k = 1/2 (x - mu_k)^T L_k^-1 (x - mu_k) (Wan et al. 2018): the logits of L-GM.

    features (..., B, d), means and log_variances (..., K, d) -> (..., B, K). L_k = diag(exp(log_variances_k)), learned,
    as is mu_k; classes are equally probable. The released code fixes L_k at the identity (or learns a variance without
    the determinant); log_variances = 0 is that, and with alpha = lam = 0 it is softmax with weight mu_k and bias
    -|mu_k|^2 / 2.
    """
    # Distances are the same from any origin; from this one their expanded squares cancel less.
    origin = means.detach().mean(-2, keepdim=True)
    features, means = features - origin, means - origin
    precision = torch.exp(-log_variances)
    scaled = means * precision
    distance = (
        features.square() @ precision.transpose(-1, -2)
        - 2 * features @ scaled.transpose(-1, -2)
        + (means * scaled).sum(-1).unsqueeze(-2)
    )
    return -0.5 * (distance + log_variances.sum(-1).unsqueeze(-2))


def _distance_to_target(features: Tensor, targets: Tensor, means: Tensor, log_variances: Tensor) -> Tensor:
    """d_y: (..., B)."""
    apart = (features - of_target(means, targets)).square() * torch.exp(-of_target(log_variances, targets))
    return 0.5 * apart.sum(-1)


def distance_margin(
    logits: Tensor, targets: Tensor, features: Tensor, means: Tensor, log_variances: Tensor, alpha: Value
) -> Tensor:
    """The logits with d_y counted 1 + alpha times, in the numerator and in the sum (Wan et al. 2018).

    alpha >= 0, constant; in the released code it grows with the iterations.
    """
    more = alpha * _distance_to_target(features, targets, means, log_variances)
    return logits.scatter_add(-1, targets.unsqueeze(-1), -more.unsqueeze(-1).to(logits.dtype))


def likelihood(features: Tensor, targets: Tensor, means: Tensor, log_variances: Tensor, lam: Value) -> Tensor:
    """lam (d_y + 1/2 log det L_y), lam >= 0 (Wan et al. 2018)."""
    log_determinant = log_variances.sum(-1, keepdim=True)  # (..., K, 1)
    distance = _distance_to_target(features, targets, means, log_variances)
    return lam * (distance + 0.5 * of_target(log_determinant, targets).squeeze(-1))


def zeros(weight: Tensor) -> Tensor:
    return torch.zeros_like(weight)


def nearest_simplex(weight: Tensor) -> dict[str, Tensor]:
    """The nearest W with w_c . w_c = v and w_c . w_c' = -v / (K - 1), some v > 0: the super-symmetric form.

    weight: (..., K, d), d >= K - 1. Kobayashi section 3 gives the form; the supplement with the constraint is not
    public. Here every step is projected, its gradient being that of the weight as if it were free. With U S V^T the
    singular value decomposition of weight minus its mean over classes, W = mean(S) U V^T over the K - 1 directions.
    Members that are not finite are left as they are.
    """
    usable = torch.isfinite(weight).all(-1, keepdim=True).all(-2, keepdim=True)
    safe = torch.where(usable, weight, 0.0)
    directions = weight.shape[-2] - 1
    safe = safe.to(torch.promote_types(weight.dtype, torch.float32))  # there is no decomposition in half precision
    u, s, vh = torch.linalg.svd(safe - safe.mean(-2, keepdim=True), full_matrices=False)
    size = s[..., :directions].mean(-1)[..., None, None]
    nearest = size * (u[..., :directions] @ vh[..., :directions, :])
    return {"weight": torch.where(usable, nearest.to(weight.dtype), weight)}


def negative_distances(features: Tensor, means: Tensor) -> Tensor:
    """-1/2 |x - mu_k|^2, whose softmax gives the probabilities: (..., B, K)."""
    squares = features.square().sum(-1, keepdim=True) + means.square().sum(-1).unsqueeze(-2)
    return features @ means.transpose(-1, -2) - 0.5 * squares


def mmc(features: Tensor, means: Tensor, targets: Tensor) -> Tensor:
    """1/2 |x - mu_y|^2 to the fixed Max-Mahalanobis centers (Pang et al. 2020).

    Battash Eq. 5 lost the square; the authors' code has no 1/2.
    """
    return 0.5 * (features - of_target(means, targets)).square().sum(-1)


def max_mahalanobis_means(weight: Tensor, C_mm: float) -> Tensor:  # noqa: N803
    """K fixed centers (K, d) with |mu_i| = C_mm > 0 and mu_i . mu_j = -C_mm^2 / (K - 1), d >= K - 1.

    All such sets are rotations of each other. For d >= K each center has floor(d / K) axes of its own, on which only
    it is positive, since features that come from a ReLU are never negative, and some of them are always zero; for
    d = K - 1 the centers are triangular, as the authors generate them.
    """
    classes, features = weight.shape
    identity = torch.eye(classes, dtype=torch.float64)
    if features >= classes:
        own = identity.repeat_interleave(features // classes, 1) / (features // classes) ** 0.5
        means = (own - own.mean(0)) * (classes / (classes - 1)) ** 0.5
        means = torch.nn.functional.pad(means, (0, features - means.shape[1]))
    else:
        gram = (classes * identity - 1) / (classes - 1)
        means = torch.linalg.cholesky(gram[:-1, :-1])
        means = torch.cat([means, -means.sum(0, keepdim=True)])
    return C_mm * means.to(weight)


def to_center(features: Tensor, centers: Tensor, targets: Tensor, lam: Value) -> Tensor:
    """lam / 2 |x - c_y|^2, lam >= 0 (Wen et al. 2016); lam = 0 is softmax."""
    return 0.5 * lam * (features - of_target(centers, targets)).square().sum(-1)


def moved_centers(features: Tensor, targets: Tensor, centers: Tensor, center_rate: Value) -> dict[str, Tensor]:
    """c_j - center_rate sum_{y_i = j} (c_j - x_i) / (1 + n_j), n_j examples of class j (Wen et al. 2016).

    center_rate in [0, 1], of every step; the released code moves centers at the solver's learning rate, with momentum
    and weight decay. Centers start at zero.
    """
    belongs = torch.nn.functional.one_hot(targets, centers.shape[-2]).to(features.dtype)  # (..., B, K)
    count = belongs.sum(-2).unsqueeze(-1)  # (..., K, 1)
    difference = count * centers - belongs.transpose(-1, -2) @ features
    return {"centers": centers - per_logit(center_rate) * difference / (1 + count)}


_ZERO_CENTERS = Parameter(vector_per_class, zeros, learned=False)
_MEANS = Parameter(vector_per_class, max_mahalanobis_means, learned=False)

LOSSES: dict[str, Loss] = {
    "gaussian_mixture": Loss(
        # The means start where a linear layer's weights would, so that all losses start from the same draw.
        head=Head(log_densities, {"means": WEIGHT, "log_variances": Parameter(vector_per_class, zeros)}),
        margin=distance_margin, penalties=(likelihood,),
    ),
    "super_symmetric": Loss(
        head=Head(without_bias, {"weight": WEIGHT}, nearest_simplex)
    ),
    "center": Loss(penalties=(to_center,), state={"centers": _ZERO_CENTERS}, update=moved_centers),
    "mmc": Loss(mmc, Head(negative_distances, {"means": _MEANS})),
}  # fmt: skip
