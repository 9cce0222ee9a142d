"""The losses that Battash et al. (2021) define or compare with, and the focal loss as Zhou et al. (2022) have it.

Style and rules of `oracle`: one example at a time, from the equations, no torch, gradients by hand, values analytic.
Z22 is Zhou et al. (2022), ZS18 Zhang and Sabuncu (2018), MS18 Martinez and Stiefelhagen (2018), C19 Chen et al. (2019).
"""

import numpy as np
from oracle import focus, log_sum_exp, mixture, not_y, probabilities, softmax_gradient, softmax_value, softplus


def others(z, y):
    return [z[k] for k in range(len(z)) if k != y]


def surprise(z, y):
    """-log p_y = log(1 + sum_{c != y} e^(z_c - z_y)), without cancellation where p_y is near one."""
    return softplus(log_sum_exp(others(z, y)) - z[y])


def target_probability(z, y):
    return probabilities(z)[y]


def times(factor, v):
    return [factor * v_j for v_j in v]


# ---------------------------------------------------------------- functions of p_y alone


def focal_value(z, y, gamma, alpha=1.0):
    """Z22 Eq. 4 (alpha = 1): -alpha (1 - p_y)^gamma log p_y; B21 uses gamma = 2 and alpha = 0.25."""
    return alpha * not_y(z, y) ** gamma * surprise(z, y)


def focal_gradient(z, y, gamma, alpha=1.0):
    """alpha [(1 - p_y)^gamma - gamma (1 - p_y)^(gamma-1) p_y log p_y] (p - t)."""
    n, p, s = not_y(z, y), target_probability(z, y), softmax_gradient(z, y)
    modulated = 0.0 if gamma == 0 else gamma * n ** (gamma - 1) * p * surprise(z, y)
    return times(alpha * (n**gamma + modulated), s)


def expectation_value(z, y):
    """B21 Eq. 9."""
    return not_y(z, y)


def expectation_gradient(z, y):
    """B21 Eq. 10."""
    return times(target_probability(z, y), softmax_gradient(z, y))


def mae_value(z, y):
    """B21 Eq. 3, the L1 norm term by term: |1 - p_y| + sum_{k != y} |0 - p_k|, all of one sign inside."""
    p = probabilities(z)
    return not_y(z, y) + sum(p[k] for k in range(len(z)) if k != y)


def mae_gradient(z, y):
    return times(2.0, expectation_gradient(z, y))


def gce_value(z, y, q, k=0.0):
    """ZS18: (1 - p_y^q)/q; where p_y <= k the constant (1 - k^q)/q."""
    if k > 0 and np.real(target_probability(z, y)) <= k:
        return (1 - k**q) / q
    return -np.expm1(-q * surprise(z, y)) / q


def gce_gradient(z, y, q, k=0.0):
    """p_y^q (p - t); none where it is truncated."""
    truncated = k > 0 and target_probability(z, y) <= k
    return times(0.0 if truncated else np.exp(-q * surprise(z, y)), softmax_gradient(z, y))


def tamed_ce_value(z, y, alpha):
    """MS18, B21 Eq. 4 with its bracket in place: [(1 - log p_y)^(1-alpha) - 1]/(1-alpha), and log(1 - log p_y) at 1."""
    u = np.log1p(surprise(z, y))
    return u if alpha == 1 else np.expm1((1 - alpha) * u) / (1 - alpha)


def tamed_ce_gradient(z, y, alpha):
    return times((1 + surprise(z, y)) ** -alpha, softmax_gradient(z, y))


# ---------------------------------------------------------------- cross-entropy with the volume of ce_el's gradient


def simpson(f):
    """The integral over [0, 1], exact for polynomials up to the third degree."""
    return (f(0.0) + 4 * f(0.5) + f(1.0)) / 6


def volume_ratio(a, b, volume):
    """B21 Eq. 20-22: the size of Eq. 13's gradient integrated over p_y in [0, 1] (target), or over p_y and p_j in
    [0, 1] each (other), over the same for cross-entropy, 1/2. Eq. 13 at j = y is negative; its size is meant."""
    if volume == "target":
        v = simpson(lambda p_y: -(b * p_y**2 + p_y * (a - b) - a))
    else:
        v = simpson(lambda p_y: simpson(lambda p_j: p_j * (b * p_y + a)))
    return v / 0.5


def ce_matched_value(z, y, F, volume="target", progress=0.0):
    return volume_ratio(*mixture(focus(F, progress)), volume) * softmax_value(z, y)


def ce_matched_gradient(z, y, F, volume="target", progress=0.0):
    return times(volume_ratio(*mixture(focus(F, progress)), volume), softmax_gradient(z, y))


# ---------------------------------------------------------------- maximum probability, complement entropy


def mpce_value(z, y):
    """B21 Eq. 7: -(max_j p_j - p_y) log p_y."""
    p = probabilities(z)
    top = max(range(len(z)), key=lambda j: np.real(z[j]))
    return (p[top] - p[y]) * surprise(z, y)


def mpce_gradient(z, y):
    """Both factors move: p_m (t^m_j - p_j) - p_y (t_j - p_j) times -log p_y, plus (p_m - p_y)(p_j - t_j)."""
    p, s, K = probabilities(z), softmax_gradient(z, y), len(z)
    m = max(range(K), key=lambda j: z[j])
    gap = [p[m] * ((j == m) - p[j]) - p[y] * ((j == y) - p[j]) for j in range(K)]
    return [gap[j] * surprise(z, y) + (p[m] - p[y]) * s[j] for j in range(K)]


cot_value, cot_gradient = softmax_value, softmax_gradient  # the first pass


def complement(z, y):
    """log q_c for c != y, q the softmax over the classes other than y; None at y."""
    lse = log_sum_exp(others(z, y))
    return [None if k == y else z_k - lse for k, z_k in enumerate(z)]


def cot_second_value(z, y):
    """C19, B21 Eq. 6 minimized: -H(q)/K (the authors' code divides by the number of classes)."""
    return sum(np.exp(l_c) * l_c for l_c in complement(z, y) if l_c is not None) / len(z)


def cot_second_gradient(z, y):
    """q_c (log q_c + H(q))/K, nothing at y."""
    logs = complement(z, y)
    mean = sum(np.exp(l_c) * l_c for l_c in logs if l_c is not None)
    return [0.0 if l_c is None else np.exp(l_c) * (l_c - mean) / len(z) for l_c in logs]


LOGIT_LOSSES = {
    "focal": (focal_value, focal_gradient),
    "expectation": (expectation_value, expectation_gradient),
    "mae": (mae_value, mae_gradient),
    "gce": (gce_value, gce_gradient),
    "tamed_ce": (tamed_ce_value, tamed_ce_gradient),
    "ce_matched": (ce_matched_value, ce_matched_gradient),
    "mpce": (mpce_value, mpce_gradient),
    "cot": (cot_value, cot_gradient),
}
