"""The two tables of losses: they agree, and a loss stands in two files and nowhere else."""

import copy
import inspect
import pickle
import re
from pathlib import Path

import pytest
import torch
from every_loss import DESIGN

import losstune
from losstune import make_head, make_loss
from losstune.spaces import SPACES, InputError, Space, check_hyperparameters
from losstune.trainables.losses import LOSSES, Loss
from losstune.trainables.losses.combine import loss_of

ROOT = Path(losstune.__file__).parent
# These words mean more than the loss: the families of probabilities, the default baseline.
WORDS = {"softmax", "sigmoid", "dropout"}
NAMED = "spaces/named.py"  # the papers' own settings name the losses that they are for


def test_every_loss_of_the_design_has_a_formula_and_a_space():
    assert set(LOSSES) == set(SPACES) >= set(DESIGN)


@pytest.mark.parametrize("name", LOSSES)
def test_formula_and_space_agree(name):
    """Whatever the parts take is declared, and whatever is declared is taken by some part."""
    loss, space = loss_of(name), SPACES[name]
    assert loss.passes == space.passes
    taken = {key for part in loss.parts for key in inspect.signature(part).parameters}
    assert set(space.hyperparameters) <= taken
    assert check_hyperparameters(name, {}, num_classes=10).keys() == space.hyperparameters.keys()


@pytest.mark.parametrize("name", LOSSES)
def test_what_may_be_added_to_others_is_softmax_with_something_more(name):
    loss, plain = LOSSES[name], Loss()
    adds = loss.criterion == plain.criterion and loss.second_pass is None and loss != plain
    assert SPACES[name].modifies == adds


@pytest.mark.parametrize("name", sorted(set(LOSSES) - WORDS))
def test_a_loss_stands_in_two_files(name):
    """Its formula's family and its space's, of the same name: to add one touches two files besides its test."""
    rooms = ("trainables", "spaces", "search", "analysis")
    quoted = re.compile(rf"""["']{name}["']""")
    found = {
        str(path.relative_to(ROOT))
        for room in rooms
        for path in (ROOT / room).rglob("*.py")
        if quoted.search(path.read_text(encoding="utf-8"))
    } - {NAMED}
    families = {Path(path).name for path in found}
    assert len(found) == 2 and len(families) == 1, found
    assert {str(Path(path).parent) for path in found} == {"trainables/losses", "spaces/losses"}


def test_what_the_parts_are_given_is_checked_when_a_loss_is_made(monkeypatch):
    def takes_too_much(logits, targets, temperature):
        return logits.sum(-1)

    monkeypatch.setitem(LOSSES, "hinge", Loss(takes_too_much))
    loss_of.cache_clear()
    try:
        with pytest.raises(InputError, match="hinge: takes_too_much takes temperature, which this loss does not have"):
            loss_of("hinge")
    finally:
        loss_of.cache_clear()


def test_transform_and_criterion_in_one_are_the_two_in_turn():
    """logit_norm alone takes the quicker way; with a penalty of weight 0 it takes the two steps."""
    z, y = torch.randn(9, 5, dtype=torch.float64, requires_grad=True), torch.arange(9) % 5
    hp, none = {"tau": 0.2}, {"tau": 0.2, "beta": 0.0, "half": False}
    quick, slow = loss_of("logit_norm"), loss_of("logit_norm+logit_penalty")
    assert quick.transformed_criterion and slow.penalties
    first, second = quick.of_logits(z, y, 0.0, hp), slow.of_logits(z, y, 0.0, none)
    assert torch.allclose(first, second, rtol=1e-12)
    gradients = [torch.autograd.grad(value.square().sum(), z)[0] for value in (first, second)]
    assert torch.allclose(*gradients, rtol=1e-12)
    other = loss_of("sigmoid+logit_norm")
    assert other.transform and not other.transformed_criterion


@pytest.mark.parametrize("name", [name for name, loss in LOSSES.items() if not loss.needs_features])
def test_a_graph_that_is_kept_gives_the_same_gradient_again(name):
    """Criteria reuse memory in the backward pass, where nobody needs it any more, and never that of the logits."""
    z, y = torch.randn(9, 6, dtype=torch.float64), torch.arange(9) % 6
    leaf, loss, hp = z.clone().requires_grad_(), loss_of(name), check_hyperparameters(name, {}, num_classes=6)
    value = loss.of_logits(leaf, y, 0.5, hp).square().sum()
    first, second = (torch.autograd.grad(value, leaf, retain_graph=True)[0] for _ in range(2))
    last = torch.autograd.grad(value, leaf)[0]
    assert torch.equal(first, second) and torch.equal(first, last) and first.any()
    assert torch.equal(leaf.detach(), z)


@pytest.mark.parametrize("name", [*LOSSES, "center+large_margin"])
def test_a_head_is_copied_saved_and_read_as_any_module(name):
    head = make_head(name, in_features=7, num_classes=5)
    x, y = torch.randn(6, 7, requires_grad=True), torch.arange(6) % 5
    head.loss(x, y).sum().backward()
    head.eval()
    expected = head.loss(x, y)
    for twin in (copy.deepcopy(head), pickle.loads(pickle.dumps(head))):
        assert torch.equal(twin.loss(x, y), expected)
    fresh = make_head(name, in_features=7, num_classes=5).eval()
    fresh.load_state_dict(head.state_dict())
    assert torch.equal(fresh.loss(x, y), expected)
    if not head.objective.needs_features:
        assert pickle.loads(pickle.dumps(make_loss(name, 5)))(torch.randn(2, 5), y[:2]).shape == (2,)


@pytest.mark.parametrize("name", [name for name, loss in LOSSES.items() if not loss.needs_features])
def test_a_second_derivative_is_refused_rather_than_wrong(name):
    z, y = torch.randn(6, 5, dtype=torch.float64, requires_grad=True), torch.arange(6) % 5
    value = make_loss(name, 5)(z, y).mean()
    with pytest.raises(RuntimeError, match="second derivative|differentiated again"):
        torch.autograd.grad(value, z, create_graph=True)


def test_a_criterion_of_its_own_is_not_lost_beside_the_quicker_softmax(monkeypatch):
    def sum_of_squares(logits):
        return logits.square().sum(-1)

    monkeypatch.setitem(LOSSES, "center", Loss(sum_of_squares))
    monkeypatch.setitem(SPACES, "center", Space("a", "b", modifies=True))
    loss_of.cache_clear()
    try:
        both, targets = loss_of("logit_norm+center"), torch.zeros(4, dtype=torch.int64)
        value = both.of_logits(torch.randn(4, 3), targets, 0.0, {"tau": 0.5})
        assert torch.allclose(value, torch.full((4,), 4.0))  # |z / (tau |z|)|^2
    finally:
        loss_of.cache_clear()
