"""The losses with a final layer of their own, against oracles written from the papers."""

import math

import numpy as np
import oracle
import oracle_heads
import pytest
import torch
from test_against_papers import close, complex_step, features, generator, refused, tensors

from losstune import make_head, make_loss

SHAPES = [(2, 3), (5, 5), (10, 12), (100, 104)]
SCALES = (0.1, 1.0, 30.0)
ids = str


def with_parameters(name, d, K, values, **hyperparameters):
    """A head whose parameters and buffers of these names hold these values."""
    head = make_head(name, in_features=d, num_classes=K, **hyperparameters).double()
    with torch.no_grad():
        for key, value in values.items():
            getattr(head, key).copy_(torch.as_tensor(np.asarray(value)))
    return head


def steps(value, **arguments):
    """The gradient of value(**arguments) by each of the arguments, by complex steps."""
    result = {}
    for key, v in arguments.items():
        v = np.array(v, dtype=float)
        grad = [complex_step(lambda moved: value(**{**arguments, key: moved}), v, i) for i in range(v.size)]  # noqa: B023
        result[key] = np.reshape(grad, v.shape)
    return result


def check(head, X, Y, c, value, gradient, names, progress=0.3):
    """Losses, and gradients by x and by the parameters `names`, against value(x, y) and gradient(x, y)."""
    x, y, weights = tensors(X, Y, c)
    x.requires_grad_()
    losses = head.loss(x, y, progress=progress)
    assert losses.shape == (len(X),) and losses.dtype == torch.float64
    grads = torch.autograd.grad((weights * losses).sum(), [x, *[getattr(head, name) for name in names]])
    rows = [gradient(X[i], Y[i]) for i in range(len(X))]
    close(losses, [value(X[i], Y[i]) for i in range(len(X))])
    close(grads[0], [c[i] * np.array(rows[i]["x"]) for i in range(len(X))])
    for name, grad in zip(names, grads[1:], strict=True):
        close(grad, sum(c[i] * np.array(rows[i][name]) for i in range(len(X))))


class LossOf(torch.nn.Module):
    def __init__(self, head, y, progress):
        super().__init__()
        self.head, self.y, self.progress = head, y, progress

    def forward(self, x):
        return self.head.loss(x, self.y, progress=self.progress)


def gradchecked(head, X, Y, names, progress=0.5):
    module = LossOf(head.eval(), torch.tensor(Y), progress)
    values = [torch.tensor(X), *[getattr(head, name).detach().clone() for name in names]]
    keys = [f"head.{name}" for name in names]

    def loss(x, *parameters):
        return torch.func.functional_call(module, dict(zip(keys, parameters, strict=True)), (x,))

    assert set(keys) <= {name for name, _ in module.named_parameters()}
    return torch.autograd.gradcheck(loss, [v.requires_grad_() for v in values])


# ---------------------------------------------------------------- the oracle against itself


@pytest.mark.parametrize("m", [1, 2, 3, 4])
@pytest.mark.parametrize("annealed", [0.0, 5.0])
def test_the_oracles_l_softmax_gradient_is_that_of_its_value(m, annealed):
    X, W, _, Y, _ = features(3, 4, "self", m, B=6)
    for x, y in zip(X, Y, strict=True):
        got = oracle_heads.large_margin_softmax_gradient(x, W, y, m, annealed)
        by_step = steps(
            lambda x, weight: oracle_heads.large_margin_softmax_value(x, weight, y, m, annealed),  # noqa: B023
            x=x,
            weight=W,
        )
        for key, want in by_step.items():
            close(got[key], want, 1e-11)


@pytest.mark.parametrize("m", [1, 2, 3, 4])
def test_the_oracles_psi_is_continuous_and_falls(m):
    theta = np.linspace(0, math.pi, 10_001)
    values = np.array([oracle_heads.psi(math.cos(t), m)[0] for t in theta])
    steps_down = -np.diff(values)
    assert steps_down.min() > -1e-13 and steps_down.max() < 1.01 * m * math.pi / 10_000
    direct = [(-1) ** k * math.cos(m * t) - 2 * k for t in theta for k in [min(int(m * t / math.pi), m - 1)]]
    close(values, direct, 1e-12)


def mixture(K, d, *key, B=7, scale=1.0):
    rng = generator(K, d, scale, *key)
    means, log_variances = rng.normal(size=(K, d)) * scale, rng.normal(size=(K, d)) / 2
    Y = rng.integers(0, K, size=B)
    return means[Y] + rng.normal(size=(B, d)) * scale, means, log_variances, Y, rng.uniform(0.5, 2.0, size=B)


def test_the_oracles_mixture_gradient_is_that_of_its_value():
    X, means, log_variances, Y, _ = mixture(4, 3, "self")
    for x, y in zip(X, Y, strict=True):
        got = oracle_heads.gaussian_mixture_gradient(x, means, log_variances, y, 0.3, 0.2)
        by_step = steps(
            lambda x, means, log_variances: oracle_heads.gaussian_mixture_value(x, means, log_variances, y, 0.3, 0.2),  # noqa: B023
            x=x,
            means=means,
            log_variances=log_variances,
        )
        for key, want in by_step.items():
            close(got[key], want, 1e-11)


def test_the_oracles_mixture_is_bayes_rule_without_a_margin():
    X, means, log_variances, _, _ = mixture(4, 3, "bayes")
    for x in X:
        variances = np.exp(log_variances)
        density = np.prod(np.exp(-((x - means) ** 2) / (2 * variances)) / np.sqrt(2 * math.pi * variances), axis=1)
        z = oracle_heads.gaussian_mixture_logits(x, means, log_variances)
        close(oracle.probabilities(z), density / density.sum(), 1e-12)


@pytest.mark.parametrize("K, d", [(2, 1), (2, 3), (4, 3), (4, 4), (5, 9)])
def test_the_oracles_super_symmetric_gradient_is_that_of_its_value(K, d):
    X, W, _, Y, _ = features(K, d, "self", B=2)
    for x, y in zip(X, Y, strict=True):
        got = oracle_heads.super_symmetric_gradient(x, W, y)
        by_step = steps(lambda x, weight: oracle_heads.super_symmetric_value(x, weight, y), x=x, weight=W)  # noqa: B023
        for key, want in by_step.items():
            close(got[key], want, 1e-10)


def is_super_symmetric(W, tolerance=1e-12):
    K, v = len(W), (W**2).sum() / len(W)
    assert v > 0
    close(W @ W.T, v * (K * np.eye(K) - 1) / (K - 1), tolerance)


def random_super_symmetric(K, d, rng):
    Q, _ = np.linalg.qr(rng.normal(size=(d, K - 1)))
    return oracle_heads.contrasts(K) @ Q.T


@pytest.mark.parametrize("K, d", [(2, 1), (2, 3), (4, 3), (5, 9)])
def test_the_oracles_projection_is_the_nearest(K, d):
    rng = generator(K, d, "nearest")
    W = rng.normal(size=(K, d))
    projected = oracle_heads.super_symmetric_weight(W)
    is_super_symmetric(projected)
    best = np.linalg.norm(W - projected)
    for _ in range(300):
        other = random_super_symmetric(K, d, rng)
        other = other * abs((other * W).sum()) / (other**2).sum()  # at its own best scale
        assert min(np.linalg.norm(W - other), np.linalg.norm(W + other)) >= best - 1e-12
    for turn in (1e-3, 1e-2):  # and near by: turned a little in feature space
        S = rng.normal(size=(d, d)) * turn
        other = projected @ np.linalg.qr(np.eye(d) + S - S.T)[0]
        assert np.linalg.norm(W - other) >= best - 1e-12 or np.linalg.norm(W + other) >= best - 1e-12
    close(oracle_heads.super_symmetric_weight(projected), projected, 1e-12)


def test_the_oracles_center_gradient_is_that_of_its_value():
    X, W, b, Y, _ = features(4, 3, "self", B=3)
    centers = generator("centers").normal(size=(4, 3))
    for x, y in zip(X, Y, strict=True):
        got = oracle_heads.center_gradient(x, W, b, centers, y, 0.2)
        by_step = steps(
            lambda x, weight, bias: oracle_heads.center_value(x, weight, bias, centers, y, 0.2),  # noqa: B023
            x=x,
            weight=W,
            bias=b,
        )
        for key, want in by_step.items():
            close(got[key], want, 1e-11)


# ---------------------------------------------------------------- who needs a head


NEEDS_HEAD = {
    "mmc": {"C_mm": 10.0},
    "large_margin_softmax": {"m": 2, "annealing": False},
    "gaussian_mixture": {"alpha": 0.1, "lam": 0.1},
    "super_symmetric": {},
    "center": {"lam": 0.003, "center_rate": 0.5},
}


@pytest.mark.parametrize("name, hyperparameters", NEEDS_HEAD.items(), ids=ids)
def test_make_loss_sends_to_make_head(name, hyperparameters):
    refused(lambda: make_loss(name, num_classes=3, **hyperparameters), name, "make_head")
    assert make_head(name, in_features=4, num_classes=3, **hyperparameters).passes == 1


# ---------------------------------------------------------------- mmc


def in_dtype(dtype, make):
    """What make() gives where this is the default precision of new modules."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        return make()
    finally:
        torch.set_default_dtype(before)


@pytest.mark.parametrize("C_mm", [0.5, 10.0, 100.0])
@pytest.mark.parametrize("K, d", [(2, 1), (2, 2), (5, 4), (5, 5), (10, 9), (10, 30), (100, 99), (100, 128)])
def test_mmc_centers_are_as_far_apart_as_they_can_be(K, d, C_mm):
    gram = C_mm**2 * (K * np.eye(K) - 1) / (K - 1)
    reference = oracle_heads.max_mahalanobis_centers(K, d, C_mm)
    close(reference @ reference.T, gram, 1e-12)
    for dtype, tolerance in ((torch.float32, 3e-7), (torch.float64, 1e-13)):
        head = in_dtype(dtype, lambda: make_head("mmc", in_features=d, num_classes=K, C_mm=C_mm))
        means = head.means.detach().double().numpy()
        assert means.shape == (K, d) and not list(head.parameters())
        assert np.abs(means @ means.T - gram).max() < 10 * tolerance * C_mm**2


@pytest.mark.parametrize("K, d", [(3, 1), (10, 8), (100, 98)])
def test_mmc_refuses_too_few_features(K, d):
    refused(lambda: make_head("mmc", in_features=d, num_classes=K, C_mm=10.0), "mmc", "in_features")


def test_mmc_is_half_the_squared_distance():
    for K, d in SHAPES:
        for scale in SCALES:
            X, _, _, Y, c = features(K, d, "mmc", scale, scale=scale)
            head = make_head("mmc", in_features=d, num_classes=K, C_mm=10.0).double()
            means = head.means.detach().numpy()
            check(
                head,
                X,
                Y,
                c,
                lambda x, y: oracle_heads.mmc_value(x, means, y),  # noqa: B023
                lambda x, y: oracle_heads.mmc_gradient(x, means, y),  # noqa: B023
                [],
            )
            close(head(torch.tensor(X)), [oracle_heads.mmc_logits(x, means) for x in X])


def test_gradcheck_of_mmc():
    X, _, _, Y, _ = features(3, 4, "gradcheck", B=2)
    assert gradchecked(make_head("mmc", in_features=4, num_classes=3, C_mm=2.0).double(), X, Y, [])


# ---------------------------------------------------------------- L-Softmax


def at_angles(W, Y, angles, lengths, rng):
    """Features at these angles from the weights of their classes."""
    X = []
    for y, angle, length in zip(Y, angles, lengths, strict=True):
        w = W[y] / np.linalg.norm(W[y])
        across = rng.normal(size=len(w))
        across -= (across @ w) * w
        X.append(length * (math.cos(angle) * w + math.sin(angle) * across / np.linalg.norm(across)))
    return np.array(X)


def l_softmax(W, m, **hyperparameters):
    return with_parameters("large_margin_softmax", W.shape[1], len(W), {"weight": W}, m=m, **hyperparameters)


def check_l_softmax(head, X, W, Y, c, m, annealed, progress=0.3):
    check(
        head,
        X,
        Y,
        c,
        lambda x, y: oracle_heads.large_margin_softmax_value(x, W, y, m, annealed),
        lambda x, y: oracle_heads.large_margin_softmax_gradient(x, W, y, m, annealed),
        ["weight"],
        progress,
    )


@pytest.mark.parametrize("m", [1, 2, 3, 4])
def test_l_softmax_without_annealing_is_the_papers(m):
    for K, d in SHAPES:
        for scale in SCALES:
            X, W, _, Y, c = features(K, d, "lsm", m, scale, scale=scale)
            for progress in (0.0, 0.999):
                check_l_softmax(l_softmax(W, m, annealing=False), X, W, Y, c, m, 0.0, progress)


@pytest.mark.parametrize("m", [1, 2, 3, 4])
def test_l_softmax_near_its_breakpoints_and_at_many_angles(m):
    rng = generator("angles", m)
    near = [j * math.pi / m + e for j in range(m + 1) for e in (-1e-2, -1e-4, -1e-6, 1e-6, 1e-4, 1e-2)]
    angles = [a for a in near if 0 < a < math.pi] + list(np.linspace(0.05, 3.1, 23))
    for scale in (0.1, 1.0, 10.0):
        W = rng.normal(size=(5, 6))
        Y, c = rng.integers(0, 5, size=len(angles)), rng.uniform(0.5, 2.0, size=len(angles))
        X = at_angles(W, Y, angles, rng.uniform(0.5, 2.0, size=len(angles)) * scale, rng)
        check_l_softmax(l_softmax(W, m, annealing=False), X, W, Y, c, m, 0.0)


@pytest.mark.parametrize("m", [1, 2, 3, 4])
def test_l_softmax_of_features_along_or_against_the_weight(m):
    W = np.array([[3.0, 4.0], [1.0, 0.0], [0.1, -0.7]])
    X, Y, c = np.concatenate([W, -2 * W]), np.array([0, 1, 2, 0, 1, 2]), np.ones(6)
    check_l_softmax(l_softmax(W, m, annealing=False), X, W, Y, c, m, 0.0)


def lambda_of(head, W, x, y, m, progress):
    """Solved for from the loss: softplus(LSE_others - f_y), f_y = (lambda s + N psi)/(1 + lambda)."""
    loss = head.loss(torch.tensor(x)[None], torch.tensor([y]), progress=progress).item()
    z = [oracle.inner(W_k, x) for W_k in W]
    target = oracle.log_sum_exp([z_k for k, z_k in enumerate(z) if k != y]) - math.log(math.expm1(loss))
    full = oracle_heads.large_margin_softmax_logits(x, W, y, m)[y]
    return (full - target) / (target - z[y]) if target != z[y] else math.inf


ANNEALING = [0.0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 0.999]


@pytest.mark.parametrize("m", [2, 3, 4])
def test_l_softmax_anneals_from_softmax_to_its_margin(m):
    W = np.array([[1.0, 0.5], [-0.3, 0.8], [0.2, -1.0]])
    head, x, y = l_softmax(W, m, annealing=True), np.array([0.4, 1.3]), 0
    lambdas = [lambda_of(head, W, x, y, m, progress) for progress in ANNEALING]
    assert all(later < earlier for earlier, later in zip(lambdas, lambdas[1:], strict=False))
    for progress, annealed in zip(ANNEALING, lambdas, strict=True):
        want = oracle_heads.annealing(progress)
        assert abs(annealed - want) < 1e-9 * want + 1e-13
        X, _, _, Y, c = features(3, 2, "annealed", m)
        check_l_softmax(head, X, W, Y, c, m, want, progress)
    for K, d in SHAPES:
        X, W, _, Y, c = features(K, d, "annealed", m)
        check_l_softmax(l_softmax(W, m, annealing=True), X, W, Y, c, m, oracle_heads.annealing(0.25), 0.25)


def test_l_softmax_at_one_is_softmax_without_bias_whatever_lambda():
    X, W, _, Y, c = features(5, 6, "single")
    for annealing in (True, False):
        for progress in (0.0, 0.5, 0.999):
            check_l_softmax(l_softmax(W, 1, annealing=annealing), X, W, Y, c, 1, 0.0, progress)


def test_l_softmax_evaluates_without_margin_and_has_no_bias():
    X, W, _, _, _ = features(5, 6, "evaluate")
    head = l_softmax(W, 4, annealing=False)
    close(head(torch.tensor(X)), X @ W.T)
    close(head.eval()(torch.tensor(X)), X @ W.T)
    assert [name for name, _ in head.named_parameters()] == ["weight"]


@pytest.mark.parametrize("m", [1, 2, 3, 4])
@pytest.mark.parametrize("annealing", [True, False])
def test_gradcheck_of_l_softmax(m, annealing):
    X, W, _, Y, _ = features(3, 4, "gradcheck", B=4)
    assert gradchecked(l_softmax(W, m, annealing=annealing), X, Y, ["weight"])


# ---------------------------------------------------------------- Gaussian mixture


def gaussian_mixture(means, log_variances, **hyperparameters):
    values = {"means": means, "log_variances": log_variances}
    return with_parameters("gaussian_mixture", means.shape[1], len(means), values, **hyperparameters)


@pytest.mark.parametrize("alpha, lam", [(0.0, 0.0), (0.3, 0.0), (0.0, 0.1), (0.1, 0.01), (1.0, 1.0)])
def test_gaussian_mixture_is_the_papers(alpha, lam):
    for K, d in ((2, 1), *SHAPES):
        for scale in SCALES:
            X, means, log_variances, Y, c = mixture(K, d, "lgm", scale=scale)
            head = gaussian_mixture(means, log_variances, alpha=alpha, lam=lam)
            check(
                head,
                X,
                Y,
                c,
                lambda x, y: oracle_heads.gaussian_mixture_value(x, means, log_variances, y, alpha, lam),  # noqa: B023
                lambda x, y: oracle_heads.gaussian_mixture_gradient(x, means, log_variances, y, alpha, lam),  # noqa: B023
                ["means", "log_variances"],
            )
            want = [oracle_heads.gaussian_mixture_logits(x, means, log_variances) for x in X]
            close(head(torch.tensor(X)), want)  # without the margin, in training mode too
            close(head.eval()(torch.tensor(X)), want)


def test_gaussian_mixture_starts_at_the_identity_covariance():
    head = make_head("gaussian_mixture", in_features=4, num_classes=3, alpha=0.1, lam=0.1)
    assert not head.log_variances.detach().any()
    assert head.means.detach().unique(dim=0).shape == (3, 4)


def test_gradcheck_of_gaussian_mixture():
    X, means, log_variances, Y, _ = mixture(3, 4, "gradcheck", B=3)
    head = gaussian_mixture(means, log_variances, alpha=0.3, lam=0.2)
    assert gradchecked(head, X, Y, ["means", "log_variances"])


# ---------------------------------------------------------------- super-symmetric


SYMMETRIC_SHAPES = [(2, 1), (2, 3), (5, 4), (5, 5), (10, 9), (10, 30), (100, 130)]


def classes_of(head, d):
    """The weights in use, read from the logits of the unit vectors: there is no bias."""
    return head(torch.eye(d, dtype=torch.float64)).detach().numpy().T


@pytest.mark.parametrize("K, d", SYMMETRIC_SHAPES)
def test_super_symmetric_uses_the_nearest_weight_on_the_constraint(K, d):
    rng = generator(K, d, "symmetric")
    W = rng.normal(size=(K, d)) + rng.normal(size=d)  # away from the constraint in every respect
    head = with_parameters("super_symmetric", d, K, {"weight": W})
    used = classes_of(head, d)
    is_super_symmetric(used, 1e-10)
    close(used, oracle_heads.super_symmetric_weight(W))
    close(classes_of(head.eval(), d), used)
    assert [name for name, _ in head.named_parameters()] == ["weight"]


@pytest.mark.parametrize("K, d", SYMMETRIC_SHAPES)
def test_super_symmetric_starts_on_the_constraint_and_stays_there(K, d):
    torch.manual_seed(0)
    head = make_head("super_symmetric", in_features=d, num_classes=K).double()
    is_super_symmetric(classes_of(head, d), 1e-10)
    optimizer = torch.optim.SGD(head.parameters(), lr=0.5, momentum=0.9)
    X, _, _, Y, _ = features(K, d, "steps")
    x, y = tensors(X, Y)
    scales = []
    for _ in range(4):
        optimizer.zero_grad()
        head.loss(x, y, progress=0.3).mean().backward()
        optimizer.step()
        used = classes_of(head, d)
        is_super_symmetric(used, 1e-10)
        scales.append((used**2).sum() / K)
    assert len(set(np.round(scales, 9))) > 1  # v is learned


@pytest.mark.parametrize("K, d", SYMMETRIC_SHAPES)
def test_super_symmetric_loss_is_softmax_with_the_projected_weight(K, d):
    """A projected gradient: by the weight in use as if it were free, and then the step is projected."""
    for scale in SCALES:
        X, W, _, Y, c = features(K, d, "symmetric", scale, scale=scale)
        used = oracle_heads.super_symmetric_weight(W)

        def gradient(x, y, used=used):
            return oracle.through_linear(oracle.softmax_gradient(list(used @ x), y), x, used)

        head = with_parameters("super_symmetric", d, K, {"weight": W})
        check(head, X, Y, c, lambda x, y: oracle_heads.super_symmetric_value(x, W, y), gradient, ["weight"])  # noqa: B023


@pytest.mark.parametrize("K, d", [(2, 1), (5, 4), (5, 5), (10, 30)])
def test_a_small_step_of_super_symmetric_follows_the_gradient_on_the_constraint(K, d):
    """Where the weight is on the constraint, the gradient through the projection is the part along the constraint."""
    X, W, _, Y, c = features(K, d, "small step")
    head, rate = with_parameters("super_symmetric", d, K, {"weight": W}), 1e-5
    before = classes_of(head, d)
    x, y, weights = tensors(X, Y, c)
    optimizer = torch.optim.SGD(head.parameters(), lr=rate)
    (weights * head.loss(x, y, progress=0.3)).sum().backward()
    optimizer.step()
    rows = [oracle_heads.super_symmetric_gradient(x, before, y)["weight"] for x, y in zip(X, Y, strict=True)]
    along = sum(w * np.array(row) for w, row in zip(c, rows, strict=True))
    close((before - classes_of(head, d)) / rate, along, 1e-2)


WAYS = {
    "copy_": lambda head, values: head.weight.detach().copy_(values),
    "data.copy_": lambda head, values: head.weight.data.copy_(values),
    "data =": lambda head, values: setattr(head.weight, "data", values),
    "vector": lambda head, values: torch.nn.utils.vector_to_parameters(values.flatten(), head.parameters()),
    "state": lambda head, values: head.load_state_dict({**head.state_dict(), "weight": values}),
}


@pytest.mark.parametrize("way", WAYS)
def test_super_symmetric_projects_however_its_weight_was_changed(way):
    """Older optimizers write to parameter.data, which autograd's version counter does not see."""
    head = make_head("super_symmetric", in_features=5, num_classes=4).double()
    classes_of(head, 5)
    W = torch.tensor(generator("ways").normal(size=(4, 5)))
    WAYS[way](head, W.clone())
    close(classes_of(head, 5), oracle_heads.super_symmetric_weight(W.numpy()))


@pytest.mark.parametrize("fused", [False, True])
def test_super_symmetric_projects_after_a_fused_step_too(fused):
    head = make_head("super_symmetric", in_features=5, num_classes=4).double()
    X, _, _, Y, _ = features(4, 5, "fused")
    optimizer = torch.optim.SGD(head.parameters(), lr=0.5, fused=fused)
    for _ in range(3):
        head.loss(*tensors(X, Y), progress=0.3).sum().backward()
        optimizer.step()
        is_super_symmetric(classes_of(head, 5), 1e-10)


@pytest.mark.parametrize("K, d", [(3, 1), (10, 8)])
def test_super_symmetric_refuses_too_few_features(K, d):
    refused(lambda: make_head("super_symmetric", in_features=d, num_classes=K), "super_symmetric", "in_features")


def test_gradcheck_of_super_symmetric():
    X, W, _, Y, _ = features(3, 4, "gradcheck", B=2)
    assert gradchecked(with_parameters("super_symmetric", 4, 3, {"weight": W}), X, Y, [])


# ---------------------------------------------------------------- center loss


def center_head(W, b, centers, **hyperparameters):
    values = {"weight": W, "bias": b, "centers": centers}
    return with_parameters("center", W.shape[1], len(W), values, **hyperparameters)


@pytest.mark.parametrize("lam", [0.0, 0.003, 1.0])
def test_center_is_the_papers(lam):
    for K, d in SHAPES:
        for scale in SCALES:
            X, W, b, Y, c = features(K, d, "center", scale, scale=scale)
            centers = generator(K, d, "centers").normal(size=(K, d))
            for train in (True, False):
                check(
                    center_head(W, b, centers, lam=lam, center_rate=0.5).train(train),
                    X,
                    Y,
                    c,
                    lambda x, y: oracle_heads.center_value(x, W, b, centers, y, lam),  # noqa: B023
                    lambda x, y: oracle_heads.center_gradient(x, W, b, centers, y, lam),  # noqa: B023
                    ["weight", "bias"],
                )


@pytest.mark.parametrize("center_rate", [0.1, 0.5, 1.0])
def test_centers_move_after_the_value_one_step_and_two(center_rate):
    for K, d in ((2, 3), (5, 4), (10, 4)):  # more classes than examples: some centers have none
        X, W, b, _, _ = features(K, d, "moving")
        Y = generator(K, "targets").integers(0, max(2, K // 2), size=len(X))
        head = make_head("center", in_features=d, num_classes=K, lam=0.3, center_rate=center_rate).double().train()
        assert not head.centers.any() and "centers" in dict(head.named_buffers())
        with torch.no_grad():
            head.weight.copy_(torch.tensor(W))
            head.bias.copy_(torch.tensor(b))
        centers = np.zeros((K, d)).tolist()
        for batch in (X, 2 * X - 1):
            losses = head.loss(*tensors(batch, Y), progress=0.3)
            close(losses, [oracle_heads.center_value(x, W, b, centers, y, 0.3) for x, y in zip(batch, Y, strict=True)])
            centers = oracle_heads.moved_centers(centers, batch, Y, center_rate)
            close(head.centers, centers, 1e-13)
        head.eval().loss(*tensors(X, Y), progress=0.3)
        close(head.centers, centers, 1e-13)
        head.train()(torch.tensor(X))
        close(head.centers, centers, 1e-13)  # logits alone move nothing
        close(head(torch.tensor(X)), [oracle.linear_logits(x, W, b) for x in X])


def test_gradcheck_of_center():
    X, W, b, Y, _ = features(3, 4, "gradcheck", B=2)
    head = center_head(W, b, generator("centers").normal(size=(3, 4)), lam=0.3, center_rate=0.5)
    assert gradchecked(head, X, Y, ["weight", "bias"])
