"""Networks: their sizes against the papers, the cut before the final layer, the user's own, and what is refused."""

import gzip
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from losstune.spaces.errors import InputError
from losstune.trainables.architectures import ARCHITECTURES, check_architecture
from losstune.trainables.architectures.blocks import GlobalAveragePool
from losstune.trainables.architectures.networks import build_network, split_final_layer

GOOD = "from torch import nn\ndef build(shape, k):\n    return nn.Sequential(nn.Linear(shape[0], 7), nn.Linear(7, k))\n"


def shape_of(name: str) -> tuple[int, ...]:
    """The smallest inputs that a network takes, of two channels."""
    entry = ARCHITECTURES[name]
    return (12,) if entry.input == "any" else (2, entry.min_size, entry.min_size)


def test_listing_needs_no_torch():
    code = "import sys; import losstune.trainables.architectures as a; print(*a.ARCHITECTURES, 'torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.split() == [*ARCHITECTURES, "False"]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_trains_from_inputs_to_logits_over_penultimate_features(name):
    torch.manual_seed(0)
    shape = shape_of(name)
    network = build_network(name, shape, 5)
    x = torch.randn(3, *shape)
    logits = network.eval()(x)
    final = [m for m in network.modules() if isinstance(m, nn.Linear)][-1]
    backbone, features = split_final_layer(network, 5, shape)
    assert logits.shape == (3, 5) and backbone(x).shape == (3, features) and features == final.in_features
    torch.testing.assert_close(final(backbone(x)), logits)

    parameters = [*backbone.parameters(), *final.parameters()]
    logits = final(backbone.train()(x))
    assert not torch.allclose(logits[0], logits[1], rtol=1e-3, atol=0)  # it sees its input
    nn.functional.cross_entropy(logits, torch.arange(3)).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in parameters)
    torch.optim.SGD(parameters, 0.01).step()
    assert not torch.equal(final(backbone(x)), logits)


@pytest.mark.parametrize("name", [name for name, entry in ARCHITECTURES.items() if entry.input == "images"])
def test_smallest_images_pass_and_smaller_ones_are_refused(name):
    size = ARCHITECTURES[name].min_size  # the test above trains at this size
    check_architecture(name, (3, size, 40))
    with pytest.raises(InputError, match=f"network: {name} cannot take images of 40 x 3; allowed: at least {size} x"):
        build_network(name, (3, 40, 3), 10)
    with pytest.raises(InputError, match=f"network: {name} needs images .*shape .64,.; allowed: mlp, linear, one_"):
        build_network(name, (64,), 10)


def test_the_smallest_image_is_what_the_strides_bring_down_to_one_pixel():
    for name, entry in ARCHITECTURES.items():
        if entry.input == "images":
            with torch.device("meta"):
                network = build_network(name, (3, entry.min_size, entry.min_size), 5).eval()
                pool = next(m for m in network.modules() if isinstance(m, GlobalAveragePool))
                sizes = []
                pool.register_forward_pre_hook(lambda _, inputs, sizes=sizes: sizes.append(inputs[0].shape[2:]))
                network(torch.zeros(1, 3, entry.min_size, entry.min_size))
            assert sizes == [(1, 1)], name


@pytest.mark.parametrize("name", ["mlp", "linear", "small_cnn", "resnet20", "shufflenet_v2_0.5", "wrn18_0.25", "cnn13"])
def test_weights_follow_the_seed(name):
    def weights(seed):
        torch.manual_seed(seed)
        return torch.cat([p.flatten() for p in build_network(name, shape_of(name), 10).parameters()])

    first = weights(1)
    assert torch.equal(first, weights(1)) and not torch.equal(first, weights(2))


def test_fully_connected_networks_are_readable_layer_by_layer():
    def sizes(name):
        layers = list(build_network(name, (1, 8, 8), 10))
        assert {type(m) for m in layers} <= {nn.Flatten, nn.Linear, nn.ReLU}
        return [(m.in_features, m.out_features) for m in layers if isinstance(m, nn.Linear)]

    assert sizes("mlp") == [(64, 128), (128, 64), (64, 10)]
    assert sizes("linear") == [(64, 10)]  # Battash: one layer of I x C
    assert sizes("one_hidden_layer") == [(64, 64), (64, 10)]  # I x I and I x C


def test_unknown_network_lists_what_exists():
    with pytest.raises(InputError, match="unknown network 'resnet'; allowed: mlp, linear, .*, or FILE.py:FUNCTION"):
        build_network("resnet", (64,), 10)


@pytest.mark.parametrize(
    ("spec", "meant"),
    [
        ("resnet21", r"torchvision:NAME, timm:NAME, or FILE.py:FUNCTION; did you mean .*resnet20"),
        ("wrn50_4", "did you mean .*wrn50_2"),
        ("WRN-28-10", "did you mean wrn_28_10"),
        ("torchvision:", "unknown network 'torchvision:'; allowed: mlp, .*torchvision:NAME"),
        ("timm:hf-hub:somebody/something", "unknown network 'timm:hf-hub:somebody/something'"),
    ],
)
def test_wrong_names_get_close_ones(spec, meant):
    with pytest.raises(InputError, match=meant) as error:
        check_architecture(spec)
    assert "\n" not in str(error.value)


def test_the_users_network():
    network = build_network("nets/my_net.py:build", (5,), 3, GOOD)
    backbone, features = split_final_layer(network, 3)
    assert features == 7 and backbone(torch.zeros(4, 5)).shape == (4, 7)
    assert not [name for name in sys.modules if "my_net" in name]


def test_a_linear_model_is_a_network():
    source = "from torch import nn\nbuild = lambda shape, k: nn.Linear(shape[0], k)\n"
    backbone, features = split_final_layer(build_network("n.py:build", (5,), 3, source), 3)
    assert isinstance(backbone, nn.Identity) and features == 5


def test_checking_leaves_modes_and_random_state_alone():
    layers = "nn.Dropout(), nn.BatchNorm1d(7), nn.BatchNorm1d(7).eval(), nn.Linear(7, k))"
    source = GOOD.replace("nn.Linear(7, k))", layers)
    torch.manual_seed(0)
    network = build_network("n.py:build", (5,), 3, source)
    after = torch.rand(1)
    torch.manual_seed(0)
    nn.Linear(5, 7), nn.Linear(7, 3)
    assert torch.equal(after, torch.rand(1))
    assert [m.training for m in network] == [True, True, True, False, True] and network.training
    assert network[2].num_batches_tracked == 0 and network[2].running_var.eq(1).all()
    assert not network[-1]._forward_hooks


def module(body: str) -> str:
    return f"""
import torch
from torch import nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(5, 7), nn.Linear(7, 3)
    def forward(self, x):
        {body}
def build(shape, k):
    return Net()
"""


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def build(:", r"n.py does not run: SyntaxError: .*\(line 1\)"),
        ("import nothing_like_this", r"n.py does not run: ModuleNotFoundError: No module .*\(line 1\)"),
        ("def make(s, k): pass", "n.py defines no function build; found: make"),
        ("def build(s, k):\n    return 1 / 0", r"n.py:build raised ZeroDivisionError: division by zero \(line 2\)"),
        ("def build(s): pass", "n.py:build raised TypeError: "),
        ("def build(s, k): return 3", "n.py:build returned int; allowed: a torch.nn.Module"),
        (GOOD.replace("(7, k)", "(7, 4)"), "its final layer must be an nn.Linear with 3 outputs"),
        (module("return self.b(self.a(x[:, None]))[:, 0]"), r"features of shape \(2, 1, 7\)"),
        (module("return self.b(self.a(x)).softmax(1)"), "what it returns is not the output of its final layer"),
        (module("return self.a(x)[:, :3]"), "its final layer is used 0 times"),
        (module("y = self.b(self.a(x)); return (y, y) if self.training else y"), "in training: what it returns is not"),
        (module("return self.b(x)"), r"a batch of shape \(2, 5\) does not pass: RuntimeError: .*\(line 9\)"),
    ],
)
def test_bad_users_networks(source, message):
    with pytest.raises(InputError, match=message) as error:
        build_network("n.py:build", (5,), 3, source)
    assert str(error.value).startswith("network: ") and "\n" not in str(error.value)


def test_splitting_checks_features_when_it_knows_the_inputs():
    with pytest.raises(InputError, match="network: .*its final layer must be an nn.Linear with 10 outputs"):
        split_final_layer(nn.Sequential(nn.Flatten(), nn.Linear(5, 3)), 10)
    with pytest.raises(InputError, match=r"features of shape \(2, 4, 5\)"):
        split_final_layer(nn.Linear(5, 3), 3, (4, 5))


FASHION = Path(__file__).parents[3] / "shared" / "data" / "fashion-mnist"


@pytest.mark.skipif(not FASHION.is_dir(), reason=f"the real Fashion-MNIST is not at {FASHION}")
def test_small_cnn_learns_fashion_mnist():
    def read(file, header, count, *shape):
        with gzip.open(FASHION / file) as raw:
            data = np.frombuffer(raw.read(header + count * math.prod(shape)), np.uint8, offset=header)
        return torch.from_numpy(data.reshape(-1, *shape).copy())

    x, y = read("train-images-idx3-ubyte.gz", 16, 12800, 1, 28, 28), read("train-labels-idx1-ubyte.gz", 8, 12800)
    x_test, y_test = read("t10k-images-idx3-ubyte.gz", 16, 2000, 1, 28, 28), read("t10k-labels-idx1-ubyte.gz", 8, 2000)
    torch.manual_seed(0)
    network = build_network("small_cnn", (1, 28, 28), 10).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9, nesterov=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 200)
    for rows in torch.randperm(12800).repeat(2).split(128):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network((x[rows] - 73.0) / 90), y[rows].long()).backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        predicted = network.eval()((x_test - 73.0) / 90).argmax(1)
    assert (predicted == y_test).float().mean() > 0.78
