"""Losses against other people's implementations: torch, torchvision, timm, keras, pytorch-metric-learning.

Values and gradients in double precision, to 1e-10. keras clips its probabilities at 1e-7 and is in single precision
here and there, so it gets 2e-7; it runs in a process of its own, as it sets environment variables and writes a
configuration when it is imported.
"""

import json
import math
import os
import subprocess
import sys

import pytest
import torch
from every_loss import Subject, draws, draws_of_features, near
from torch import distributions
from torch.nn import functional as F

RELATIVE, ABSOLUTE = 1e-10, 1e-13
KS = (2, 5, 100)
SCALES = (0.1, 1.0, 10.0)


def agree(ours, theirs, inputs, targets, relative=RELATIVE, absolute=ABSOLUTE):
    """Means over the batch (what others give) and their gradients: ours of (inputs, targets), theirs alike."""
    results = []
    for call in (ours, theirs):
        leaf = inputs.detach().clone().requires_grad_()
        value = call(leaf, targets)
        value = value.mean() if value.dim() else value
        assert value.dtype == torch.float64
        results.append((value.detach(), torch.autograd.grad(value, leaf)[0]))
    (value, gradient), (others, its_gradient) = results
    assert its_gradient.abs().max() > 0
    near(value, others, relative, absolute, "value")
    near(gradient, its_gradient, relative, absolute * max(1.0, its_gradient.abs().max().item()), "gradient")


def compare(name, given, theirs, factor=1.0, Ks=KS, scales=SCALES):
    """A loss of logits times a factor is theirs."""
    for K in Ks:
        loss = Subject.of(name, K, given(K) if callable(given) else given)
        for scale in scales:
            z, y, _ = draws(K, scale, 12)
            agree(lambda z, y: factor_of(factor, K) * loss(z, y), theirs, z, y)  # noqa: B023


def factor_of(factor, K):
    return factor(K) if callable(factor) else factor


# ---------------------------------------------------------------- torch


def test_softmax_is_torchs():
    compare("softmax", {}, F.cross_entropy)
    compare("cot", {}, F.cross_entropy)


@pytest.mark.parametrize("alpha", [0.0, 0.04, 0.5, 0.95])
def test_label_smoothing_is_torchs(alpha):
    def torchs(z, y):
        return F.cross_entropy(z, y, label_smoothing=alpha)

    compare("label_smoothing", {"alpha": alpha, "scaled": False}, torchs)
    compare("label_smoothing", {"alpha": alpha, "scaled": True}, torchs, factor=1 - alpha)


def test_sigmoid_is_torchs_binary_cross_entropy_summed_over_classes():
    def torchs(z, y):
        return F.binary_cross_entropy_with_logits(z, F.one_hot(y, z.shape[1]).double(), reduction="none").sum(1)

    compare("sigmoid", {}, torchs)


@pytest.mark.parametrize("M", [1.0, 15.0])
def test_squared_error_is_zhous_mean_squared_error(M):
    """The code of Zhou et al.: F.mse_loss against M times the one-hot target, its mean over classes and examples."""
    compare(
        "squared_error", {"kappa": 1.0, "M": M, "loss_scale": 1.0},
        lambda z, y: F.mse_loss(z, M * F.one_hot(y, z.shape[1]).double()),
    )  # fmt: skip


def test_quadratic_is_half_of_torchs_summed_squared_error():
    compare("quadratic", {}, lambda z, y: F.mse_loss(z, F.one_hot(y, z.shape[1]).double(), reduction="none").sum(1) / 2)


@pytest.mark.parametrize("w", [0.0, 2.0])
def test_ccql_is_torchs_weighted_squared_error(w):
    def torchs(z, y):
        t = F.one_hot(y, z.shape[1]).double()
        return F.mse_loss(z, t, weight=1 + w * t, reduction="none").sum(1) / 2

    # torch's weighted mean divides by the weights; unreduced it multiplies by them.
    compare("ccql", {"w": w}, torchs)


def test_mae_is_torchs_l1_loss_of_the_probabilities_summed_over_classes():
    compare(
        "mae", {}, lambda z, y: F.l1_loss(F.softmax(z, 1), F.one_hot(y, z.shape[1]).double(), reduction="none").sum(1),
        scales=(0.1, 1.0),
    )  # fmt: skip


def test_hinge_is_torchs_multi_margin_loss():
    """Weston and Watkins; torch divides by K where Kobayashi's Eq. 14 divides by K - 1."""
    compare("hinge", {}, F.multi_margin_loss, factor=lambda K: (K - 1) / K)


def test_crammer_singer_is_the_largest_of_torchs_margins():
    """torch's multi_margin_loss of the target and its strongest rival alone: K = 2, so half of it."""

    def torchs(z, y):
        own = z.gather(1, y[:, None])
        rival = z.masked_fill(F.one_hot(y, z.shape[1]).bool(), -math.inf).max(1, keepdim=True).values
        return 2 * F.multi_margin_loss(torch.cat([own, rival], 1), torch.zeros_like(y))

    compare("crammer_singer", {}, torchs)


@pytest.mark.parametrize("margin", [0.5, 1.0])
def test_margin_softmax_is_torchs_soft_margin_loss_of_the_biased_margin(margin):
    def torchs(z, y):
        own = z.gather(1, y[:, None])[:, 0]
        rivals = z.masked_fill(F.one_hot(y, z.shape[1]).bool(), -math.inf).logsumexp(1)
        return F.soft_margin_loss(own - rivals - margin, torch.ones_like(own))

    compare("margin_softmax", {"margin": margin}, torchs)


def complement(z, y):
    """torch's categorical distribution over the classes other than y."""
    keep = F.one_hot(y, z.shape[1]) == 0
    return distributions.Categorical(logits=z[keep].reshape(len(z), -1))


@pytest.mark.parametrize("divergence", ["symmetric", "u_q", "q_u"])
def test_large_margin_adds_torchs_divergences(divergence):
    def torchs(z, y):
        q = complement(z, y)
        u = distributions.Categorical(logits=torch.zeros_like(q.logits))
        u_q, q_u = distributions.kl_divergence(u, q), distributions.kl_divergence(q, u)
        extra = {"symmetric": (u_q + q_u) / 2, "u_q": u_q, "q_u": q_u}[divergence]
        return F.cross_entropy(z, y, reduction="none") + 0.3 * extra

    compare("large_margin", {"lam": 0.3, "divergence": divergence}, torchs)


def test_the_second_pass_of_cot_is_torchs_entropy():
    for K in (3, 5, 100):
        second = Subject.of("cot", K, {}, second=True)
        for scale in (0.1, 1.0):
            z, y, _ = draws(K, scale, 12)
            agree(second, lambda z, y: -complement(z, y).entropy() / z.shape[1], z, y)


# ---------------------------------------------------------------- torchvision and timm


def test_sigmoid_is_torchvisions_focal_loss_at_gamma_zero():
    """alpha=-1 turns its weights off; its mean is over classes too."""
    from torchvision.ops import sigmoid_focal_loss

    compare(
        "sigmoid", {}, lambda z, y: sigmoid_focal_loss(z, F.one_hot(y, z.shape[1]).double(), alpha=-1, gamma=0.0,
                                                       reduction="mean"),
        factor=lambda K: 1 / K,
    )  # fmt: skip


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0, 3.0])
def test_focal_of_two_classes_is_torchvisions_binary_one(gamma):
    """At K = 2 the softmax of the target is the sigmoid of the difference of the logits."""
    from torchvision.ops import sigmoid_focal_loss

    def torchvisions(z, y):
        return sigmoid_focal_loss(z[:, 1] - z[:, 0], y.double(), alpha=-1, gamma=gamma, reduction="mean")

    compare("focal", {"gamma": gamma, "alpha": 1.0}, torchvisions, Ks=(2,), scales=(0.1, 1.0))


@pytest.mark.parametrize("alpha", [0.0, 0.1, 0.5])
def test_label_smoothing_is_timms(alpha):
    from timm.loss import LabelSmoothingCrossEntropy

    compare("label_smoothing", {"alpha": alpha, "scaled": False}, LabelSmoothingCrossEntropy(alpha))


def test_sigmoid_is_timms():
    """Its defaults smooth the targets by 0.1 and divide by K; switched off and summed it is Kornblith's Eq. 9."""
    from timm.loss import BinaryCrossEntropy

    compare("sigmoid", {}, BinaryCrossEntropy(smoothing=0.0, sum_classes=True))
    compare("sigmoid", {}, BinaryCrossEntropy(smoothing=0.0), factor=lambda K: 1 / K)


# ---------------------------------------------------------------- pytorch-metric-learning


def behind(name, theirs, given, K=6, d=5, progress=0.3):
    """A head without a bias and theirs with the same weights; theirs is (d, K). Values, gradients of x and W."""
    subject = Subject.of(name, K, given, d)
    theirs = theirs.double()
    with torch.no_grad():
        theirs.W.copy_(subject.head.weight.T)
        if hasattr(subject.head, "bias"):
            subject.head.bias.zero_()
    for scale in (0.1, 1.0, 5.0):
        x, y, _ = draws_of_features(K, d, scale, 40)
        agree(subject, theirs, x, y)
        (of_ours,) = torch.autograd.grad(subject(x, y, progress).mean(), subject.head.weight)
        (of_theirs,) = torch.autograd.grad(theirs(x, y), theirs.W)
        near(of_ours, of_theirs.T, RELATIVE, ABSOLUTE * max(1.0, of_theirs.abs().max().item()), "gradient of W")


@pytest.mark.parametrize("tau", [0.05, 0.5, 2.0])
def test_cosine_softmax_is_the_normalized_softmax(tau):
    from pytorch_metric_learning.losses import NormalizedSoftmaxLoss

    behind("cosine_softmax", NormalizedSoftmaxLoss(6, 5, temperature=tau), {"tau": tau})


@pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")  # theirs, about NumPy
@pytest.mark.parametrize("m", [1, 2, 3, 4])
def test_large_margin_softmax_is_theirs(m):
    from pytorch_metric_learning.losses import LargeMarginSoftmaxLoss

    given = {"m": m, "annealing": False}
    behind("large_margin_softmax", LargeMarginSoftmaxLoss(6, 5, margin=m, scale=1), given)


@pytest.mark.parametrize("margin, scale", [(0.35, 64.0), (0.2, 8.0), (0.0, 1.0)])
def test_margin_softmax_of_cosines_is_cosface(margin, scale):
    """s (cos - m) at the target: margin_softmax of margin s m behind cosines over 1/s."""
    from pytorch_metric_learning.losses import CosFaceLoss

    given = {"tau": 1 / scale, "margin": scale * margin}
    behind("margin_softmax+cosine_softmax", CosFaceLoss(6, 5, margin=margin, scale=scale), given)


# ---------------------------------------------------------------- torch's normal distributions


def mixture(K=4, d=3, **given):
    subject = Subject.of("gaussian_mixture", K, given, d)
    means, variances = subject.head.means.detach(), subject.head.log_variances.detach().exp()
    return subject, means, variances


def log_densities(x, means, variances):
    """torch's log densities of every class, up to the constant that all classes share."""
    normal = distributions.MultivariateNormal(means, covariance_matrix=torch.diag_embed(variances))
    return normal.log_prob(x[:, None]) + means.shape[1] / 2 * math.log(2 * math.pi)


def test_gaussian_mixtures_logits_are_torchs_log_densities():
    subject, means, variances = mixture(alpha=0.2, lam=0.1)
    for scale in SCALES:
        x, _, _ = draws_of_features(4, 3, scale, 12)
        near(subject.head(x), log_densities(x, means, variances), RELATIVE, 1e-11)


@pytest.mark.parametrize("lam", [0.0, 0.1, 1.0])
def test_gaussian_mixture_without_a_margin_is_torchs_posterior_and_likelihood(lam):
    subject, means, variances = mixture(alpha=0.0, lam=lam)

    def torchs(x, y):
        densities = log_densities(x, means, variances)
        own = densities.gather(1, y[:, None])[:, 0]
        likelihood = F.gaussian_nll_loss(x, means[y], variances[y], reduction="none", eps=0.0).sum(1)
        near(-own, likelihood, 1e-11, 1e-11)  # torch's two agree
        return F.cross_entropy(densities, y, reduction="none") + lam * likelihood

    for scale in SCALES:
        x, y, _ = draws_of_features(4, 3, scale, 12)
        agree(subject, torchs, x, y)


def test_mmc_is_torchs_negative_log_likelihood_of_unit_variance():
    subject = Subject.of("mmc", 4, {"C_mm": 3.0}, 5)
    means = subject.head.means.detach()
    for scale in SCALES:
        x, y, _ = draws_of_features(4, 5, scale, 12)
        agree(
            subject,
            lambda x, y: F.gaussian_nll_loss(x, means[y], torch.ones_like(x), reduction="none", eps=0.0).sum(1), x, y,
        )  # fmt: skip


# ---------------------------------------------------------------- keras

# CategoricalHinge takes the largest of the other logits and 0 (the target's place), so it gets logits above 0, which
# change nothing for a loss of differences.
SHIFTED = {"crammer_singer"}
IN_KERAS = """
import json, sys
import keras, torch
from torch.nn import functional as F
from keras import losses as L

assert keras.backend.backend() == "torch"
keras.backend.set_floatx("float64")
case = json.load(sys.stdin)
each = {"from_logits": True, "reduction": None}  # its own mean over the batch is taken in single precision
losses = {
    "label_smoothing": lambda v: L.CategoricalCrossentropy(label_smoothing=v, **each),
    "focal": lambda v: L.CategoricalFocalCrossentropy(gamma=v[0], alpha=v[1], **each),
    "sigmoid": lambda v: L.BinaryCrossentropy(**each),
    "quadratic": lambda v: L.MeanSquaredError(reduction=None),
    "crammer_singer": lambda v: L.CategoricalHinge(reduction=None),
}
results = []
with keras.device("cpu"):
    for name, value, z, y in case:
        z = torch.tensor(z, dtype=torch.float64, requires_grad=True)
        loss = losses[name](value)(F.one_hot(torch.tensor(y), z.shape[1]).double(), z)
        assert loss.dtype == torch.float64
        results.append([loss.tolist(), torch.autograd.grad(loss.sum(), z)[0].tolist()])
json.dump(results, sys.stdout)
"""
KERAS_RELATIVE = 2e-7
KERAS = [  # what the loss is called in the process, its value there, ours, its hyperparameters, our factor
    *[("label_smoothing", a, "label_smoothing", {"alpha": a, "scaled": False}, 1.0) for a in (0.0, 0.1, 0.5)],
    *[("focal", [g, a], "focal", {"gamma": g, "alpha": a}, 1.0) for g in (0.0, 1.0, 3.5) for a in (1.0, 0.25)],
    ("sigmoid", None, "sigmoid", {}, lambda K: 1 / K),
    ("quadratic", None, "quadratic", {}, lambda K: 2 / K),
    ("crammer_singer", None, "crammer_singer", {}, 1.0),
]  # fmt: skip


@pytest.fixture(scope="module")
def keras_results(tmp_path_factory):
    """One process for all cases: {(their name, its value, K, scale): (losses, gradient)}."""
    cases, keys = [], []
    for theirs, value, *_ in KERAS:
        for K in (2, 5):
            for scale in (0.1, 1.0):
                z, y, _ = draws(K, scale, 12)
                z = z - z.min() + 0.5 if theirs in SHIFTED else z
                cases.append([theirs, value, z.tolist(), y.tolist()])
                keys.append((theirs, str(value), K, scale))
    home = tmp_path_factory.mktemp("keras")
    environment = {**os.environ, "KERAS_BACKEND": "torch", "KERAS_HOME": str(home), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-c", IN_KERAS], input=json.dumps(cases), env=environment, cwd=home,
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return dict(zip(keys, json.loads(done.stdout), strict=True))


@pytest.mark.parametrize("theirs, value, name, given, factor", KERAS, ids=[f"{case[0]}-{case[1]}" for case in KERAS])
def test_losses_are_those_of_keras(keras_results, theirs, value, name, given, factor):
    for K in (2, 5):
        loss = Subject.of(name, K, given)
        for scale in (0.1, 1.0):
            z, y, _ = draws(K, scale, 12)
            z.requires_grad_()
            ours = factor_of(factor, K) * loss(z, y)
            (gradient,) = torch.autograd.grad(ours.sum(), z)
            want, its_gradient = keras_results[theirs, str(value), K, scale]
            near(ours, want, KERAS_RELATIVE, ABSOLUTE, "value")
            near(gradient, its_gradient, KERAS_RELATIVE, KERAS_RELATIVE / 10, "gradient")
