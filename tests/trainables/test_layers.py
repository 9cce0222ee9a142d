"""Which outputs of a network count as layers, and their Gram matrices."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torchvision.models import VisionTransformer

from losstune.trainables import layers
from losstune.trainables.architectures.networks import split_final_layer
from losstune.trainables.layers import gram_matrices, layers_of
from losstune.trainables.network import Network

CPU = torch.device("cpu")


def names(network, shape=(3, 16, 16)):
    network.eval()
    return [layer.name for layer in layers_of(network, network, torch.randn(2, *shape))]


def backbone(spec, shape=(3, 16, 16)):
    return Network(spec, shape, 10).build()[0]


class Functional(nn.Module):
    """Registered in another order than used, its activation a function or shared."""

    def __init__(self):
        super().__init__()
        self.second, self.first, self.relu = nn.Linear(6, 4), nn.Linear(8, 6), nn.ReLU()
        self.third = nn.Linear(4, 4)

    def forward(self, x):
        x = self.relu(self.second(functional.relu(self.first(x))))
        return self.relu(self.third(x)) * 2


class Wrapped(nn.Module):
    def __init__(self, network):
        super().__init__()
        self.inner, self.scale = network, nn.Parameter(torch.ones(1))

    def forward(self, x):
        return self.inner(x) * self.scale


def test_layers_of_our_networks():
    """A convolution ends behind its ReLU; features that are a layer's own outputs are there once."""
    assert names(backbone("mlp")) == ["1 Linear", "features"]
    assert names(backbone("linear")) == ["features"]
    assert names(backbone("small_cnn")) == ["0 Conv2d", "3 Conv2d", "6 Conv2d", "features"]
    resnet = names(backbone("resnet18"))
    assert resnet == ["0 Conv2d", *(f"{number} BasicBlock" for number in range(3, 11)), "features"]
    assert names(backbone("preact_resnet18"))[-2:] == ["8 PreActivationBlock", "features"]
    assert names(backbone("wrn_16_8"))[-3:] == ["6 PreActivationBlock", "7 BatchNorm2d", "features"]


def test_layers_of_others_networks():
    assert names(backbone("torchvision:resnet18"), (3, 64, 64)) == [
        "conv1 Conv2d", *(f"layer{stage}.{block} BasicBlock" for stage in range(1, 5) for block in range(2)),
        "features",
    ]  # fmt: skip
    transformer = VisionTransformer(16, 4, num_layers=5, num_heads=1, hidden_dim=8, mlp_dim=16, num_classes=10)
    assert names(split_final_layer(transformer, 10)[0]) == [
        "conv_proj Conv2d", *(f"encoder.layers.encoder_layer_{number} EncoderBlock" for number in range(5)),
        "encoder.ln LayerNorm", "features",
    ]  # fmt: skip


def test_a_network_in_another_is_opened():
    inner = names(backbone("resnet18"))[:-1]
    assert names(Wrapped(backbone("resnet18"))) == [*(f"inner.{name}" for name in inner), "features"]


def test_layers_come_in_the_order_of_their_use():
    network = Functional().eval()
    found = layers_of(network, network, torch.randn(2, 8))
    assert [layer.name for layer in found] == ["first Linear", "second Linear", "third Linear", "features"]
    assert [(layer.module, layer.call, layer.width) for layer in found] == [
        ("first", 0, 6), ("relu", 0, 4), ("relu", 1, 4), ("", 0, 4)]  # fmt: skip


def test_of_many_layers_some_are_taken():
    """Evenly spaced, the first and the last among them."""
    found = names(backbone("resnet110"))
    assert len(found) == 20 and found[0] == "0 Conv2d" and found[-2:] == ["56 BasicBlock", "features"]


@pytest.mark.parametrize("buffer", [2**28, 4 * 7 * 5, 1])
def test_gram_matrices_and_sparsity_by_hand(monkeypatch, buffer):
    """In one pass, in pieces that cut layers, and column by column; batches of 4 and 3."""
    monkeypatch.setattr(layers, "BUFFER", buffer)
    network, x, passes = Functional().eval(), torch.randn(7, 8, generator=torch.Generator().manual_seed(0)), []

    def run():
        passes.append(1)
        for batch in x.split(4):
            network(batch)

    grams, sparsity = gram_matrices(network, layers_of(network, network, x[:2]), run, 7, CPU)
    assert len(passes) == {2**28: 1, 140: 4, 1: 18}[buffer]
    with torch.no_grad():
        first = network.first(x)
        second = network.second(first.relu()).relu()
        third = network.third(second).relu()
    for gram, share, output in zip(grams, sparsity, (first, second, third, 2 * third), strict=True):
        centered = output.double().numpy() - output.double().numpy().mean(0)
        expected = centered @ centered.T
        np.testing.assert_allclose(gram, expected[np.triu_indices(7)], atol=1e-5)
        assert share == pytest.approx((output == 0).double().mean().item())
    assert grams.dtype == sparsity.dtype == np.float32


def test_layers_in_place_are_seen_as_they_come():
    """A ReLU that overwrites what a convolution has made, which is not a layer without it."""
    network = nn.Sequential(nn.Linear(5, 4), nn.ReLU(inplace=True), nn.Linear(4, 3)).eval()
    x = torch.randn(6, 5)
    found = layers_of(network, network, x[:2])
    _, sparsity = gram_matrices(network, found, lambda: network(x), 6, CPU)
    with torch.no_grad():
        assert sparsity[0] == pytest.approx((network[0](x) <= 0).double().mean().item())


def test_no_hooks_are_left():
    network = backbone("mlp").eval()
    names(network)
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in network.modules())
