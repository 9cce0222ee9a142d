"""Memory that runs out: chunks are halved, no trial is lost, and no number changes."""

import subprocess
import sys

import pytest
import torch

from losstune.trainables.backends import Choice
from losstune.trainables.backends.batched import Batched
from losstune.trainables.memory import available, is_out_of_memory

SCRIPT = """
import hashlib, resource, sys
from functools import partial
import numpy as np, torch
from losstune.trainables.backends import Choice
from losstune.trainables.datasets import Split
from losstune.trainables.inputs import Inputs, Normalization
from losstune.trainables.metrics import METRICS
from losstune.trainables.network import Network
from losstune.trainables.recipe import Recipe
from losstune.trainables.scoring import Scorer
from losstune.trainables.trainer import Stack
from losstune.trainables.trial import Trial

NET = '''
from torch import nn
def build(input_shape, num_classes):
    return nn.Sequential(nn.Conv2d(1, 64, 3), nn.BatchNorm2d(64), nn.ReLU(), nn.Conv2d(64, 8, 3), nn.BatchNorm2d(8),
                         nn.Flatten(), nn.Linear(8 * 144, num_classes))
'''
torch.set_num_threads(1)
draw = np.random.RandomState(0)
split = Split(draw.randint(0, 256, (512, 1, 16, 16)).astype(np.uint8), draw.randint(0, 4, 512).astype(np.int64))
inputs = Inputs(split, Normalization(split.x))
stack = Stack("memory", Network("net.py:build", (1, 16, 16), 4, source=NET), Recipe(batch_size=256, epochs=4), inputs,
              inputs, Scorer(METRICS["accuracy"], 4).followed, width=8, backend=Choice("grouped", 8))
for loss in ("softmax", "cosine_softmax", "dropout"):
    hyperparameters = {"cosine_softmax": {"tau": 0.1, "scale_loss": False, "normalize_features": True},
                       "dropout": {"rho": 0.5}}.get(loss, {})
    stack.join(Trial(loss, loss, hyperparameters, 0.05, 1e-4, "search", (0, 1), 4))
stack.train_epoch()
if sys.argv[1] == "short":
    now = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + int(sys.argv[2]), resource.RLIM_INFINITY))
    stack.idle.clear()
for loss in ("label_smoothing",):
    stack.join(Trial(loss, loss, {"alpha": 0.1, "scaled": True}, 0.05, 1e-4, "search", (0, 1), 4))
for _ in range(2):
    stack.train_epoch()
digest = hashlib.sha256()
for trial in list(stack.members):
    for member in stack.leave(trial)["members"]:
        for values in (member["parameters"], member["buffers"]):
            for name in sorted(values):
                digest.update(values[name].contiguous().numpy().tobytes())
print(digest.hexdigest(), stack.together, "; ".join(stack.notes))
"""


def run(*arguments):
    result = subprocess.run([sys.executable, "-c", SCRIPT, *arguments], capture_output=True, text=True, timeout=240)
    assert result.returncode == 0, result.stderr[-2000:]
    return result.stdout.strip().split(" ", 2)


@pytest.mark.skipif(sys.platform != "linux", reason="the address space is limited as Linux does it")
def test_chunks_are_halved_when_memory_runs_out_and_no_bit_changes():
    """A process with a little less address space than eight members at once need, in the middle of training."""
    digest, together, *_ = run("plenty", "0")
    assert together == "8"
    limited = run("short", str(260 * 2**20))
    assert int(limited[1]) < 8 and "memory ran out with" in limited[2]
    assert limited[0] == digest


@pytest.mark.parametrize(("loss", "fails_at"), [("cot", 3), ("cot", 4), ("dropout", 2)], ids=str)
def test_what_a_step_has_done_is_not_done_again(make_stack, make_trial, same_bits, monkeypatch, loss, fails_at):
    """Memory runs out in the first or the second pass of a step, before and after the first has moved the weights."""
    settings = {"backend": Choice("batched", 4), "examples": 192}
    trial, forward, calls = make_trial(loss, seeds=(0, 1, 2), learning_rate=0.02), Batched.forward, []
    expected = make_stack(**settings)
    expected.join(trial)
    expected.train_epoch()

    def failing(self, x, training=True):
        calls.append(len(x))
        if len(calls) == fails_at:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(self, x, training)

    monkeypatch.setattr(Batched, "forward", failing)
    stack = make_stack(**settings)
    stack.join(trial)
    stack.train_epoch()
    assert stack.together == 2 and len(stack.notes) == 1 and calls[:fails_at] == [3] * fails_at
    assert same_bits(stack.leave(trial.id), expected.leave(trial.id))


def test_evaluation_takes_fewer_examples_when_memory_runs_out(make_stack, make_trial, monkeypatch):
    stack, sizes, forward = make_stack(examples=128), [], Batched.forward
    trial = make_trial("softmax", seeds=(0,))
    stack.join(trial)
    expected = stack.logits(trial.id, stack.validation)

    def failing(self, x, training=True):
        if not training and x.shape[1] > 60:
            raise torch.OutOfMemoryError("CUDA out of memory")
        sizes.append(x.shape[1])
        return forward(self, x, training)

    monkeypatch.setattr(Batched, "forward", failing)
    found = stack.logits(trial.id, stack.validation)
    torch.testing.assert_close(torch.from_numpy(found), torch.from_numpy(expected), rtol=1e-5, atol=1e-5)
    assert max(sizes) <= 60 and sum(sizes) == 216


def test_errors_about_memory_are_told_from_others():
    with pytest.raises(RuntimeError) as too_much:
        torch.empty(2**50)
    assert is_out_of_memory(too_much.value) and is_out_of_memory(MemoryError())
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    with pytest.raises(RuntimeError) as shapes:
        torch.ones(2) @ torch.ones(3)
    assert not is_out_of_memory(shapes.value)


def test_there_is_memory_left():
    assert 2**20 < available("cpu") < 2**50
