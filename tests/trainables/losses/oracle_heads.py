"""Losses with a final layer of their own: L-Softmax, the Gaussian mixture, fixed centers, super-symmetry, center loss.

In the style of `oracle`; HEAD_VALUE(x, parameters..., y, hyperparameters) and HEAD_gradient, a dictionary by name.
L16 is Liu et al. (2016), W18 Wan et al. (2018), P20 Pang et al. (2020), W16 Wen et al. (2016), K19 Kobayashi (2019).
"""

import math

import numpy as np
from oracle import inner, linear_logits, norm, softmax_gradient, softmax_value, through_linear

# ---------------------------------------------------------------- L-Softmax

# cos(m theta) as a polynomial in cos theta, highest power first
MULTIPLE_ANGLE = {1: [1, 0], 2: [2, 0, -1], 3: [4, 0, -3, 0], 4: [8, 0, -8, 0, 1]}


def psi(c, m):
    """L16: (-1)^k cos(m theta) - 2 k for theta in [k pi/m, (k+1) pi/m], and its derivative by c = cos theta."""
    k = sum(np.real(c) < math.cos(j * math.pi / m) for j in range(1, m))
    polynomial = MULTIPLE_ANGLE[m]
    sign = (-1) ** k
    return sign * np.polyval(polynomial, c) - 2 * k, sign * np.polyval(np.polyder(polynomial), c)


def large_margin_softmax_logits(x, W, y, m, annealed=0.0):
    """L16: (lambda ||w|| ||x|| cos theta + ||w|| ||x|| psi(theta)) / (1 + lambda) at y, w.x elsewhere, no bias."""
    z = [inner(W_k, x) for W_k in W]
    length = norm(W[y]) * norm(x)
    z[y] = (annealed * z[y] + length * psi(z[y] / length, m)[0]) / (1 + annealed)
    return z


def annealing(progress):
    """base (1 + gamma iteration)^-power with the released code's base 1000, gamma 2.5e-5, power 35 and, in its example
    on MNIST, 30,000 iterations."""
    return 1000 * (1 + 2.5e-5 * 30_000 * progress) ** -35


def large_margin_softmax_value(x, W, y, m, annealed=0.0):
    return softmax_value(large_margin_softmax_logits(x, W, y, m, annealed), y)


def large_margin_softmax_gradient(x, W, y, m, annealed=0.0):
    """Of the target logit N psi(s/N), s = w.x, N = ||w|| ||x||: by s psi', by N psi - c psi'; dN/dw = w ||x||/||w||."""
    K, d, w = len(W), len(x), W[y]
    g = softmax_gradient(large_margin_softmax_logits(x, W, y, m, annealed), y)
    gradient = through_linear(g, x, W)
    n_w, n_x = norm(w), norm(x)
    c = inner(w, x) / (n_w * n_x)
    value, slope = psi(c, m)
    along, lengths = (annealed + slope) / (1 + annealed), (value - c * slope) / (1 + annealed)
    rest = [0.0 if k == y else g[k] for k in range(K)]
    dx = through_linear(rest, x, W)["x"]
    gradient["x"] = [dx[i] + g[y] * (along * w[i] + lengths * x[i] * n_w / n_x) for i in range(d)]
    gradient["weight"][y] = [g[y] * (along * x[i] + lengths * w[i] * n_x / n_w) for i in range(d)]
    del gradient["bias"]
    return gradient


# ---------------------------------------------------------------- large-margin Gaussian mixture


def half_mahalanobis(x, mean, log_variance):
    return sum((x_i - m_i) ** 2 * np.exp(-s_i) for x_i, m_i, s_i in zip(x, mean, log_variance, strict=True)) / 2


def gaussian_mixture_logits(x, means, log_variances):
    """-d_k - 1/2 log det L_k, L_k = diag(exp(log_variances_k)); equal priors."""
    return [-half_mahalanobis(x, m, s) - sum(s) / 2 for m, s in zip(means, log_variances, strict=True)]


def gaussian_mixture_margin_logits(x, means, log_variances, y, alpha):
    z = gaussian_mixture_logits(x, means, log_variances)
    z[y] = z[y] - alpha * half_mahalanobis(x, means[y], log_variances[y])
    return z


def gaussian_mixture_value(x, means, log_variances, y, alpha, lam):
    """W18: the classification loss with d_y times (1 + alpha), + lam (d_y + 1/2 log det L_y)."""
    likelihood = half_mahalanobis(x, means[y], log_variances[y]) + sum(log_variances[y]) / 2
    return softmax_value(gaussian_mixture_margin_logits(x, means, log_variances, y, alpha), y) + lam * likelihood


def gaussian_mixture_gradient(x, means, log_variances, y, alpha, lam):
    """By d_k: -g_k, times (1 + alpha) and plus lam at y; by 1/2 log det L_k: -g_k, plus lam at y."""
    K, d = len(means), len(x)
    g = softmax_gradient(gaussian_mixture_margin_logits(x, means, log_variances, y, alpha), y)
    dx, dm, ds = [0.0] * d, [], []
    for k in range(K):
        by_distance = -g[k] * (1 + alpha * (k == y)) + lam * (k == y)
        by_log_det = -g[k] + lam * (k == y)
        pull = [(x[i] - means[k][i]) * np.exp(-log_variances[k][i]) for i in range(d)]
        dx = [dx[i] + by_distance * pull[i] for i in range(d)]
        dm.append([-by_distance * pull[i] for i in range(d)])
        ds.append([by_log_det / 2 - by_distance * pull[i] * (x[i] - means[k][i]) / 2 for i in range(d)])
    return {"x": dx, "means": dm, "log_variances": ds}


# ---------------------------------------------------------------- fixed centers


def max_mahalanobis_centers(K, d, C_mm):
    """P20's construction: unit vectors, each new one at inner product -1/(K-1) with all before it; times C_mm."""
    mu = np.zeros((K, d))
    mu[0, 0] = 1.0
    for i in range(1, K):
        for j in range(i):
            mu[i, j] = -(1 / (K - 1) + mu[i] @ mu[j]) / mu[j, j]
        if i < K - 1:
            mu[i, i] = math.sqrt(1 - mu[i] @ mu[i])
    return C_mm * mu


def mmc_logits(x, means):
    return [-sum((x_i - m_i) ** 2 for x_i, m_i in zip(x, mean, strict=True)) / 2 for mean in means]


def mmc_value(x, means, y):
    """P20, B21 Eq. 5 with the square that it lost: 1/2 ||x - mu_y||^2."""
    return sum((x_i - m_i) ** 2 for x_i, m_i in zip(x, means[y], strict=True)) / 2


def mmc_gradient(x, means, y):
    return {"x": [x_i - m_i for x_i, m_i in zip(x, means[y], strict=True)]}


# ---------------------------------------------------------------- super-symmetric final layer


def contrasts(K):
    """K x (K-1): orthonormal columns that sum to zero (Helmert)."""
    E = np.zeros((K, K - 1))
    for j in range(1, K):
        E[:j, j - 1] = 1 / math.sqrt(j * (j + 1))
        E[j, j - 1] = -j / math.sqrt(j * (j + 1))
    return E


def polar_factor(B):
    """Q of B = H Q with Q Q^T = 1; for complex B as (B B^T)^(-1/2) B by Denman and Beavers' analytic iteration."""
    if not np.iscomplexobj(B):
        U, _, Vt = np.linalg.svd(B, full_matrices=False)
        return U @ Vt
    root, inverse = B @ B.T, np.eye(len(B), dtype=complex)
    for _ in range(40):
        root, inverse = (root + np.linalg.inv(inverse)) / 2, (inverse + np.linalg.inv(root)) / 2
    return inverse @ B


def super_symmetric_weight(W):
    """The nearest (Frobenius) with w_c.w_c = v, w_c.w_c' = -v/(K-1) (K19 3): W W^T = s^2 (I - 11^T/K), so W = s E Q,
    Q Q^T = 1. For E^T W = B the best Q is B's polar factor, and then the best s = <B, Q>/(K-1)."""
    W = np.asarray(W)
    E = contrasts(len(W))
    B = E.T @ W
    Q = polar_factor(B)
    return (B * Q).sum() / (len(W) - 1) * E @ Q


def super_symmetric_value(x, W, y):
    return softmax_value(list(super_symmetric_weight(W) @ x), y)


def super_symmetric_gradient(x, W, y):
    """By W through the projection. B = U S V^T, Q = U V^T, H by Q: U [(M - M^T)/(s_i + s_j)] V^T for M = U^T H V,
    + U S^-1 U^T H (I - V V^T); and the scale mean(s) has the gradient Q/(K-1)."""
    W, x = np.asarray(W, dtype=float), np.asarray(x, dtype=float)
    E = contrasts(len(W))
    B = E.T @ W
    U, S, Vt = np.linalg.svd(B, full_matrices=False)
    Q, scale = U @ Vt, S.mean()
    g = np.array(softmax_gradient(list(scale * E @ Q @ x), y))
    by_weight = E.T @ np.outer(g, x)  # by scale * Q
    H = scale * by_weight
    M = U.T @ H @ Vt.T
    dB = U @ ((M - M.T) / (S[:, None] + S[None, :])) @ Vt + U @ np.diag(1 / S) @ U.T @ H @ (np.eye(len(x)) - Vt.T @ Vt)
    dB = dB + (by_weight * Q).sum() * Q / len(S)
    return {"x": scale * Q.T @ E.T @ g, "weight": E @ dB}


# ---------------------------------------------------------------- center loss


def center_value(x, W, b, centers, y, lam):
    """W16 Eq. 5: cross-entropy + lam/2 ||x - c_y||^2."""
    return softmax_value(linear_logits(x, W, b), y) + lam * mmc_value(x, centers, y)


def center_gradient(x, W, b, centers, y, lam):
    gradient = through_linear(softmax_gradient(linear_logits(x, W, b), y), x, W)
    pull = mmc_gradient(x, centers, y)["x"]
    gradient["x"] = [gradient["x"][i] + lam * pull[i] for i in range(len(x))]
    return gradient


def moved_centers(centers, X, Y, center_rate):
    """W16 Eq. 4 and algorithm 1: c_j - rate * sum_{i: y_i = j} (c_j - x_i) / (1 + n_j), from the centers before."""
    moved = []
    for j, c_j in enumerate(centers):
        mine = [x for x, y in zip(X, Y, strict=True) if y == j]
        step = [sum(c - x[i] for x in mine) / (1 + len(mine)) for i, c in enumerate(c_j)]
        moved.append([c - center_rate * s for c, s in zip(c_j, step, strict=True)])
    return moved
