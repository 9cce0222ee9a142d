"""Every backend computes the network that its author wrote, and each member's bits whatever its company."""

import shutil

import numpy as np
import pytest
import torch

from losstune.spaces import InputError
from losstune.trainables.architectures import ARCHITECTURES
from losstune.trainables.backends import BACKENDS, Choice, able
from losstune.trainables.backends.backend import ByAutograd
from losstune.trainables.network import Network
from losstune.trainables.rows import Layout, Rows

RESIDUAL = """
from torch import nn

class Block(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, groups=2, bias=True)
        self.norm = nn.GroupNorm(2, channels)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.gate = nn.Conv2d(channels, channels, 1)

    def forward(self, x):
        y = self.norm(self.conv(x)).relu()
        return x + y * self.gate(self.pool(y)).sigmoid()

def build(input_shape, num_classes):
    return nn.Sequential(nn.Conv2d(input_shape[0], 8, 3, stride=2, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
                         Block(8), nn.Flatten(), nn.Linear(72, 20), nn.ReLU(), nn.Linear(20, num_classes))
"""
SHUFFLED = """
from torch import nn

class Shuffle(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3)
        self.final = nn.Linear(8 * 36, 10)

    def forward(self, x):
        x = self.conv(x)
        x = x.flip(1)  # among all channels: of all members, where they lie side by side
        return self.final(x.flatten(1))

def build(input_shape, num_classes):
    return Shuffle()
"""
DROPOUT = """
from torch import nn

def build(input_shape, num_classes):
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.Dropout(0.5), nn.Flatten(), nn.Linear(144, num_classes))
"""
CASES = [
    ("mlp", None, "batched", 4), ("mlp", None, "numpy", 4), ("mlp", None, "vmap", 3),
    ("small_cnn", None, "grouped", 3), ("small_cnn", None, "vmap", 2),
    ("my_net.py:build", RESIDUAL, "grouped", 2), ("my_net.py:build", RESIDUAL, "vmap", 3),
    ("small_cnn", None, "streams", 3), ("my_net.py:build", RESIDUAL, "streams", 2),
]  # fmt: skip


def choice_of(kind, together):
    """numpy: batched, with NumPy's matrix products."""
    return Choice("batched", together, products="numpy") if kind == "numpy" else Choice(kind, together)


IDS = [f"{kind}-{name.removesuffix('.py:build')}" for name, _, kind, _ in CASES]


def reached(make_stack, trials, epochs, choice, **settings):
    stack = make_stack(backend=choice, **settings)
    for trial in trials:
        stack.join(trial)
    for _ in range(epochs):
        stack.train_epoch()
    return [stack.leave(trial.id)["members"] for trial in trials]


@pytest.mark.parametrize(("network", "source", "kind", "together"), CASES, ids=IDS)
def test_a_backend_computes_the_network_as_its_author_wrote_it(make_stack, make_trial, network, source, kind, together):
    """After one epoch weights and running statistics are those of the plain network, but for rounding."""
    settings = {"network": network, "source": source, "examples": 128, "batch_size": 32}
    trials = [make_trial(loss, seeds=(0, 1), learning_rate=0.02) for loss in ("softmax", "cosine_softmax", "sigmoid")]
    plain = reached(make_stack, trials, 1, Choice("sequential", 1), **settings)
    other = reached(make_stack, trials, 1, choice_of(kind, together), **settings)
    for expected, found in zip(sum(plain, []), sum(other, []), strict=True):
        for what in ("parameters", "buffers"):
            assert expected[what].keys() == found[what].keys()
            for name, value in expected[what].items():
                torch.testing.assert_close(found[what][name], value, rtol=2e-3, atol=2e-4)


@pytest.mark.parametrize(("network", "source", "kind", "together"), CASES, ids=IDS)
def test_a_members_bits_do_not_depend_on_its_company(
    make_stack, make_trial, same_bits, network, source, kind, together
):
    """Alone, beside others, in another place, after leaving and coming back in the middle: the same bits.

    Where a backend does not promise that, the same numbers within 0.5% after twelve steps.
    """
    settings = {"network": network, "source": source, "examples": 128, "batch_size": 32,
                "backend": choice_of(kind, together)}  # fmt: skip
    trial = make_trial("softmax", seeds=(0,))
    alone = make_stack(**settings)
    alone.join(trial)
    for _ in range(3):
        alone.train_epoch()
    stack = make_stack(**settings)
    stack.join(make_trial("label_smoothing", seeds=(1, 2)))
    stack.join(trial)
    stack.train_epoch()
    away = stack.leave(trial.id)
    stack.join(make_trial("cosine_softmax", seeds=(0, 1, 4)))
    stack.train_epoch()
    stack.join(trial, away)
    stack.train_epoch()
    stack.leave("label_smoothing")
    stack.train_epoch()
    found, expected = stack.leave(trial.id), alone.leave(trial.id)
    assert same_bits(found, expected) or not BACKENDS[choice_of(kind, together).kind].is_exact(alone.example)
    for name, value in expected["members"][0]["parameters"].items():
        torch.testing.assert_close(found["members"][0]["parameters"][name], value, rtol=5e-3, atol=5e-4)


@pytest.mark.parametrize("kind", ["grouped", "vmap"])
def test_a_member_that_diverges_does_not_touch_its_neighbours(make_stack, make_trial, kind):
    settings = {"network": "small_cnn", "examples": 128, "batch_size": 32, "backend": Choice(kind, 4)}
    healthy = make_trial("softmax", seeds=(0, 1))
    (expected,) = reached(make_stack, [healthy], 2, **{"choice": settings.pop("backend")}, **settings)
    wild = make_trial("squared_error", seeds=(0, 1), learning_rate=1e12)
    found, lost = reached(make_stack, [healthy, wild], 2, Choice(kind, 4), **settings)
    for a, b in zip(found, expected, strict=True):
        for name, value in b["parameters"].items():
            torch.testing.assert_close(a["parameters"][name], value, rtol=5e-3, atol=5e-4)
    assert not all(torch.isfinite(value).all() for value in lost[0]["parameters"].values())


VIEWS = """
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.pool = nn.Conv2d(1, 6, 3), nn.MaxPool2d(2)
        self.final = nn.Linear(6 * 9, 10)

    def forward(self, x):
        x = self.pool(self.conv(x).relu())
        return self.final(x.view(x.size(0), -1))  # refuses activations in channels_last

def build(input_shape, num_classes):
    return Net()
"""
KEEPS = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("scale", torch.tensor(2.0))
        self.register_buffer("mean", torch.zeros(()))
        self.conv, self.final = nn.Conv2d(1, 4, 3), nn.Linear(4 * 36, 10)

    def forward(self, x):
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * x.mean().detach()  # a new tensor in the buffer's place
        return self.final(self.conv((x - self.mean) / self.scale).relu().flatten(1))

def build(input_shape, num_classes):
    return Net()
"""
TIED = """
from torch import nn

def build(input_shape, num_classes):
    first, second = nn.Linear(64, 64), nn.Linear(64, 64)
    second.weight = first.weight
    return nn.Sequential(nn.Flatten(), first, nn.ReLU(), second, nn.ReLU(), nn.Linear(64, num_classes))
"""


@pytest.mark.parametrize("source", [VIEWS, KEEPS, TIED], ids=["view", "new buffers", "tied parameters"])
def test_networks_as_people_write_them_train_member_after_member(make_stack, make_trial, same_bits, source):
    """They train, and a member that has been away goes on where it was."""
    settings = {"network": "my_net.py:build", "source": source, "examples": 128, "batch_size": 32, "average": 0.9}
    assert able(Network("my_net.py:build", (1, 8, 8), 10, source=source).build()[0])[-1] == "sequential"
    trial = make_trial("softmax", seeds=(0,), learning_rate=0.05)
    alone, stack = make_stack(**settings), make_stack(**settings)
    alone.join(trial)
    losses = [alone.train_epoch()[trial.id].train_loss[0] for _ in range(3)]
    assert losses[-1] < losses[0]
    stack.join(trial)
    stack.train_epoch()
    away = stack.leave(trial.id)
    stack.join(make_trial("sigmoid", seeds=(1, 2)))
    stack.train_epoch()
    stack.join(trial, away)
    stack.train_epoch()
    stack.train_epoch()
    assert same_bits(stack.leave(trial.id), alone.leave(trial.id))


def test_networks_are_given_to_backends_that_can_compute_them():
    def of(spec, source=None):
        return able(Network(spec, (1, 8, 8), 10, source=source).build()[0])

    assert of("mlp") == ["batched", "vmap", "streams", "sequential"]
    assert of("small_cnn") == ["grouped", "vmap", "streams", "sequential"]
    assert of("my_net.py:build", DROPOUT) == ["sequential"]  # its draws would depend on the place


def test_a_backend_that_cannot_compute_a_network_is_refused(make_stack):
    allowed = "auto, grouped, vmap, streams, sequential"
    with pytest.raises(InputError, match=f"batched cannot compute small_cnn; allowed: {allowed}"):
        make_stack(network="small_cnn", backend=Choice("batched", 8))


@pytest.mark.parametrize("kind", sorted(BACKENDS))
def test_bfloat16_trains_on_every_backend(make_stack, make_trial, kind):
    network = "mlp" if kind == "batched" else "small_cnn"
    stack = make_stack(network=network, backend=Choice(kind, 1 if kind == "sequential" else 2), examples=640,
                       precision="bfloat16")  # fmt: skip
    stack.join(make_trial("softmax", seeds=(0, 1), learning_rate=0.1))
    first = stack.train_epoch()["softmax"].train_loss
    for _ in range(3):
        last = stack.train_epoch()["softmax"].train_loss
    assert np.mean(last) < 0.7 * np.mean(first)
    assert stack.leave("softmax")["members"][0]["parameters"]["head.weight"].dtype == torch.float32


SMALL = ["linear", "one_hidden_layer", "mlp", "small_cnn", "all_cnn_c", "resnet20", "resnext29", "shufflenet_v2_0.5",
         "cnn13", "vgg16_mod", "wrn50_0.25", "wrn18_0.25", "preact_resnet18"]  # fmt: skip


@pytest.mark.parametrize("together", [1, 3])
@pytest.mark.parametrize("network", [name for name in SMALL if ARCHITECTURES[name].min_size <= 8])
def test_the_papers_networks_are_exact_together_and_one_after_another(
    make_stack, make_trial, same_bits, network, together
):
    """Two steps alone and beside two others in another place: the same bits, with batched and with grouped layers.

    And member after member, which is taken where grouped layers promise no bits.
    """
    example = Network(network, (1, 8, 8), 10).build()[0]
    kind = able(example)[0] if together > 1 else "sequential"
    if not BACKENDS[kind].is_exact(example):
        pytest.skip("grouped layers promise no bits on a processor without AVX-512")
    settings = {"network": network, "examples": 32, "batch_size": 16, "backend": Choice(kind, together)}
    trial, found = make_trial("softmax", seeds=(0,), learning_rate=0.01), []
    for company in ((), ((1, 2),)):
        stack = make_stack(**settings)
        for seeds in company:
            stack.join(make_trial("label_smoothing", seeds=seeds, learning_rate=0.01))
        stack.join(trial)
        stack.rehearse(2)
        found.append(stack.leave(trial.id))
    assert kind in ("batched", "grouped", "sequential") and same_bits(*found)


@pytest.mark.parametrize(("capability", "channels", "exact"), [("AVX512", 8, True), ("AVX512", 12, False),
                                                              ("AVX2", 8, False), ("DEFAULT", 16, False)])  # fmt: skip
def test_grouped_layers_promise_bits_where_that_was_found_to_hold(monkeypatch, capability, channels, exact):
    """Elsewhere an automatic choice on a CPU passes them over."""
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    network = torch.nn.Sequential(torch.nn.Conv2d(1, channels, 3), torch.nn.Flatten())
    assert BACKENDS["grouped"].is_exact(network) is exact
    assert BACKENDS["sequential"].is_exact(network) and BACKENDS["batched"].is_exact(network)


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_a_compiled_network_trains_as_the_plain_one(make_stack, make_trial, tmp_path, monkeypatch):
    """And leaves its kernels where the next process finds them."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    settings = {"network": "small_cnn", "examples": 64, "batch_size": 32}
    trial = make_trial("softmax", seeds=(0,), learning_rate=0.02)
    plain, compiled = (reached(make_stack, [trial], 1, choice, **settings)[0][0]["parameters"]
                       for choice in (Choice("sequential", 1), Choice("sequential", 1, compiled=True)))  # fmt: skip
    for name, value in plain.items():
        torch.testing.assert_close(compiled[name], value, rtol=2e-3, atol=2e-4)
    assert any(tmp_path.rglob("*.so"))
    with pytest.raises(InputError, match="resources.compile: batched networks have nothing to compile"):
        make_stack(backend=Choice("batched", 8, compiled=True))


CHECKPOINTED = """
from torch import nn
from torch.utils.checkpoint import checkpoint

class Net(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.stem, self.body = nn.Conv2d(1, 8, 3), nn.Conv2d(8, 8, 3)
        self.unused, self.out = nn.Linear(3, 3), nn.Linear(8 * 16, classes)

    def forward(self, x):
        return self.out(checkpoint(self.body, self.stem(x), use_reentrant=True).flatten(1))

def build(input_shape, num_classes):
    return Net(num_classes)
"""


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")  # of the checkpoint's own, with images
@pytest.mark.parametrize(
    ("spec", "source", "kind", "members"),
    [("small_cnn", None, "sequential", 1), ("small_cnn", None, "grouped", 3), ("small_cnn", None, "grouped", 1),
     ("small_cnn", None, "vmap", 2), ("small_cnn", None, "streams", 3), ("mlp", None, "vmap", 2),
     ("my_net.py:build", RESIDUAL, "grouped", 2), ("my_net.py:build", CHECKPOINTED, "sequential", 1),
     ("my_net.py:build", CHECKPOINTED, "streams", 2)],
)  # fmt: skip
def test_gradients_in_few_kernels_are_those_that_are_added_up(monkeypatch, spec, source, kind, members):
    """What a GPU does, here on a CPU: the same gradients, in places that held others before."""
    network = Network(spec, (1, 8, 8), 10, source=source)
    found = []
    for few in (False, True):
        if few:
            monkeypatch.setattr(ByAutograd, "backward", _in_few_kernels)
        torch.manual_seed(0)
        example, features = network.build()
        layout = Layout.of_backbone(example, network.decay_norm)
        backend = BACKENDS[kind](example, lambda: network.build()[0], layout, members, torch.float32)
        backend.order = BACKENDS[kind].order_for(example, network.input_shape)
        parameter = 0.2 * torch.randn(members, layout.width)
        rows = Rows(parameter, torch.zeros(1, 1, *parameter.shape), torch.zeros_like(parameter))
        rows.gradient.fill_(7.0)
        backend.bind(rows)
        backend.forward(torch.randn(members, 5, 1, 8, 8))
        backend.backward(torch.randn(members, 5, features))
        found.append([layout.unpack(row, backend.order) for row in rows.gradient])
    for alone, together in zip(*found, strict=True):
        for name, value in alone.items():
            assert torch.allclose(value, together[name], rtol=1e-4, atol=1e-6), name


def _in_few_kernels(backend, gradient):
    backend._backward_in_few_kernels(gradient)
    backend.forget()
