"""Augmentation against a per-image restatement; every draw is the generator's."""

import subprocess
import sys

import pytest
import torch

from losstune.trainables.augmentation import AUGMENTATIONS


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def shifted(image: torch.Tensor, down: int, right: int) -> torch.Tensor:
    """The crop of a zero-padded image (C, H, W) that starts `down` rows and `right` columns from its middle."""
    result = torch.zeros_like(image)
    _, height, width = image.shape
    for row in range(height):
        for column in range(width):
            if 0 <= row + down < height and 0 <= column + right < width:
                result[:, row, column] = image[:, row + down, column + right]
    return result


def crops(image: torch.Tensor) -> dict[tuple[int, int], torch.Tensor]:
    return {(dy, dx): shifted(image, dy, dx) for dy in range(-4, 5) for dx in range(-4, 5)}


def test_listing_needs_no_torch():
    code = "import sys; import losstune.trainables.augmentation as a; print(*a.AUGMENTATIONS, 'torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.split() == ["none", "crop", "crop_flip", "False"]


def test_none_changes_and_draws_nothing():
    images, generator = torch.rand(2, 3, 6, 6), seeded()
    assert AUGMENTATIONS["none"](images, generator) is images
    assert torch.equal(generator.get_state(), seeded().get_state())


@pytest.mark.parametrize("name", ["crop", "crop_flip"])
def test_every_result_is_a_crop_and_all_crops_occur(name):
    image = torch.arange(1, 2 * 6 * 7 + 1, dtype=torch.uint8).view(2, 6, 7)
    known = {tuple(crop.flatten().tolist()): (*at, False) for at, crop in crops(image).items()}
    if name == "crop_flip":
        flipped = image.flip(2)
        known |= {tuple(crop.flatten().tolist()): (*at, True) for at, crop in crops(flipped).items()}
    results = AUGMENTATIONS[name](image.expand(4000, 2, 6, 7), seeded())
    assert results.dtype == torch.uint8 and results.shape == (4000, 2, 6, 7)
    seen = [known[tuple(result.flatten().tolist())] for result in results]
    assert set(seen) == set(known.values()) and len(known) == (162 if name == "crop_flip" else 81)
    if name == "crop_flip":
        assert abs(sum(flip for *_, flip in seen) / 4000 - 0.5) < 0.03


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.bfloat16])
def test_the_seed_alone_decides(dtype):
    images = torch.randint(0, 256, (8, 3, 9, 9), generator=seeded()).to(dtype)
    first = AUGMENTATIONS["crop_flip"](images, seeded(1))
    torch.rand(5)
    assert first.dtype == dtype and torch.equal(first, AUGMENTATIONS["crop_flip"](images, seeded(1)))
    assert not torch.equal(first, AUGMENTATIONS["crop_flip"](images, seeded(2)))
    channels_last = images.contiguous(memory_format=torch.channels_last)
    assert torch.equal(first, AUGMENTATIONS["crop_flip"](channels_last, seeded(1)))


def test_images_of_a_batch_are_drawn_one_by_one():
    image = torch.rand(1, 3, 8, 8)
    results = AUGMENTATIONS["crop"](image.repeat(200, 1, 1, 1), seeded())
    assert len({tuple(r.flatten().tolist()) for r in results}) > 60


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_gives_the_same():
    images = torch.rand(16, 3, 32, 32)
    expected = AUGMENTATIONS["crop_flip"](images, seeded(3))
    result = AUGMENTATIONS["crop_flip"](images.cuda(), seeded(3))
    assert result.is_cuda and torch.equal(result.cpu(), expected)
