"""What a loss becomes at the ends of its hyperparameters, and what losses are of each other: values and gradients."""

import math

import pytest
import torch
from every_loss import CRITERIA, DESIGN, Subject, draws, draws_of_features, fill, near
from torch.nn import functional as F

from losstune import make_head, make_loss

KS = (2, 3, 10)
SCALES = (0.1, 1.0, 30.0)
TOLERANCE = 1e-10
FLOOR = 1e-13


def loss_of(name, K, **given):
    return Subject.of(name, K, given)


def head_of(name, K, d, **given):
    return Subject.of(name, K, given, d)


def times(factor, subject):
    """The subject's loss times a number, as a function."""
    return lambda inputs, targets, progress: factor * subject(inputs, targets, progress)


def gradients(call, inputs, targets, weights, progress):
    inputs = inputs.detach().clone().requires_grad_()
    losses = call(inputs, targets, progress)
    assert losses.shape == (len(targets),)
    return losses.detach(), torch.autograd.grad((weights * losses).sum(), inputs)[0]


def same(first, second, K, scales=SCALES, progress=0.3, d=None, relative=TOLERANCE):
    """Two functions of (inputs, targets, progress) agree in value and in the gradient of the inputs."""
    for scale in scales:
        inputs, targets, weights = draws(K, scale) if d is None else draws_of_features(K, d, scale)
        losses, gradient = gradients(first, inputs, targets, weights, progress)
        others, its_gradient = gradients(second, inputs, targets, weights, progress)
        size = max(1.0, others.abs().max().item())
        near(losses, others, relative, FLOOR * size, f"value at K = {K}, scale {scale}")
        size = max(1.0, its_gradient.abs().max().item())
        near(gradient, its_gradient, relative, FLOOR * size, f"gradient at K = {K}, scale {scale}")


def same_parameters(first, second, K, d, names, scales=SCALES, progress=0.3):
    """Two heads agree in value and in the gradients of features and of the named parameters."""
    with torch.no_grad():
        for name, tensor in first.head.state_dict().items():
            if name in second.head.state_dict():
                second.head.state_dict()[name].copy_(tensor)
    for scale in scales:
        x, y, weights = draws_of_features(K, d, scale)
        losses, of_first = first.with_gradients(x, y, weights, progress)
        others, of_second = second.with_gradients(x, y, weights, progress)
        near(losses, others, TOLERANCE, FLOOR * max(1.0, others.abs().max().item()), "value")
        for name in ("inputs", *names):
            size = max(1.0, of_second[name].abs().max().item())
            near(of_first[name], of_second[name], TOLERANCE, FLOOR * size, f"gradient of {name}")


def gram_of_a_simplex(K, v):
    """w_c.w_c = v and w_c.w_c' = -v/(K - 1), as a matrix."""
    return v * (K * torch.eye(K, dtype=torch.float64) - 1) / (K - 1)


@pytest.fixture(params=KS)
def K(request):
    return request.param


# ---------------------------------------------------------------- back to softmax

PLAIN_SOFTMAX = [
    ("label_smoothing", {"alpha": 0.0, "scaled": True}),
    ("label_smoothing", {"alpha": 0.0, "scaled": False}),
    ("logit_penalty", {"beta": 0.0}),
    ("logit_penalty", {"beta": 0.0, "half": True}),
    ("focal", {"gamma": 0.0, "alpha": 1.0}),
    ("tamed_ce", {"alpha": 0.0}),
    ("margin_softmax", {"margin": 0.0}),
    ("large_margin", {"lam": 0.0, "divergence": "symmetric"}),
    ("large_margin", {"lam": 0.0, "divergence": "u_q"}),
    ("large_margin", {"lam": 0.0, "divergence": "q_u"}),
    ("cot", {}),
    ("margin_softmax+large_margin", {"margin": 0.0, "lam": 0.0}),
    ("focal+large_margin", {"gamma": 0.0, "alpha": 1.0, "lam": 0.0}),
]


def test_softmax_is_minus_the_log_of_the_softmax(K):
    same(loss_of("softmax", K), lambda z, y, _: -F.log_softmax(z, 1)[torch.arange(len(y)), y], K)


@pytest.mark.parametrize("name, given", PLAIN_SOFTMAX, ids=str)
def test_switched_off_it_is_softmax(K, name, given):
    same(loss_of(name, K, **given), loss_of("softmax", K), K)


@pytest.mark.parametrize(
    "name, given",
    [
        ("dropout", {"rho": 1.0}), ("final_layer_l2", {"lambda_final": 0.0}), ("center", {"lam": 0.0}),
        ("label_smoothing+dropout", {"alpha": 0.0, "rho": 1.0}),
        ("large_margin+center", {"large_margin_lam": 0.0, "center_lam": 0.0}),
        *PLAIN_SOFTMAX,
    ],
    ids=str,
)  # fmt: skip
def test_switched_off_its_head_is_softmax(K, name, given):
    for train in (True, False):
        first, second = head_of(name, K, 6, **given), head_of("softmax", K, 6)
        first.head.train(train)
        same_parameters(first, second, K, 6, ["weight", "bias"])


def test_dropout_is_softmax_in_evaluation(K):
    same_parameters(head_of("dropout", K, 6, rho=0.3), head_of("softmax", K, 6), K, 6, ["weight", "bias"])


@pytest.mark.parametrize("annealing", [True, False])
def test_large_margin_softmax_of_margin_one_is_softmax_without_a_bias(K, annealing):
    first = head_of("large_margin_softmax", K, 6, m=1, annealing=annealing)
    second = head_of("softmax", K, 6)
    with torch.no_grad():
        second.head.bias.zero_()
    for progress in (0.0, 0.99):
        same_parameters(first, second, K, 6, ["weight"], progress=progress)


@pytest.mark.parametrize("m", [2, 3, 4])
def test_large_margin_softmax_never_lowers_the_loss(K, m):
    """psi(theta) <= cos(theta), so that its logit of the target is at most the plain one."""
    x, y, _ = draws_of_features(K, 6, 1.0, 40)
    first, second = head_of("large_margin_softmax", K, 6, m=m, annealing=False), head_of("softmax", K, 6)
    with torch.no_grad():
        second.head.bias.zero_()
        second.head.weight.copy_(first.head.weight)
    assert (first.values(x, y) > second.values(x, y)).all()


def test_gce_tends_to_cross_entropy(K):
    """(1 - e^(-q c))/q lies between c - q c^2/2 and c, c the cross-entropy; its slope is e^(-q c) times that of c."""
    q = 1e-9
    for scale in SCALES:
        z, y, weights = draws(K, scale)
        losses, gradient = gradients(loss_of("gce", K, q=q), z, y, weights, 0.3)
        ce, its_gradient = gradients(loss_of("softmax", K), z, y, weights, 0.3)
        rounding = 1e-13 * (1 + ce)
        assert (losses <= ce + rounding).all() and (losses >= ce - q * ce**2 / 2 - rounding).all()
        near(gradient, torch.exp(-q * ce)[:, None] * its_gradient, TOLERANCE, FLOOR)
        near(gradient, its_gradient, q * ce.max().item() + 1e-12, FLOOR)


def test_super_symmetric_is_softmax_where_the_constraint_already_holds():
    for K, d in ((2, 1), (3, 5), (10, 9)):
        first, second = head_of("super_symmetric", K, d), head_of("softmax", K, d)
        simplex = torch.eye(K, dtype=torch.float64) - 1 / K
        rows = 2.5 * torch.linalg.svd(simplex)[0][:, : K - 1] * math.sqrt(K / (K - 1))  # w_c.w_c = 2.5^2
        turn = torch.linalg.qr(torch.randn(d, d, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))[0]
        weight = rows @ turn[: K - 1]
        near(weight @ weight.T, gram_of_a_simplex(K, 6.25), 1e-12, 1e-12)
        with torch.no_grad():
            first.head.weight.copy_(weight)
            second.head.weight.copy_(weight)
            second.head.bias.zero_()
        same(first, second, K, d=d)


def test_super_symmetric_logits_are_those_of_a_simplex():
    for K, d in ((2, 1), (3, 5), (10, 9)):
        subject = head_of("super_symmetric", K, d)
        W = subject.head(torch.eye(d, dtype=torch.float64)).detach().T  # row by row, the weight that is used
        v = W.square().sum(1).mean()
        assert v > 1e-3
        near(W @ W.T, gram_of_a_simplex(K, v), 1e-9, 1e-10)
        same(subject, lambda x, y, _: F.cross_entropy(x @ W.T, y, reduction="none"), K, d=d)  # noqa: B023


def test_super_symmetric_takes_the_nearest_simplex():
    """By eigenvectors instead of singular vectors; and no other simplex, turned or scaled, is nearer."""
    for K, d in ((2, 1), (3, 5), (10, 9)):
        subject = head_of("super_symmetric", K, d)
        given = subject.head.weight.detach().clone()
        W = subject.head(torch.eye(d, dtype=torch.float64)).detach().T
        centred = given - given.mean(0)
        values, vectors = torch.linalg.eigh(centred @ centred.T)
        values, vectors = values[1:], vectors[:, 1:]  # without the direction of all ones
        polar = vectors @ torch.diag(values.rsqrt()) @ vectors.T @ centred
        near(W, polar * values.sqrt().mean(), 1e-8, 1e-9)
        distance = (W - given).norm()
        small = torch.linalg.matrix_exp(0.01 * torch.ones(d, d, dtype=torch.float64).triu(1).sub(
            torch.ones(d, d, dtype=torch.float64).tril(-1)))  # fmt: skip
        for other in (1.01 * W, 0.99 * W, *((W @ small, W @ small.T) if d > 1 else ())):
            assert (other - given).norm() > distance
        near(subject.head(torch.eye(d, dtype=torch.float64)).T, W, 1e-12, 1e-13)  # using it again moves nothing


# ---------------------------------------------------------------- label smoothing, penalties, normalization


@pytest.mark.parametrize("alpha", [0.05, 0.3, 0.9])
def test_scaled_label_smoothing_is_the_other_over_one_minus_alpha(K, alpha):
    scaled, plain = (loss_of("label_smoothing", K, alpha=alpha, scaled=s) for s in (True, False))
    same(scaled, times(1 / (1 - alpha), plain), K)


def test_half_the_penalty_is_half_beta(K):
    same(loss_of("logit_penalty", K, beta=0.02, half=True), loss_of("logit_penalty", K, beta=0.01), K)


def test_logit_penalty_adds_the_squared_norm(K):
    plain = loss_of("softmax", K)
    same(loss_of("logit_penalty", K, beta=0.01), lambda z, y, t: plain(z, y, t) + 0.01 * (z * z).sum(1), K)


def test_logit_norm_at_one_of_unit_logits_is_softmax(K):
    """Its value; and its gradient is that of softmax without the part along the logits."""
    z, y, weights = draws(K)
    z = z / z.norm(dim=1, keepdim=True)
    losses, gradient = gradients(loss_of("logit_norm", K, tau=1.0), z, y, weights, 0.3)
    plain, its_gradient = gradients(loss_of("softmax", K), z, y, weights, 0.3)
    near(losses, plain, 1e-12, 1e-14)
    near(gradient, its_gradient - z * (z * its_gradient).sum(1, keepdim=True), 1e-10, 1e-13)


def test_logit_norm_does_not_see_the_length_of_the_logits(K):
    z, y, weights = draws(K)
    losses, gradient = gradients(loss_of("logit_norm", K, tau=0.1), z, y, weights, 0.3)
    longer, its_gradient = gradients(loss_of("logit_norm", K, tau=0.1), 7 * z, y, weights, 0.3)
    near(longer, losses, 1e-11, 1e-13)
    near(7 * its_gradient, gradient, 1e-10, 1e-12)
    near((z * gradient).sum(1), torch.zeros(len(z)), 0, 1e-12)


def test_logit_norm_is_softmax_of_longer_logits(K):
    plain = loss_of("softmax", K)
    same(
        loss_of("logit_norm", K, tau=0.05),
        lambda z, y, t: plain(z / (0.05 * z.square().sum(1, keepdim=True).sqrt()), y, t), K,
    )  # fmt: skip


def cosine_by_hand(head, x, tau, normalize_features=True):
    if normalize_features:
        x = x / x.square().sum(1, keepdim=True).sqrt()
    W = head.weight / head.weight.square().sum(1, keepdim=True).sqrt()
    return x @ W.T / tau + head.bias


@pytest.mark.parametrize("normalize_features", [True, False])
@pytest.mark.parametrize("scale_loss", [True, False])
def test_cosine_softmax_is_softmax_of_the_cosines(K, normalize_features, scale_loss):
    tau, plain = 0.2, loss_of("softmax", K)
    options = {"normalize_features": normalize_features, "scale_loss": scale_loss}
    subject = head_of("cosine_softmax", K, 6, tau=tau, **options)
    factor = tau if scale_loss else 1.0
    same(
        subject,
        lambda x, y, t: factor * plain(cosine_by_hand(subject.head, x, tau, normalize_features), y, t), K, d=6,
    )  # fmt: skip


def test_cosine_softmax_of_unit_weights_is_linear_where_features_are_not_normalized(K):
    subject, plain = head_of("cosine_softmax", K, 6, tau=1.0, normalize_features=False), head_of("softmax", K, 6)
    with torch.no_grad():
        subject.head.weight /= subject.head.weight.norm(dim=1, keepdim=True)
    same_parameters(subject, plain, K, 6, ["bias"])


def test_final_layer_l2_adds_half_the_squared_weights(K):
    subject, plain = head_of("final_layer_l2", K, 6, lambda_final=0.3), head_of("softmax", K, 6)
    x, y, weights = draws_of_features(K, 6)
    losses, of_it = subject.with_gradients(x, y, weights)
    with torch.no_grad():
        for name in ("weight", "bias"):
            getattr(plain.head, name).copy_(getattr(subject.head, name))
    others, of_plain = plain.with_gradients(x, y, weights)
    W = subject.head.weight.detach()
    near(losses, others + 0.15 * (W * W).sum(), 1e-12, 1e-13)
    near(of_it["weight"], of_plain["weight"] + 0.3 * weights.sum() * W, 1e-11, 1e-12)
    near(of_it["bias"], of_plain["bias"], 1e-12, 1e-13)
    near(of_it["inputs"], of_plain["inputs"], 1e-12, 1e-13)


# ---------------------------------------------------------------- squares and sigmoids


def test_sigmoid_is_a_softmax_of_two_per_class(K):
    """softplus(z) is the softmax loss of (z, 0) for the second of two classes."""

    def pairs(z, y, _):
        losses = torch.zeros(len(z), dtype=z.dtype)
        for k in range(K):
            pair = torch.stack([z[:, k], torch.zeros_like(z[:, k])], 1)
            losses = losses + F.cross_entropy(pair, (y != k).long(), reduction="none")
        return losses

    same(loss_of("sigmoid", K), pairs, K)


def test_squared_error_at_one_is_the_mean_squared_error(K):
    same(
        loss_of("squared_error", K, kappa=1.0, M=1.0),
        lambda z, y, _: (z - F.one_hot(y, K)).square().mean(1), K,
    )  # fmt: skip


def test_quadratic_is_half_the_squared_distance(K):
    same(loss_of("quadratic", K), lambda z, y, _: (z - F.one_hot(y, K)).square().sum(1) / 2, K)
    same(loss_of("quadratic", K), loss_of("squared_error", K, kappa=1.0, M=1.0, loss_scale=K / 2), K)


@pytest.mark.parametrize("w", [0.0, 0.5, 2.0, 9.0])
def test_ccql_is_a_squared_error(K, w):
    same(loss_of("ccql", K, w=w), loss_of("squared_error", K, kappa=1 + w, M=1.0, loss_scale=K / 2), K)


def test_ccql_at_zero_is_quadratic(K):
    same(loss_of("ccql", K, w=0.0), loss_of("quadratic", K), K)


def test_ccql_weighs_the_target_by_its_default(K):
    same(loss_of("ccql", K), loss_of("ccql", K, w=math.sqrt(K - 1) - 1), K)


def test_ccql_of_two_classes_is_quadratic():
    same(loss_of("ccql", 2), loss_of("quadratic", 2), 2)


# ---------------------------------------------------------------- functions of p_y


def p_of(z, y):
    return F.softmax(z, 1)[torch.arange(len(y)), y]


def test_mae_is_twice_the_expectation_loss(K):
    same(loss_of("mae", K), times(2, loss_of("expectation", K)), K)
    same(loss_of("mae", K), lambda z, y, _: (F.one_hot(y, K) - F.softmax(z, 1)).abs().sum(1), K, (0.1, 1.0))


def test_expectation_is_one_minus_the_probability(K):
    same(loss_of("expectation", K), lambda z, y, _: 1 - p_of(z, y), K, (0.1, 1.0))


def test_gce_at_one_is_the_expectation_loss(K):
    same(loss_of("gce", K, q=1.0, k=0.0), loss_of("expectation", K), K)


def test_gce_is_not_truncated_at_zero(K):
    same(loss_of("gce", K, q=0.7, k=0.0), lambda z, y, _: (1 - p_of(z, y) ** 0.7) / 0.7, K, (0.1, 1.0))


def test_truncated_gce_is_constant_below_its_threshold(K):
    q, k = 0.7, 1.2 / K if K > 2 else 0.5
    z, y, _ = draws(K, 1.0, 60)
    losses, gradient = loss_of("gce", K, q=q, k=k).with_gradient(z, y)
    whole, its_gradient = loss_of("gce", K, q=q, k=0.0).with_gradient(z, y)
    below = p_of(z, y) <= k
    assert 5 < below.sum() < 55
    near(losses[below], torch.full_like(losses[below], (1 - k**q) / q), 1e-12, 0)
    assert (gradient[below] == 0).all()
    near(losses[~below], whole[~below], 1e-12, 0)
    near(gradient[~below], its_gradient[~below], 1e-12, 1e-15)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_is_proportional_to_its_alpha(K, gamma):
    same(loss_of("focal", K, gamma=gamma, alpha=0.25), times(0.25, loss_of("focal", K, gamma=gamma, alpha=1.0)), K)


def test_focal_with_a_whole_gamma_is_a_polynomial_of_the_expectation_loss(K):
    ce, el = loss_of("softmax", K), loss_of("expectation", K)
    for gamma in (1, 2, 3):
        same(
            loss_of("focal", K, gamma=float(gamma), alpha=1.0),
            lambda z, y, t: el(z, y, t) ** gamma * ce(z, y, t), K,  # noqa: B023
        )  # fmt: skip


def test_ce_el_at_zero_is_the_sum(K):
    ce, el = loss_of("softmax", K), loss_of("expectation", K)
    for F_ in (0, 0.0, "0"):
        same(loss_of("ce_el", K, F=F_), lambda z, y, t: ce(z, y, t) + el(z, y, t), K)


def test_ce_el_at_one_half_is_the_expectation_loss(K):
    same(loss_of("ce_el", K, F=0.5), loss_of("expectation", K), K)
    same(loss_of("ce_el", K, F="0,0.5"), loss_of("expectation", K), K, progress=0.96)
    same(loss_of("ce_el", K, F="0-0.5"), loss_of("expectation", K), K, progress=0.9)


PHASES = [(0.05, 0.0), (0.2, 0.1), (0.4, 0.2), (0.6, 0.3), (0.7, 0.4), (0.9, 0.5)]


@pytest.mark.parametrize("progress, F_", PHASES)
def test_ce_el_in_a_phase_is_ce_el_at_its_F(progress, F_):
    same(loss_of("ce_el", 3, F="0-0.5"), loss_of("ce_el", 3, F=F_), 3, progress=progress)
    early = loss_of("ce_el", 3, F=0)
    same(loss_of("ce_el", 3, F="0,0.5"), early, 3, progress=progress)  # all of these lie before 95%


FACTORS = {  # DESIGN's table, for F = 0, 0.1 ... 0.5
    "target": [4 / 3, 17 / 12, 14 / 9, 11 / 6, 8 / 3, 1 / 3],
    "other": [3 / 2, 13 / 8, 11 / 6, 9 / 4, 7 / 2, 1 / 2],
}


@pytest.mark.parametrize("volume", ["target", "other"])
def test_ce_matched_is_cross_entropy_times_the_ratio_of_volumes(K, volume):
    ce = loss_of("softmax", K)
    for phase, factor in enumerate(FACTORS[volume]):
        F_ = phase / 10
        same(loss_of("ce_matched", K, F=F_, volume=volume), times(factor, ce), K)
        progress = PHASES[phase][0]
        same(loss_of("ce_matched", K, F="0-0.5", volume=volume), times(factor, ce), K, progress=progress)
    for progress, phase in ((0.1, 0), (0.94, 0), (0.96, 5)):
        scheduled = loss_of("ce_matched", K, F="0,0.5", volume=volume)
        same(scheduled, times(FACTORS[volume][phase], ce), K, progress=progress)


def test_tamed_ce_at_one_is_a_logarithm(K):
    ce = loss_of("softmax", K)
    same(loss_of("tamed_ce", K, alpha=1.0), lambda z, y, t: torch.log1p(ce(z, y, t)), K)


def test_tamed_ce_at_two_levels_off(K):
    ce = loss_of("softmax", K)
    same(loss_of("tamed_ce", K, alpha=2.0), lambda z, y, t: ce(z, y, t) / (1 + ce(z, y, t)), K)


def test_tamed_ce_at_one_half_is_a_root(K):
    ce = loss_of("softmax", K)
    same(loss_of("tamed_ce", K, alpha=0.5), lambda z, y, t: 2 * ce(z, y, t) / (1 + (1 + ce(z, y, t)).sqrt()), K)


@pytest.mark.parametrize("step", [1e-3, 1e-6, 1e-8, 3e-9, 1e-12])
def test_tamed_ce_is_continuous_at_one(K, step):
    """[e^(s u) - 1]/s = u + s u^2/2 + ..., with u = log(1 + c) and s = 1 - alpha; its slope in u is e^(s u)."""
    for alpha in (1 - step, 1 + step):
        z, y, weights = draws(K, 1.0)
        losses, gradient = gradients(loss_of("tamed_ce", K, alpha=alpha), z, y, weights, 0.3)
        at_one, its_gradient = gradients(loss_of("tamed_ce", K, alpha=1.0), z, y, weights, 0.3)
        near(losses, torch.expm1((1 - alpha) * at_one) / (1 - alpha), 1e-10, 1e-13)
        near(gradient, its_gradient * torch.exp((1 - alpha) * at_one)[:, None], 1e-10, 1e-13)


def test_mpce_is_cross_entropy_times_the_distance_to_the_top(K):
    ce = loss_of("softmax", K)
    same(
        loss_of("mpce", K),
        lambda z, y, t: (F.softmax(z, 1).max(1).values - p_of(z, y)) * ce(z, y, t), K, (0.1, 1.0),
    )  # fmt: skip


def test_mpce_leaves_alone_what_is_right(K):
    z, y, _ = draws(K, 1.0, 60)
    z[torch.arange(30), y[:30]] += 2.0
    losses, gradient = loss_of("mpce", K).with_gradient(z, y)
    right = z.argmax(1) == y
    assert 10 < right.sum() < 50
    assert (losses[right] == 0).all() and (losses[~right] > 0).all()
    near(gradient[right], torch.zeros_like(gradient[right]), 0, 1e-15)
    assert (gradient[~right].abs().max(1).values > 1e-6).all()


# ---------------------------------------------------------------- margins


def others_of(z, y):
    """The logits of the classes other than y, (B, K - 1)."""
    keep = F.one_hot(y, z.shape[1]) == 0
    return z[keep].reshape(len(z), -1)


DIVERGENCES = ("symmetric", "u_q", "q_u")


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_large_margin_adds_nothing_at_two_classes(divergence):
    same(loss_of("large_margin", 2, lam=3.0, divergence=divergence), loss_of("softmax", 2), 2, relative=1e-13)


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_large_margin_adds_nothing_where_the_others_are_equal(divergence):
    z, y = torch.zeros(4, 4, dtype=torch.float64), torch.arange(4)
    z[y, y] = torch.tensor([3.0, -2.0, 0.0, 40.0], dtype=torch.float64)
    losses, gradient = loss_of("large_margin", 4, lam=5.0, divergence=divergence).with_gradient(z, y)
    plain, its_gradient = loss_of("softmax", 4).with_gradient(z, y)
    near(losses, plain, 1e-13, 1e-14)
    near(gradient, its_gradient, 1e-13, 1e-14)


def test_the_symmetric_divergence_is_the_mean_of_the_other_two(K):
    symmetric, *pair = (loss_of("large_margin", K, lam=0.4, divergence=v) for v in DIVERGENCES)
    same(symmetric, lambda z, y, t: (pair[0](z, y, t) + pair[1](z, y, t)) / 2, K)


def test_the_symmetric_divergence_is_kobayashis_eq_8(K):
    def by_hand(z, y, _):
        log_q = F.log_softmax(others_of(z, y), 1)
        extra = ((log_q.exp() - 1 / (K - 1)) * log_q).sum(1) / 2
        return F.cross_entropy(z, y, reduction="none") + 0.3 * extra

    same(loss_of("large_margin", K, lam=0.3, divergence="symmetric"), by_hand, K)


@pytest.mark.parametrize("margin", [0.5, 1.0, 3.0])
def test_margin_softmax_is_softmax_with_a_lowered_target(K, margin):
    ce = loss_of("softmax", K)
    same(
        loss_of("margin_softmax", K, margin=margin),
        lambda z, y, t: ce(z - margin * F.one_hot(y, K).double(), y, t), K,
    )  # fmt: skip


def test_margin_softmax_sharpened_is_crammer_singer(K):
    """softplus and log-sum-exp exceed their hard forms by at most log K together: T times the logits and the margin."""
    z, y, _ = draws(K, 1.0, 40)
    hard = loss_of("crammer_singer", K).values(z, y)
    for T in (10.0, 1e4):
        soft = loss_of("margin_softmax", K, margin=T).values(T * z, y) / T
        assert (soft >= hard - 1e-12).all() and (soft <= hard + math.log(K) / T + 1e-12).all()


def test_the_hinges_are_one_at_two_classes():
    same(loss_of("hinge", 2), loss_of("crammer_singer", 2), 2)


def test_the_hinges_by_hand(K):
    same(
        loss_of("hinge", K),
        lambda z, y, _: (others_of(z, y) - z[torch.arange(len(y)), y][:, None] + 1).clamp_min(0).mean(1), K,
    )  # fmt: skip
    same(
        loss_of("crammer_singer", K),
        lambda z, y, _: (others_of(z, y).max(1).values - z[torch.arange(len(y)), y] + 1).clamp_min(0), K,
    )  # fmt: skip


# ---------------------------------------------------------------- complement entropy


def second_pass(K):
    return Subject.of("cot", K, {}, second=True)


def test_the_second_pass_of_cot_is_minus_an_entropy_over_K(K):
    def by_hand(z, y, _):
        log_q = F.log_softmax(others_of(z, y), 1)
        return (log_q.exp() * log_q).sum(1) / K

    same(second_pass(K), by_hand, K)


def test_the_second_pass_of_cot_does_nothing_at_two_classes():
    z, y, _ = draws(2, 1.0)
    losses, gradient = second_pass(2).with_gradient(z, y)
    near(losses, torch.zeros(len(z)), 0, 1e-15)
    near(gradient, torch.zeros_like(z), 0, 1e-15)


def test_the_second_pass_of_cot_leaves_the_target_alone(K):
    z, y, _ = draws(K, 1.0)
    _, gradient = second_pass(K).with_gradient(z, y)
    near(gradient[torch.arange(len(y)), y], torch.zeros(len(y)), 0, 1e-16)


def test_complement_entropy_is_the_divergence_to_the_uniform():
    """KL(q || u) = log(K - 1) - H(q), so large_margin's q_u is cross-entropy + lam log(K - 1) + lam K second passes."""
    for K in (3, 10):
        ce, second = loss_of("softmax", K), second_pass(K)
        same(
            loss_of("large_margin", K, lam=0.3, divergence="q_u"),
            lambda z, y, t: ce(z, y, t) + 0.3 * (math.log(K - 1) + K * second(z, y)), K,  # noqa: B023
        )  # fmt: skip


# ---------------------------------------------------------------- distances and centers


def test_mmc_is_half_a_squared_distance_and_its_logits_are_those_of_all_classes(K):
    subject = head_of("mmc", K, K + 2, C_mm=3.0)
    means = subject.head.means.detach()
    near(means @ means.T, gram_of_a_simplex(K, 9.0), 1e-12, 1e-12)
    same(subject, lambda x, y, _: (x - means[y]).square().sum(1) / 2, K, d=K + 2)
    x, _, _ = draws_of_features(K, K + 2)
    near(subject.head(x), -(x[:, None] - means).square().sum(2) / 2, 1e-11, 1e-12)


def mixture(K, d, log_variance=None, **given):
    subject = head_of("gaussian_mixture", K, d, **given)
    if log_variance is not None:
        with torch.no_grad():
            subject.head.log_variances.copy_(log_variance.expand(K, d))
    return subject


def test_gaussian_mixture_of_equal_variances_is_a_linear_softmax(K):
    d = 4
    log_variance = torch.tensor([0.3, -1.0, 0.0, 2.0], dtype=torch.float64)
    subject, plain = mixture(K, d, log_variance, alpha=0.0, lam=0.0), head_of("softmax", K, d)
    means = subject.head.means.detach()
    with torch.no_grad():
        plain.head.weight.copy_(means / log_variance.exp())
        plain.head.bias.copy_(-(means**2 / log_variance.exp()).sum(1) / 2)
    same(subject, plain, K, (0.1, 1.0, 10.0), d=d)


def test_gaussian_mixture_is_cross_entropy_of_its_logits(K):
    subject = mixture(K, 4, alpha=0.0, lam=0.0)
    same(subject, lambda x, y, _: F.cross_entropy(subject.head(x), y, reduction="none"), K, (0.1, 1.0, 10.0), d=4)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 2.0])
@pytest.mark.parametrize("lam", [0.0, 0.1, 1.0])
def test_gaussian_mixture_by_hand(K, alpha, lam):
    subject = mixture(K, 4, alpha=alpha, lam=lam)
    means, log_variances = subject.head.means.detach(), subject.head.log_variances.detach()

    def by_hand(x, y, _):
        distance = ((x[:, None] - means) ** 2 / log_variances.exp()).sum(2) / 2
        half_log_det = log_variances.sum(1) / 2
        own = F.one_hot(y, K).double()
        cross_entropy = F.cross_entropy(-distance * (1 + alpha * own) - half_log_det, y, reduction="none")
        return cross_entropy + lam * ((distance + half_log_det) * own).sum(1)

    same(subject, by_hand, K, (0.1, 1.0, 10.0), d=4)


def test_the_likelihood_of_unit_variances_around_a_simplex_is_mmc(K):
    d = K + 1
    target = head_of("mmc", K, d, C_mm=2.0)
    with_likelihood, without = (
        mixture(K, d, torch.zeros(d, dtype=torch.float64), alpha=0.2, lam=lam) for lam in (1.0, 0.0)
    )
    with torch.no_grad():
        for subject in (with_likelihood, without):
            subject.head.means.copy_(target.head.means)
    same(with_likelihood, lambda x, y, t: without(x, y, t) + target(x, y, t), K, d=d)


def test_center_adds_half_a_squared_distance(K):
    lam, d = 0.03, 5
    subject, plain = head_of("center", K, d, lam=lam), head_of("softmax", K, d)
    centers = subject.head.centers.clone()
    assert centers.abs().min() > 0
    with torch.no_grad():
        plain.head.weight.copy_(subject.head.weight)
        plain.head.bias.copy_(subject.head.bias)
    for train in (False, True):
        subject.head.train(train)

        def by_hand(x, y, t):
            return plain(x, y, t) + lam / 2 * (x - centers[y]).square().sum(1)

        for scale in SCALES:
            subject.head.centers.copy_(centers)
            x, y, weights = draws_of_features(K, d, scale)
            losses, gradient = gradients(subject, x, y, weights, 0.3)
            others, its_gradient = gradients(by_hand, x, y, weights, 0.3)
            near(losses, others, 1e-11, 1e-12)
            near(gradient, its_gradient, 1e-11, 1e-11)


def test_centers_move_in_training_only_and_after_the_value_was_taken():
    """Wen et al. Eq. 4: by center_rate times the sum of the differences over one more than their number."""
    K, d, rate = 4, 3, 0.4
    subject = head_of("center", K, d, lam=0.1, center_rate=rate)
    before = subject.head.centers.clone()
    x, _, _ = draws_of_features(K, d, 1.0, 6)
    y = torch.tensor([0, 0, 0, 1, 1, 3])  # class 2 has no example
    subject.head.eval()
    subject.values(x, y)
    assert torch.equal(subject.head.centers, before)
    subject.head.train()
    subject.values(x, y)
    want = before.clone()
    for j in range(K):
        own = x[y == j]
        want[j] -= rate * (before[j] - own).sum(0) / (1 + len(own))
    near(subject.head.centers, want, 1e-12, 1e-13)
    assert torch.equal(subject.head.centers[2], before[2])
    assert not subject.head.centers.requires_grad


def test_centers_start_at_zero_and_are_no_parameters():
    head = make_head("center", in_features=3, num_classes=4)
    assert torch.equal(head.centers, torch.zeros(4, 3))
    assert "centers" in dict(head.named_buffers()) and "centers" not in dict(head.named_parameters())


# ---------------------------------------------------------------- combinations


def test_label_smoothing_with_a_penalty_is_the_sum(K):
    smooth = loss_of("label_smoothing", K, alpha=0.1)
    both = loss_of("label_smoothing+logit_penalty", K, alpha=0.1, beta=0.02)
    same(both, lambda z, y, t: smooth(z, y, t) + 0.02 * z.square().sum(1), K)


def test_ce_el_with_a_penalty_is_the_sum(K):
    mixed = loss_of("ce_el", K, F=0.25)
    both = loss_of("ce_el+logit_penalty", K, F=0.25, beta=0.02)
    same(both, lambda z, y, t: mixed(z, y, t) + 0.02 * z.square().sum(1), K)


def test_sigmoid_of_normalized_logits(K):
    sigmoid = loss_of("sigmoid", K)
    same(
        loss_of("sigmoid+logit_norm", K, tau=0.1),
        lambda z, y, t: sigmoid(z / (0.1 * z.square().sum(1, keepdim=True).sqrt()), y, t), K,
    )  # fmt: skip


def test_sigmoid_of_cosines(K):
    sigmoid, subject = loss_of("sigmoid", K), head_of("sigmoid+cosine_softmax", K, 6, tau=0.1)
    same(subject, lambda x, y, t: sigmoid(cosine_by_hand(subject.head, x, 0.1), y, t), K, d=6)


def test_sigmoid_of_cosines_starts_with_the_sigmoids_bias():
    for name in ("sigmoid", "sigmoid+cosine_softmax", "sigmoid+logit_norm"):
        head = make_head(name, in_features=5, num_classes=10)
        near(head.bias, torch.full((10,), -math.log(10)), 1e-6, 0, name)


def test_a_penalty_acts_on_the_cosines(K):
    plain, subject = loss_of("softmax", K), head_of("cosine_softmax+logit_penalty", K, 6, tau=0.1, beta=0.02)

    def by_hand(x, y, t):
        z = cosine_by_hand(subject.head, x, 0.1)
        return plain(z, y, t) + 0.02 * z.square().sum(1)

    same(subject, by_hand, K, d=6)


def test_smoothed_cosines_with_a_penalty(K):
    smooth = loss_of("label_smoothing", K, alpha=0.1)
    subject = head_of("label_smoothing+cosine_softmax+logit_penalty", K, 6, alpha=0.1, tau=0.1, beta=0.02)

    def by_hand(x, y, t):
        z = cosine_by_hand(subject.head, x, 0.1)
        return smooth(z, y, t) + 0.02 * z.square().sum(1)

    same(subject, by_hand, K, d=6)


@pytest.mark.parametrize("base, given", [("margin_softmax", {"margin": 1.0}), ("focal", {"gamma": 2.0, "alpha": 1.0})])
def test_large_margin_adds_its_divergence_to_another_criterion(K, base, given):
    alone, plain, large = loss_of(base, K, **given), loss_of("softmax", K), loss_of("large_margin", K, lam=0.3)
    both = loss_of(f"{base}+large_margin", K, **given, lam=0.3)
    same(both, lambda z, y, t: alone(z, y, t) + large(z, y, t) - plain(z, y, t), K, relative=1e-9)


def test_large_margin_and_center_have_a_weight_each(K):
    lams = {"large_margin_lam": 0.3, "center_lam": 0.02}
    both, center = head_of("large_margin+center", K, 5, **lams), head_of("center", K, 5, lam=0.02)
    large, plain = loss_of("large_margin", K, lam=0.3), loss_of("softmax", K)
    with torch.no_grad():
        for name, tensor in both.head.state_dict().items():
            center.head.state_dict()[name].copy_(tensor)

    def by_hand(x, y, t):
        z = both.head(x)
        return center(x, y, t) + large(z, y, t) - plain(z, y, t)

    same(both, by_hand, K, d=5, relative=1e-9)


def test_dropout_acts_under_another_criterion():
    """In training its features are dropped: with the same draws, the same losses as label smoothing of what is left."""
    K, d = 3, 40
    both = head_of("label_smoothing+dropout", K, d, alpha=0.2, rho=0.5)
    smooth = head_of("label_smoothing", K, d, alpha=0.2)
    with torch.no_grad():
        for name in ("weight", "bias"):
            getattr(smooth.head, name).copy_(getattr(both.head, name))
    x, y, weights = draws_of_features(K, d)
    both.head.eval()
    near(both.values(x, y), smooth.values(x, y), 1e-13, 1e-14)
    both.head.train()
    torch.manual_seed(3)
    losses, gradient = both.with_gradient(x, y)
    kept = gradient != 0
    assert 0.3 < kept.double().mean() < 0.7
    near(losses, smooth.values(x * kept / 0.5, y), 1e-12, 1e-13)


def test_squared_error_with_final_layer_l2_is_the_sum(K):
    subject, alone = head_of("squared_error+final_layer_l2", K, 4, lambda_final=0.2), loss_of("squared_error", K)
    W = subject.head.weight
    same(subject, lambda x, y, t: alone(F.linear(x, W, subject.head.bias), y, t) + 0.1 * W.square().sum(), K, d=4)


# ---------------------------------------------------------------- a head is its criterion behind a linear layer

CRITERIA_WITH_VALUES = [
    ("softmax", {}), ("label_smoothing", {"alpha": 0.1}), ("logit_penalty", {"beta": 0.01}),
    ("logit_norm", {"tau": 0.2}), ("sigmoid", {}), ("squared_error", {"kappa": 3.0, "M": 2.0}),
    ("focal", {"gamma": 2.0}), ("expectation", {}), ("ce_el", {"F": 0.3}),
    ("ce_matched", {"F": 0.3}), ("mae", {}), ("gce", {"q": 0.7, "k": 0.1}),
    ("tamed_ce", {"alpha": 0.7}), ("mpce", {}), ("cot", {}), ("large_margin", {"lam": 0.3}), ("hinge", {}),
    ("crammer_singer", {}), ("margin_softmax", {"margin": 2.0}), ("quadratic", {}), ("ccql", {"w": 1.5}),
]  # fmt: skip


@pytest.mark.parametrize("name, given", CRITERIA_WITH_VALUES, ids=str)
def test_a_head_is_its_criterion_behind_a_linear_layer(K, name, given):
    subject, criterion = head_of(name, K, 6, **given), loss_of(name, K, **given)
    W, b = subject.head.weight, subject.head.bias
    same(subject, lambda x, y, t: criterion(F.linear(x, W, b), y, t), K, d=6)
    x, y, _ = draws_of_features(K, 6)
    want = F.linear(x, W, b)
    near(subject.head(x), want / (0.2 * want.norm(dim=1, keepdim=True)) if name == "logit_norm" else want, 1e-12, 1e-13)
    if name == "cot":
        again = Subject.of(name, K, given, 6, second=True)
        near(again.values(x, y), make_loss(name, num_classes=K).second_pass(again.head(x), y), 1e-12, 1e-13)


def test_every_criterion_stands_above():
    assert {name for name, _ in CRITERIA_WITH_VALUES} == set(CRITERIA) & set(DESIGN)


def test_a_head_trains_what_it_says():
    """The names of the parameters are part of the interface."""
    names = {
        "large_margin_softmax": {"weight"}, "super_symmetric": {"weight"}, "mmc": set(),
        "gaussian_mixture": {"means", "log_variances"}, "center": {"weight", "bias"},
        "cosine_softmax": {"weight", "bias"}, "softmax": {"weight", "bias"},
    }  # fmt: skip
    for name, want in names.items():
        head = fill(make_head(name, in_features=5, num_classes=3), name)
        assert set(dict(head.named_parameters())) == want, name
        for parameter, tensor in head.named_parameters():
            assert tensor.shape == ((3,) if parameter == "bias" else (3, 5)), (name, parameter)
