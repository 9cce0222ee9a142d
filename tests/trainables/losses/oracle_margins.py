"""The margin losses of Kobayashi (2019) and the quadratic losses of Demirkaya et al. (2020), in the style of `oracle`.

K19 is Kobayashi (2019), whose f and C are z and K here; D20 is Demirkaya et al. (2020); Z22 is Zhou et al. (2022).
"""

import math

import numpy as np
from oracle import log_sum_exp, one_hot, softmax_gradient, softmax_value, softplus
from oracle_battash import complement, others


def divergence_value(z, y, divergence):
    """K19 Eq. 8-10 of q, the softmax without y, and u = 1/(K - 1)."""
    logs, n = [l_c for l_c in complement(z, y) if l_c is not None], len(z) - 1
    q_u = sum(np.exp(l_c) * (l_c + math.log(n)) for l_c in logs)
    u_q = sum(-(math.log(n) + l_c) / n for l_c in logs)
    return {"q_u": q_u, "u_q": u_q, "symmetric": (q_u + u_q) / 2}[divergence]


def divergence_gradient(z, y, divergence):
    """D(q||u): q_c (log q_c - sum_d q_d log q_d); D(u||q): q_c - 1/(K-1); symmetric: half of both (K19 Eq. 12)."""
    logs, n = complement(z, y), len(z) - 1
    mean = sum(np.exp(l_c) * l_c for l_c in logs if l_c is not None)
    q_u = [0.0 if l_c is None else np.exp(l_c) * (l_c - mean) for l_c in logs]
    u_q = [0.0 if l_c is None else np.exp(l_c) - 1 / n for l_c in logs]
    half = [(a + b) / 2 for a, b in zip(q_u, u_q, strict=True)]
    return {"q_u": q_u, "u_q": u_q, "symmetric": half}[divergence]


def large_margin_value(z, y, lam, divergence="symmetric"):
    """K19 Eq. 11, its lam/2 sum {q - u} log q being lam times Eq. 8."""
    return softmax_value(z, y) + lam * divergence_value(z, y, divergence)


def large_margin_gradient(z, y, lam, divergence="symmetric"):
    g, more = softmax_gradient(z, y), divergence_gradient(z, y, divergence)
    return [g[j] + lam * more[j] for j in range(len(z))]


def hinge_value(z, y):
    """K19 Eq. 14."""
    gaps = [z_c - z[y] + 1 for z_c in others(z, y)]
    return sum(gap for gap in gaps if np.real(gap) > 0) / (len(z) - 1)


def hinge_gradient(z, y):
    open_gaps = [float(c != y and z[c] - z[y] + 1 > 0) for c in range(len(z))]
    return [(-sum(open_gaps) if j == y else open_gaps[j]) / (len(z) - 1) for j in range(len(z))]


def crammer_singer_value(z, y):
    """K19 2.1: Eq. 1 with L the hinge and rho = 1."""
    gap = max(others(z, y), key=np.real) - z[y] + 1
    return gap if np.real(gap) > 0 else 0 * gap


def crammer_singer_gradient(z, y):
    K = len(z)
    top = max((c for c in range(K) if c != y), key=lambda c: z[c])
    if z[top] - z[y] + 1 <= 0:
        return [0.0] * K
    return [1.0 * (j == top) - 1.0 * (j == y) for j in range(K)]


def margin_softmax_value(z, y, margin=1.0):
    """K19 Eq. 15, its left form; the constant 1 there is the margin."""
    return softplus(log_sum_exp(others(z, y)) - z[y] + margin)


def margin_softmax_gradient(z, y, margin=1.0):
    """K19 Eq. 15, its right form: cross-entropy of the logits with the target's lowered by the margin."""
    return softmax_gradient([z_k - margin * (k == y) for k, z_k in enumerate(z)], y)


def quadratic_value(z, y):
    """D20, the quadratic loss: 1/2 ||one-hot(y) - z||^2."""
    return sum((t_k - z_k) ** 2 for t_k, z_k in zip(one_hot(y, len(z)), z, strict=True)) / 2


def quadratic_gradient(z, y):
    return [z_k - t_k for t_k, z_k in zip(one_hot(y, len(z)), z, strict=True)]


def ccql_value(z, y, w=None):
    """D20 Eq. II.1, read as + w/2 (1 - z_y)^2: the text says that all ones minimize it as w grows."""
    w = math.sqrt(len(z) - 1) - 1 if w is None else w
    return quadratic_value(z, y) + w / 2 * (1 - z[y]) ** 2


def ccql_gradient(z, y, w=None):
    w = math.sqrt(len(z) - 1) - 1 if w is None else w
    return [g - w * (1 - z[y]) * (j == y) for j, g in enumerate(quadratic_gradient(z, y))]


def zhou_mse(z, y, kappa, beta):
    """Z22 Eq. 6: kappa (z_y - beta)^2 + sum_{j != y} z_j^2, without a factor."""
    return kappa * (z[y] - beta) ** 2 + sum(z_c**2 for z_c in others(z, y))


LOGIT_LOSSES = {
    "large_margin": (large_margin_value, large_margin_gradient),
    "hinge": (hinge_value, hinge_gradient),
    "crammer_singer": (crammer_singer_value, crammer_singer_gradient),
    "margin_softmax": (margin_softmax_value, margin_softmax_gradient),
    "quadratic": (quadratic_value, quadratic_gradient),
    "ccql": (ccql_value, ccql_gradient),
}
