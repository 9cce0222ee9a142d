"""The trainer: exact in any company and after any interruption, and the same as a plain torch loop."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from losstune.spaces import InputError
from losstune.trainables import checkpoint
from losstune.trainables.architectures.networks import build_network
from losstune.trainables.losses import LOSSES
from losstune.trainables.seeds import derive, generator


def options(loss):
    return {"F": "0-0.5"} if loss in ("ce_el", "ce_matched") else {}


COMBINED = ["label_smoothing+dropout", "sigmoid+cosine_softmax", "margin_softmax+large_margin", "cot+center"]
AWAY = ["dropout", "cot", "center", "gaussian_mixture", "cot+center"]  # noise, two passes, state, a head of its own


def alone(make_stack, trial, epochs, **recipe):
    stack = make_stack(**recipe)
    stack.join(trial)
    for _ in range(epochs):
        stack.train_epoch()
    return stack.leave(trial.id)


@pytest.mark.parametrize("batch_size", [64, 37])
def test_every_loss_is_bit_identical_in_any_company(make_stack, make_trial, same_bits, batch_size):
    """Trials of all losses and some combinations that join late, leave and come back end where each ends alone."""
    recipe = {"batch_size": batch_size, "examples": 400}
    trials = {loss: make_trial(loss, seeds=(0, 1), **options(loss)) for loss in [*LOSSES, *COMBINED]}
    expected = {loss: alone(make_stack, trial, 4, **recipe) for loss, trial in trials.items()}
    stack = make_stack(width=2 * len(trials), **recipe)
    first = ["softmax", *AWAY]
    names = [*first, *(name for name in trials if name not in first)]
    for name in first:
        stack.join(trials[name])
    stack.train_epoch()
    for name in names[len(first):]:
        stack.join(trials[name])
    stack.train_epoch()
    away = {name: stack.leave(name) for name in AWAY}
    stack.train_epoch()
    for name in AWAY:
        stack.join(trials[name], away[name])
    stack.train_epoch()
    reached = {"softmax": stack.leave("softmax")}
    stack.train_epoch()
    reached |= {name: stack.leave(name) for name in names[1:]}
    assert {state["epoch"] for state in reached.values()} == {4}
    assert [name for name in names if not same_bits(reached[name], expected[name])] == []


@pytest.mark.parametrize("loss", ["softmax", "dropout", "cosine_softmax"])
def test_a_seed_alone_is_the_same_seed_among_others(make_stack, make_trial, same_bits, loss):
    one = alone(make_stack, make_trial(loss, seeds=(2,)), 3)
    three = alone(make_stack, make_trial(loss, seeds=(0, 1, 2)), 3)
    assert same_bits({"members": one["members"]}, {"members": three["members"][2:]})


@pytest.mark.parametrize("network", ["mlp", "small_cnn"])
def test_a_checkpoint_restores_every_bit(make_stack, make_trial, same_bits, tmp_path, network):
    """Weights, momentum, running statistics, schedule and random draws go on as if nothing had been."""
    recipe = {"network": network, "examples": 320, "augmentation": "crop" if network == "small_cnn" else "none"}
    trial = make_trial("dropout", seeds=(0, 1))
    expected = alone(make_stack, trial, 4, **recipe)
    digest = checkpoint.write(tmp_path / "state.pt", alone(make_stack, trial, 2, **recipe))
    stack = make_stack(**recipe)
    stack.join(make_trial("sigmoid", learning_rate=0.05))
    stack.join(trial, checkpoint.read(tmp_path / "state.pt", digest))
    stack.train_epoch()
    stack.train_epoch()
    assert same_bits(stack.leave(trial.id), expected)


@pytest.mark.parametrize("loss", ["softmax", "cot"])
def test_a_state_of_an_earlier_version_is_taken_up(make_stack, make_trial, same_bits, loss):
    """It named SGD's momentum, and a second one where a step has two passes."""
    trial, stack = make_trial(loss, seeds=(0,)), make_stack()
    state = alone(make_stack, trial, 2)
    earlier = {"epoch": 2, "members": [dict(member) for member in state["members"]]}
    for member in earlier["members"]:
        kept = member.pop("optimizer")
        member |= dict(zip(("momentum", "second_momentum"), (slots[0] for slots in kept), strict=False))
    stack.join(trial, earlier)
    assert same_bits(stack.leave(trial.id), state)


def test_nan_in_one_trial_does_not_touch_another(make_stack, make_trial, same_bits):
    healthy = make_trial("label_smoothing")
    expected = alone(make_stack, healthy, 2)
    stack = make_stack()
    stack.join(healthy)
    stack.join(make_trial("squared_error", learning_rate=1e6))
    stack.train_epoch()
    result = stack.train_epoch()["squared_error"]
    assert not any(result.finite) or any(map(math.isnan, result.train_loss))
    assert same_bits(stack.leave(healthy.id), expected)


def test_seeds_are_paired_across_losses_and_differ_among_themselves(make_stack, make_trial):
    """Seed k means the same initial weights for every loss; only sigmoid's bias is its own."""
    stack = make_stack()
    for loss in ("softmax", "cosine_softmax", "sigmoid"):
        stack.join(make_trial(loss))
    states = {name: stack.leave(name)["members"] for name in ("softmax", "cosine_softmax", "sigmoid")}
    for name, values in states["softmax"][0]["parameters"].items():
        assert torch.equal(values, states["cosine_softmax"][0]["parameters"][name])
        if name != "head.bias":
            assert torch.equal(values, states["sigmoid"][0]["parameters"][name])
            assert not torch.equal(values, states["softmax"][1]["parameters"][name])
    assert torch.allclose(states["sigmoid"][0]["parameters"]["head.bias"], torch.tensor(-math.log(10)))


def plain_loop(digits, initial, trial, epochs, full_length, batch_size):
    """One member by torch.optim.SGD and CosineAnnealingLR, independent of the trainer's own code."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10))
    names = ["1.weight", "1.bias", "3.weight", "3.bias", "head.weight", "head.bias"]
    with torch.no_grad():
        for parameter, name in zip(net.parameters(), names, strict=True):
            parameter.copy_(initial[name])
    decay = trial.weight_decay / trial.learning_rate
    groups = [{"params": [p for p in net.parameters() if p.dim() > 1], "weight_decay": decay},
              {"params": [p for p in net.parameters() if p.dim() == 1], "weight_decay": 0.0}]  # fmt: skip
    optimizer = torch.optim.SGD(groups, lr=trial.learning_rate, momentum=0.9, nesterov=True)
    steps = len(digits.train.y) // batch_size
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, full_length * steps)
    x = digits.train.x.astype(np.float64)
    x = torch.from_numpy(((x - x.mean()) / x.std()).astype(np.float32))
    y = torch.from_numpy(digits.train.y)
    for epoch in range(epochs):
        order = torch.randperm(len(y), generator=generator("tests", "search", 0, "order", epoch))
        for batch in order[: steps * batch_size].view(steps, batch_size):
            optimizer.zero_grad()
            functional.cross_entropy(net(x[batch]), y[batch]).backward()
            optimizer.step()
            schedule.step()
    return dict(zip(names, net.parameters(), strict=True))


def test_a_member_trains_as_torchs_own_optimizer_and_schedule_do(make_stack, make_trial, digits):
    """Nesterov momentum, cosine decay and decay by lambda~ / eta on matrices only, step for step."""
    trial = make_trial("softmax", seeds=(0,), learning_rate=0.05, weight_decay=1e-3)
    stack = make_stack(epochs=5)
    stack.join(trial)
    initial = stack.state(trial.id)["members"][0]["parameters"]
    for _ in range(3):
        stack.train_epoch()
    reached = stack.state(trial.id)["members"][0]["parameters"]
    expected = plain_loop(digits, initial, trial, 3, 5, 64)
    for name, values in expected.items():
        torch.testing.assert_close(reached[name], values.detach(), rtol=1e-4, atol=2e-5)


NET = """
from torch import nn

def build(input_shape, num_classes):
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, num_classes))
"""


def test_a_users_network_trains_member_after_member(make_stack, make_trial, digits):
    """Anything that is no plain chain of linear layers is computed a member at a time, with its own statistics."""
    stack = make_stack(network="my_net.py:build", source=NET, examples=320)
    stack.join(make_trial("softmax", seeds=(0, 1), learning_rate=0.1))
    first = stack.train_epoch()["softmax"]
    for _ in range(3):
        last = stack.train_epoch()["softmax"]
    assert last.train_loss[0] < first.train_loss[0]
    members = stack.leave("softmax")["members"]
    assert not torch.equal(members[0]["buffers"]["1.running_mean"], members[1]["buffers"]["1.running_mean"])


SHARED = """
from torch import nn

def build(input_shape, num_classes):
    relu = nn.ReLU()
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), relu, nn.Linear(32, 16), relu, nn.Linear(16, num_classes))
"""
SUBCLASS = """
from torch import nn

class Net(nn.Sequential):
    def forward(self, x):
        return super().forward(x * 2)

def build(input_shape, num_classes):
    return Net(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, num_classes))
"""
NORMED = """
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

def build(input_shape, num_classes):
    return nn.Sequential(nn.Flatten(), weight_norm(nn.Linear(64, 32)), nn.ReLU(), nn.Linear(32, num_classes))
"""


@pytest.mark.parametrize("source", [SHARED, SUBCLASS, NORMED], ids=["shared module", "subclass", "parametrized"])
def test_logits_are_those_of_the_users_own_network(make_stack, make_trial, digits, source):
    """Whatever the backend, what is scored is the network as its author wrote it."""
    stack = make_stack(network="my_net.py:build", source=source, examples=320)
    stack.join(make_trial("softmax", seeds=(0,), learning_rate=0.05))
    stack.train_epoch()
    state = stack.state("softmax")["members"][0]["parameters"]
    net = build_network("my_net.py:build", (1, 8, 8), 10, source)
    with torch.no_grad():
        for name, parameter in list(net.named_parameters()):
            final = {"weight": "head.weight", "bias": "head.bias"}[name.split(".")[-1]] if name not in state else name
            parameter.copy_(state[final])
        expected = net.eval()(stack.validation.normalized(0, 50))
    found = stack.logits("softmax", stack.validation)[0][:50]
    torch.testing.assert_close(torch.from_numpy(found), expected, rtol=1e-4, atol=1e-4)


DROPOUT_NET = """
from torch import nn

def build(input_shape, num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Dropout(0.5), nn.Linear(32, num_classes))
"""


def test_a_networks_own_dropout_does_not_depend_on_company(make_stack, make_trial, same_bits):
    recipe = {"network": "my_net.py:build", "source": DROPOUT_NET, "examples": 320}
    trial = make_trial("softmax", seeds=(0,), learning_rate=0.1)
    expected = alone(make_stack, trial, 2, **recipe)
    stack = make_stack(**recipe)
    stack.join(make_trial("sigmoid", learning_rate=0.1))
    stack.train_epoch()
    stack.join(trial)
    stack.train_epoch()
    stack.train_epoch()
    assert same_bits(stack.leave(trial.id), expected)


def test_class_weights_scale_the_examples_of_a_class(make_stack, make_trial):
    """With all weight on class 3 the network learns to answer 3."""
    weights = tuple(1.0 if label == 3 else 0.0 for label in range(10))
    stack = make_stack(class_weights=weights, examples=320)
    trial = make_trial("softmax", seeds=(0,))
    stack.join(trial)
    for _ in range(4):
        stack.train_epoch()
    predicted = stack.logits(trial.id, stack.validation)[0].argmax(1)
    assert (predicted == 3).mean() > 0.95


def test_bfloat16_trains_and_keeps_float32_masters(make_stack, make_trial):
    stack = make_stack(precision="bfloat16", examples=640)
    stack.join(make_trial("softmax", seeds=(0,)))
    for _ in range(6):
        result = stack.train_epoch()["softmax"]
    assert result.scores["accuracy"][0] > 0.85
    parameters = stack.leave("softmax")["members"][0]["parameters"]
    assert {p.dtype for p in parameters.values()} == {torch.float32}


def test_a_batch_larger_than_the_training_set_is_refused(make_stack):
    with pytest.raises(InputError, match="batch_size: 64 is more than the 20 training examples"):
        make_stack(examples=20)


def test_derived_seeds_name_what_they_are_for():
    """Different parts give different seeds, the same parts always the same."""
    seeds = {derive("a", "search", 0, "order", 1), derive("a", "search", 0, "order", 2), derive("b", "search", 0)}
    assert len(seeds) == 3 and derive("a", 1) == derive("a", 1)
    assert all(0 <= seed < 2**63 for seed in seeds)
