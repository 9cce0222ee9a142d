"""Each operation's pixels against torchvision's, given the same drawn parameters, image by image."""

import pytest
import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as vision

from losstune.trainables.augmentation import resolve
from losstune.trainables.augmentation.autoaugment import CHANGES, MAPS

COUNT = 60


def natural_images(shape: tuple[int, int, int], count: int = COUNT) -> torch.Tensor:
    """Smooth patterns with some noise; one of them in two levels, one in a single one."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, shape[0], 5, 5, generator=generator) * 300 - 20
    images = torch.nn.functional.interpolate(coarse, shape[1:], mode="bilinear")
    images += 6 * torch.randn(images.shape, generator=generator)
    images = images.clamp(0, 255).to(torch.uint8)
    images[0] = images[0] // 128 * 255
    images[1] = 77
    return images


def drawn(spec, shape, seed=1):
    """Images, what was drawn for them, and their results."""
    images, pipeline = natural_images(shape), resolve(spec, shape)
    draws = pipeline.draw(torch.Generator().manual_seed(seed), COUNT)
    return images, {key.partition(".")[2]: values for key, values in draws.items()}, pipeline(images, draws)


def agree(results: torch.Tensor, expected: list[torch.Tensor], equal: float = 1.0, near: float = 1.0) -> None:
    """The shares of pixels that are equal, and that differ by at most one grey level."""
    differ = (results.int() - torch.stack(expected).int()).abs()
    assert (differ == 0).float().mean() >= equal and (differ <= 1).float().mean() >= near


@pytest.mark.parametrize(
    ("parameters", "pad"), [({}, 4), ({"pad": 2, "size": [9, 20]}, 2), ({"size": [5, 12]}, 0), ({"pad": 0}, 0)]
)
def test_crop(parameters, pad):
    images, draws, results = drawn([{"crop": parameters}], (3, 10, 17))
    height, width = parameters.get("size", (10, 17))
    places = zip(images, draws["top"].tolist(), draws["left"].tolist(), strict=True)
    agree(results, [vision.crop(vision.pad(x, [pad]), top, left, height, width) for x, top, left in places])


def test_flip():
    images, draws, results = drawn(["flip"], (1, 7, 9))
    chosen = draws["flip"].tolist()
    assert 0 < sum(chosen) < COUNT
    agree(results, [vision.horizontal_flip(x) if flip else x for x, flip in zip(images, chosen, strict=True)])


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
@pytest.mark.parametrize("fill", [0, [10, 20, 30]])
def test_rotation(interpolation, fill):
    """torchvision blends a fill with the border twice in bilinear interpolation, so there the inside is compared."""
    shape = (3, 24, 31)
    spec = [{"rotation": {"degrees": [-170, 60], "interpolation": interpolation, "fill": fill}}]
    images, draws, results = drawn(spec, shape)
    of_torchvision = vision.InterpolationMode(interpolation)
    angles = draws["angle"].tolist()
    of_none = None if fill == 0 else fill
    expected = [
        vision.rotate(x, a, of_torchvision, fill=of_none) for x, a in zip(images, angles, strict=True)
    ]  # fmt: skip
    if fill and interpolation == "bilinear":
        whole = torch.full((1, *shape[1:]), 255, dtype=torch.uint8)
        inside = torch.stack([vision.rotate(whole, a, of_torchvision) for a in angles]) == 255
        outside = torch.stack([vision.rotate(whole, a, of_torchvision) for a in angles]) == 0
        level = torch.tensor(fill, dtype=torch.uint8).view(3, 1, 1)
        assert torch.equal(torch.where(outside, level, results), results)
        results, expected = results * inside, [x * own for x, own in zip(expected, inside, strict=True)]
    agree(results, expected, 0.999, 0.999)


@pytest.mark.parametrize(
    ("shape", "size", "scale"),
    [
        ((3, 64, 80), [40, 50], [0.08, 1]),
        ((3, 32, 32), [32, 32], [0.08, 1]),
        ((1, 30, 20), [60, 70], [0.2, 1]),
        ((3, 90, 70), [9, 7], [0.5, 1]),
        ((3, 64, 64), [64, 64], [1, 1]),
    ],
)
def test_random_resized_crop(shape, size, scale):
    """torchvision's own uint8 and float32 kernels differ by one level in a sixth of the pixels."""
    images, draws, results = drawn([{"random_resized_crop": {"size": size, "scale": scale}}], shape)
    boxes = zip(images, draws["box"].tolist(), strict=True)
    agree(results, [vision.resized_crop(x, *box, size=size, antialias=True) for x, box in boxes], 0.75, 0.9999)


ADJUST = {
    "brightness": vision.adjust_brightness,
    "contrast": vision.adjust_contrast,
    "saturation": vision.adjust_saturation,
    "hue": vision.adjust_hue,
}


@pytest.mark.parametrize("name", ADJUST)
def test_parts_of_color_jitter(name):
    """Within one level: torchvision fuses a product with a sum, which rounds once."""
    interval = [-0.5, 0.5] if name == "hue" else [0, 2.5]
    images, draws, results = drawn([{"color_jitter": {name: interval}}], (3, 14, 15))
    factors = zip(images, draws["factors"][:, 0].tolist(), strict=True)
    agree(results, [ADJUST[name](x, factor) for x, factor in factors], 0.999)
    if name in ("brightness", "contrast"):
        images, draws, results = drawn([{"color_jitter": {name: interval}}], (1, 14, 15))
        factors = zip(images, draws["factors"][:, 0].tolist(), strict=True)
        agree(results, [ADJUST[name](x, factor) for x, factor in factors], 0.999)


def test_color_jitter_in_its_order():
    """A level that differs after one part may grow in the next."""
    strengths = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1}
    images, draws, results = drawn([{"color_jitter": strengths}], (3, 14, 15))
    expected = []
    for x, order, factors in zip(images, draws["order"].tolist(), draws["factors"].tolist(), strict=True):
        for part in order:
            x = list(ADJUST.values())[part](x, factors[part])
        expected.append(x)
    agree(results, expected, 0.995, 0.999)


def test_color_jitter_of_nothing():
    images, _, results = drawn([{"color_jitter": {}}], (3, 5, 6))
    assert torch.equal(results, images)


@pytest.mark.parametrize("value", [0, 200, [1, 2, 3]])
def test_erasing(value):
    images, draws, results = drawn([{"erasing": {"probability": 0.7, "value": value}}], (3, 20, 25))
    level = torch.tensor(value, dtype=torch.uint8).view(-1, 1, 1)
    boxes = zip(images, draws["box"].tolist(), strict=True)
    agree(results, [vision.erase(x, *box, level) for x, box in boxes])
    assert not torch.equal(results, images)


def test_cutout():
    images, draws, results = drawn([{"cutout": {"size": 6, "value": 9}}], (3, 12, 10))
    tops, lefts = set(), set()
    for x, result, (top, left, *size) in zip(images, results, draws["box"].tolist(), strict=True):
        expected = x.clone()
        expected[:, max(top, 0) : top + 6, max(left, 0) : left + 6] = 9
        assert size == [6, 6] and torch.equal(result, expected)
        tops.add(top)
        lefts.add(left)
    assert min(tops) == min(lefts) == -3 and max(tops) == 8 and max(lefts) == 6


def by_torchvision(transform: v2.AutoAugment, x: torch.Tensor, name: str, magnitude: float) -> torch.Tensor:
    if name == "Solarize":
        magnitude /= 255
    return transform._apply_image_or_video_transform(
        x, name, magnitude, interpolation=transform.interpolation, fill=transform._fill
    )


@pytest.mark.parametrize("policy", ["imagenet", "cifar10", "svhn"])
def test_autoaugment(policy):
    """Nearest pixels that lie exactly between two may fall either way."""
    transform = v2.AutoAugment(v2.AutoAugmentPolicy(policy))
    names = [*MAPS, *CHANGES]
    images, draws, results = drawn([{"autoaugment": {"policy": policy}}], (3, 32, 32))
    expected = []
    for x, kinds, magnitudes in zip(images, draws["kind"].tolist(), draws["magnitude"].tolist(), strict=True):
        for kind, magnitude in zip(kinds, magnitudes, strict=True):
            x = x if kind < 0 else by_torchvision(transform, x, names[kind], magnitude)
        expected.append(x)
    agree(results, expected, 0.998, 0.998)


@pytest.mark.parametrize("name", [*MAPS, *CHANGES])
def test_each_operation_of_autoaugment_at_each_magnitude(name):
    """All magnitudes of torchvision's table, both ways, on images that are not square."""
    images = natural_images((3, 26, 35), 20)
    transform = v2.AutoAugment()
    of_bins, signed = transform._AUGMENTATION_SPACE[name]
    table = of_bins(10, 26, 35)
    magnitudes = torch.zeros(10) if table is None else table.float() * (255 if name == "Solarize" else 1)
    magnitudes = torch.cat([magnitudes, -magnitudes if signed else magnitudes]).double()
    step = resolve(["autoaugment"], (3, 26, 35)).steps[0]
    kind = [*MAPS, *CHANGES].index(name)
    kinds = torch.tensor([[kind, -1]]).expand(20, 2)
    results = step(images, {"kind": kinds, "magnitude": magnitudes[:, None].expand(20, 2)})
    single = zip(images, magnitudes.tolist(), strict=True)
    expected = [by_torchvision(transform, x, name, magnitude) for x, magnitude in single]
    if name in ("AutoContrast", "Equalize", "Invert", "Posterize", "Solarize", "Brightness"):
        agree(results, expected)
    elif name in MAPS:
        agree(results, expected, 0.99 if name.startswith("Shear") else 0.999, 0.99)
    else:
        agree(results, expected, 0.995)
