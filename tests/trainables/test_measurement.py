"""The probe: which backend a network gets here, from what is tried, and how many members."""

import re

import pytest
import torch

from losstune.spaces import InputError
from losstune.trainables import measurement
from losstune.trainables.backends import Choice
from losstune.trainables.inputs import Inputs
from losstune.trainables.measurement import Probe
from losstune.trainables.network import Network
from losstune.trainables.recipe import Recipe

MIXES_MEMBERS = """
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3)
        self.final = nn.Linear(8 * 36, 10)

    def forward(self, x):
        return self.final(self.conv(x).flip(1).flatten(1))  # flips the channels of all members together

def build(input_shape, num_classes):
    return Net()
"""

STARTS_AT_ZERO = """
import torch
from torch import nn

class Block(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv1, self.conv2 = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))
        self.norm = nn.BatchNorm2d(channels)
        nn.init.zeros_(self.norm.weight)  # so that at the start nothing of the branch shows

    def forward(self, x):
        first, second = self.conv1(x).chunk(2, 1)
        return torch.relu(x + self.norm(self.conv2(torch.cat([second, first], 1))))

def build(input_shape, num_classes):
    return nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), Block(8), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Linear(8, num_classes))
"""
LOOKS_AT_NEIGHBOURS = STARTS_AT_ZERO.replace(
    "torch.cat([second, first], 1)", "nn.functional.local_response_norm(torch.cat([first, second], 1), 5)"
)


@pytest.fixture
def probe(digits):
    def make(spec, source=None, **recipe):
        inputs = Inputs(digits.train, digits.normalization)
        return Probe(Network(spec, (1, 8, 8), 10, source=source), Recipe(**recipe), inputs)

    return make


@pytest.fixture
def any_processor(monkeypatch):
    """Whatever the processor, grouped layers are tried as on one where they keep every bit."""
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")


def test_fully_connected_networks_are_computed_together(probe):
    """How many at once, and by which library, is what there is to measure."""
    found = probe("mlp").measure()
    assert found.choice.kind == "batched" and found.choice.together in (8, 16, 32)
    assert found.milliseconds.keys() >= {"batched x 8, torch", "batched x 8, numpy", "batched x 32, torch"}
    assert found.width == 32


def test_a_backend_that_computes_another_network_is_found_out(probe, any_processor):
    """What a network does between its layers shows only in its results."""
    found = probe("my_net.py:build", MIXES_MEMBERS).measure()
    assert found.choice == Choice("sequential", 1)
    assert all("another network is computed" in found.why[f"grouped x {n}"] for n in (2, 4, 8))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("source", "why"),
    [(STARTS_AT_ZERO, "another network"), (LOOKS_AT_NEIGHBOURS, "mixed|another")],
    ids=["starts at zero", "looks at neighbours"],
)
def test_what_mixes_members_is_found_out_where_it_hides(probe, any_processor, source, why, precision):
    """In a branch that is zero at the start, or in what is below any tolerance, at low precision too."""
    found = probe("my_net.py:build", source, precision=precision).measure()
    assert found.choice == Choice("sequential", 1)
    assert all(re.search(why, found.why[f"grouped x {n}"]) for n in (2, 4, 8))


def test_a_study_can_fix_the_backend(probe):
    found = probe("small_cnn").measure(fixed="vmap")
    assert found.choice.kind == "vmap" and all(name.startswith("vmap") for name in found.milliseconds)
    with pytest.raises(InputError, match="streams is for a GPU; allowed: auto, .*vmap, sequential"):
        probe("small_cnn").measure(fixed="streams")
    with pytest.raises(InputError, match="batched cannot compute small_cnn; allowed: auto, .*vmap, sequential"):
        probe("small_cnn").measure(fixed="batched")


@pytest.mark.parametrize(("capability", "taken"), [("AVX512", True), ("AVX2", False)])
def test_a_study_can_fix_grouped_layers_where_they_keep_bits(probe, monkeypatch, capability, taken):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    if taken:
        assert probe("small_cnn").measure(fixed="grouped").choice.kind == "grouped"
    else:
        with pytest.raises(InputError, match="grouped would .* in other company; allowed: auto, vmap, sequential"):
            probe("small_cnn").measure(fixed="grouped")


def test_the_width_is_what_memory_allows(probe, monkeypatch):
    """Rows of the mlp: 17,226 parameters, with gradient, decay and momentum about 280 kB a member."""
    monkeypatch.setattr(measurement, "available", lambda device: 5 * 2**20)
    assert 8 <= probe("mlp").measure().width <= 14
    monkeypatch.setattr(measurement, "available", lambda device: 1000)
    assert probe("mlp").measure().width == 1


def test_what_would_take_too_long_is_not_tried(any_processor, probe, monkeypatch):
    monkeypatch.setattr(measurement, "BUDGET", 0.0)
    found = probe("small_cnn").measure()
    assert list(found.milliseconds) == ["sequential x 1"]
    assert set(found.why.values()) == {"it would take too long to try"}
