"""The networks' parameters, multiplications and initial weights against the papers and against reference code."""

import pytest
import torch
from timm.layers import BatchNormAct2d, create_conv2d
from timm.models.resnetv2 import DownsampleConv, PreActBasic
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision import models

from losstune.trainables.architectures import ARCHITECTURES
from losstune.trainables.architectures.blocks import GlobalAveragePool, PadChannels, PreActivationBlock
from losstune.trainables.architectures.networks import build_network
from losstune.trainables.architectures.resnext import resnext29
from losstune.trainables.architectures.shufflenet import Unit

CIFAR, IMAGENET = (3, 32, 32), (3, 224, 224)


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def multiplications(network: nn.Module, shape: tuple[int, ...]) -> int:
    """Of one example, in convolutions and dense layers. network: on the meta device, which computes shapes only."""
    with FlopCounterMode(display=False) as counter:
        network.eval()(torch.zeros(1, *shape, device="meta"))
    return counter.get_total_flops() // 2


def on_meta(name, shape, num_classes):
    with torch.device("meta"):
        return build_network(name, shape, num_classes)


@pytest.mark.parametrize(
    ("name", "shape", "classes", "millions"),
    [
        ("resnet20", CIFAR, 10, 0.27),  # He et al. 2016a, Table 6
        ("resnet32", CIFAR, 10, 0.46),
        ("resnet44", CIFAR, 10, 0.66),
        ("resnet110", CIFAR, 10, 1.7),
        ("wrn_16_8", CIFAR, 10, 11.0),  # Zagoruyko and Komodakis 2016, Table 4
        ("wrn_28_10", CIFAR, 100, 36.5),  # the same; Demirkaya et al. 2020, IV
        ("wrn18_1", IMAGENET, 1000, 11.7),  # Zagoruyko and Komodakis 2016, Table 7
        ("wrn18_2", IMAGENET, 1000, 45.6),
        ("wrn50_2", IMAGENET, 1000, 68.9),  # the same, Table 8
        ("all_cnn_c", CIFAR, 10, 1.4),  # Springenberg et al. 2015, Table 3: about 1.4M
    ],
)
def test_as_many_parameters_as_the_paper_says(name, shape, classes, millions):
    digits = len(str(millions).partition(".")[2])
    assert round(parameters(on_meta(name, shape, classes)) / 1e6, digits) == millions


@pytest.mark.parametrize(("cardinality", "millions"), [(8, 34.4), (16, 68.1)])
def test_resnext_at_the_papers_cardinalities(cardinality, millions):
    # Xie et al. 2017, Table 7: ResNeXt-29, 8x64d and 16x64d
    with torch.device("meta"):
        assert parameters(resnext29(CIFAR, 10, cardinality)) / 1e6 == pytest.approx(millions, abs=0.06)


@pytest.mark.parametrize(
    ("name", "shape", "classes", "count"),
    [
        # Counted in the code that Battash et al. published, Cifar100 and (ten classes) Cinic
        ("resnet20", CIFAR, 100, 275_572),
        ("resnet32", CIFAR, 100, 470_004),
        ("resnet44", CIFAR, 100, 664_436),
        ("resnet110", CIFAR, 100, 1_733_812),
        ("resnet18", CIFAR, 100, 11_220_132),
        ("resnet34", CIFAR, 100, 21_328_292),
        ("preact_resnet18", CIFAR, 100, 11_217_316),  # also Chen et al.'s
        ("resnext29", CIFAR, 100, 9_222_564),
        ("shufflenet_v2_0.5", CIFAR, 10, 352_042),
        ("shufflenet_v2", CIFAR, 10, 1_263_854),
        # in Zhou et al.'s
        ("wrn50_0.25", CIFAR, 10, 5_880_074),
        ("wrn50_0.5", CIFAR, 10, 10_345_674),
        ("wrn50_1", CIFAR, 10, 23_520_842),
        ("wrn50_2", CIFAR, 10, 66_847_050),
        # in Kobayashi's
        ("cnn13", CIFAR, 100, 4_444_132),
        ("vgg16_mod", IMAGENET, 1000, 37_719_080),
    ],
)
def test_as_many_parameters_as_the_authors_code(name, shape, classes, count):
    assert parameters(on_meta(name, shape, classes)) == count


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("resnet18", models.ResNet18_Weights.IMAGENET1K_V1),
        ("resnet34", models.ResNet34_Weights.IMAGENET1K_V1),
        ("resnet50", models.ResNet50_Weights.IMAGENET1K_V1),
        ("wrn50_2", models.Wide_ResNet50_2_Weights.IMAGENET1K_V1),
        ("shufflenet_v2_0.5", models.ShuffleNet_V2_X0_5_Weights.IMAGENET1K_V1),
        ("shufflenet_v2", models.ShuffleNet_V2_X1_0_Weights.IMAGENET1K_V1),
    ],
)
def test_as_large_as_torchvision_documents(name, weights):
    network = on_meta(name, IMAGENET, 1000)
    assert parameters(network) == weights.meta["num_params"]
    assert multiplications(network, IMAGENET) / 1e9 == pytest.approx(weights.meta["_ops"], abs=0.001)


def convolutions(*layers: tuple[int, int, int, int]) -> int:
    """Multiplications of k x k convolutions (k, inputs, outputs, height and width of the output)."""
    return sum(k * k * inputs * outputs * side * side for k, inputs, outputs, side in layers)


def test_multiplications_reckoned_from_the_papers_tables():
    def counted(name, shape=CIFAR, classes=10):
        return multiplications(on_meta(name, shape, classes), shape)

    # Springenberg et al. 2015, Table 1
    all_cnn_c = [(3, 3, 96, 32), (3, 96, 96, 32), (3, 96, 96, 16), (3, 96, 192, 16), (3, 192, 192, 16),
                 (3, 192, 192, 8), (3, 192, 192, 6), (1, 192, 192, 6), (1, 192, 10, 1)]  # fmt: skip
    assert counted("all_cnn_c") == convolutions(*all_cnn_c)
    # He et al. 2016a, 4.2: six layers of each width at 32, 16 and 8 pixels, and shortcuts without parameters
    resnet20 = [(3, 3, 16, 32), *[(3, 16, 16, 32)] * 6, (3, 16, 32, 16), *[(3, 32, 32, 16)] * 5, (3, 32, 64, 8),
                *[(3, 64, 64, 8)] * 5, (1, 64, 10, 1)]  # fmt: skip
    assert counted("resnet20") == convolutions(*resnet20)
    # Lin et al. 2020 (HRank), Table 2: 252.89M; they also count the pooling
    assert counted("resnet110") / 1e6 == pytest.approx(252.89, abs=0.02)
    # Zagoruyko and Komodakis 2016, Table 1, with k = 8 and N = 2, and 1x1 shortcuts between the groups
    wrn_16_8 = [(3, 3, 16, 32)]
    for inputs, outputs, side in ((16, 128, 32), (128, 256, 16), (256, 512, 8)):
        wrn_16_8 += [(3, inputs, outputs, side), *[(3, outputs, outputs, side)] * 3, (1, inputs, outputs, side)]
    assert counted("wrn_16_8") == convolutions(*wrn_16_8, (1, 512, 10, 1))
    # Torchvision documents VGG-16; in VGG-16-mod dense layers of 25,088 and 4,096 inputs become 1x1 convolutions
    shared = models.VGG16_BN_Weights.IMAGENET1K_V1.meta["_ops"] * 1e9 - (25_088 + 4096 + 1000) * 4096
    own = convolutions((1, 512, 4096, 14), (1, 4096, 4096, 1), (1, 4096, 1000, 1))
    assert counted("vgg16_mod", IMAGENET, 1000) == pytest.approx(shared + own, rel=1e-3)


def test_all_cnn_c_pools_6x6_before_the_last_layer():
    network = build_network("all_cnn_c", (3, 32, 32), 10)
    sizes = []
    pool = next(m for m in network.modules() if isinstance(m, GlobalAveragePool))
    pool.register_forward_pre_hook(lambda _, inputs: sizes.append(tuple(inputs[0].shape)))
    network.eval()(torch.zeros(1, 3, 32, 32))
    assert sizes == [(1, 192, 6, 6)]


def share_weights(module: nn.Module, reference: nn.Module) -> None:
    """Random weights and statistics for the reference, and the same, in order, for the module."""
    for value in reference.state_dict().values():
        if value.is_floating_point():
            value.copy_(torch.rand_like(value) + 0.5 if value.dim() == 1 else torch.randn_like(value) * 0.05)
    pairs = zip(module.state_dict().values(), reference.state_dict().values(), strict=True)
    for own, other in pairs:
        own.copy_(other.view(own.shape))


def assert_same_function(module: nn.Module, reference: nn.Module, x: torch.Tensor) -> None:
    share_weights(module, reference)
    for training in (False, True):
        torch.testing.assert_close(module.train(training)(x), reference.train(training)(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "reference"),
    [("resnet18", "resnet18"), ("resnet50", "resnet50"), ("shufflenet_v2", "shufflenet_v2_x1_0")],
)
def test_computes_what_torchvisions_network_computes(name, reference):
    torch.manual_seed(0)
    assert_same_function(
        build_network(name, (3, 65, 65), 7), models.get_model(reference, num_classes=7), torch.randn(2, 3, 65, 65)
    )


def test_small_images_meet_a_stem_that_keeps_their_size():
    for name in ("resnet18", "resnet50", "wrn50_0.25", "wrn18_0.25"):
        kernels = [on_meta(name, (3, side, 200), 10)[0].kernel_size for side in (64, 65)]
        assert kernels == [(3, 3), (7, 7)]
    strides = [on_meta("shufflenet_v2", (1, side, side), 10)[0].stride for side in (28, 32, 64, 65)]
    assert strides == [(1, 1)] * 3 + [(2, 2)]


@pytest.mark.parametrize(("inputs", "outputs", "stride"), [(8, 8, 1), (8, 16, 2), (8, 16, 1)])
def test_pre_activation_block_computes_what_timms_computes(inputs, outputs, stride):
    torch.manual_seed(0)
    reference = PreActBasic(
        inputs, outputs, stride=stride, conv_layer=create_conv2d, norm_layer=BatchNormAct2d, proj_layer=DownsampleConv
    )
    own = PreActivationBlock(inputs, outputs, stride)
    names = {"norm1": "norm1", "conv1": "conv1", "norm2": "norm2", "conv2": "conv2", "shortcut": "downsample.conv"}
    for name, other in names.items():
        if getattr(own, name) is not None:
            getattr(own, name).load_state_dict(reference.get_submodule(other).state_dict())
    x = torch.randn(2, inputs, 6, 6)
    torch.testing.assert_close(own(x), reference(x))


def test_kobayashis_vgg_begins_as_torchvisions():
    torch.manual_seed(0)
    own = build_network("vgg16_mod", (3, 32, 32), 10)
    ours = own[:43]  # up to where the original pools for the last time
    reference = models.vgg.make_layers(models.vgg.cfgs["D"], batch_norm=True)[:43]
    for module in reference:
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 1e-4
    for own_value, value in zip(ours.state_dict().values(), reference.state_dict().values(), strict=True):
        value.copy_(own_value)
    x = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(ours(x), reference(x))
    assert ours(x).shape == (2, 512, 2, 2)


def test_what_rearranges_channels_keeps_members_apart():
    # A batched backend computes members side by side: (B, members * C, H, W).
    first, second = torch.randn(2, 3, 8, 6, 6)
    together = torch.cat([first, second], 1)
    pad = PadChannels(8, 12, 2)
    alone = pad(first)
    assert torch.equal(alone[:, 2:10], first[:, :, ::2, ::2]) and not alone[:, [0, 1, 10, 11]].any()
    assert torch.equal(pad(together), torch.cat([alone, pad(second)], 1))
    unit = Unit(8, 8, 1)
    unit.branch2 = nn.Identity()
    shuffled = first.view(3, 2, 4, 6, 6).transpose(1, 2).reshape(3, 8, 6, 6)
    assert torch.equal(unit(first), shuffled)
    assert torch.equal(unit(together), torch.cat([shuffled, unit(second)], 1))


@pytest.mark.parametrize(
    ("name", "kernel", "variance"),
    [
        ("wrn_16_8", (256, 128, 3, 3), 2 / (9 * 128)),  # the authors' MSRinit and kaiming_normal_: fan in
        ("resnet20", (64, 32, 3, 3), 2 / (9 * 32)),  # He et al. 2015, Eq. 10: fan in; as in Battash et al.'s code
        ("resnet18", (512, 256, 3, 3), 2 / (9 * 512)),  # torchvision's: fan out
        ("resnext29", (512, 256, 3, 3), 2 / (9 * 512)),  # Battash et al.'s code: kernel size times outputs
        ("cnn13", (128, 256, 3, 3), 2 / (9 * 128)),  # Kobayashi's code: fan out
        ("vgg16_mod", (512, 256, 3, 3), 0.01**2),  # Kobayashi's code
        ("preact_resnet18", (512, 256, 3, 3), 1 / (3 * 9 * 256)),  # PyTorch's own, in these authors' code
        ("wrn50_1", (512, 512, 3, 3), 1 / (3 * 9 * 512)),
        ("wrn18_1", (512, 256, 3, 3), 1 / (3 * 9 * 256)),
        ("shufflenet_v2", (232, 232, 1, 1), 1 / (3 * 232)),
    ],
)
def test_weights_start_as_in_the_source(name, kernel, variance):
    torch.manual_seed(0)
    network = build_network(name, CIFAR, 10)
    weight = next(p for p in network.parameters() if p.shape == kernel)
    assert weight.std().item() == pytest.approx(variance**0.5, rel=0.01)
    assert abs(weight.mean().item()) < 4 * (variance / weight.numel()) ** 0.5


def test_residual_branches_of_kornbliths_resnet50_start_at_zero():
    blocks = [m for m in build_network("resnet50", CIFAR, 10).modules() if hasattr(m, "bn3")]
    assert len(blocks) == 16 and all(not m.bn3.weight.any() and m.bn2.weight.all() for m in blocks)


def test_weight_decay_acts_on_norms_where_the_source_lets_it():
    # Kornblith et al. 2021, A.1: on CIFAR-100's WRN, not on CIFAR-10's All-CNN-C nor on ImageNet's ResNet-50. The code
    # of Battash et al., Zhou et al., Kobayashi and Zagoruyko hands all parameters to an optimizer with weight decay.
    without = {name for name, entry in ARCHITECTURES.items() if not entry.decay_norm}
    assert without == {"mlp", "linear", "one_hidden_layer", "small_cnn", "all_cnn_c", "resnet50"}
