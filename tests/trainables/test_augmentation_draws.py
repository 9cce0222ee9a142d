"""What is drawn, in distribution against what torchvision's transforms draw: two samples, one test of both."""

from collections import Counter

import numpy as np
import pytest
import torch
from scipy import stats
from torchvision.transforms import v2

from losstune.trainables.augmentation import resolve
from losstune.trainables.augmentation.autoaugment import CHANGES, MAPS

COUNT, PEER, P = 20_000, 3000, 0.005


def drawn(spec, shape, count=COUNT, **more) -> dict[str, np.ndarray]:
    draws = resolve(spec, shape).draw(torch.Generator().manual_seed(0), count, **more)
    return {key.partition(".")[2]: values.numpy() for key, values in draws.items()}


def by_torchvision(transform: v2.Transform, shape: tuple[int, int, int], count: int = PEER) -> list[dict]:
    image = torch.zeros(shape, dtype=torch.uint8)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return [transform.make_params([image]) for _ in range(count)]


def same_numbers(ours: np.ndarray, theirs: list[float]) -> None:
    """Two-sample Kolmogorov-Smirnov."""
    assert stats.ks_2samp(ours, np.array(theirs)).pvalue > P


def same_kinds(ours: list, theirs: list) -> None:
    """Chi-square on the counts of both; kinds that are rare in both are counted as one."""
    first, second = Counter(ours), Counter(theirs)
    table = np.array([[first[kind], second[kind]] for kind in first | second])
    rare = table.min(1) < 8
    table = np.vstack([table[~rare], table[rare].sum(0)[None]] if rare.any() else [table])
    assert len(table) > 1 and stats.chi2_contingency(table).pvalue > P


def alike(values: np.ndarray) -> None:
    """Chi-square: all values that occur are alike probable."""
    assert stats.chisquare(np.unique(values, return_counts=True)[1]).pvalue > P


def test_crop_and_flip():
    draws = drawn("crop_flip", (3, 32, 32))
    params = by_torchvision(v2.RandomCrop(32, padding=4), (3, 32, 32))
    for side in ("top", "left"):
        assert set(draws[side]) == set(range(9))
        alike(draws[side])
        same_kinds(draws[side].tolist(), [p[side] for p in params])
    alike(draws["top"] * 9 + draws["left"])
    assert stats.binomtest(int(draws["flip"].sum()), COUNT, 0.5).pvalue > P
    rare = drawn([{"flip": {"probability": 0.1}}], (3, 4, 4))["flip"]
    assert stats.binomtest(int(rare.sum()), COUNT, 0.1).pvalue > P
    assert not drawn([{"flip": {"probability": 0}}], (3, 4, 4))["flip"].any()
    assert drawn([{"flip": {"probability": 1}}], (3, 4, 4))["flip"].all()


def test_crop_of_another_size():
    draws = drawn([{"crop": {"size": [6, 8], "pad": 1}}], (1, 9, 8))
    params = by_torchvision(v2.RandomCrop((6, 8), padding=1), (1, 9, 8))
    for side, places in (("top", 6), ("left", 3)):
        assert set(draws[side]) == set(range(places))
        same_kinds(draws[side].tolist(), [p[side] for p in params])


@pytest.mark.parametrize("degrees", [15, [-30, 90]])
def test_rotation(degrees):
    draws = drawn([{"rotation": {"degrees": degrees}}], (3, 8, 8))
    same_numbers(draws["angle"], [p["angle"] for p in by_torchvision(v2.RandomRotation(degrees), (3, 8, 8))])


@pytest.mark.parametrize(
    ("shape", "scale"),
    [((3, 64, 64), (0.08, 1)), ((3, 40, 60), (0.1, 1)), ((3, 20, 200), (0.3, 1)), ((3, 200, 20), (0.3, 1))],
)
def test_random_resized_crop(shape, scale):
    """The long images fall back to the middle often."""
    draws = drawn([{"random_resized_crop": {"size": 8, "scale": scale}}], shape)
    params = by_torchvision(v2.RandomResizedCrop(8, scale), shape)
    for place, name in enumerate(("top", "left", "height", "width")):
        same_numbers(draws["box"][:, place], [p[name] for p in params])
    shares = draws["box"][:, 2:].prod(1) / (shape[1] * shape[2])
    same_numbers(shares, [p["height"] * p["width"] / (shape[1] * shape[2]) for p in params])
    if max(shape) == 200:
        middle = (np.array(shape[1:]) - draws["box"][:, 2:]) // 2
        assert (draws["box"][:, :2] == middle).all(1).mean() > 0.3


def test_random_resized_crop_of_files_of_several_sizes():
    """Each box as if all files had its size."""
    sizes = torch.tensor([[30, 50], [80, 70]]).repeat(COUNT // 2, 1)
    boxes = drawn([{"random_resized_crop": {"size": 8}}], (3, 8, 8), sizes=sizes)["box"]
    for own, shape in ((boxes[::2], (3, 30, 50)), (boxes[1::2], (3, 80, 70))):
        params = by_torchvision(v2.RandomResizedCrop(8), shape)
        for place, name in enumerate(("top", "left", "height", "width")):
            same_numbers(own[:, place], [p[name] for p in params])


def test_color_jitter():
    strengths = {"brightness": 0.4, "contrast": [0.5, 2], "saturation": 1.5, "hue": 0.1}
    draws = drawn([{"color_jitter": strengths}], (3, 4, 4))
    params = by_torchvision(v2.ColorJitter(**strengths), (3, 4, 4))
    for part, name in enumerate(strengths):
        same_numbers(draws["factors"][:, part], [p[f"{name}_factor"] for p in params])
    assert draws["factors"].min(0) == pytest.approx([0.6, 0.5, 0, -0.1], abs=1e-3)
    orders = [tuple(order) for order in draws["order"].tolist()]
    assert len(set(orders)) == 24
    same_kinds(orders, [tuple(p["fn_idx"].tolist()) for p in params])


@pytest.mark.parametrize(("shape", "scale"), [((3, 32, 32), (0.02, 0.33)), ((1, 12, 40), (0.1, 0.9))])
def test_erasing(shape, scale):
    """The large ones often find no rectangle that is smaller than the image."""
    boxes = drawn([{"erasing": {"probability": 1, "scale": scale}}], shape)["box"]
    params = by_torchvision(v2.RandomErasing(1, scale), shape)
    found = [p for p in params if p["v"] is not None]
    erased = boxes[boxes[:, 2:].prod(1) > 0]
    if scale[1] > 0.5:
        same_kinds((boxes[:, 2:].prod(1) > 0).tolist(), [p["v"] is not None for p in params])
    for place, name in enumerate("ijhw"):
        same_numbers(erased[:, place], [p[name] for p in found])
    some = drawn([{"erasing": {"probability": 0.3}}], (3, 32, 32))["box"]
    assert stats.binomtest(int((some[:, 2] > 0).sum()), COUNT, 0.3).pvalue > P


def test_cutout():
    """DeVries and Taylor: the middle is uniform over the pixels."""
    boxes = drawn([{"cutout": {"size": 16}}], (3, 32, 20))["box"]
    assert set(boxes[:, 0]) == set(range(-8, 24)) and set(boxes[:, 1]) == set(range(-8, 12))
    alike(boxes[:, 0])
    alike(boxes[:, 1])


@pytest.mark.parametrize("policy", ["imagenet", "cifar10", "svhn"])
def test_autoaugment(policy):
    """Which operations are done, in which order, how strongly and which way: all of it as one kind."""
    names, done = [*MAPS, *CHANGES], []

    class Recorded(v2.AutoAugment):
        def _apply_image_or_video_transform(self, image, transform_id, magnitude, interpolation, fill):
            done[-1] += ((transform_id, round(magnitude * (255 if transform_id == "Solarize" else 1), 3)),)
            return image

    transform, image = Recorded(v2.AutoAugmentPolicy(policy)), torch.zeros(3, 32, 32, dtype=torch.uint8)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for _ in range(PEER):
            done.append(())
            transform(image)
    draws = drawn([{"autoaugment": {"policy": policy}}], (3, 32, 32))
    ours = [
        tuple((names[kind], round(m, 3)) for kind, m in zip(kinds, magnitudes, strict=True) if kind >= 0)
        for kinds, magnitudes in zip(draws["kind"].tolist(), draws["magnitude"].tolist(), strict=True)
    ]
    assert set(done) <= set(ours)
    same_kinds(ours, done)
