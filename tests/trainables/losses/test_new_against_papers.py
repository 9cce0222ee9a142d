"""The losses of the logits that Battash, Kobayashi, Demirkaya and Zhou add, against oracles written from the papers."""

import math

import numpy as np
import oracle
import oracle_battash
import oracle_margins
import pytest
import torch
from test_against_papers import PROGRESS, close, complex_step, examples, features, head_with, tensors

from losstune import make_loss

NEW = {**oracle_battash.LOGIT_LOSSES, **oracle_margins.LOGIT_LOSSES}
SCHEDULES = ("0", "0,0.5", "0-0.5", 0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
RATIOS = (4 / 3, 17 / 12, 14 / 9, 11 / 6, 8 / 3, 1 / 3)  # of the volumes by p_y, for the six numbers
CASES = [
    *[("focal", {"gamma": g, "alpha": a}) for g in (0.0, 0.5, 1.0, 2.0, 3.0, 5.0) for a in (1.0, 0.25)],
    ("expectation", {}),
    ("mae", {}),
    *[("gce", {"q": q}) for q in (1e-3, 0.1, 0.7, 1.0)],
    *[("gce", {"q": q, "k": k}) for q, k in ((0.7, 0.5), (0.5, 0.2), (1.0, 0.3), (0.1, 0.01))],
    *[("tamed_ce", {"alpha": a}) for a in (0.0, 0.5, 1.0, 1.5, 2.0, 10.0, 1 - 1e-6, 1 + 1e-6, 1 - 1e-12)],
    *[("ce_matched", {"F": f, "volume": v}) for f in SCHEDULES for v in ("target", "other")],
    ("mpce", {}),
    ("cot", {}),
    *[("large_margin", {"lam": v, "divergence": d}) for v in (0.0, 0.3, 2.0) for d in ("symmetric", "u_q", "q_u")],
    ("hinge", {}),
    ("crammer_singer", {}),
    *[("margin_softmax", {"margin": m}) for m in (0.0, 0.5, 1.0, 6.0)],
    ("quadratic", {}),
    ("ccql", {}),
    *[("ccql", {"w": w}) for w in (0.0, 0.5, 9.0)],
]
ONE_OF_EACH = list({name: (name, hyperparameters) for name, hyperparameters in CASES}.values())
KINDS = [(K, scale) for K in (2, 5, 10, 100) for scale in (0.1, 1.0, 30.0)]
ids = str


def with_progress(name, hyperparameters, progress):
    return {**hyperparameters, **({"progress": progress} if name == "ce_matched" else {})}


# ---------------------------------------------------------------- the oracle against itself


def agrees_with_complex_step(value, gradient, Z, Y):
    for z, y in zip(Z, Y, strict=True):
        by_step = [complex_step(lambda v: value(v, y), z, j) for j in range(len(z))]  # noqa: B023
        close(gradient(z, y), by_step, 1e-11)


@pytest.mark.parametrize("name, hyperparameters", CASES, ids=ids)
def test_the_oracles_gradients_are_those_of_its_values(name, hyperparameters):
    value, gradient = (lambda z, y, part=part: part(z, y, **hyperparameters) for part in NEW[name])
    for K, scale in ((2, 1.0), (5, 0.1), (5, 3.0), (5, 30.0)):
        Z, Y, _ = examples(K, scale, name, "self", B=3)
        agrees_with_complex_step(value, gradient, Z, Y)


def test_the_oracles_gradient_of_the_complement_entropy_is_that_of_its_value():
    for K, scale in ((2, 1.0), (3, 1.0), (5, 0.1), (5, 30.0)):
        Z, Y, _ = examples(K, scale, "complement", B=3)
        agrees_with_complex_step(oracle_battash.cot_second_value, oracle_battash.cot_second_gradient, Z, Y)


def test_the_volumes_are_those_of_the_design():
    ratios = [oracle_battash.volume_ratio(*oracle.mixture(f), "target") for f in (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)]
    close(ratios, RATIOS, 1e-14)
    for f in (0.0, 0.25, 0.4, 0.5):
        a, b = oracle.mixture(f)
        close([oracle_battash.volume_ratio(a, b, "target")], [a + b / 3], 1e-14)
        close([oracle_battash.volume_ratio(a, b, "other")], [a + b / 2], 1e-14)


def test_kobayashis_derivative_is_that_of_his_loss():
    """K19 Eq. 12 as printed, with f for its x."""
    Z, Y, _ = examples(6, 2.0, "printed")
    for f, y in zip(Z, Y, strict=True):
        p, C, lam = oracle.probabilities(f), 6, 0.3
        total = sum(math.exp(f[c]) for c in range(C) if c != y)
        q = [0.0 if c == y else math.exp(f[c]) / total for c in range(C)]
        mean = sum(f[d] * q[d] for d in range(C))
        printed = [p[c] + lam / 2 * (q[c] * (f[c] - mean) + q[c] - 1 / (C - 1)) for c in range(C)]
        printed[y] = p[y] - 1
        close(oracle_margins.large_margin_gradient(f, y, lam), printed, 1e-12)


def test_kobayashis_two_forms_of_the_margin_softmax_agree():
    Z, Y, _ = examples(6, 2.0, "forms")
    for z, y in zip(Z, Y, strict=True):
        lowered = [z_k - 1.5 * (k == y) for k, z_k in enumerate(z)]
        close([oracle_margins.margin_softmax_value(z, y, 1.5)], [oracle.softmax_value(lowered, y)], 1e-13)


# ---------------------------------------------------------------- values and gradients


def check(name, hyperparameters, K, scale, progress=0.3):
    Z, Y, c = examples(K, scale, name, progress)
    z, y, weights = tensors(Z, Y, c)
    z.requires_grad_()
    losses = make_loss(name, num_classes=K, **hyperparameters)(z, y, progress=progress)
    assert losses.shape == (len(Z),) and losses.dtype == torch.float64
    (grad,) = torch.autograd.grad((weights * losses).sum(), z)
    value, gradient = NEW[name]
    given = with_progress(name, hyperparameters, progress)
    close(losses, [value(z, y, **given) for z, y in zip(Z, Y, strict=True)])
    close(grad, [c[i] * np.array(gradient(Z[i], Y[i], **given)) for i in range(len(Z))])


@pytest.mark.parametrize("name, hyperparameters", CASES, ids=ids)
def test_loss_is_the_papers(name, hyperparameters):
    for K, scale in KINDS:
        check(name, hyperparameters, K, scale)


@pytest.mark.parametrize("name, hyperparameters", [case for case in CASES if case[0] == "ce_matched"], ids=ids)
def test_ce_matched_follows_its_schedule(name, hyperparameters):
    for progress in PROGRESS:
        check(name, hyperparameters, 3, 1.0, progress)


@pytest.mark.parametrize("focus, ratio", list(zip(SCHEDULES[3:], RATIOS, strict=True)))
def test_ce_matched_multiplies_cross_entropy_by_the_ratio_of_volumes(focus, ratio):
    Z, Y, _ = examples(5, 1.0, "ratio")
    z, y = tensors(Z, Y)
    ce = make_loss("softmax", num_classes=5)(z, y, progress=0.3)
    close(make_loss("ce_matched", num_classes=5, F=focus)(z, y, progress=0.3), ratio * ce, 1e-13)


@pytest.mark.parametrize("name, hyperparameters", [c for c in ONE_OF_EACH if c[0] != "ce_matched"], ids=ids)
def test_progress_matters_to_no_loss_without_a_schedule(name, hyperparameters):
    Z, Y, _ = examples(5, 1.0, name)
    z, y = tensors(Z, Y)
    loss = make_loss(name, num_classes=5, **hyperparameters)
    assert torch.equal(loss(z, y, progress=0.0), loss(z, y, progress=0.999))


def test_only_cot_has_a_second_pass():
    for name, hyperparameters in ONE_OF_EACH:
        assert make_loss(name, num_classes=5, **hyperparameters).passes == (2 if name == "cot" else 1)
    assert make_loss("softmax", num_classes=5).passes == 1


def test_cots_second_pass_maximizes_the_entropy_of_the_complement():
    for K, scale in KINDS:
        Z, Y, c = examples(K, scale, "second")
        z, y, weights = tensors(Z, Y, c)
        z.requires_grad_()
        losses = make_loss("cot", num_classes=K).second_pass(z, y)
        assert losses.shape == (len(Z),)
        (grad,) = torch.autograd.grad((weights * losses).sum(), z)
        close(losses, [oracle_battash.cot_second_value(z, y) for z, y in zip(Z, Y, strict=True)])
        second = oracle_battash.cot_second_gradient
        close(grad, [c[i] * np.array(second(Z[i], Y[i])) for i in range(len(Z))])


def test_defaults_are_the_papers():
    Z, Y, _ = examples(10, 1.0, "defaults")
    z, y = tensors(Z, Y)

    def loss(name, **hyperparameters):
        return make_loss(name, num_classes=10, **hyperparameters)(z, y, progress=0.3)

    close(loss("focal", gamma=2.0), loss("focal", gamma=2.0, alpha=1.0))
    close(loss("ce_matched", F=0.2), loss("ce_matched", F=0.2, volume="target"))
    close(loss("gce", q=0.7), loss("gce", q=0.7, k=0.0))
    close(loss("large_margin", lam=0.3), loss("large_margin", lam=0.3, divergence="symmetric"))
    close(loss("margin_softmax"), loss("margin_softmax", margin=1.0))
    close(loss("ccql"), loss("ccql", w=2.0))


# ---------------------------------------------------------------- Zhou's forms


def zhou(name, K, **hyperparameters):
    Z, Y, c = examples(K, 1.0, "zhou")
    z, y, weights = tensors(Z, Y, c)
    z.requires_grad_()
    losses = make_loss(name, num_classes=K, **hyperparameters)(z, y, progress=0.3)
    (grad,) = torch.autograd.grad((weights * losses).sum(), z)
    return Z, Y, c, losses, grad


@pytest.mark.parametrize("K", [2, 5, 10, 100])
def test_zhous_label_smoothing_is_the_unscaled_one(K):
    Z, Y, c, losses, grad = zhou("label_smoothing", K, alpha=0.1, scaled=False)
    rows = list(zip(Z, Y, strict=True))
    smooth = [[0.9 * (k == y) + 0.1 / K for k in range(K)] for y in Y]
    logs = [np.log(oracle.probabilities(z)) for z in Z]
    close(losses, [-sum(s * log) for s, log in zip(np.array(smooth), logs, strict=True)])
    close(grad, [w * (np.array(oracle.probabilities(z)) - s) for w, (z, _), s in zip(c, rows, smooth, strict=True)])


@pytest.mark.parametrize("K", [2, 5, 10, 100])
@pytest.mark.parametrize("kappa, beta", [(1.0, 15.0), (5.0, 1.0)])
def test_zhous_squared_error_is_the_sum_and_his_codes_the_mean(K, kappa, beta):
    for loss_scale, divisor in ((K, 1), (1.0, K)):
        Z, Y, c, losses, grad = zhou("squared_error", K, kappa=kappa, M=beta, loss_scale=loss_scale)
        rows = list(zip(Z, Y, strict=True))
        close(losses, [oracle_margins.zhou_mse(z, y, kappa, beta) / divisor for z, y in rows])
        by_step = [
            [complex_step(lambda v: oracle_margins.zhou_mse(v, y, kappa, beta), z, j) for j in range(K)]  # noqa: B023
            for z, y in rows
        ]
        close(grad, c[:, None] * np.array(by_step) / divisor)


# ---------------------------------------------------------------- behind a linear head


@pytest.mark.parametrize("name, hyperparameters", ONE_OF_EACH, ids=ids)
def test_behind_a_linear_head_it_is_the_papers(name, hyperparameters):
    for K, d, scale in ((2, 3, 1.0), (5, 4, 0.1), (10, 4, 1.0), (5, 3, 30.0)):
        X, W, b, Y, c = features(K, d, name, scale, scale=scale)
        head = head_with(name, W, b, **hyperparameters)
        x, y, weights = tensors(X, Y, c)
        x.requires_grad_()
        losses = head.loss(x, y, progress=0.3)
        dx, dW, db = torch.autograd.grad((weights * losses).sum(), (x, head.weight, head.bias))
        value, gradient = NEW[name]
        given = with_progress(name, hyperparameters, 0.3)
        Z = [oracle.linear_logits(x, W, b) for x in X]
        rows = [oracle.through_linear(gradient(Z[i], Y[i], **given), X[i], W) for i in range(len(X))]
        close(losses, [value(Z[i], Y[i], **given) for i in range(len(X))])
        close(dx, [w * np.array(row["x"]) for w, row in zip(c, rows, strict=True)])
        close(dW, sum(w * np.array(row["weight"]) for w, row in zip(c, rows, strict=True)))
        close(db, sum(w * np.array(row["bias"]) for w, row in zip(c, rows, strict=True)))
        close(head.eval()(torch.tensor(X)), Z)  # training margins off


def test_cots_head_has_the_second_pass():
    X, W, b, Y, c = features(5, 4, "second")
    head = head_with("cot", W, b)
    assert head.passes == 2 and head_with("softmax", W, b).passes == 1
    x, y, weights = tensors(X, Y, c)
    x.requires_grad_()
    losses = head.second_pass(x, y)
    dx, dW, db = torch.autograd.grad((weights * losses).sum(), (x, head.weight, head.bias))
    Z = [oracle.linear_logits(x, W, b) for x in X]
    by_logits = [oracle_battash.cot_second_gradient(z, k) for z, k in zip(Z, Y, strict=True)]
    rows = [oracle.through_linear(g, v, W) for g, v in zip(by_logits, X, strict=True)]
    close(losses, [oracle_battash.cot_second_value(z, k) for z, k in zip(Z, Y, strict=True)])
    close(dx, [w * np.array(row["x"]) for w, row in zip(c, rows, strict=True)])
    close(dW, sum(w * np.array(row["weight"]) for w, row in zip(c, rows, strict=True)))
    close(db, sum(w * np.array(row["bias"]) for w, row in zip(c, rows, strict=True)))


# ---------------------------------------------------------------- gradcheck


@pytest.mark.parametrize("name, hyperparameters", CASES, ids=ids)
def test_gradcheck(name, hyperparameters):
    Z, Y, _ = examples(4, 1.0, "gradcheck", B=3)
    z, y = tensors(Z, Y)
    loss = make_loss(name, num_classes=4, **hyperparameters)
    assert torch.autograd.gradcheck(lambda v: loss(v, y, progress=0.5), z.requires_grad_())


def test_gradcheck_of_the_second_pass():
    Z, Y, _ = examples(4, 1.0, "gradcheck", B=3)
    z, y = tensors(Z, Y)
    assert torch.autograd.gradcheck(lambda v: make_loss("cot", num_classes=4).second_pass(v, y), z.requires_grad_())
