"""Ten losses against the papers' equations: values, gradients, identities, numeric safety and refusals.

The oracle beside this file was written from the papers without a look at the implementation.
"""

import math
import zlib

import numpy as np
import oracle
import pytest
import torch
from torch.nn import functional as F

from losstune import InputError, make_head, make_loss

RELATIVE = 1e-10
FLOOR = 1e-4  # results smaller than this are held to an absolute 1e-14, a few roundings of numbers near one

LOGIT_CASES = [
    ("softmax", {}),
    *[("label_smoothing", {"alpha": a, "scaled": s}) for a in (0.0, 0.1, 0.9, 0.999) for s in (True, False)],
    *[("logit_penalty", {"beta": b, "half": h}) for b in (0.0, 6e-4, 1.0) for h in (False, True)],
    *[("logit_norm", {"tau": t}) for t in (0.04, 1.0, 7.0)],
    ("sigmoid", {}),
    *[("squared_error", {"kappa": k, "M": m}) for k, m in ((1.0, 1.0), (9.0, 60.0), (0.1, 15.0))],
    ("squared_error", {"kappa": 9.0, "M": 60.0, "loss_scale": 100.0}),
    *[("ce_el", {"F": f}) for f in ("0", "0,0.5", "0-0.5", 0, 0.0, 0.25, 0.49, 0.5)],
]
HEAD_CASES = [
    *[("final_layer_l2", {"lambda_final": v}) for v in (0.0, 8e-4, 2.0)],
    *[
        ("cosine_softmax", {"tau": t, "normalize_features": n, "scale_loss": s})
        for t in (0.05, 1.0, 3.0)
        for n in (True, False)
        for s in (True, False)
    ],
    ("dropout", {"rho": 1.0}),
]
TYPICAL = {
    "softmax": {},
    "label_smoothing": {"alpha": 0.1},
    "logit_penalty": {"beta": 6e-4},
    "logit_norm": {"tau": 0.04},
    "sigmoid": {},
    "squared_error": {"kappa": 9.0, "M": 60.0},
    "ce_el": {"F": 0.3},
    "dropout": {"rho": 0.7},
    "final_layer_l2": {"lambda_final": 8e-4},
    "cosine_softmax": {"tau": 0.05},
}
LOGIT_NAMES = list(oracle.LOGIT_LOSSES)
HEAD_NAMES = list(oracle.HEAD_LOSSES)
PROGRESS = [0.0, 0.1666, 0.1667, 0.3333, 0.3334, 0.5, 0.6666, 0.6667, 0.8333, 0.8334, 0.949, 0.95, 0.999]
ids = str


def generator(*key):
    return np.random.default_rng(zlib.crc32(repr(key).encode()))


def examples(K, scale, *key, B=7):
    rng = generator(K, scale, *key)
    return rng.normal(size=(B, K)) * scale, rng.integers(0, K, size=B), rng.uniform(0.5, 2.0, size=B)


def tensors(*arrays):
    return [torch.tensor(a) for a in arrays]


def close(got, want, relative=RELATIVE):
    got = got.detach().numpy() if isinstance(got, torch.Tensor) else np.asarray(got)
    want = want.detach().numpy() if isinstance(want, torch.Tensor) else np.asarray(want)
    assert got.shape == want.shape
    error = np.linalg.norm(got - want) / max(np.linalg.norm(want), FLOOR)
    assert error < relative, f"relative error {error:.2e}"


def asked(name, hyperparameters, progress):
    """The hyperparameters as the oracle wants them."""
    extra = {"progress": progress} if name == "ce_el" else {}
    return {**hyperparameters, **extra}


def head_with(name, W, b, **hyperparameters):
    head = make_head(name, in_features=W.shape[1], num_classes=W.shape[0], **hyperparameters).double()
    with torch.no_grad():
        head.weight.copy_(torch.as_tensor(W))
        head.bias.copy_(torch.as_tensor(b))
    return head


def features(K, d, *key, B=7, scale=1.0):
    rng = generator(K, d, *key)
    return (
        rng.normal(size=(B, d)) * scale,
        rng.normal(size=(K, d)),
        rng.normal(size=K),
        rng.integers(0, K, size=B),
        rng.uniform(0.5, 2.0, size=B),
    )


# ---------------------------------------------------------------- the oracle against itself


def complex_step(value, v, i, step=1e-30):
    moved = np.array(v, dtype=complex)
    moved.flat[i] += 1j * step
    return np.imag(value(moved)) / step


@pytest.mark.parametrize("name, hyperparameters", LOGIT_CASES, ids=ids)
def test_the_oracles_logit_gradients_are_those_of_its_values(name, hyperparameters):
    value, gradient = oracle.LOGIT_LOSSES[name]
    for K, scale in ((2, 1.0), (5, 0.1), (5, 30.0)):
        Z, Y, _ = examples(K, scale, name, "self", B=2)
        for z, y in zip(Z, Y, strict=True):
            by_step = [complex_step(lambda v: value(v, y, **hyperparameters), z, j) for j in range(K)]  # noqa: B023
            close(gradient(z, y, **hyperparameters), by_step, 1e-11)


@pytest.mark.parametrize("name, hyperparameters", [*HEAD_CASES, ("dropout", {"rho": 0.6})], ids=ids)
def test_the_oracles_head_gradients_are_those_of_its_values(name, hyperparameters):
    X, W, b, Y, _ = features(4, 3, name, "self", B=1)
    x, y = X[0], Y[0]
    more = {"mask": [1, 0, 1]} if name == "dropout" else {}
    given = {**hyperparameters, **more}
    _, gradient = oracle.head_loss(name, x, W, b, y, **given)
    value = oracle.HEAD_LOSSES[name][0]
    close(gradient["x"], [complex_step(lambda v: value(v, W, b, y, **given), x, i) for i in range(3)], 1e-11)
    close(gradient["bias"], [complex_step(lambda v: value(x, W, v, y, **given), b, i) for i in range(4)], 1e-11)
    by_step = [complex_step(lambda v: value(x, v, b, y, **given), W, i) for i in range(12)]
    close(gradient["weight"], np.reshape(by_step, (4, 3)), 1e-11)


# ---------------------------------------------------------------- values and gradients, losses of logits


def check_logit_loss(name, hyperparameters, K, scale, progress):
    Z, Y, c = examples(K, scale, name, progress)
    z, y, weights = tensors(Z, Y, c)
    z.requires_grad_()
    losses = make_loss(name, num_classes=K, **hyperparameters)(z, y, progress=progress)
    assert losses.shape == (len(Z),) and losses.dtype == torch.float64
    (grad,) = torch.autograd.grad((weights * losses).sum(), z)
    value, gradient = oracle.LOGIT_LOSSES[name]
    given = asked(name, hyperparameters, progress)
    close(losses, [value(Z[i], Y[i], **given) for i in range(len(Z))])
    close(grad, [c[i] * np.array(gradient(Z[i], Y[i], **given)) for i in range(len(Z))])


@pytest.mark.parametrize("name, hyperparameters", LOGIT_CASES, ids=ids)
def test_logit_loss_is_the_papers(name, hyperparameters):
    for K in (2, 3, 10):
        for scale in (0.1, 1.0, 30.0):
            check_logit_loss(name, hyperparameters, K, scale, progress=0.3)


@pytest.mark.parametrize("name", LOGIT_NAMES)
def test_logit_loss_is_the_papers_at_a_thousand_classes(name):
    for scale in (1.0, 30.0):
        check_logit_loss(name, TYPICAL[name], 1000, scale, progress=0.3)


@pytest.mark.parametrize("schedule", ["0", "0,0.5", "0-0.5", 0.25])
@pytest.mark.parametrize("progress", PROGRESS)
def test_ce_el_follows_its_schedule(schedule, progress):
    check_logit_loss("ce_el", {"F": schedule}, 3, 1.0, progress)


@pytest.mark.parametrize("epochs", [20, 40, 60, 100, 180, 300])
def test_ce_el_drops_cross_entropy_for_exactly_the_last_twentieth_of_the_epochs(epochs):
    loss = make_loss("ce_el", num_classes=3, F="0,0.5")
    z, y = torch.tensor([[0.3, -1.0, 2.0]], dtype=torch.float64), torch.tensor([0])
    expectation = oracle.not_y(z[0].tolist(), 0)
    alone = [abs(loss(z, y, progress=e / epochs).item() - expectation) < 1e-12 for e in range(epochs)]
    assert alone == [False] * (epochs - epochs // 20) + [True] * (epochs // 20)


def test_ce_el_has_six_equal_phases():
    loss = make_loss("ce_el", num_classes=3, F="0-0.5")
    z, y = torch.tensor([[0.3, -1.0, 2.0]], dtype=torch.float64), torch.tensor([0])
    got = torch.cat([loss(z, y, progress=(e + 0.5) / 24) for e in range(24)])
    fixed = [oracle.ce_el_value(z[0].tolist(), 0, f) for f in (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)]
    close(got, np.repeat(fixed, 4))


@pytest.mark.parametrize("name", [n for n in LOGIT_NAMES if n != "ce_el"])
def test_progress_matters_to_no_loss_without_a_schedule(name):
    Z, Y, _ = examples(5, 1.0, name)
    z, y = tensors(Z, Y)
    loss = make_loss(name, num_classes=5, **TYPICAL[name])
    assert torch.equal(loss(z, y, progress=0.0), loss(z, y, progress=0.999))


@pytest.mark.parametrize("focus", [0.1, 0.25, 0.3, 0.45, 0.5])
def test_ce_el_pulls_hardest_at_a_probability_of_F(focus):
    """Battash: the gradient with respect to the target's logit is largest at p_y = F."""
    p = torch.linspace(0.001, 0.999, 999, dtype=torch.float64)
    z = torch.stack([(p / (1 - p)).log(), torch.zeros_like(p)], 1).requires_grad_()
    loss = make_loss("ce_el", num_classes=2, F=focus)
    (grad,) = torch.autograd.grad(loss(z, torch.zeros(999, dtype=torch.int64), progress=0.0).sum(), z)
    assert abs(p[grad[:, 0].abs().argmax()].item() - focus) < 1.1e-3


# ---------------------------------------------------------------- values and gradients, heads


def check_head(name, hyperparameters, K, d, scale=1.0, progress=0.3, train=True):
    X, W, b, Y, c = features(K, d, name, scale, scale=scale)
    head = head_with(name, W, b, **hyperparameters).train(train)
    x, y, weights = tensors(X, Y, c)
    x.requires_grad_()
    losses = head.loss(x, y, progress=progress)
    assert losses.shape == (len(X),) and losses.dtype == torch.float64
    dx, dW, db = torch.autograd.grad((weights * losses).sum(), (x, head.weight, head.bias))
    given = asked(name, hyperparameters, progress)
    if name == "dropout":
        given["mask"] = [1] * d
        given["rho"] = 1.0
    results = [oracle.head_loss(name, X[i], W, b, Y[i], **given) for i in range(len(X))]
    close(losses, [value for value, _ in results])
    close(dx, [c[i] * np.array(results[i][1]["x"]) for i in range(len(X))])
    close(dW, sum(c[i] * np.array(results[i][1]["weight"]) for i in range(len(X))))
    close(db, sum(c[i] * np.array(results[i][1]["bias"]) for i in range(len(X))))


@pytest.mark.parametrize("name, hyperparameters", [*HEAD_CASES, *[(n, TYPICAL[n]) for n in LOGIT_NAMES]], ids=ids)
def test_head_is_the_papers(name, hyperparameters):
    for K, d in ((2, 2), (3, 8), (10, 4)):
        for scale in (0.1, 1.0, 30.0):
            check_head(name, hyperparameters, K, d, scale)


def test_heads_are_the_papers_at_a_thousand_classes():
    for name in ("cosine_softmax", "final_layer_l2"):
        check_head(name, TYPICAL[name], 1000, 5)


@pytest.mark.parametrize("name", [n for n in TYPICAL if n not in ("cosine_softmax", "logit_norm")])
def test_head_gives_linear_logits_in_eval_mode(name):
    X, W, b, _, _ = features(4, 6, name)
    head = head_with(name, W, b, **TYPICAL[name]).eval()
    close(head(torch.tensor(X)), [oracle.linear_logits(x, W, b) for x in X])


def test_logit_norm_head_gives_the_transformed_logits():
    X, W, b, _, _ = features(4, 6, "norm")
    head = head_with("logit_norm", W, b, tau=0.04)
    want = [oracle.logit_norm_logits(oracle.linear_logits(x, W, b), 0.04) for x in X]
    close(head(torch.tensor(X)), want)
    close(head(torch.tensor(X)).norm(dim=1), np.full(len(X), 25.0))


@pytest.mark.parametrize("normalize_features", [True, False])
def test_cosine_head_gives_cosine_over_tau_plus_bias(normalize_features):
    X, W, b, _, _ = features(4, 6, "cosine")
    head = head_with("cosine_softmax", W, b, tau=0.05, normalize_features=normalize_features)
    close(head(torch.tensor(X)), [oracle.cosine_logits(x, W, b, 0.05, normalize_features) for x in X])


def test_cosine_head_ignores_the_lengths_that_it_normalizes():
    X, W, b, Y, _ = features(4, 6, "lengths")
    x, y = tensors(X, Y)
    both = head_with("cosine_softmax", W, b, tau=0.5)
    longer = head_with("cosine_softmax", W * np.array([[0.1], [2.0], [7.0], [30.0]]), b, tau=0.5)
    close(longer.loss(9.0 * x, y, progress=0.0), both.loss(x, y, progress=0.0))
    authors = {"tau": 0.5, "normalize_features": False}
    one, other = head_with("cosine_softmax", W, b, **authors), head_with("cosine_softmax", 5.0 * W, b, **authors)
    close(other.loss(x, y, progress=0.0), one.loss(x, y, progress=0.0))
    assert not torch.allclose(one.loss(9.0 * x, y, progress=0.0), one.loss(x, y, progress=0.0))


def test_scale_loss_multiplies_the_loss_and_not_the_logits_by_tau():
    X, W, b, Y, _ = features(4, 6, "scale")
    x, y = tensors(X, Y)
    plain = head_with("cosine_softmax", W, b, tau=0.05)
    scaled = head_with("cosine_softmax", W, b, tau=0.05, scale_loss=True)
    close(scaled.loss(x, y, progress=0.0), 0.05 * plain.loss(x, y, progress=0.0))
    close(scaled(x), plain(x))


def test_sigmoid_head_starts_at_odds_of_one_to_the_number_of_classes():
    head = make_head("sigmoid", in_features=5, num_classes=10)
    torch.testing.assert_close(head.bias.detach(), torch.full((10,), -math.log(10)))


def test_final_layer_l2_leaves_the_bias_alone_and_is_in_the_mean_once():
    X, W, b, Y, _ = features(4, 6, "l2")
    x, y = tensors(X, Y)
    without = head_with("final_layer_l2", W, b, lambda_final=0.0).loss(x, y, progress=0.0)
    head = head_with("final_layer_l2", W, b, lambda_final=0.3)
    close(head.loss(x, y, progress=0.0).mean() - without.mean(), np.array(0.15 * (W**2).sum()))


# ---------------------------------------------------------------- dropout: properties of its draws


def drawn(rho, B, W=None):
    """K = 2 with logits (0, sum_i 2^i x~_i) and x = 1: log(e^loss - 1) is that sum, whose digits are the mask."""
    bits = 2.0 ** np.arange(4) / 4
    head = head_with("dropout", np.stack([np.zeros(4), bits]), np.zeros(2), rho=rho).train()
    x = torch.ones(B, 4, dtype=torch.float64, requires_grad=True)
    losses = head.loss(x, torch.zeros(B, dtype=torch.int64), progress=0.3)
    logit = torch.log(torch.expm1(losses)).detach().numpy()
    codes = logit * rho * 4
    masks = np.round(codes).astype(int)[:, None] >> np.arange(4) & 1
    return head, x, losses, logit, codes, masks


@pytest.mark.parametrize("rho", [0.3, 0.7, 0.9])
def test_dropped_features_are_zero_or_divided_by_rho(rho):
    torch.manual_seed(0)
    head, x, losses, _, codes, masks = drawn(rho, B=40)
    assert np.abs(codes - np.round(codes)).max() < 1e-9 and codes.min() > -0.5 and codes.max() < 15.5
    dx, dW, db = torch.autograd.grad(losses.sum(), (x, head.weight, head.bias))
    W, b = head.weight.detach().numpy(), head.bias.detach().numpy()
    results = [oracle.head_loss("dropout", [1.0] * 4, W, b, 0, rho=rho, mask=mask) for mask in masks]
    close(losses, [value for value, _ in results])
    close(dx, [gradient["x"] for _, gradient in results])
    close(dW, sum(np.array(gradient["weight"]) for _, gradient in results))
    close(db, sum(np.array(gradient["bias"]) for _, gradient in results))


@pytest.mark.parametrize("rho", [0.3, 0.7])
def test_dropout_keeps_with_probability_rho_and_keeps_the_mean_logit(rho):
    torch.manual_seed(1)
    B = 20_000
    *_, logit, _, masks = drawn(rho, B)
    sigma = math.sqrt(rho * (1 - rho))
    assert np.abs(masks.mean(0) - rho).max() < 5 * sigma / math.sqrt(B)
    spread = np.linalg.norm(2.0 ** np.arange(4) / 4) * sigma / rho
    assert abs(logit.mean() - 15 / 4) < 5 * spread / math.sqrt(B)
    correlations = np.corrcoef(masks.T) - np.eye(4)
    assert np.abs(correlations).max() < 5 / math.sqrt(B)
    assert abs(np.corrcoef(masks[:-1, 0], masks[1:, 0])[0, 1]) < 5 / math.sqrt(B)  # from example to example


def test_dropout_draws_anew_at_every_call():
    torch.manual_seed(2)
    X, W, b, Y, _ = features(4, 30, "anew")
    head = head_with("dropout", W, b, rho=0.5).train()
    x, y = tensors(X, Y)
    assert not torch.allclose(head.loss(x, y, progress=0.0), head.loss(x, y, progress=0.0))


def test_dropout_is_plain_softmax_in_eval_mode():
    for rho in (0.2, 0.7, 1.0):
        check_head("dropout", {"rho": rho}, 4, 6, train=False)


# ---------------------------------------------------------------- gradcheck


@pytest.mark.parametrize("name, hyperparameters", LOGIT_CASES, ids=ids)
def test_gradcheck_of_logit_loss(name, hyperparameters):
    Z, Y, _ = examples(4, 1.0, "gradcheck", B=3)
    z, y = tensors(Z, Y)
    loss = make_loss(name, num_classes=4, **hyperparameters)
    for progress in (0.0, 0.5, 0.99):
        assert torch.autograd.gradcheck(lambda v: loss(v, y, progress=progress), z.requires_grad_())  # noqa: B023


class LossOf(torch.nn.Module):
    def __init__(self, head, y):
        super().__init__()
        self.head, self.y = head, y

    def forward(self, x):
        return self.head.loss(x, self.y, progress=0.5)


@pytest.mark.parametrize("name, hyperparameters", [*HEAD_CASES, *[(n, TYPICAL[n]) for n in LOGIT_NAMES]], ids=ids)
def test_gradcheck_of_head(name, hyperparameters):
    X, W, b, Y, _ = features(3, 4, "gradcheck", B=2)
    x, y = tensors(X, Y)
    module = LossOf(head_with(name, W, b, **hyperparameters).eval(), y)
    names = {id(p): n for n, p in module.named_parameters()}
    weight, bias = names[id(module.head.weight)], names[id(module.head.bias)]
    inputs = [v.detach().clone().requires_grad_() for v in (x, module.head.weight, module.head.bias)]
    assert torch.autograd.gradcheck(
        lambda x, w, b: torch.func.functional_call(module, {weight: w, bias: b}, (x,)), inputs
    )


# ---------------------------------------------------------------- identities and other oracles


def losses_of(name, z, y, progress=0.3, **hyperparameters):
    return make_loss(name, num_classes=z.shape[1], **hyperparameters)(z, y, progress=progress)


@pytest.fixture(params=[2, 10])
def batch(request):
    Z, Y, _ = examples(request.param, 3.0, "identities")
    return tensors(Z, Y)


@pytest.mark.parametrize(
    "name, hyperparameters",
    [
        ("label_smoothing", {"alpha": 0.0}),
        ("label_smoothing", {"alpha": 0.0, "scaled": False}),
        ("logit_penalty", {"beta": 0.0}),
        ("logit_penalty", {"beta": 0.0, "half": True}),
    ],
    ids=ids,
)
def test_switched_off_it_is_softmax(batch, name, hyperparameters):
    close(losses_of(name, *batch, **hyperparameters), losses_of("softmax", *batch))


def test_softmax_is_torchs_cross_entropy(batch):
    close(losses_of("softmax", *batch), F.cross_entropy(*batch, reduction="none"))


@pytest.mark.parametrize("alpha", [0.0, 0.1, 0.5, 0.999])
def test_label_smoothing_is_torchs_and_scaled_is_that_over_one_minus_alpha(batch, alpha):
    torchs = F.cross_entropy(*batch, reduction="none", label_smoothing=alpha)
    close(losses_of("label_smoothing", *batch, alpha=alpha, scaled=False), torchs)
    close(losses_of("label_smoothing", *batch, alpha=alpha, scaled=True), torchs / (1 - alpha))
    close(losses_of("label_smoothing", *batch, alpha=alpha), torchs / (1 - alpha))  # scaled is the default


def test_sigmoid_is_torchs_binary_cross_entropy_summed_over_classes(batch):
    z, y = batch
    t = F.one_hot(y, z.shape[1]).double()
    close(losses_of("sigmoid", z, y), F.binary_cross_entropy_with_logits(z, t, reduction="none").sum(1))


def test_squared_error_at_one_is_the_mean_squared_error(batch):
    z, y = batch
    t = F.one_hot(y, z.shape[1]).double()
    close(losses_of("squared_error", z, y, kappa=1.0, M=1.0), F.mse_loss(z, t, reduction="none").mean(1))


def test_half_the_penalty_is_the_penalty_at_half_beta(batch):
    close(losses_of("logit_penalty", *batch, beta=0.2, half=True), losses_of("logit_penalty", *batch, beta=0.1))


def test_ce_el_at_one_half_is_the_expectation_loss(batch):
    z, y = batch
    close(losses_of("ce_el", z, y, F=0.5), 1 - z.softmax(1).gather(1, y[:, None])[:, 0])


def test_ce_el_at_zero_weighs_both_equally(batch):
    z, y = batch
    want = losses_of("softmax", z, y) + losses_of("ce_el", z, y, F=0.5)
    for focus in ("0", 0, 0.0):
        close(losses_of("ce_el", z, y, F=focus), want)


# ---------------------------------------------------------------- invariances


@pytest.mark.parametrize("name", LOGIT_NAMES)
def test_the_order_of_the_classes_does_not_matter(name):
    Z, Y, _ = examples(6, 2.0, "classes")
    z, y = tensors(Z, Y)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    close(losses_of(name, z[:, order], order.argsort()[y], **TYPICAL[name]), losses_of(name, z, y, **TYPICAL[name]))


@pytest.mark.parametrize("name", list(TYPICAL))
def test_the_order_of_the_classes_does_not_matter_to_a_head(name):
    X, W, b, Y, _ = features(6, 5, "classes")
    x, y = tensors(X, Y)
    order = np.array([3, 0, 5, 1, 4, 2])
    one = head_with(name, W, b, **TYPICAL[name]).eval()
    other = head_with(name, W[order], b[order], **TYPICAL[name]).eval()
    close(other.loss(x, torch.tensor(order.argsort())[y], progress=0.3), one.loss(x, y, progress=0.3))


@pytest.mark.parametrize("name", LOGIT_NAMES)
def test_only_the_softmax_of_untransformed_logits_ignores_a_shift(name):
    Z, Y, _ = examples(6, 2.0, "shift")
    z, y = tensors(Z, Y)
    before, after = losses_of(name, z, y, **TYPICAL[name]), losses_of(name, z + 5.0, y, **TYPICAL[name])
    if name in ("softmax", "label_smoothing", "ce_el"):
        close(after, before)
    else:
        assert ((after - before).abs() > 1e-6 * before.abs()).all()


@pytest.mark.parametrize("name", LOGIT_NAMES)
def test_an_example_does_not_feel_its_batch(name):
    Z, Y, _ = examples(6, 2.0, "batch")
    z, y = tensors(Z, Y)
    loss = make_loss(name, num_classes=6, **TYPICAL[name])
    z.requires_grad_()
    together = loss(z, y, progress=0.3)
    alone = torch.cat([loss(z[i : i + 1], y[i : i + 1], progress=0.3) for i in range(len(z))])
    torch.testing.assert_close(together, alone, rtol=1e-14, atol=1e-14)
    (grad,) = torch.autograd.grad(together[2], z)
    assert grad[2].abs().sum() > 0
    grad[2] = 0
    assert not grad.any()


@pytest.mark.parametrize("name", list(TYPICAL))
def test_an_example_does_not_feel_its_batch_behind_a_head(name):
    X, W, b, Y, _ = features(6, 5, "batch")
    x, y = tensors(X, Y)
    head = head_with(name, W, b, **TYPICAL[name]).eval()
    alone = torch.cat([head.loss(x[i : i + 1], y[i : i + 1], progress=0.3) for i in range(len(x))])
    torch.testing.assert_close(head.loss(x, y, progress=0.3), alone, rtol=1e-13, atol=1e-14)


# ---------------------------------------------------------------- numeric safety


def extreme_logits(K, scale):
    """Random logits, and the ends: all equal, one far above, one far below."""
    Z, Y, _ = examples(K, 1.0, "extreme")
    Z = Z / np.abs(Z).max() * scale
    Z[0] = scale
    Z[1] = -scale
    Z[2], Z[2, Y[2]] = -scale, scale
    Z[3], Z[3, Y[3]] = scale, -scale
    return Z, Y


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=ids)
@pytest.mark.parametrize("name", LOGIT_NAMES)
def test_large_logits_stay_finite(name, dtype):
    for K in (2, 10, 1000):
        for scale in (30.0, 1e4):
            Z, Y = extreme_logits(K, scale)
            z = torch.tensor(Z, dtype=dtype, requires_grad=True)
            for progress in (0.0, 0.99):
                losses = losses_of(name, z, torch.tensor(Y), progress=progress, **TYPICAL[name])
                (grad,) = torch.autograd.grad(losses.sum(), z)
                assert losses.isfinite().all() and grad.isfinite().all()


@pytest.mark.parametrize("name", LOGIT_NAMES)
def test_large_logits_keep_their_loss_in_single_precision(name):
    Z, Y = extreme_logits(10, 1e4)
    Z = Z.astype(np.float32)
    got = losses_of(name, torch.tensor(Z), torch.tensor(Y), **TYPICAL[name])
    value = oracle.LOGIT_LOSSES[name][0]
    want = [value(z.astype(float), y, **TYPICAL[name]) for z, y in zip(Z, Y, strict=True)]
    close(got.double(), want, 1e-5)


@pytest.mark.parametrize("name", [*TYPICAL])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=ids)
def test_dead_and_large_features_stay_finite(name, dtype):
    """After a ReLU all features of an example may be zero; cosine and normalized logits divide by their norm."""
    torch.manual_seed(0)
    head = make_head(name, in_features=5, num_classes=3, **TYPICAL[name]).to(dtype).eval()
    with torch.no_grad():
        head.weight.copy_(torch.randn(3, 5))
        head.bias.zero_()
    x = torch.cat([torch.zeros(1, 5), 1e3 * torch.randn(3, 5)]).to(dtype).requires_grad_()
    losses = head.loss(x, torch.tensor([0, 1, 2, 0]), progress=0.3)
    grads = torch.autograd.grad(losses.sum(), (x, head.weight, head.bias))
    assert losses.isfinite().all() and all(g.isfinite().all() for g in grads)


@pytest.mark.parametrize("name", ["logit_norm", "cosine_softmax"])
def test_a_final_layer_of_zeros_stays_finite(name):
    X, W, b, Y, _ = features(3, 5, "zeros")
    x, y = tensors(X, Y)
    head = head_with(name, 0 * W, 0 * b, **TYPICAL[name])
    losses = head.loss(x.requires_grad_(), y, progress=0.3)
    grads = torch.autograd.grad(losses.sum(), (x, head.weight, head.bias))
    assert losses.isfinite().all() and all(g.isfinite().all() for g in grads)


# ---------------------------------------------------------------- refusals


def refused(call, *words):
    with pytest.raises(InputError) as caught:
        call()
    for word in words:
        assert word in str(caught.value), f"{word!r} is not in {str(caught.value)!r}"


@pytest.mark.parametrize("name", HEAD_NAMES)
def test_make_loss_sends_losses_with_a_head_to_make_head(name):
    refused(lambda: make_loss(name, num_classes=3, **TYPICAL[name]), name, "make_head")


def test_unknown_loss_is_refused():
    refused(lambda: make_loss("sofmax", num_classes=3), "sofmax")
    refused(lambda: make_head("sofmax", in_features=4, num_classes=3), "sofmax")


@pytest.mark.parametrize("name", LOGIT_NAMES)
def test_unknown_hyperparameter_is_refused(name):
    refused(lambda: make_loss(name, num_classes=3, **TYPICAL[name], no_such=1.0), name, "no_such")


@pytest.mark.parametrize("name", list(TYPICAL))
def test_unknown_hyperparameter_of_a_head_is_refused(name):
    refused(lambda: make_head(name, in_features=4, num_classes=3, **TYPICAL[name], no_such=1.0), name, "no_such")


@pytest.mark.parametrize(
    "name, argument, value",
    [
        *[("label_smoothing", "alpha", v) for v in (1.0, 1.5, -0.1, math.nan)],
        *[("logit_penalty", "beta", v) for v in (-1e-9, math.nan, math.inf)],
        *[("logit_norm", "tau", v) for v in (0, 0.0, -1.0, math.nan, math.inf)],
        *[("squared_error", "kappa", v) for v in (0.0, -1.0)],
        *[("squared_error", "M", v) for v in (0.0, -1.0)],
        *[("ce_el", "F", v) for v in (-0.1, 0.51, math.nan, "0-0.6", "")],
        *[("dropout", "rho", v) for v in (0, 0.0, -0.5, 1.1, math.nan)],
        *[("final_layer_l2", "lambda_final", v) for v in (-1e-9, math.nan)],
        *[("cosine_softmax", "tau", v) for v in (0, 0.0, -0.05, math.nan)],
    ],
    ids=ids,
)
def test_out_of_bounds_is_refused(name, argument, value):
    chosen = {**TYPICAL[name], argument: value}
    refused(lambda: make_head(name, in_features=4, num_classes=3, **chosen), name, argument)
    if name in LOGIT_NAMES:
        refused(lambda: make_loss(name, num_classes=3, **chosen), name, argument)


@pytest.mark.parametrize("name", list(TYPICAL))
@pytest.mark.parametrize("K", [1, 0, -2])
def test_fewer_than_two_classes_are_refused(name, K):
    refused(lambda: make_head(name, in_features=4, num_classes=K, **TYPICAL[name]), name, "num_classes")
    if name in LOGIT_NAMES:
        refused(lambda: make_loss(name, num_classes=K, **TYPICAL[name]), name, "num_classes")


@pytest.mark.parametrize("name", LOGIT_NAMES)
def test_logits_and_targets_that_disagree_are_refused(name):
    loss = make_loss(name, num_classes=3, **TYPICAL[name])
    z, y = torch.randn(4, 3), torch.tensor([0, 1, 2, 0])
    refused(lambda: loss(torch.randn(4, 5), y, progress=0.0), name, "logits")  # not num_classes wide
    refused(lambda: loss(torch.randn(3), y[:3], progress=0.0), name, "logits")  # no batch
    refused(lambda: loss(z, y[:3], progress=0.0), name, "targets")
    refused(lambda: loss(z, y[:1], progress=0.0), name, "targets")  # would broadcast
    refused(lambda: loss(z, F.one_hot(y, 3), progress=0.0), name, "targets")


@pytest.mark.parametrize("name", LOGIT_NAMES)
@pytest.mark.parametrize("bad", [-1, 3, -100])
def test_targets_out_of_range_are_refused(name, bad):
    loss = make_loss(name, num_classes=3, **TYPICAL[name])
    refused(lambda: loss(torch.randn(2, 3), torch.tensor([0, bad]), progress=0.0), name, "targets")


@pytest.mark.parametrize("name", list(TYPICAL))
def test_heads_refuse_targets_that_do_not_fit(name):
    head = make_head(name, in_features=4, num_classes=3, **TYPICAL[name])
    x = torch.randn(2, 4)
    for y in ([0, 3], [-1, 0], [0], [0, 1, 2]):
        refused(lambda: head.loss(x, torch.tensor(y), progress=0.0), name, "targets")  # noqa: B023
