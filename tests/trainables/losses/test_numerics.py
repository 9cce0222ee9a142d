"""Finite, and right, where numbers are at their ends: huge, equal or dead inputs, in single precision and bfloat16."""

import math

import numpy as np
import pytest
import torch
from every_loss import (
    COMBINATIONS,
    CRITERIA,
    DESIGN,
    EVERY,
    NEEDS_HEAD,
    Subject,
    fill,
    generator,
    members,
    near,
    of_logits,
    passes,
    settings_at_the_ends,
)

from losstune import make_head, make_loss

OF_LOGITS = [name for name in EVERY if of_logits(name)]
WITH_HEAD = [name for name in EVERY if not of_logits(name)]
BIG = 1e4


def extreme_logits(K):
    """(B, K) and targets: all equal, one far above or below the rest (the target or another), two far above, and
    random ones up to BIG and at the usual size. B does not depend on K."""
    rng = generator("extreme", K)
    y, other = 0, K - 1
    rows, targets = [], []

    def row(rest=0.0, target=y, **at):
        z = np.full(K, float(rest))
        for place, value in at.items():
            z[{"own": y, "other": other}[place]] = value
        rows.append(z)
        targets.append(target)

    for rest in (0.0, BIG, -BIG):
        row(rest)
    for rest in (0.0, BIG, -BIG):
        row(rest, own=BIG, other=-BIG)  # p_y = 1, or a tie of K - 1 where the rest is as high
        row(rest, own=-BIG, other=BIG)  # p_y = 0
        row(rest, own=-BIG)
        row(rest, other=BIG)
    row(-BIG, own=BIG, other=BIG)  # a tie at the top
    row(0.0, own=40.0)  # 1 - p_y is below the rounding of one, not zero
    row(0.0, own=-110.0)  # p_y underflows in single precision
    for scale in (1.0, 30.0, BIG):
        z = rng.normal(size=K)
        rows.append(z / np.abs(z).max() * scale)
        targets.append(int(rng.integers(0, K)))
    return torch.tensor(np.array(rows)), torch.tensor(targets)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", OF_LOGITS)
def test_extreme_logits_have_finite_losses_and_gradients(name, dtype):
    for K in (2, 10, 1000):
        z, y = extreme_logits(K)
        z = z.to(dtype)
        for given in settings_at_the_ends(name):
            for second in passes(name):
                subject = Subject.of(name, K, given, second=second)
                for progress in (0.0, 0.6, 0.99):
                    losses, gradient = subject.with_gradient(z, y, progress)
                    assert losses.isfinite().all(), f"K = {K} {given} at {progress}: {losses}"
                    assert gradient.isfinite().all(), f"K = {K} {given} at {progress}: {gradient}"


@pytest.mark.parametrize("name", OF_LOGITS)
def test_extreme_logits_have_the_losses_of_double_precision(name):
    for K in (2, 10, 1000):
        z, y = extreme_logits(K)
        z = z.float()
        for given in settings_at_the_ends(name):
            for second in passes(name):
                subject = Subject.of(name, K, given, second=second)
                want, want_gradient = subject.with_gradient(z.double(), y, 0.6)
                got, gradient = subject.with_gradient(z, y, 0.6)
                near(got, want, 2e-5, 2e-6, f"loss at K = {K} {given}")
                scale = 1 + want_gradient.abs().max(1, keepdim=True).values
                near(gradient / scale, want_gradient / scale, 0, 3e-5, f"gradient at K = {K} {given}")


@pytest.mark.parametrize("name", OF_LOGITS)
def test_half_precision_logits_have_nearly_the_losses_of_double_precision(name):
    """bfloat16 keeps eight bits; the criterion itself must not lose more than a few of them."""
    for K in (2, 10):
        z = torch.tensor(generator("half", K).normal(size=(16, K)) * 3).bfloat16()
        y = torch.arange(16) % K
        for given in settings_at_the_ends(name):
            for second in passes(name):
                subject = Subject.of(name, K, given, second=second)
                want, want_gradient = subject.with_gradient(z.double(), y, 0.6)
                got, gradient = subject.with_gradient(z, y, 0.6)
                assert gradient.dtype == torch.bfloat16
                # A logit over a small temperature is itself rounded: its error is a share of |z / tau|.
                slope = want_gradient.abs().sum(1) * z.double().abs().max()
                assert ((got - want).abs() <= 0.02 * (want.abs() + slope + 0.1)).all(), f"{given}: {got} is not {want}"


# ---------------------------------------------------------------- p_y = 1 and p_y = 0, by hand, at K = 2

D = 2 * BIG  # the logits are BIG and -BIG, so that -log p_y is 0 or D, and 1 - p_y is 0 or 1


def norm_pair(tau):
    return math.sqrt(2) / tau


AT_THE_ENDS = {  # (given): loss at p_y = 1, loss at p_y = 0, its slope in z_y at p_y = 1, and at p_y = 0
    "softmax": [({}, 0, D, 0, -1)],
    "label_smoothing": [
        ({"alpha": a, "scaled": s}, a * BIG * f, (D - a * BIG) * f, a / 2 * f, -(1 - a / 2) * f)
        for a in (0.0, 0.1, 0.9, 0.999)
        for s, f in ((True, 1 / (1 - a)), (False, 1.0))
    ],
    "logit_penalty": [({"beta": b}, 2e8 * b, D + 2e8 * b, 2 * b * BIG, -1 - 2 * b * BIG) for b in (0.0, 1e-3)],
    "logit_norm": [({"tau": 0.02}, math.log1p(math.exp(-norm_pair(0.02))), norm_pair(0.02), 0, None)],
    "sigmoid": [({}, 0, D, 0, -1)],
    "squared_error": [
        ({"kappa": 9.0, "M": 60.0}, (9 * (BIG - 60) ** 2 + BIG**2) / 2, (9 * (BIG + 60) ** 2 + BIG**2) / 2,
         9 * (BIG - 60), -9 * (BIG + 60)),
    ],
    "focal": [({"gamma": g, "alpha": a}, 0, a * D, 0, -a) for g in (0, 0.5, 1.0, 2.0, 5.0, 10.0) for a in (1, 0.25)],
    "expectation": [({}, 0, 1, 0, 0)],
    "ce_el": [({"F": 0}, 0, D + 1, 0, -1), ({"F": 0.25}, 0, D + 2, 0, -1), ({"F": 0.5}, 0, 1, 0, 0)],
    "ce_matched": [
        ({"F": 0, "volume": "target"}, 0, 4 / 3 * D, 0, -4 / 3), ({"F": 0.5, "volume": "target"}, 0, D / 3, 0, -1 / 3),
        ({"F": 0, "volume": "other"}, 0, 1.5 * D, 0, -1.5), ({"F": 0.5, "volume": "other"}, 0, D / 2, 0, -0.5),
    ],
    "mae": [({}, 0, 2, 0, 0)],
    "gce": [
        *[({"q": q, "k": 0.0}, 0, 1 / q, 0, 0) for q in (0.1, 0.7, 1.0)],
        *[({"q": q, "k": 0.5}, 0, (1 - 0.5**q) / q, 0, 0) for q in (0.1, 0.7, 1.0)],
    ],
    "tamed_ce": [
        ({"alpha": 0.0}, 0, D, 0, -1), ({"alpha": 0.5}, 0, 2 * (math.sqrt(1 + D) - 1), 0, -((1 + D) ** -0.5)),
        ({"alpha": 1.0}, 0, math.log1p(D), 0, -1 / (1 + D)), ({"alpha": 2.0}, 0, D / (1 + D), 0, -((1 + D) ** -2)),
        ({"alpha": 10.0}, 0, (1 - (1 + D) ** -9.0) / 9, 0, 0),
    ],
    "mpce": [({}, 0, D, 0, -1)],
    "cot": [({}, 0, D, 0, -1)],
    "large_margin": [
        ({"lam": lam, "divergence": v}, 0, D, 0, -1) for lam in (0.0, 0.3) for v in ("symmetric", "u_q", "q_u")
    ],
    "hinge": [({}, 0, D + 1, 0, -1)],
    "crammer_singer": [({}, 0, D + 1, 0, -1)],
    "margin_softmax": [({"margin": m}, 0, D + m, 0, -1) for m in (0.0, 1.0, 50.0, 200.0)],
    "quadratic": [({}, ((BIG - 1) ** 2 + BIG**2) / 2, ((BIG + 1) ** 2 + BIG**2) / 2, BIG - 1, -BIG - 1)],
    "ccql": [
        ({"w": 3.0}, (4 * (BIG - 1) ** 2 + BIG**2) / 2, (4 * (BIG + 1) ** 2 + BIG**2) / 2, 4 * (BIG - 1),
         -4 * (BIG + 1)),
    ],
}  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("K", [2, 10, 64, 100, 1000])
@pytest.mark.parametrize("sure", [5.0, 20.0, 40.0])
def test_a_small_sigmoid_loss_keeps_its_digits(K, sure, dtype):
    """K probabilities of e^-sure each: no rounding of 1 - p may swallow them."""
    z = torch.full((1, K), -sure, dtype=dtype)
    z[0, 0] = sure
    loss = make_loss("sigmoid", num_classes=K)(z, torch.tensor([0]))
    assert loss.item() == pytest.approx(K * math.log1p(math.exp(-sure)), rel=1e-5 if dtype == torch.float32 else 1e-12)


def test_the_ends_of_every_criterion_are_written_down():
    assert set(AT_THE_ENDS) >= set(CRITERIA) & set(DESIGN)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("name", list(AT_THE_ENDS))
def test_the_ends_of_the_probability(name, dtype):
    z = torch.tensor([[BIG, -BIG], [-BIG, BIG]], dtype=dtype)
    for given, at_one, at_zero, slope_at_one, slope_at_zero in AT_THE_ENDS[name]:
        losses, gradient = Subject.of(name, 2, given).with_gradient(z, torch.tensor([0, 0]))
        near(losses, [at_one, at_zero], 1e-6, 1e-7, f"loss {given}")
        near(gradient[0, 0], slope_at_one, 1e-6, 1e-7, f"slope at one {given}")
        if slope_at_zero is not None:
            near(gradient[1, 0], slope_at_zero, 1e-6, 1e-7, f"slope at zero {given}")


@pytest.mark.parametrize("K", [3, 10, 1000])
def test_divergences_of_a_distribution_that_is_one_class(K):
    """q is one-hot but for e^-D: the divergence from it grows with the logits, the one to it is log(K - 1)."""
    z = torch.full((1, K), -BIG, dtype=torch.float32)
    z[0, 0] = z[0, 1] = BIG
    y = torch.tensor([0])
    q_u = math.log(K - 1)
    u_q = D * (K - 2) / (K - 1) - math.log(K - 1)
    for divergence, want in (("q_u", q_u), ("u_q", u_q), ("symmetric", (q_u + u_q) / 2)):
        loss = make_loss("large_margin", num_classes=K, lam=0.5, divergence=divergence)
        near(loss(z, y, progress=0.3), [math.log(2) + 0.5 * want], 1e-6, 1e-6, divergence)


@pytest.mark.parametrize("K", [2, 3, 1000])
def test_all_equal_logits(K):
    """p = 1/K, q = 1/(K - 1): by hand."""
    y = torch.tensor([0])
    entropy = math.log(K)
    want = {
        "softmax": entropy, "expectation": 1 - 1 / K, "mae": 2 - 2 / K, "mpce": 0.0, "cot": entropy,
        "large_margin": entropy, "hinge": 1.0, "crammer_singer": 1.0, "margin_softmax": math.log1p((K - 1) * math.e),
        "logit_norm": entropy, "label_smoothing": entropy / (1 - 0.04), "focal": (1 - 1 / K) ** 2 * entropy,
    }  # fmt: skip
    given = {"label_smoothing": {"alpha": 0.04}, "focal": {"gamma": 2.0, "alpha": 1.0}, "margin_softmax": {"margin": 1}}
    for size in (0.0, 3.0, BIG, -BIG):
        z = torch.full((1, K), size)
        for name, value in want.items():
            losses, gradient = Subject.of(name, K, given.get(name, {})).with_gradient(z, y)
            near(losses, [value], 2e-5, 2e-6, f"{name} of {size}")
            assert gradient.isfinite().all()
        second = make_loss("cot", num_classes=K).second_pass(z, y)
        near(second, [-math.log(K - 1) / K], 2e-5, 2e-6, f"complement entropy of {size}")


def test_gce_at_a_tiny_q_keeps_its_digits():
    """1 - p^q cancels for small q; the loss must not."""
    z = torch.tensor([[0.3, -1.0, 2.0], [3.0, 0.0, 0.1], [-30.0, 0.0, 1.0]], dtype=torch.float64)
    y = torch.tensor([0, 0, 0])
    ce = torch.nn.functional.cross_entropy(z, y, reduction="none")
    for q in (1e-9, 1e-6, 1e-3):
        near(make_loss("gce", num_classes=3, q=q)(z, y, progress=0.3), -torch.expm1(-q * ce) / q, 1e-12, 0.0)


@pytest.mark.parametrize("margin", [0.25, 1.0, 4.0, 10.0, 22.4, 50.0, 200.0])
def test_margin_softmax_keeps_its_digits_at_any_margin(margin):
    """CosFace's margins are 10 to 30 in logits: an example is sure only when its logit is that far above the others."""
    z = torch.tensor([[a, 0.0, b] for a in (0.0, 5.0, 12.0, 16.0, 20.0, 30.0, 150.0) for b in (-3.0, 0.0, 1.0)])
    y = torch.zeros(len(z), dtype=torch.int64)
    lowered = z.double().requires_grad_()
    shift = torch.tensor([margin, 0.0, 0.0], dtype=torch.float64)
    want = torch.nn.functional.cross_entropy(lowered - shift, y, reduction="none")
    (want_gradient,) = torch.autograd.grad(want.sum(), lowered)
    for dtype, relative, absolute in ((torch.float32, 1e-5, 1e-6), (torch.float64, 1e-10, 1e-13)):
        losses, gradient = Subject.of("margin_softmax", 3, {"margin": margin}).with_gradient(z.to(dtype), y)
        near(losses, want, relative, absolute, f"loss in {dtype}")
        near(gradient, want_gradient, relative, absolute, f"gradient in {dtype}")


# ---------------------------------------------------------------- heads


def extreme_features(head, d):
    """Dead, huge and single features; and, where there are weights or means, features along and against a row."""
    rng = generator("extreme features", d)
    rows = [np.zeros(d), np.ones(d), 1e-12 * np.ones(d), np.eye(d)[0] * BIG]
    rows += [rng.normal(size=d) * scale for scale in (1.0, 100.0, BIG)]
    row = getattr(head, "weight", None)
    row = (head.means if row is None else row)[0].detach().double().numpy()
    rows += [row, -row, 100 * row, -100 * row]
    return torch.tensor(np.array(rows))


def finite(head, x, y, progress, second=False):
    x = x.detach().clone().requires_grad_()
    losses = head.second_pass(x, y) if second else head.loss(x, y, progress=progress)
    over = [x, *head.parameters()]
    gradients = torch.autograd.grad(losses.sum(), over, materialize_grads=True)
    names = ["x", *dict(head.named_parameters())]
    assert losses.isfinite().all(), losses
    for name, gradient in zip(names, gradients, strict=True):
        assert gradient.isfinite().all(), f"gradient of {name}: {gradient}"
    with torch.no_grad():
        logits = head(x)
    assert logits.isfinite().all(), logits
    return losses


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", EVERY)
def test_extreme_features_have_finite_losses_and_gradients(name, dtype):
    d = 6
    for K in (2, 5):
        for given in settings_at_the_ends(name):
            for second in passes(name):
                for train in (True, False):
                    torch.manual_seed(0)
                    head = fill(make_head(name, in_features=d, num_classes=K, **given), name, K).to(dtype).train(train)
                    x = torch.cat([extreme_features(head, d), torch.full((1, d), 1e-30)]).to(dtype)
                    finite(head, x, torch.zeros(len(x), dtype=torch.int64), 0.99, second)
                    finite(head, x, torch.arange(len(x)) % K, 0.0, second)
                    assert all(value.isfinite().all() for value in head.state_dict().values())


@pytest.mark.parametrize("name", WITH_HEAD)
def test_extreme_features_have_the_losses_of_double_precision(name):
    d, K = 6, 5
    for given in settings_at_the_ends(name):
        double = fill(make_head(name, in_features=d, num_classes=K, **given).double(), name, K).eval()
        with torch.no_grad():
            for tensor in double.state_dict().values():
                tensor.copy_(tensor.float())
        single = make_head(name, in_features=d, num_classes=K, **given).eval()
        single.load_state_dict(double.state_dict())
        x = extreme_features(single, d).float()
        y = torch.zeros(len(x), dtype=torch.int64)
        want, got = (head.loss(x.to(dtype), y, progress=0.6).detach()
                     for head, dtype in ((double, torch.float64), (single, torch.float32)))  # fmt: skip
        # The logits are rounded to one part in 10^7 of the largest product of a feature and a weight, then compared.
        size = double(x.double()).detach().abs().max(1).values
        assert ((got - want).abs() <= 2e-5 * (want.abs() + 1) + 3e-6 * size).all(), f"{given}: {got} is not {want}"


@pytest.mark.parametrize("name", EVERY)
def test_a_thousand_classes_behind_a_head(name):
    d = 1000 if {"mmc", "super_symmetric"} & set(members(name)) else 4
    torch.manual_seed(0)
    head = make_head(name, in_features=d, num_classes=1000)
    x = torch.randn(3, d, generator=torch.Generator().manual_seed(0))
    for second in passes(name):
        finite(head, x, torch.tensor([0, 1, 999]), 0.3, second)


@pytest.mark.parametrize("name", EVERY)
def test_autocast_gives_nearly_the_same_losses(name):
    """As in a user's own loop: single-precision parameters, and features in either precision."""
    x = torch.randn(8, 6, generator=torch.Generator().manual_seed(0))
    y = torch.arange(8) % 4
    for second in passes(name):
        for dtype in (torch.float32, torch.bfloat16):
            subject = Subject.of(name, 4, {}, 6, second, dtype=torch.float32)
            want = subject.copied().values(x, y)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                losses = finite(subject.head, x.to(dtype), y, 0.3, second)
            near(losses, want, 0.03, 0.05 * want.abs().max().item() + 0.01)


@pytest.mark.parametrize("name", [n for n in EVERY if not {"mmc", "super_symmetric"} & set(members(n))])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_final_layer_of_zeros(name, dtype):
    """But for super_symmetric, whose constraint has no nearest point to zero."""
    d = 4
    for given in settings_at_the_ends(name):
        head = make_head(name, in_features=d, num_classes=3, **given).to(dtype)
        with torch.no_grad():
            for parameter in head.parameters():
                parameter.zero_()
        x = torch.cat([torch.zeros(1, d), torch.ones(1, d), BIG * torch.ones(1, d)]).to(dtype)
        for second in passes(name):
            finite(head, x, torch.tensor([0, 1, 2]), 0.3, second)


@pytest.mark.parametrize("log_variance", [-20.0, 20.0])
def test_gaussian_mixture_with_narrow_and_wide_classes(log_variance):
    head = fill(make_head("gaussian_mixture", in_features=4, num_classes=3), "wide")
    with torch.no_grad():
        head.log_variances.fill_(log_variance)
    for x in (torch.zeros(3, 4), 100 * torch.ones(3, 4), head.means.detach()):
        finite(head, x, torch.tensor([0, 1, 2]), 0.3)


@pytest.mark.parametrize("m", [1, 2, 3, 4])
@pytest.mark.parametrize("annealing", [True, False])
def test_large_margin_softmax_at_every_angle(m, annealing):
    """Along, against and across its weight, and at the angles where psi changes its piece."""
    angles = [0.0, 1e-8, 1e-4, *[j * math.pi / 12 for j in range(1, 12)], math.pi - 1e-4, math.pi]
    angles = torch.tensor(angles, dtype=torch.float64)
    x = torch.stack([angles.cos(), angles.sin()], 1)
    y = torch.zeros(len(x), dtype=torch.int64)
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        head = make_head("large_margin_softmax", in_features=2, num_classes=2, m=m, annealing=annealing).to(dtype)
        with torch.no_grad():
            head.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 0.0]]))
        for progress in (0.0, 0.5, 0.99):
            losses = finite(head, x.to(dtype), y, progress)
            if dtype == torch.float64:
                assert (losses[1:].diff() > 0).all(), losses  # psi falls in the angle, so the loss rises


def test_combinations_are_all_covered():
    assert set(OF_LOGITS) | set(WITH_HEAD) >= set(COMBINATIONS) and NEEDS_HEAD & set(WITH_HEAD) == NEEDS_HEAD
