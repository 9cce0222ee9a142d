"""Losses combined with "+", value and gradients, against the parts' oracles put together by hand."""

import numpy as np
import oracle
import oracle_combined
import pytest
import torch
from oracle_combined import criterion, divergence, square
from test_against_papers import close, complex_step, examples, features, generator, head_with, refused, tensors

from losstune import make_head, make_loss

# name, hyperparameters, the oracle's parts on logits, and what else the oracle needs
ON_LOGITS = [
    (
        "label_smoothing+logit_penalty",
        {"alpha": 0.1, "beta": 6e-4},
        ["label_smoothing", {"alpha": 0.1}],
        [square(6e-4)],
    ),
    (
        "label_smoothing+logit_penalty",
        {"alpha": 0.3, "scaled": False, "beta": 0.5, "half": True},
        ["label_smoothing", {"alpha": 0.3, "scaled": False}],
        [square(0.25)],
    ),
    ("sigmoid+logit_penalty", {"beta": 0.01}, ["sigmoid", {}], [square(0.01)]),
    (
        "margin_softmax+large_margin",
        {"margin": 1.0, "lam": 0.3},
        ["margin_softmax", {"margin": 1.0}],
        [divergence(0.3)],
    ),
    (
        "margin_softmax+large_margin",
        {"margin": 2.0, "lam": 1.0, "divergence": "u_q"},
        ["margin_softmax", {"margin": 2.0}],
        [divergence(1.0, "u_q")],
    ),
    ("focal+large_margin", {"gamma": 2.0, "lam": 0.3}, ["focal", {"gamma": 2.0}], [divergence(0.3)]),
    (
        "label_smoothing+logit_penalty+large_margin",
        {"alpha": 0.1, "beta": 0.01, "lam": 0.3},
        ["label_smoothing", {"alpha": 0.1}],
        [square(0.01), divergence(0.3)],
    ),
]
ON_NORMALIZED = [
    ("sigmoid+logit_norm", {"tau": 0.04}, ["sigmoid", {}], []),
    ("sigmoid+logit_norm", {"tau": 1.0}, ["sigmoid", {}], []),
    ("label_smoothing+logit_norm", {"alpha": 0.1, "tau": 0.5}, ["label_smoothing", {"alpha": 0.1}], []),
    ("logit_norm+large_margin", {"tau": 0.5, "lam": 0.3}, ["softmax", {}], [divergence(0.3)]),
]
ON_COSINE = [
    ("sigmoid+cosine_softmax", {"tau": 0.05}, ["sigmoid", {}], []),
    ("sigmoid+cosine_softmax", {"tau": 1.0}, ["sigmoid", {}], []),
    ("label_smoothing+cosine_softmax", {"alpha": 0.1, "tau": 0.05}, ["label_smoothing", {"alpha": 0.1}], []),
    ("cosine_softmax+logit_penalty", {"tau": 0.05, "beta": 6e-4}, ["softmax", {}], [square(6e-4)]),
    ("cosine_softmax+large_margin", {"tau": 0.05, "lam": 0.3}, ["softmax", {}], [divergence(0.3)]),
]
WITH_HEAD = [
    ("label_smoothing+dropout", {"alpha": 0.1, "rho": 1.0}, ["label_smoothing", {"alpha": 0.1}], [], {}),
    ("sigmoid+dropout", {"rho": 1.0}, ["sigmoid", {}], [], {}),
    (
        "focal+final_layer_l2",
        {"gamma": 2.0, "lambda_final": 8e-4},
        ["focal", {"gamma": 2.0}],
        [],
        {"lambda_final": 8e-4},
    ),
    ("sigmoid+final_layer_l2", {"lambda_final": 0.5}, ["sigmoid", {}], [], {"lambda_final": 0.5}),
    (
        "center+large_margin",
        {"center_lam": 0.1, "center_rate": 0.5, "large_margin_lam": 0.3},
        ["softmax", {}],
        [divergence(0.3)],
        {"center": 0.1},
    ),
]
EVERY = [
    *[(n, h, c, p, {}) for n, h, c, p in ON_LOGITS],
    *[(n, h, c, p, {"transform": ("logit_norm", h["tau"])}) for n, h, c, p in ON_NORMALIZED],
    *[(n, h, c, p, {"transform": ("cosine", h["tau"])}) for n, h, c, p in ON_COSINE],
    *WITH_HEAD,
]
ids = lambda v: v if isinstance(v, str) else "-"  # noqa: E731


def of(basis, penalties):
    return [criterion(basis[0], **basis[1]), *penalties]


def with_centers(more, K, d):
    """The center loss's share of the oracle needs the centers themselves."""
    if "center" not in more:
        return more
    return {**more, "center": (generator(K, d, "centers").normal(size=(K, d)), more["center"])}


def made(name, W, b, more, **hyperparameters):
    head = head_with(name, W, b, **hyperparameters).eval()
    if "center" in more:
        head.centers.copy_(torch.tensor(more["center"][0]))
    return head


@pytest.mark.parametrize("name, hyperparameters, basis, penalties, more", EVERY, ids=ids)
def test_the_oracles_gradients_are_those_of_its_values(name, hyperparameters, basis, penalties, more):
    K, d = 4, 3
    X, W, b, Y, _ = features(K, d, name, "self", B=2)
    more, parts = with_centers(more, K, d), of(basis, penalties)
    for x, y in zip(X, Y, strict=True):
        got = oracle_combined.gradient(x, W, b, y, parts, **more)
        value = oracle_combined.value
        by_x = [complex_step(lambda v: value(v, W, b, y, parts, **more), x, i) for i in range(d)]  # noqa: B023
        by_bias = [complex_step(lambda v: value(x, W, v, y, parts, **more), b, i) for i in range(K)]  # noqa: B023
        by_weight = [complex_step(lambda v: value(x, v, b, y, parts, **more), W, i) for i in range(K * d)]  # noqa: B023
        close(got["x"], by_x, 1e-11)
        close(got["bias"], by_bias, 1e-11)
        close(got["weight"], np.reshape(by_weight, (K, d)), 1e-11)


@pytest.mark.parametrize("name, hyperparameters, basis, penalties, more", EVERY, ids=ids)
def test_combination_behind_its_head_is_its_parts(name, hyperparameters, basis, penalties, more):
    for K, d in ((2, 3), (5, 4), (10, 4), (100, 5)):
        for scale in (0.1, 1.0, 30.0):
            X, W, b, Y, c = features(K, d, name, scale, scale=scale)
            given, parts = with_centers(more, K, d), of(basis, penalties)
            head = made(name, W, b, given, **hyperparameters)
            x, y, weights = tensors(X, Y, c)
            x.requires_grad_()
            losses = head.loss(x, y, progress=0.3)
            assert losses.shape == (len(X),) and losses.dtype == torch.float64
            dx, dW, db = torch.autograd.grad((weights * losses).sum(), (x, head.weight, head.bias))
            rows = [oracle_combined.gradient(X[i], W, b, Y[i], parts, **given) for i in range(len(X))]
            close(losses, [oracle_combined.value(X[i], W, b, Y[i], parts, **given) for i in range(len(X))])
            close(dx, [c[i] * np.array(rows[i]["x"]) for i in range(len(X))])
            close(dW, sum(c[i] * np.array(rows[i]["weight"]) for i in range(len(X))))
            close(db, sum(c[i] * np.array(rows[i]["bias"]) for i in range(len(X))))
            transform = given.get("transform", ("linear", None))
            close(head(torch.tensor(X)), [oracle_combined.logits(x, W, b, transform) for x in X])


@pytest.mark.parametrize("name, hyperparameters, basis, penalties", [*ON_LOGITS, *ON_NORMALIZED], ids=ids)
def test_combination_of_logits_is_its_parts(name, hyperparameters, basis, penalties):
    normalized = "tau" in hyperparameters
    parts = of(basis, penalties)
    for K in (2, 5, 10, 100):
        for scale in (0.1, 1.0, 30.0):
            Z, Y, c = examples(K, scale, name)
            z, y, weights = tensors(Z, Y, c)
            z.requires_grad_()
            losses = make_loss(name, num_classes=K, **hyperparameters)(z, y, progress=0.3)
            (grad,) = torch.autograd.grad((weights * losses).sum(), z)
            tau = hyperparameters.get("tau")
            U = [oracle.logit_norm_logits(z, tau) if normalized else z for z in Z]
            close(losses, [sum(value(U[i], Y[i]) for value, _ in parts) for i in range(len(Z))])
            want = []
            for i in range(len(Z)):
                g = [sum(terms) for terms in zip(*(slope(U[i], Y[i]) for _, slope in parts), strict=True)]
                want.append(c[i] * np.array(oracle_combined.logit_norm_back(g, Z[i], tau) if normalized else g))
            close(grad, want)


class LossOf(torch.nn.Module):
    def __init__(self, head, y):
        super().__init__()
        self.head, self.y = head, y

    def forward(self, x):
        return self.head.loss(x, self.y, progress=0.5)


@pytest.mark.parametrize("name, hyperparameters, basis, penalties, more", EVERY, ids=ids)
def test_gradcheck(name, hyperparameters, basis, penalties, more):
    X, W, b, Y, _ = features(4, 3, "gradcheck", B=2)
    x, y = tensors(X, Y)
    module = LossOf(made(name, W, b, with_centers(more, 4, 3), **hyperparameters), y)
    inputs = [v.detach().clone().requires_grad_() for v in (x, module.head.weight, module.head.bias)]

    def loss(x, weight, bias):
        return torch.func.functional_call(module, {"head.weight": weight, "head.bias": bias}, (x,))

    assert torch.autograd.gradcheck(loss, inputs)


# ---------------------------------------------------------------- parts that switch off, and what does not combine


def test_dropout_that_keeps_all_is_the_base():
    X, W, b, Y, _ = features(5, 4, "base")
    x, y = tensors(X, Y)
    for name, hyperparameters in (("label_smoothing", {"alpha": 0.1}), ("sigmoid", {})):
        base = head_with(name, W, b, **hyperparameters).train()
        head = head_with(f"{name}+dropout", W, b, **hyperparameters, rho=1.0).train()
        close(head.loss(x, y, progress=0.3), base.loss(x, y, progress=0.3))


def test_dropout_of_a_combination_drops_features_in_training_only():
    X, W, b, Y, _ = features(5, 40, "drops")
    x, y = tensors(X, Y)
    head = head_with("sigmoid+dropout", W, b, rho=0.5)
    plain = head_with("sigmoid", W, b)
    torch.manual_seed(0)
    assert not torch.allclose(head.train().loss(x, y, progress=0.3), plain.loss(x, y, progress=0.3))
    close(head.eval().loss(x, y, progress=0.3), plain.loss(x, y, progress=0.3))


def test_centers_of_a_combination_move_as_they_do_alone():
    X, W, b, Y, _ = features(5, 4, "move")
    x, y = tensors(X, Y)
    alone = head_with("center", W, b, lam=0.1, center_rate=0.5).train()
    combined = head_with("center+large_margin", W, b, center_lam=0.1, center_rate=0.5, large_margin_lam=0.3).train()
    for _ in range(2):
        alone.loss(x, y, progress=0.3)
        combined.loss(x, y, progress=0.3)
        assert alone.centers.any()
        close(combined.centers, alone.centers)


def test_a_name_that_two_share_must_be_qualified():
    with_both = {"in_features": 4, "num_classes": 3, "center_rate": 0.5}
    refused(lambda: make_head("center+large_margin", **with_both, lam=0.3), "lam")
    refused(lambda: make_head("center+large_margin", **with_both, center_lam=0.3, lam=0.3), "lam")


@pytest.mark.parametrize("name", ["label_smoothing+dropout", "sigmoid+cosine_softmax", "focal+final_layer_l2"])
def test_a_combination_that_needs_a_head_is_refused_by_make_loss(name):
    hyperparameters = {n: h for n, h, *_ in EVERY}[name]
    refused(lambda: make_loss(name, num_classes=3, **hyperparameters), "make_head")


@pytest.mark.parametrize(
    "name, hyperparameters",
    [
        ("softmax+sigmoid", {}),  # only softmax may be added to
        ("label_smoothing+sigmoid", {"alpha": 0.1}),
        ("label_smoothing+focal", {"alpha": 0.1, "gamma": 2.0}),
        ("sigmoid+squared_error", {"kappa": 1.0, "M": 1.0}),
        ("cosine_softmax+mmc", {"tau": 0.05, "C_mm": 10.0}),
        ("cosine_softmax+super_symmetric", {"tau": 0.05}),
        ("sigmoid+nonsense", {}),
        ("sigmoid+", {}),
    ],
    ids=ids,
)
def test_two_criteria_or_two_heads_are_refused(name, hyperparameters):
    refused(lambda: make_head(name, in_features=12, num_classes=3, **hyperparameters))
