"""Ten losses, one example at a time, straight from the equations: an oracle that shares no code with losstune.

Plain NumPy, explicit sums over classes, no torch. `z` are the logits of one example, `y` its class, `x` its
penultimate features, `W` (K, d) and `b` (K) the final layer. Every loss is a pair: NAME_value and NAME_gradient,
the gradient derived by hand. Values also take complex numbers, so that a complex step can check the gradients.
K20 is Kornblith et al. (2020), B21 is Battash et al. (2021).
"""

import numpy as np

# ---------------------------------------------------------------- the softmax, by its definition


def exponentials(z):
    """e^(z_k), all divided by the same positive number so that none overflows; every use below is a ratio."""
    top = max(np.real(z_k) for z_k in z)
    return [np.exp(z_k - top) for z_k in z]


def probabilities(z):
    e = exponentials(z)
    total = sum(e)
    return [e_k / total for e_k in e]


def not_y(z, y):
    """1 - p_y as the sum of the other probabilities, which does not cancel."""
    return sum(p_k for k, p_k in enumerate(probabilities(z)) if k != y)


def log_sum_exp(z):
    top = max(np.real(z_k) for z_k in z)
    return top + np.log(sum(np.exp(z_k - top) for z_k in z))


def norm(v):
    """The Euclidean norm, written so that it is analytic."""
    return np.sqrt(sum(v_k * v_k for v_k in v))


def inner(u, v):
    return sum(u_k * v_k for u_k, v_k in zip(u, v, strict=True))


def one_hot(y, K):
    return [1.0 if k == y else 0.0 for k in range(K)]


# ---------------------------------------------------------------- losses of the logits alone


def softmax_value(z, y):
    """K20 Eq. 1, right-hand form: -z_y + log sum_k e^(z_k)."""
    return -z[y] + log_sum_exp(z)


def softmax_gradient(z, y):
    """d/dz_j = p_j - t_j; at j = y that is minus the sum of the other probabilities."""
    p = probabilities(z)
    return [-not_y(z, y) if j == y else p[j] for j in range(len(z))]


def label_smoothing_value(z, y, alpha, scaled=True):
    """K20 Eq. 2 (scaled), or the same without its 1/(1 - alpha)."""
    K, t = len(z), one_hot(y, len(z))
    lse = log_sum_exp(z)
    cross_entropy = -sum(((1 - alpha) * t[k] + alpha / K) * (z[k] - lse) for k in range(K))
    return cross_entropy / (1 - alpha) if scaled else cross_entropy


def label_smoothing_gradient(z, y, alpha, scaled=True):
    """The smoothed targets sum to one, so d/dz_j = p_j - ((1 - alpha) t_j + alpha/K), then the scale."""
    K, t, p = len(z), one_hot(y, len(z)), probabilities(z)
    g = [p[j] - ((1 - alpha) * t[j] + alpha / K) for j in range(K)]
    return [g_j / (1 - alpha) for g_j in g] if scaled else g


def logit_penalty_value(z, y, beta, half=False):
    """K20 Eq. 5; the authors' code has beta/2."""
    return softmax_value(z, y) + (beta / 2 if half else beta) * sum(z_k * z_k for z_k in z)


def logit_penalty_gradient(z, y, beta, half=False):
    g = softmax_gradient(z, y)
    return [g[j] + (beta if half else 2 * beta) * z[j] for j in range(len(z))]


def logit_norm_logits(z, tau):
    """K20 Eq. 6: z / (tau ||z||)."""
    n = norm(z)
    return [z_k / (tau * n) for z_k in z]


def logit_norm_value(z, y, tau):
    return softmax_value(logit_norm_logits(z, tau), y)


def logit_norm_gradient(z, y, tau):
    """With u = z/||z|| and g the softmax gradient at u/tau: (g_j - u_j sum_k u_k g_k) / (tau ||z||)."""
    n = norm(z)
    u = [z_k / n for z_k in z]
    g = softmax_gradient(logit_norm_logits(z, tau), y)
    along = inner(u, g)
    return [(g[j] - u[j] * along) / (tau * n) for j in range(len(z))]


def softplus(a):
    return a + np.log1p(np.exp(-a)) if np.real(a) > 0 else np.log1p(np.exp(a))


def sigmoid_value(z, y):
    """K20 Eq. 9: -z_y + sum_k log(e^(z_k) + 1)."""
    return -z[y] + sum(softplus(z_k) for z_k in z)


def sigmoid_gradient(z, y):
    """sigma(z_j) - t_j; at j = y that is -sigma(-z_y)."""
    return [-1 / (1 + np.exp(z[j])) if j == y else 1 / (1 + np.exp(-z[j])) for j in range(len(z))]


def squared_error_value(z, y, kappa, M, loss_scale=1.0):
    """K20 Eq. 10, times loss_scale."""
    K, t = len(z), one_hot(y, len(z))
    return loss_scale / K * sum(kappa * t[k] * (z[k] - M) ** 2 + (1 - t[k]) * z[k] ** 2 for k in range(K))


def squared_error_gradient(z, y, kappa, M, loss_scale=1.0):
    K, t = len(z), one_hot(y, len(z))
    return [loss_scale / K * (2 * kappa * t[j] * (z[j] - M) + 2 * (1 - t[j]) * z[j]) for j in range(K)]


def focus(F, progress):
    """The F that holds at a share `progress` of the training epochs (B21, Scheduling)."""
    if F == "0":
        return 0.0
    if F == "0,0.5":
        return 0.0 if progress < 0.95 else 0.5
    if F == "0-0.5":
        return [0.0, 0.1, 0.2, 0.3, 0.4, 0.5][int(6 * progress)]
    return float(F)


def mixture(F):
    """B21 Eq. 14: the weights of cross-entropy and expectation loss that focus on p_y = F."""
    return (0.0, 1.0) if F == 0.5 else (1.0, 1 / (1 - 2 * F))


def ce_el_value(z, y, F, progress=0.0):
    """B21 Eq. 12: a (-log p_y) + b (1 - p_y)."""
    a, b = mixture(focus(F, progress))
    return a * softmax_value(z, y) + b * not_y(z, y)


def ce_el_gradient(z, y, F, progress=0.0):
    """B21 Eq. 13, its case j = y factored: b p_y^2 + p_y (a - b) - a = (p_y - 1)(b p_y + a)."""
    a, b = mixture(focus(F, progress))
    p = probabilities(z)
    return [(-not_y(z, y) if j == y else p[j]) * (b * p[y] + a) for j in range(len(z))]


# ---------------------------------------------------------------- losses with a final layer


def linear_logits(x, W, b):
    return [inner(W_k, x) + b_k for W_k, b_k in zip(W, b, strict=True)]


def through_linear(g, x, W):
    """From the gradient g with respect to z = W x + b to those with respect to x, W and b."""
    K, d = len(g), len(x)
    return {
        "x": [sum(g[k] * W[k][i] for k in range(K)) for i in range(d)],
        "weight": [[g[k] * x[i] for i in range(d)] for k in range(K)],
        "bias": [g[k] for k in range(K)],
    }


def dropout_value(x, W, b, y, rho, mask):
    """K20 Eq. 4 for one draw of the mask: the softmax loss of W (x * mask / rho) + b."""
    kept = [x_i * m_i / rho for x_i, m_i in zip(x, mask, strict=True)]
    return softmax_value(linear_logits(kept, W, b), y)


def dropout_gradient(x, W, b, y, rho, mask):
    kept = [x_i * m_i / rho for x_i, m_i in zip(x, mask, strict=True)]
    gradient = through_linear(softmax_gradient(linear_logits(kept, W, b), y), kept, W)
    gradient["x"] = [g_i * m_i / rho for g_i, m_i in zip(gradient["x"], mask, strict=True)]
    return gradient


def final_layer_l2_value(x, W, b, y, lambda_final):
    """The softmax loss + lambda_final/2 ||W||^2, without the bias; so the mean over a batch has it exactly once."""
    squares = sum(w * w for W_k in W for w in W_k)
    return softmax_value(linear_logits(x, W, b), y) + lambda_final / 2 * squares


def final_layer_l2_gradient(x, W, b, y, lambda_final):
    gradient = through_linear(softmax_gradient(linear_logits(x, W, b), y), x, W)
    for k, W_k in enumerate(W):
        for i, w in enumerate(W_k):
            gradient["weight"][k][i] += lambda_final * w
    return gradient


def cosine_logits(x, W, b, tau, normalize_features=True):
    """K20 Eq. 7: sim(W_k, x)/tau + b_k; the authors' code normalizes W_k only."""
    length = norm(x) if normalize_features else 1.0
    return [inner(W_k, x) / (norm(W_k) * length) / tau + b_k for W_k, b_k in zip(W, b, strict=True)]


def cosine_softmax_value(x, W, b, y, tau, normalize_features=True, scale_loss=False):
    """K20 Eq. 7; scale_loss multiplies the loss by the temperature (footnote 1)."""
    value = softmax_value(cosine_logits(x, W, b, tau, normalize_features), y)
    return tau * value if scale_loss else value


def cosine_softmax_gradient(x, W, b, y, tau, normalize_features=True, scale_loss=False):
    """With w = W_k/||W_k||, v = x/||x|| (or x), c_k = w . v, g the softmax gradient:
    d/db_k = g_k, d/dW_k = g_k/tau (v - c_k w)/||W_k||, d/dx = sum_k g_k/tau (w - c_k v)/||x|| (or sum_k g_k/tau w)."""
    K, d = len(W), len(x)
    length = norm(x) if normalize_features else 1.0
    v = [x_i / length for x_i in x]
    g = softmax_gradient(cosine_logits(x, W, b, tau, normalize_features), y)
    if scale_loss:
        g = [tau * g_k for g_k in g]
    dx, dW = [0.0] * d, []
    for k in range(K):
        n = norm(W[k])
        w = [W_ki / n for W_ki in W[k]]
        c = inner(w, v)
        dW.append([g[k] / tau * (v[i] - c * w[i]) / n for i in range(d)])
        for i in range(d):
            dx[i] += g[k] / tau * ((w[i] - c * v[i]) / length if normalize_features else w[i])
    return {"x": dx, "weight": dW, "bias": list(g)}


LOGIT_LOSSES = {
    "softmax": (softmax_value, softmax_gradient),
    "label_smoothing": (label_smoothing_value, label_smoothing_gradient),
    "logit_penalty": (logit_penalty_value, logit_penalty_gradient),
    "logit_norm": (logit_norm_value, logit_norm_gradient),
    "sigmoid": (sigmoid_value, sigmoid_gradient),
    "squared_error": (squared_error_value, squared_error_gradient),
    "ce_el": (ce_el_value, ce_el_gradient),
}

HEAD_LOSSES = {
    "dropout": (dropout_value, dropout_gradient),
    "final_layer_l2": (final_layer_l2_value, final_layer_l2_gradient),
    "cosine_softmax": (cosine_softmax_value, cosine_softmax_gradient),
}


def head_loss(name, x, W, b, y, **hyperparameters):
    """Value and gradients {x, weight, bias} of any of the ten for one example behind a final layer."""
    if name in HEAD_LOSSES:
        value, gradient = HEAD_LOSSES[name]
        return value(x, W, b, y, **hyperparameters), gradient(x, W, b, y, **hyperparameters)
    value, gradient = LOGIT_LOSSES[name]
    z = linear_logits(x, W, b)
    return value(z, y, **hyperparameters), through_linear(gradient(z, y, **hyperparameters), x, W)
