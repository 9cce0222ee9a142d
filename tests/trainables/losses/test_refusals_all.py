"""What every loss refuses, and that the message names the loss, the argument and what is allowed."""

import math

import pytest
import torch
from every_loss import COMBINATIONS, CRITERIA, DESIGN, EVERY, HEADS, hyperparameters_of, members, of_logits
from torch.nn import functional as F

from losstune import InputError, make_head, make_loss
from losstune.spaces import SPACES, Choice, Option
from losstune.trainables.losses import LOSSES


def refused(call, *words):
    with pytest.raises(InputError) as caught:
        call()
    message = str(caught.value)
    for word in words:
        assert word in message, f"{word!r} is not in {message!r}"
    assert "\n" not in message, f"more than one line: {message!r}"


def refused_by_both(name, words, num_classes=3, in_features=4, **given):
    refused(lambda: make_head(name, in_features=in_features, num_classes=num_classes, **given), *words)
    if of_logits(name):
        refused(lambda: make_loss(name, num_classes=num_classes, **given), *words)


def test_the_tables_have_every_loss_of_the_design():
    assert set(LOSSES) == set(SPACES) >= set(DESIGN)
    assert set(CRITERIA + HEADS) >= set(DESIGN)


@pytest.mark.parametrize("name", EVERY)
def test_what_is_legal_is_not_refused(name):
    """Else every refusal below might be of something else."""
    for given in ({}, {key: p.low for key, p in hyperparameters_of(name).items() if hasattr(p, "low")}):
        make_head(name, in_features=4, num_classes=3, **given)
        if of_logits(name):
            make_loss(name, num_classes=3, **given)


@pytest.mark.parametrize("name", [n for n in EVERY if not of_logits(n)])
def test_what_needs_features_names_make_head(name):
    refused(lambda: make_loss(name, num_classes=3), name, "make_head")


# ---------------------------------------------------------------- hyperparameters


@pytest.mark.parametrize("name", EVERY)
def test_unknown_hyperparameter(name):
    own = list(hyperparameters_of(name))
    for unknown in ("no_such", "learning_rate", "num_class"):
        refused_by_both(name, (name, unknown, "allowed", *own), **{unknown: 1.0})


def test_a_name_that_two_losses_share_must_be_qualified():
    refused_by_both("large_margin+center", ("lam", "large_margin_lam", "center_lam"), lam=0.1)
    make_head("large_margin+center", in_features=4, num_classes=3, large_margin_lam=0.1, center_lam=0.2)


def illegal(p):
    """Values that a hyperparameter does not allow: beyond its bounds, at its open ends, no number, another type."""
    if isinstance(p, Option):
        return [0, 1, 1.0, "true", "yes", None, math.nan]
    if isinstance(p, Choice):
        beyond = [p.numbers[0] - 1e-6, p.numbers[1] + 1e-6] if p.numbers else []
        return [*beyond, "no such", "", -7, 1e9, math.nan, math.inf, [1], (0.0, 0.5), True]
    low, high, low_open, high_open = p.legal
    values = [math.nan, math.inf, -math.inf, "0.1", "", True, False, [0.1], 1j]
    if math.isfinite(low):
        values += [low - 1e-9, low - 1, -1e30] + ([low] if low_open else [])
    if math.isfinite(high):
        values += [high + 1e-9, high + 1, 1e30] + ([high] if high_open else [])
    return values


@pytest.mark.parametrize(
    "name, argument", [(name, argument) for name in EVERY for argument in hyperparameters_of(name)], ids=str
)
def test_values_that_are_not_allowed(name, argument):
    p = hyperparameters_of(name)[argument]
    for value in illegal(p):
        refused_by_both(name, (name, argument, "allowed", p.bounds()), **{argument: value})


BOUNDS = {  # (loss, hyperparameter): legal values, illegal values, from the design's table
    ("label_smoothing", "alpha"): ([0.0, 0.999], [-1e-9, 1.0]),
    ("dropout", "rho"): ([1e-3, 1.0], [0.0, 1.0 + 1e-9]),
    ("final_layer_l2", "lambda_final"): ([0.0, 5.0], [-1e-9]),
    ("logit_penalty", "beta"): ([0.0, 5.0], [-1e-9]),
    ("logit_norm", "tau"): ([1e-3, 50.0], [0.0, -1.0]),
    ("cosine_softmax", "tau"): ([1e-3, 50.0], [0.0, -1.0]),
    ("squared_error", "kappa"): ([1e-3, 500.0], [0.0, -1.0]),
    ("squared_error", "M"): ([1e-3, 500.0], [0.0, -1.0]),
    ("squared_error", "loss_scale"): ([1e-3, 500.0], [0.0, -1.0]),
    ("focal", "gamma"): ([0.0, 0.5, 7.0], [-1e-9]),
    ("focal", "alpha"): ([0.25, 1.0, 4.0], [-1e-9]),
    ("ce_el", "F"): ([0, 0.0, "0", 0.25, 0.5, "0,0.5", "0-0.5"], [-1e-9, 0.51, "0-0.6"]),
    ("ce_matched", "F"): ([0, 0.0, "0", 0.25, 0.5, "0,0.5", "0-0.5"], [-1e-9, 0.51, "0-0.6"]),
    ("ce_matched", "volume"): (["target", "other"], ["both"]),
    ("gce", "q"): ([1e-9, 1.0], [0.0, 1.0 + 1e-9]),
    ("gce", "k"): ([0.0, 0.999], [-1e-9, 1.0]),
    ("tamed_ce", "alpha"): ([0.0, 1.0, 3.0], [-1e-9]),
    ("mmc", "C_mm"): ([1e-3, 50.0], [0.0, -1.0]),
    ("large_margin", "lam"): ([0.0, 5.0], [-1e-9]),
    ("large_margin", "divergence"): (["symmetric", "u_q", "q_u"], ["qu", "kl"]),
    ("large_margin_softmax", "m"): ([1, 2, 3, 4], [0, 5, 2.5, -1]),
    ("large_margin_softmax", "annealing"): ([True, False], ["true", 1]),
    ("gaussian_mixture", "alpha"): ([0.0, 5.0], [-1e-9]),
    ("gaussian_mixture", "lam"): ([0.0, 5.0], [-1e-9]),
    ("center", "lam"): ([0.0, 5.0], [-1e-9]),
    ("margin_softmax", "margin"): ([0, 0.0, 1, 5.0], ["1"]),
    ("center", "center_rate"): ([1e-3, 0.5, 1.0], [-1e-9]),
    ("ccql", "w"): ([0.0, 50.0], [-1e-9]),
}


def test_bounds_are_listed_for_every_hyperparameter_but_the_published_forms():
    forms = {(name, key) for name in DESIGN for key, p in hyperparameters_of(name).items() if isinstance(p, Option)}
    listed = {(name, key) for name in DESIGN for key in hyperparameters_of(name)}
    assert listed - forms == set(BOUNDS) - {("large_margin_softmax", "annealing")}


@pytest.mark.parametrize("name, argument", list(BOUNDS), ids=str)
def test_bounds_are_the_designs(name, argument):
    allowed, forbidden = BOUNDS[name, argument]
    for value in allowed:
        make_head(name, in_features=4, num_classes=3, **{argument: value})
    for value in forbidden:
        refused_by_both(name, (name, argument, "allowed"), **{argument: value})


# ---------------------------------------------------------------- sizes


@pytest.mark.parametrize("name", EVERY)
def test_number_of_classes(name):
    for K in (1, 0, -2, 2.0, "3", None, True):
        refused_by_both(name, (name, "num_classes", "allowed"), num_classes=K)


@pytest.mark.parametrize("name", EVERY)
def test_number_of_features(name):
    for d in (0, -1, 2.0, "3", None):
        call = lambda d=d: make_head(name, in_features=d, num_classes=3)  # noqa: E731
        refused(call, name, "in_features", "allowed")


@pytest.mark.parametrize("name", ["mmc", "super_symmetric"])
def test_a_simplex_needs_as_many_features_as_it_has_dimensions(name):
    for K in (3, 10):
        make_head(name, in_features=K - 1, num_classes=K)
        for d in {K - 2, 1}:
            call = lambda d=d, K=K: make_head(name, in_features=d, num_classes=K)  # noqa: E731
            refused(call, name, "in_features", "allowed", str(K - 1))


# ---------------------------------------------------------------- batches

Z, Y = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 0])


def check_batches(name, call, values, columns):
    call(Z, Y)  # legal
    refused(lambda: call(Z[:, :2], Y), name, values, "allowed")
    refused(lambda: call(torch.cat([Z, Z], 1), Y), name, values, "allowed")
    refused(lambda: call(Z[0], Y[:3]), name, values, "allowed")  # no batch
    refused(lambda: call(Z[None], Y), name, values, "allowed")
    refused(lambda: call(Z.long(), Y), name, values, "allowed")
    refused(lambda: call(Z.to(torch.complex64), Y), name, values, "allowed")
    for targets in (Y[:3], Y[:1], Y[:, None], F.one_hot(Y, 3), torch.tensor(1)):
        refused(lambda: call(Z, targets), name, "targets", "allowed")  # noqa: B023
    for dtype in (torch.float32, torch.int32, torch.bool):
        refused(lambda: call(Z, Y.to(dtype)), name, "targets", "allowed", "int64")  # noqa: B023
    for wrong in (-1, 3, -100, 2**40):
        refused(lambda: call(Z, torch.tensor([0, 1, 2, wrong])), name, "targets", "allowed", "0 to 2")  # noqa: B023


@pytest.mark.parametrize("name", [n for n in EVERY if of_logits(n)])
def test_logits_and_targets(name):
    loss = make_loss(name, num_classes=3)
    check_batches(name, lambda z, y: loss(z, y, progress=0.3), "logits", 3)
    if loss.passes == 2:
        check_batches(name, loss.second_pass, "logits", 3)


@pytest.mark.parametrize("name", EVERY)
def test_features_and_targets(name):
    head = make_head(name, in_features=3, num_classes=3)
    check_batches(name, lambda x, y: head.loss(x, y, progress=0.3), "features", 3)
    if head.passes == 2:
        check_batches(name, head.second_pass, "features", 3)


@pytest.mark.parametrize("name", EVERY)
def test_refused_batches_leave_the_state_alone(name):
    head = make_head(name, in_features=3, num_classes=3).train()
    before = {key: value.clone() for key, value in head.state_dict().items()}
    for targets in (torch.tensor([0, 1, 2, 3]), Y[:3], Y.float()):
        with pytest.raises(InputError):
            head.loss(Z, targets, progress=0.3)
    assert all(torch.equal(value, before[key]) for key, value in head.state_dict().items())


@pytest.mark.parametrize("name", EVERY)
def test_progress(name):
    head = make_head(name, in_features=3, num_classes=3)
    loss = make_loss(name, num_classes=3) if of_logits(name) else None
    for progress in (1.0, -1e-9, 27, math.nan, math.inf):
        refused(lambda: head.loss(Z, Y, progress=progress), name, "progress", "allowed")  # noqa: B023
        if loss is not None:
            refused(lambda: loss(Z, Y, progress=progress), name, "progress", "allowed")  # noqa: B023


def test_passes():
    for name in EVERY:
        head = make_head(name, in_features=4, num_classes=3)
        assert head.passes == (2 if name == "cot" else 1)
        if of_logits(name):
            assert make_loss(name, num_classes=3).passes == head.passes


# ---------------------------------------------------------------- names


@pytest.mark.parametrize(
    "name, words",
    [
        ("sofmax", ["sofmax", "allowed", "softmax"]),
        ("", ["allowed", "softmax"]),
        ("+", ["allowed", "softmax"]),
        ("softmax+", ["softmax+", "allowed"]),
        ("+dropout", ["+dropout", "allowed"]),
        ("softmax++dropout", ["softmax++dropout", "allowed"]),
        ("label_smoothing+no_such", ["no_such", "allowed"]),
        ("no_such+dropout", ["no_such", "allowed"]),
        ("dropout+dropout", ["dropout"]),
        ("softmax+dropout+dropout", ["dropout"]),
        ("logit_norm+logit_norm", ["logit_norm"]),
        ("sigmoid+focal", ["sigmoid", "focal"]),
        ("label_smoothing+ce_el", ["label_smoothing", "ce_el"]),
        ("expectation+cosine_softmax+mae", ["expectation", "mae"]),
        ("quadratic+mmc", ["quadratic", "mmc"]),
        ("cosine_softmax+large_margin_softmax", ["cosine_softmax", "large_margin_softmax"]),
        ("cosine_softmax+super_symmetric", ["cosine_softmax", "super_symmetric"]),
        ("super_symmetric+large_margin_softmax", ["super_symmetric", "large_margin_softmax"]),
        ("sigmoid+cosine_softmax+super_symmetric", ["cosine_softmax", "super_symmetric"]),
    ],
    ids=str,
)
def test_names(name, words):
    refused(lambda: make_loss(name, num_classes=3), *words)
    refused(lambda: make_head(name, in_features=4, num_classes=3), *words)


def test_names_of_another_type():
    for name in (None, 3, ["softmax"]):
        refused(lambda: make_loss(name, num_classes=3), "allowed")  # noqa: B023
        refused(lambda: make_head(name, in_features=4, num_classes=3), "allowed")  # noqa: B023


def test_combinations_name_only_losses_that_there_are():
    assert {loss for name in COMBINATIONS for loss in members(name)} <= set(DESIGN)
