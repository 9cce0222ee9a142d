"""Models of torchvision and timm by name: what is built, and what is refused in one line."""

import sys

import pytest
import timm
import torch
from torch import nn
from torchvision import models

from losstune.spaces.errors import InputError
from losstune.trainables.architectures import check_architecture
from losstune.trainables.architectures.networks import build_network, split_final_layer

IMAGES = (3, 64, 64)


@pytest.mark.parametrize(
    ("spec", "reference"),
    [
        ("torchvision:resnet18", lambda: models.resnet18(num_classes=7)),
        ("torchvision:mobilenet_v3_small", lambda: models.mobilenet_v3_small(num_classes=7)),
        ("timm:resnet18", lambda: timm.create_model("resnet18", num_classes=7)),
        ("timm:test_resnet", lambda: timm.create_model("test_resnet", num_classes=7)),
    ],
)
def test_is_the_librarys_model_with_fresh_weights(spec, reference):
    torch.manual_seed(3)
    network = build_network(spec, IMAGES, 7)
    torch.manual_seed(3)
    expected = reference().state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize("spec", ["torchvision:resnet18", "torchvision:shufflenet_v2_x0_5", "timm:test_efficientnet"])
def test_splits_and_trains(spec):
    torch.manual_seed(0)
    backbone, features = split_final_layer(build_network(spec, IMAGES, 7), 7, IMAGES)
    x = torch.randn(2, *IMAGES)
    output = backbone(x)
    output.square().mean().backward()
    assert output.shape == (2, features)
    assert all(p.grad is not None for p in backbone.parameters())


@pytest.mark.parametrize("channels", [1, 4])
@pytest.mark.parametrize("spec", ["torchvision:resnet18", "torchvision:densenet121", "timm:resnet18"])
def test_takes_other_numbers_of_channels(spec, channels):
    torch.manual_seed(0)
    network = build_network(spec, (channels, 64, 64), 7)
    first = next(m for m in network.modules() if isinstance(m, nn.Conv2d))
    assert first.in_channels == channels and network(torch.rand(2, channels, 64, 64)).shape == (2, 7)
    if spec == "torchvision:resnet18":  # He et al. 2015 initialization, fan out, whatever the inputs
        assert first.weight.std().item() == pytest.approx((2 / (49 * 64)) ** 0.5, rel=0.1)


def test_networks_with_auxiliary_outputs_come_without_them():
    # The only two in torchvision; in training they would return more than the logits.
    network = build_network("torchvision:googlenet", IMAGES, 7)
    assert network.train()(torch.rand(2, *IMAGES)).shape == (2, 7)


@pytest.mark.parametrize(
    ("spec", "shape", "message"),
    [
        ("torchvision:resnet51", IMAGES, "no classifier 'resnet51'; .*did you mean torchvision:resnet50"),
        ("torchvision:raft_large", IMAGES, "torchvision has no classifier 'raft_large'"),
        ("torchvision:squeezenet1_1", IMAGES, "its final layer must be an nn.Linear with 7 outputs"),
        ("torchvision:vit_b_32", IMAGES, r"a batch of shape \(2, 3, 64, 64\) does not pass: .*Expected 224 but got 64"),
        ("torchvision:alexnet", (3, 32, 32), "does not pass: RuntimeError: .*Output size is too small"),
        ("torchvision:resnet18", (12,), r"resnet18 needs images \(C, H, W\), .*shape \(12,\); allowed: mlp"),
        ("timm:resnet_eighteen", IMAGES, "timm has no classifier 'resnet_eighteen'"),
        ("timm:resnet19", IMAGES, "timm has no classifier 'resnet19'; .*did you mean timm:resnet1"),
        ("timm:resnet18.nobodys", IMAGES, "nobodys cannot be built: RuntimeError: Invalid pretrained tag"),
        ("timm:test_vit3", (3, 7, 7), r"a batch of shape \(2, 3, 7, 7\) does not pass: AssertionError"),
        ("timm:deit_tiny_distilled_patch16_224", (3, 224, 224), "what it returns is not the output of its final layer"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line(spec, shape, message):
    with pytest.raises(InputError, match=message) as error:
        build_network(spec, shape, 7)
    assert str(error.value).startswith("network: ") and "\n" not in str(error.value)


def test_a_first_layer_that_is_no_convolution_of_colors(monkeypatch):
    def plain(num_classes, weights=None):
        return nn.Sequential(nn.Flatten(), nn.Linear(48, num_classes))

    monkeypatch.setattr(models, "list_models", lambda module: ["plain"])
    monkeypatch.setattr(models, "get_model", lambda name, **options: plain(**options))
    assert build_network("torchvision:plain", (3, 4, 4), 7)(torch.rand(2, 3, 4, 4)).shape == (2, 7)
    with pytest.raises(InputError, match="network: torchvision:plain does not begin with a convolution of 3 channels"):
        build_network("torchvision:plain", (1, 4, 4), 7)


def test_timm_is_asked_for_where_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    check_architecture("timm:resnet18", IMAGES)
    with pytest.raises(InputError, match="network: timm:resnet18: timm is not installed; allowed: pip install timm"):
        build_network("timm:resnet18", IMAGES, 7)
