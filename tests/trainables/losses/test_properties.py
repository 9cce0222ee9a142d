"""What holds for every loss at any of its hyperparameters, on examples that hypothesis draws."""

import tempfile

import numpy as np
import pytest
import torch
from every_loss import (
    COMBINATIONS,
    CRITERIA,
    DESIGN,
    EVERY,
    HEADS,
    IGNORES_A_SHIFT,
    Subject,
    draws,
    draws_of_features,
    fill,
    generator,
    hyperparameters_of,
    members,
    near,
    of_logits,
    passes,
    settings_at_the_ends,
)
from hypothesis import HealthCheck, configuration, given, settings
from hypothesis import strategies as st

from losstune import make_head, make_loss
from losstune.spaces import Choice, Option
from losstune.trainables.losses import LOSSES

HOME = tempfile.TemporaryDirectory(prefix="hypothesis-")  # else it writes beside the project
configuration.set_hypothesis_home_dir(HOME.name)
EXAMPLES = 10


def drawn(test):
    """The same examples in every run; nothing is stored."""
    fixed = settings(derandomize=True, database=None, deadline=None, max_examples=EXAMPLES,
                     suppress_health_check=[HealthCheck.too_slow])  # fmt: skip
    return fixed(given(data=st.data())(test))


def a_value(p):
    """A strategy for a hyperparameter, over its searched range and on its scale."""
    if isinstance(p, Option):
        return st.booleans()
    if isinstance(p, Choice):
        named = st.sampled_from(p.choices)
        if p.numbers is None:
            return named
        low, high = p.numbers
        return named | st.floats(low, low + 0.99 * (high - low)) | st.just(high)  # ce_el's weights grow near 1/2
    if p.log:
        return st.floats(np.log(p.low), np.log(p.high)).map(lambda v: float(np.clip(np.exp(v), p.low, p.high)))
    return st.floats(p.low, p.high)


class Case:
    """A loss with hyperparameters, and a batch for it; tied: the inputs are whole numbers, so that logits tie."""

    def __init__(self, data, name, kind, second):
        self.name, self.second = name, second
        self.given = data.draw(
            st.fixed_dictionaries({key: a_value(p) for key, p in hyperparameters_of(name).items()}), label="given"
        )
        self.K = data.draw(st.integers(2, 6), label="K")
        self.d = None if kind == "loss" else self.K - 1 + data.draw(st.integers(0, 2), label="extra features")
        seed = data.draw(st.integers(0, 2**32 - 1), label="seed")
        scale = data.draw(st.sampled_from([0.1, 1.0, 10.0]), label="scale")
        self.tied = kind == "loss" and data.draw(st.booleans(), label="tied")
        self.progress = data.draw(st.sampled_from([0.0, 0.3, 0.97]), label="progress")
        self.rng = np.random.default_rng(seed)
        B = data.draw(st.integers(1, 6), label="B")
        inputs = self.rng.normal(size=(B, self.d or self.K)) * scale
        self.inputs = torch.tensor(np.round(inputs) if self.tied else inputs)
        self.targets = torch.tensor(self.rng.integers(0, self.K, size=B))

    def subject(self, **more):
        return Subject.of(self.name, self.K, self.given, self.d, self.second, **more)

    def order(self):
        return torch.tensor(self.rng.permutation(self.K))


def cases():
    """(loss, "loss" or "head", pass): every way to call every loss."""
    for name in EVERY:
        for kind in (["loss"] if of_logits(name) else []) + ["head"]:
            for second in passes(name):
                yield name, kind, second


def every_case(but=lambda name, second: False):
    chosen = [(name, kind, second) for name, kind, second in cases() if not but(name, second)]
    return pytest.mark.parametrize("name, kind, second", chosen, ids=str)


# ---------------------------------------------------------------- the order of the classes


@every_case(but=lambda name, _: name == "mmc")  # whose classes have fixed places: see below
@drawn
def test_the_order_of_the_classes_does_not_matter(name, kind, second, data):
    case = Case(data, name, kind, second)
    order = case.order()
    places = torch.argsort(order)  # class k stands at places[k] now
    subject = case.subject()
    other = subject.permuted(order)
    inputs = case.inputs if kind == "head" else case.inputs[:, order]
    losses, gradient = subject.with_gradient(case.inputs, case.targets, case.progress)
    moved, its_gradient = other.with_gradient(inputs, places[case.targets], case.progress)
    near(moved, losses, 1e-10, 1e-11, "loss")
    if not case.tied:  # at a tie any of several subgradients is right
        near(its_gradient, gradient if kind == "head" else gradient[:, order], 1e-9, 1e-10, "gradient")


@drawn
def test_mmc_has_a_rotation_for_every_order_of_its_classes(data):
    """Its centers are a regular simplex: turning the features as the classes are turned leaves the loss alone."""
    case = Case(data, "mmc", "head", False)
    subject, order = case.subject(), case.order()
    means = subject.head.means.detach()
    U, _, V = torch.linalg.svd(means[order].T @ means)
    turned = case.inputs @ (U @ V).T  # takes mean k to mean order[k]
    losses, gradient = subject.with_gradient(case.inputs, case.targets)
    moved, its_gradient = subject.with_gradient(turned, order[case.targets])
    near(moved, losses, 1e-10, 1e-11, "loss")
    near(its_gradient, gradient @ (U @ V).T, 1e-9, 1e-10, "gradient")


@pytest.mark.parametrize("name", [n for n in EVERY if of_logits(n)])
def test_which_class_is_the_target_does_matter(name):
    """A loss that forgot its targets would pass the test above."""
    z, y, _ = draws(4, 1.0, 9)
    for given_ in settings_at_the_ends(name):
        if "focal" in members(name) and given_.get("alpha") == 0:
            continue  # then it is zero
        loss = make_loss(name, num_classes=4, **given_)
        assert ((loss(z, y, progress=0.3) - loss(z, (y + 1) % 4, progress=0.3)).abs() > 1e-6).any(), given_


# ---------------------------------------------------------------- a shift of the logits


@pytest.mark.parametrize("name", sorted(IGNORES_A_SHIFT))
@drawn
def test_a_shift_of_the_logits_does_not_matter_to_the_softmax_family(name, data):
    for second in passes(name):
        case = Case(data, name, "loss", second)
        subject = case.subject()
        shift = torch.tensor(case.rng.normal(size=(len(case.inputs), 1)) * 10)
        losses, gradient = subject.with_gradient(case.inputs, case.targets, case.progress)
        moved, its_gradient = subject.with_gradient(case.inputs + shift, case.targets, case.progress)
        near(moved, losses, 1e-10, 1e-11, "loss")
        near(gradient.sum(1), torch.zeros(len(shift)), 0, 1e-12 * (1 + gradient.abs().max().item()), "sum of gradient")
        if not case.tied:
            near(its_gradient, gradient, 1e-9, 1e-10, "gradient")


OTHERS = [n for n in EVERY if of_logits(n) and n not in IGNORES_A_SHIFT and set(members(n)) <= set(DESIGN)]


@pytest.mark.parametrize("name", OTHERS)
def test_a_shift_of_the_logits_does_matter_to_the_others(name):
    z, y, _ = draws(4, 1.0, 9)
    for given_ in settings_at_the_ends(name):
        if given_.get("beta") == 0 and "logit_norm" not in name:
            continue  # then it is its parent, which may well ignore it
        loss = make_loss(name, num_classes=4, **given_)
        change = (loss(z + 3.0, y, progress=0.3) - loss(z, y, progress=0.3)).abs()
        assert change.max() > 1e-5, f"{name} {given_}: {change}"


SHIFTS_OF_THE_BIAS = [
    "dropout", "final_layer_l2", "cosine_softmax", "center", "label_smoothing+dropout", "large_margin+center",
    "margin_softmax+cosine_softmax",
]  # fmt: skip


@pytest.mark.parametrize("name", SHIFTS_OF_THE_BIAS)
@drawn
def test_a_shift_of_the_bias_does_not_matter_to_the_softmax_family(name, data):
    case = Case(data, name, "head", False)
    subject = case.subject()
    other = subject.copied()
    with torch.no_grad():
        other.head.bias += 7.0
    losses, gradient = subject.with_gradient(case.inputs, case.targets, case.progress)
    moved, its_gradient = other.with_gradient(case.inputs, case.targets, case.progress)
    near(moved, losses, 1e-10, 1e-11, "loss")
    near(its_gradient, gradient, 1e-9, 1e-10, "gradient")


@pytest.mark.parametrize("name", ["sigmoid+cosine_softmax", "cosine_softmax+logit_penalty"])
def test_a_shift_of_the_bias_does_matter_to_the_others(name):
    subject = Subject.of(name, 4, {}, 5)
    x, y, _ = draws_of_features(4, 5)
    before = subject.values(x, y)
    with torch.no_grad():
        subject.head.bias += 7.0
    assert (subject.values(x, y) - before).abs().max() > 1e-2


@drawn
def test_a_vector_added_to_all_rows_does_not_matter_to_super_symmetric(data):
    """The constraint centres the rows, so every row may be shifted alike."""
    case = Case(data, "super_symmetric", "head", False)
    subject = case.subject()
    other = subject.copied()
    with torch.no_grad():
        other.head.weight += torch.tensor(case.rng.normal(size=case.d))
    losses, gradient = subject.with_gradient(case.inputs, case.targets)
    moved, its_gradient = other.with_gradient(case.inputs, case.targets)
    near(moved, losses, 1e-9, 1e-10, "loss")
    near(its_gradient, gradient, 1e-9, 1e-10, "gradient")


# ---------------------------------------------------------------- the other examples


@every_case()
@drawn
def test_an_example_does_not_feel_its_batch(name, kind, second, data):
    """Neither its loss nor its gradient, whatever else is in the batch, in training too (but for dropout's draws)."""
    case = Case(data, name, kind, second)
    subject = case.subject(train="dropout" not in members(name))
    width = case.inputs.shape[1]
    company = torch.tensor(case.rng.normal(size=(4, width)) * np.array([[0.0], [1.0], [100.0], [1e4]]))
    theirs = torch.tensor(case.rng.integers(0, case.K, size=4))
    losses, gradient = subject.copied().with_gradient(
        torch.cat([company, case.inputs]), torch.cat([theirs, case.targets]), case.progress
    )
    for i in range(len(case.inputs)):
        alone, its_gradient = subject.copied().with_gradient(
            case.inputs[i : i + 1], case.targets[i : i + 1], case.progress
        )
        near(losses[4 + i : 5 + i], alone, 1e-12, 1e-12, "loss")
        near(gradient[4 + i : 5 + i], its_gradient, 1e-12, 1e-12, "gradient")


@pytest.mark.parametrize("name", EVERY)
def test_the_gradients_of_a_heads_parameters_add_up(name):
    """The gradient of a batch is the sum of its examples' gradients: nothing is normalized by the batch."""
    x, y, weights = draws_of_features(4, 5)
    for second in passes(name):
        subject = Subject.of(name, 4, {}, 5, second)
        _, together = subject.with_gradients(x, y, weights)
        apart = [subject.with_gradients(x[i : i + 1], y[i : i + 1], weights[i : i + 1])[1] for i in range(len(y))]
        for key in together:
            if key != "inputs":
                near(together[key], sum(g[key] for g in apart), 1e-10, 1e-11, key)


@pytest.mark.parametrize("name", EVERY)
def test_an_empty_batch_has_no_losses(name):
    head = make_head(name, in_features=5, num_classes=4).train()
    before = {key: value.clone() for key, value in head.state_dict().items()}
    losses = head.loss(torch.zeros(0, 5), torch.zeros(0, dtype=torch.int64), progress=0.3)
    assert losses.shape == (0,)
    if name != "super_symmetric":  # which may put its weight where the constraint holds
        assert all(torch.equal(value, before[key]) for key, value in head.state_dict().items())
    if of_logits(name):
        empty = make_loss(name, num_classes=4)(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), progress=0.3)
        assert empty.shape == (0,)


# ---------------------------------------------------------------- signs


def may_be_negative(name, second):
    """cot's second pass is minus an entropy; a likelihood has no upper end, so gaussian_mixture's may be negative."""
    return second or "gaussian_mixture" in members(name)


@every_case(but=may_be_negative)
@drawn
def test_no_loss_is_negative(name, kind, second, data):
    case = Case(data, name, kind, second)
    losses = case.subject().values(case.inputs, case.targets, case.progress)
    assert losses.isfinite().all() and losses.min() >= -1e-13, losses


@drawn
def test_the_complement_entropy_lies_between_its_ends(data):
    case = Case(data, "cot", "loss", True)
    losses = case.subject().values(case.inputs, case.targets)
    assert losses.max() <= 1e-13 and losses.min() >= -np.log(case.K - 1) / case.K - 1e-13


def test_the_others_are_negative_somewhere():
    z, y, _ = draws(4, 1.0, 9)
    assert make_loss("cot", num_classes=4).second_pass(z, y).max() < -0.01
    head = fill(make_head("gaussian_mixture", in_features=5, num_classes=4, alpha=0.0, lam=1.0).double(), "narrow")
    with torch.no_grad():
        head.log_variances.fill_(-6.0)
        x = head.means[y]
    assert head.loss(x, y, progress=0.3).max() < -1


@drawn
def test_without_the_likelihood_gaussian_mixture_is_not_negative(data):
    case = Case(data, "gaussian_mixture", "head", False)
    case.given["lam"] = 0.0
    assert case.subject().values(case.inputs, case.targets).min() >= -1e-13


@pytest.mark.parametrize("name", CRITERIA)
def test_a_better_logit_of_the_target_lowers_the_loss(name):
    """At logits between the squares' targets every criterion falls in z_y; logit_norm and mpce on the whole."""
    rest = torch.tensor([[0.3, -0.2, 0.1]], dtype=torch.float64)
    low, high = (torch.cat([torch.tensor([[v]], dtype=torch.float64), rest], 1) for v in (0.0, 0.45))
    loss = make_loss(name, num_classes=4)
    y = torch.tensor([0])
    assert loss(high, y, progress=0.3) < loss(low, y, progress=0.3)


# ---------------------------------------------------------------- single precision


@every_case()
@drawn
def test_single_precision_is_close_to_double(name, kind, second, data):
    case = Case(data, name, kind, second)
    inputs = case.inputs.float()
    double = case.subject()
    if kind == "head":  # both with the same numbers
        with torch.no_grad():
            for tensor in double.head.state_dict().values():
                tensor.copy_(tensor.float())
    single = double.copied()
    if kind == "head":
        single.head.float()
    want, want_gradient = double.with_gradient(inputs.double(), case.targets, case.progress)
    got, gradient = single.with_gradient(inputs, case.targets, case.progress)
    assert got.dtype == gradient.dtype == torch.float32
    # One rounding of each input, seen through the loss's own slope, and the rounding of the loss itself.
    slope = want_gradient.abs().sum(1) * inputs.abs().max()
    assert ((got - want).abs() <= 1e-5 * (1 + want.abs() + slope)).all(), (got, want)
    if not case.tied:
        near(gradient, want_gradient, 0, 1e-4 * (1 + want_gradient.abs().max().item()), "gradient")


def test_the_cases_are_all_there():
    """The generators above leave no loss out."""
    names = {name for name, _, _ in cases()}
    assert names == {*LOSSES, *COMBINATIONS} and set(CRITERIA) | set(HEADS) == set(LOSSES)
    assert ("cot", "loss", True) in set(cases()) and generator("a").normal() != generator("b").normal()
