"""Optimizers, clipping, averaging and mixing: what torch's own and the definitions say, member by member."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from losstune.trainables.optimizers import OPTIMIZERS, clip, share_of_new
from losstune.trainables.recipe import Recipe
from losstune.trainables.rows import Layout, Rows
from losstune.trainables.schedules import Constant, Schedule
from losstune.trainables.seeds import generator


def own_optimizer(name, parameters, rate, decay):
    if name == "adamw":
        return torch.optim.AdamW(parameters, lr=rate, weight_decay=decay, betas=(0.8, 0.95), eps=1e-6)
    nesterov = name == "sgd_nesterov"
    return torch.optim.SGD(parameters, lr=rate, momentum=0.8, nesterov=nesterov, weight_decay=decay)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_each_row_moves_as_torchs_own_optimizer_moves_it(name):
    """Three members with learning rates and weight decays of their own, ten steps."""
    torch.manual_seed(0)
    recipe = Recipe(optimizer=name, momentum=0.8, betas=(0.8, 0.95), eps=1e-6)
    optimizer, start = OPTIMIZERS[name], torch.randn(3, 64)
    rates, decays = [0.1, 0.01, 0.3], [0.0, 0.1, 0.01]
    rows = Rows(start.clone(), torch.zeros(1, optimizer.slots, 3, 64), torch.tensor(decays).unsqueeze(1).expand(3, 64))
    own = [nn.Parameter(row.clone()) for row in start]
    references = [own_optimizer(name, [p], r, d) for p, r, d in zip(own, rates, decays, strict=True)]
    for step in range(1, 11):
        gradients = torch.randn(3, 64)
        rows.gradient.copy_(gradients)
        factors = [torch.full((3, 1), value) for value in optimizer.factors_at(step, recipe)]
        optimizer.step(rows, rows.state[0], torch.tensor(rates).unsqueeze(1), factors, recipe)
        for p, reference, gradient in zip(own, references, gradients, strict=True):
            p.grad = gradient.clone()
            reference.step()
    torch.testing.assert_close(rows.parameter, torch.stack([p.detach() for p in own]), rtol=1e-5, atol=1e-6)


def test_each_members_gradient_is_clipped_by_its_own_norm():
    gradient = torch.tensor([[3.0, 4.0, 0.0], [0.3, 0.4, 0.0], [float("inf"), 1.0, 0.0]])
    clip(gradient, [(slice(0, 2), 3), (slice(2, 3), 2)], 1.0)
    torch.testing.assert_close(gradient[:2], torch.tensor([[0.6, 0.8, 0.0], [0.3, 0.4, 0.0]]))
    own = nn.Parameter(torch.zeros(2))
    own.grad = torch.tensor([3.0, 4.0])
    nn.utils.clip_grad_norm_([own], 1.0)
    assert torch.equal(gradient[0, :2], own.grad)


RECIPES = [{"clip_norm": 0.05}, {"average": 0.9}, {"mixup": 0.3}, {"optimizer": "adamw", "average": 0.95}]


@pytest.mark.parametrize("recipe", RECIPES, ids=str)
@pytest.mark.parametrize("network", ["mlp", "small_cnn"])
def test_recipes_do_not_let_members_see_each_other(make_stack, make_trial, same_bits, recipe, network):
    """Bits alone and beside losses with wider rows, two passes and dropout, through leaving and coming back."""
    settings = {"network": network, "examples": 192, **recipe}
    trial = make_trial("label_smoothing", seeds=(1,), learning_rate=0.02)
    alone = make_stack(**settings)
    alone.join(trial)
    expected_scores = [alone.train_epoch()[trial.id].scores for _ in range(3)]
    stack = make_stack(**settings)
    for loss in ("gaussian_mixture", "cot", "dropout"):
        stack.join(make_trial(loss, learning_rate=0.02))
    stack.join(trial)
    scores = [stack.train_epoch()[trial.id].scores for _ in range(2)]
    away = stack.leave(trial.id)
    stack.train_epoch()
    stack.join(trial, away)
    scores.append(stack.train_epoch()[trial.id].scores)
    assert scores == expected_scores
    assert same_bits(stack.leave(trial.id), alone.leave(trial.id))


def test_averaged_weights_are_what_is_scored_and_the_last_ones_are_scored_apart(make_stack, make_trial):
    """By hand: the average after each step, and logits of both."""
    recipe = {"average": 0.9, "examples": 192, "schedule": Schedule(Constant())}
    stack = make_stack(**recipe)
    trial = make_trial("softmax", seeds=(0,), learning_rate=0.05)
    stack.join(trial)
    average = stack.state(trial.id)["members"][0]["parameters"]["1.weight"].clone()
    plain = make_stack(**{**recipe, "average": None}, epochs=27)
    plain.join(trial)
    seen = []
    take = plain.draws  # the same draws as the averaged stack's
    assert torch.equal(take.order([("search", 0, 0)]), stack.draws.order([("search", 0, 0)]))
    plain._bind()
    (chunk,) = plain.chunks
    chunk.taken_by = lambda own, inputs: (own.step(inputs), seen.append(own.members[0].parameter.clone()))[0]
    plain.train_epoch()
    stack.train_epoch()
    for steps, row in enumerate(seen, 1):
        value = plain.layout_of("softmax").view(row.unsqueeze(0), "1.weight", plain.kind.order)[0]
        average += share_of_new(steps, 0.9) * (value - average)
    state = stack.state(trial.id)["members"][0]
    torch.testing.assert_close(state["average"]["1.weight"], average, rtol=1e-5, atol=1e-6)
    result = stack.train_epoch()[trial.id]
    assert result.scores.keys() >= {"accuracy", "last_weights_accuracy"}
    logits = stack.logits(trial.id, stack.validation)[0]
    targets = stack.validation.y.numpy()
    assert result.scores["accuracy"][0] == pytest.approx(float((logits.argmax(1) == targets).mean()))


def test_the_share_of_new_weights_falls_to_one_minus_the_decay():
    assert share_of_new(1, 0.999) == pytest.approx(1 - 2 / 11)
    assert share_of_new(10**6, 0.999) == pytest.approx(0.001)


def test_mixup_mixes_inputs_and_the_losses_of_both_targets(make_stack, make_trial, digits):
    """One step against a plain loop: lambda x + (1 - lambda) x', and the same shares of the two losses."""
    stack = make_stack(mixup=0.4, examples=64, schedule=Schedule(Constant()))
    trial = make_trial("softmax", seeds=(0,), learning_rate=0.1, weight_decay=0.0)
    stack.join(trial)
    start = stack.state(trial.id)["members"][0]["parameters"]
    stream = [("search", 0, 0)]
    order = stack.draws.order(stream)[0, 0]
    partners, shares = stack.draws._mixing(stream, 0)
    x, y = next(stack.training.batches(order[None, None], None))
    x, y = x[0], y[0]
    share = float(shares)
    mixed = share * x + (1 - share) * x[partners[0]]
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10))
    names = ["1.weight", "1.bias", "3.weight", "3.bias", "head.weight", "head.bias"]
    with torch.no_grad():
        for parameter, name in zip(net.parameters(), names, strict=True):
            parameter.copy_(start[name])
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    logits = net(mixed)
    loss = share * functional.cross_entropy(logits, y) + (1 - share) * functional.cross_entropy(logits, y[partners[0]])
    loss.backward()
    optimizer.step()
    result = stack.train_epoch()[trial.id]
    assert result.train_loss[0] == pytest.approx(loss.item(), rel=1e-5)
    reached = stack.state(trial.id)["members"][0]["parameters"]
    for parameter, name in zip(net.parameters(), names, strict=True):
        torch.testing.assert_close(reached[name], parameter.detach(), rtol=1e-4, atol=1e-6)


def test_mixups_shares_follow_the_beta_distribution(make_stack):
    stack = make_stack(mixup=0.2)
    shares = torch.cat([stack.draws._mixing([("search", seed, 0)], 3)[1] for seed in range(400)]).flatten().numpy()
    assert shares.mean() == pytest.approx(0.5, abs=0.07)
    assert shares.var() == pytest.approx(0.25 / 1.4, abs=0.03)  # a b / ((a + b)^2 (a + b + 1))
    assert np.all((shares >= 0) & (shares <= 1))


@pytest.mark.parametrize("as_what", ["product", "coefficient"])
def test_weight_decay_is_the_product_with_the_rate_or_the_coefficient(make_stack, make_trial, as_what):
    trial = make_trial("softmax", seeds=(0,), learning_rate=0.1, weight_decay=0.02)
    stack = make_stack(weight_decay_as=as_what, examples=64)
    stack.join(trial)
    stack._bind()
    decay = stack.chunks[0].rows.decay
    assert decay.max() == pytest.approx(0.2 if as_what == "product" else 0.02)


def test_order_is_the_seeds_own(make_stack):
    """Streams differ by seed and epoch, and a stream is torch.randperm of its derived seed."""
    draws = make_stack(examples=128).draws
    first, second = draws.order([("search", 0, 0), ("search", 1, 0)])
    assert not torch.equal(first, second)
    expected = torch.randperm(128, generator=generator("tests", "search", 0, "order", 0)).view(2, 64)
    assert torch.equal(first, expected)


def test_what_a_normalization_learns_does_not_decay_whatever_its_shape():
    """LayerNorm over (C, H, W) has parameters of three dimensions."""
    network = nn.Sequential(nn.LayerNorm([2, 4, 4]), nn.Flatten(), nn.Linear(32, 3), nn.BatchNorm1d(3))
    decays = {name: entry.decays for name, entry in Layout.of_backbone(network).entries.items()}
    assert [name for name, does in decays.items() if does] == ["2.weight"]
    assert all(entry.decays for entry in Layout.of_backbone(network, decay_norm=True).entries.values())
