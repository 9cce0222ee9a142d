"""The trainer against a user's own torch loop with make_head: the same losses, step for step.

Among them what is special: state that moves, a constraint, a schedule, a second pass, final layers of their own.
"""

import numpy as np
import pytest
import torch
from torch import nn

from losstune import make_head
from losstune.trainables.seeds import generator

EPOCHS, FULL, BATCH = 2, 4, 64
CASES = [
    ("center", {"lam": 0.01, "center_rate": 0.3}),
    ("super_symmetric", {}),
    ("cot", {}),
    ("large_margin_softmax", {"m": 2}),
    ("gaussian_mixture", {"alpha": 0.2, "lam": 0.05}),
    ("mmc", {"C_mm": 5.0}),
    ("ce_matched", {"F": "0-0.5", "volume": "other"}),
    ("ccql", {}),
    ("sigmoid+logit_norm", {"tau": 0.2}),
    ("cot+center", {"lam": 0.01, "center_rate": 0.5}),
]
DECAYED = {"weight", "means"}


def by_own_loop(digits, initial, name, hyperparameters, learning_rate, weight_decay):
    """Body and head by torch.optim.SGD; a two-pass loss has an optimizer with a momentum of its own for each pass."""
    body = nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU())
    body.load_state_dict({key: value for key, value in initial.items() if not key.startswith("head.")})
    head = make_head(name, in_features=64, num_classes=10, **hyperparameters)
    head.load_state_dict({key.removeprefix("head."): v for key, v in initial.items() if key.startswith("head.")})
    named = [*body.named_parameters(), *head.named_parameters()]
    decays = {id(p) for n, p in named if n in DECAYED or p.dim() > 1 and n != "log_variances"}
    groups = [
        {"params": [p for _, p in named if id(p) in decays], "weight_decay": weight_decay / learning_rate},
        {"params": [p for _, p in named if id(p) not in decays], "weight_decay": 0.0},
    ]
    optimizers = [
        torch.optim.SGD([dict(group) for group in groups], lr=learning_rate, momentum=0.9, nesterov=True)
        for _ in range(head.passes)
    ]
    x = digits.train.x.astype(np.float64)
    x, y = torch.from_numpy(((x - x.mean()) / x.std()).astype(np.float32)), torch.from_numpy(digits.train.y)
    steps = len(y) // BATCH
    schedules = [torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, FULL * steps) for optimizer in optimizers]
    for epoch in range(EPOCHS):
        order = torch.randperm(len(y), generator=generator("tests", "search", 0, "order", epoch))
        for step, batch in enumerate(order[: steps * BATCH].view(steps, BATCH)):
            progress = (epoch * steps + step) / (FULL * steps)
            for objective, optimizer in zip((head.loss, head.second_pass), optimizers, strict=False):
                optimizer.zero_grad()
                objective(body(x[batch]), y[batch], progress).mean().backward()
                optimizer.step()
            for schedule in schedules:
                schedule.step()
    head(torch.zeros(1, 64))  # a constraint holds when the head is used
    return {**body.state_dict(), **{f"head.{key}": value for key, value in head.state_dict().items()}}


@pytest.mark.parametrize(("name", "hyperparameters"), CASES, ids=[case[0] for case in CASES])
def test_the_trainer_does_what_an_own_loop_does(make_stack, make_trial, digits, name, hyperparameters):
    trial = make_trial(name, seeds=(0,), learning_rate=0.02, weight_decay=1e-4, **hyperparameters)
    stack = make_stack(epochs=FULL)
    stack.join(trial)
    initial = stack.state(trial.id)["members"][0]["parameters"]
    for _ in range(EPOCHS):
        stack.train_epoch()
    reached = stack.state(trial.id)["members"][0]["parameters"]
    expected = by_own_loop(digits, initial, name, hyperparameters, 0.02, 1e-4)
    assert reached.keys() == expected.keys()
    for key, values in expected.items():
        torch.testing.assert_close(reached[key], values, rtol=1e-3, atol=1e-4)
        assert key == "head.means" and name == "mmc" or not torch.equal(values, initial[key])
