"""Losses put together with "+": a final layer, a transform of its logits, a criterion, penalties.

In the style of `oracle`; a part is a pair (value, gradient). Kornblith et al. (2020), Table C.1, combines the criteria
softmax, label smoothing and sigmoid with logit normalization, cosine logits and the logit penalty. Penalties act on
the transformed logits.
"""

from functools import partial

import oracle
import oracle_battash
import oracle_heads
import oracle_margins
from oracle import inner, linear_logits, norm, through_linear


def logit_norm_back(g, z, tau):
    """From the gradient at u/tau, u = z/||z||, to that at z."""
    n = norm(z)
    u = [z_k / n for z_k in z]
    along = inner(u, g)
    return [(g_k - u_k * along) / (tau * n) for g_k, u_k in zip(g, u, strict=True)]


def cosine_back(g, x, W, tau):
    """From the gradient at the logits w.v/tau + b, w = W_k/||W_k||, v = x/||x||, to those at x, W and b."""
    length, K, d = norm(x), len(W), len(x)
    v, dx, dW = [x_i / length for x_i in x], [0.0] * len(x), []
    for k in range(K):
        n = norm(W[k])
        w = [W_ki / n for W_ki in W[k]]
        c = inner(w, v)
        dW.append([g[k] / tau * (v[i] - c * w[i]) / n for i in range(d)])
        dx = [dx[i] + g[k] / tau * (w[i] - c * v[i]) / length for i in range(d)]
    return {"x": dx, "weight": dW, "bias": list(g)}


def square_value(z, y, beta):
    return beta * sum(z_k * z_k for z_k in z)


def square_gradient(z, y, beta):
    return [2 * beta * z_k for z_k in z]


def divergence(lam, kind="symmetric"):
    return (
        lambda z, y: lam * oracle_margins.divergence_value(z, y, kind),
        lambda z, y: [lam * g for g in oracle_margins.divergence_gradient(z, y, kind)],
    )


def square(beta):
    return partial(square_value, beta=beta), partial(square_gradient, beta=beta)


def criterion(name, **hyperparameters):
    everything = {**oracle.LOGIT_LOSSES, **oracle_battash.LOGIT_LOSSES, **oracle_margins.LOGIT_LOSSES}
    return tuple(partial(part, **hyperparameters) for part in everything[name])


def logits(x, W, b, transform):
    kind, tau = transform
    if kind == "cosine":
        return oracle.cosine_logits(x, W, b, tau)
    z = linear_logits(x, W, b)
    return oracle.logit_norm_logits(z, tau) if kind == "logit_norm" else z


def value(x, W, b, y, parts, transform=("linear", None), lambda_final=0.0, center=None):
    """parts: the criterion and the penalties on logits; center: (centers, lam)."""
    z = logits(x, W, b, transform)
    total = sum(part(z, y) for part, _ in parts) + lambda_final / 2 * sum(w * w for W_k in W for w in W_k)
    return total if center is None else total + center[1] * oracle_heads.mmc_value(x, center[0], y)


def gradient(x, W, b, y, parts, transform=("linear", None), lambda_final=0.0, center=None):
    kind, tau = transform
    z = logits(x, W, b, transform)
    g = [sum(terms) for terms in zip(*(slope(z, y) for _, slope in parts), strict=True)]
    if kind == "cosine":
        result = cosine_back(g, x, W, tau)
    else:
        result = through_linear(logit_norm_back(g, linear_logits(x, W, b), tau) if kind == "logit_norm" else g, x, W)
    for k, W_k in enumerate(W):
        result["weight"][k] = [result["weight"][k][i] + lambda_final * w for i, w in enumerate(W_k)]
    if center is not None:
        pull = oracle_heads.mmc_gradient(x, center[0], y)["x"]
        result["x"] = [g_i + center[1] * p_i for g_i, p_i in zip(result["x"], pull, strict=True)]
    return result
