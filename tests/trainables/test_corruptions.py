"""Common corruptions: what each does to tiny images by hand, and that they are the same whoever asks."""

import io

import numpy as np
import pytest
from PIL import Image
from scipy import stats
from sklearn.datasets import load_digits

from losstune.spaces import InputError
from losstune.trainables.corruptions import CORRUPTIONS, SEVERITIES, corrupt, white_level

DIGITS = np.rint(load_digits().images[:300, None] * 255 / 16).astype(np.uint8)


def scaled_up(images: np.ndarray, side: int, channels: int) -> np.ndarray:
    larger = [np.asarray(Image.fromarray(image[0]).resize((side, side), Image.Resampling.BICUBIC)) for image in images]
    return np.repeat(np.stack(larger)[:, None], channels, 1)


def squares(side: int = 8) -> np.ndarray:
    """An image of 2 x 2 blocks, each with a level of its own."""
    return np.arange(0, 2 * (side // 2) ** 2, 2).reshape(side // 2, -1).repeat(2, 0).repeat(2, 1).astype(np.uint8)


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize(("images"), [DIGITS, scaled_up(DIGITS[:40], 28, 1), scaled_up(DIGITS[:12], 70, 3)],
                         ids=["8", "28", "70 in colour"])  # fmt: skip
def test_each_severity_is_further_from_the_image_than_the_one_before(name, images):
    before = 0.0
    for severity in SEVERITIES:
        found = corrupt(images, name, severity, np.arange(len(images)))
        assert found.shape == images.shape and found.dtype == np.uint8
        error = np.square(found.astype(float) - images).mean()
        assert error > before
        before = error


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_an_example_is_corrupted_the_same_in_any_batch(name):
    """Batches are as large as memory allows: what a loss is tested on must not depend on it."""
    whole = corrupt(DIGITS[:20], name, 3, np.arange(20))
    some = [4, 17, 2]
    assert np.array_equal(corrupt(DIGITS[some], name, 3, np.array(some)), whole[some])
    colour = np.concatenate([DIGITS[:6], DIGITS[6:12], DIGITS[12:18]], 1)
    assert np.array_equal(corrupt(colour[2:4], name, 5, np.array([2, 3])), corrupt(colour, name, 5, np.arange(6))[2:4])


@pytest.mark.parametrize("name", ["gaussian_noise", "shot_noise", "impulse_noise", "motion_blur"])
def test_what_is_random_differs_between_examples_and_severities(name):
    same = np.repeat(DIGITS[:1], 2, 0)
    found = corrupt(same, name, 2, np.array([0, 1]))
    assert not np.array_equal(found[0], found[1])


def test_noise_has_the_moments_that_its_name_says():
    grey = np.full((40, 1, 32, 32), 128, np.uint8)
    indices = np.arange(40)
    n = grey.size
    normal = corrupt(grey, "gaussian_noise", 3, indices).astype(float) / 255 - 128 / 255
    assert abs(normal.mean()) < 4 * 0.08 / n**0.5
    assert abs(normal.std() - 0.08) < 4 * 0.08 / (2 * n) ** 0.5 + 1e-3
    shot = corrupt(grey, "shot_noise", 4, indices) / 255
    # Poisson of 75 * 0.502 photons: their variance is their mean.
    assert abs(shot.mean() - 128 / 255) < 4 * (0.502 / 75 / n) ** 0.5 + 1e-3
    assert shot.var() == pytest.approx(0.502 / 75, rel=0.05)
    impulses = corrupt(grey, "impulse_noise", 5, indices)
    for level in (0, 255):
        assert stats.binomtest(int((impulses == level).sum()), n, 0.035).pvalue > 1e-4
    assert set(np.unique(impulses)) == {0, 128, 255}


def test_contrast_and_brightness_by_hand():
    image = np.zeros((1, 1, 8, 8), np.uint8)
    image[..., :4] = 200  # the mean is 100; at severity 2 half of the way to it is left
    found = corrupt(image, "contrast", 2, np.array([0]))
    assert (found[..., :4] == 150).all() and (found[..., 4:] == 50).all()
    brighter = corrupt(image, "brightness", 4, np.array([0]))
    assert (brighter[..., :4] == 251).all() and (brighter[..., 4:] == 51).all()  # 0.2 * 255 = 51


def test_brightness_of_colours_raises_the_value_and_leaves_hue_and_saturation():
    image = np.zeros((1, 3, 8, 8), np.uint8)
    image[0, :, 0, 0] = 100, 50, 0
    image[0, :, 0, 1] = 240, 120, 60
    found = corrupt(image, "brightness", 4, np.array([0]))[0]
    assert found[:, 0, 0].tolist() == [151, 76, 0]  # 151 / 100 times as much
    assert found[:, 0, 1].tolist() == [255, 128, 64]  # no more than white
    assert found[:, 7, 7].tolist() == [51, 51, 51]  # black has no hue


def test_pixelate_by_hand():
    """Of 8 rows 4 are left at severity 4: each 2 x 2 block becomes its mean."""
    image = squares().copy()
    assert np.array_equal(corrupt(image[None, None], "pixelate", 4, np.array([0]))[0, 0], image)
    image[0, 0], image[1, 1] = 40, 80  # beside two zeros
    found = corrupt(image[None, None], "pixelate", 4, np.array([0]))[0, 0]
    assert (found[:2, :2] == 30).all() and np.array_equal(found[2:], image[2:])


def test_pixelate_mixes_cells_where_an_edge_crosses_a_pixel():
    """7 cells of 8/7 pixels: the first pixel lies in the first cell, which covers it and 1/7 of the second."""
    image = np.zeros((1, 1, 8, 8), np.uint8)
    image[..., 0] = 200
    found = corrupt(image, "pixelate", 1, np.array([0]))[0, 0]
    assert (found[:, 0] == 175).all()  # 200 * 7/8
    assert (found[:, 1] == 25).all() and (found[:, 2:] == 0).all()  # 1/7 of it is in the first cell


@pytest.mark.parametrize(("name", "severity"), [("gaussian_blur", 5), ("defocus_blur", 5), ("motion_blur", 5)])
def test_blurs_keep_what_is_uniform_and_the_sum_of_a_point(name, severity):
    flat = np.full((1, 3, 16, 16), 90, np.uint8)
    assert np.array_equal(corrupt(flat, name, severity, np.array([0])), flat)
    point = np.zeros((1, 1, 48, 48), np.uint8)
    point[0, 0, 24, 24] = 255
    found = corrupt(point, name, severity, np.array([7])).astype(int)
    assert abs(found.sum() - 255) <= 0.5 * (found > 0).sum() + 3  # of rounding


def test_motion_blur_trails_along_a_line_within_45_degrees_of_horizontal():
    point = np.zeros((30, 1, 48, 48), np.uint8)
    point[..., 24, 24] = 255
    found = corrupt(point, "motion_blur", 5, np.arange(30))[:, 0].astype(float)
    rows, columns = np.mgrid[-24:24, -24:24]
    directions = set()
    for image in found:
        down, along = (image * rows).sum() / image.sum(), (image * columns).sum() / image.sum()
        assert abs(down) <= abs(along) + 0.05 and 1 < abs(along) + abs(down) < 4
        directions.add(np.sign(along))
        across = (rows * along - columns * down) / np.hypot(along, down)
        assert (image * across**2).sum() / image.sum() < 0.5
    assert len(directions) == 1


def test_lengths_grow_with_the_side_of_an_image_beyond_32_pixels():
    spread = []
    for side in (16, 32, 64):
        line = np.zeros((1, 1, side, side), np.uint8)
        line[..., side // 2, :] = 255
        image = corrupt(line, "gaussian_blur", 5, np.array([0]))[0, 0].astype(float)
        rows = np.arange(side) - side // 2
        spread.append(((image * rows[:, None] ** 2).sum() / image.sum()) ** 0.5)
    assert spread[0] == pytest.approx(spread[1], abs=1e-9)
    assert spread[1:] == pytest.approx([1, 2], abs=0.03)


def test_jpeg_is_pillows_at_the_quality_of_the_severity():
    colour = scaled_up(DIGITS[:2], 16, 3)
    colour[:, 1] //= 2
    found = corrupt(colour, "jpeg_compression", 5, np.arange(2))
    buffer = io.BytesIO()
    Image.fromarray(colour[1].transpose(1, 2, 0)).save(buffer, "JPEG", quality=40)
    assert np.array_equal(found[1], np.asarray(Image.open(buffer)).transpose(2, 0, 1))


def test_images_in_few_levels_are_corrupted_as_those_of_255():
    """scikit-learn's digits have 17: noise of 0.1 is 1.6 of their levels, not 25."""
    few = load_digits().images[:200, None].astype(np.uint8)
    assert white_level(few) == 16 and white_level(DIGITS) == 255 and white_level(np.zeros_like(few)) == 255
    for name in CORRUPTIONS:
        found, like = (corrupt(x, name, 4, np.arange(200), white_level(x)) for x in (few, DIGITS[:200]))
        assert found.max() <= 16
        if name not in ("shot_noise", "jpeg_compression"):  # which see the rounding of the image itself
            assert np.abs(found / 16 - like / 255).max() < 0.5 / 16 + 1.1 / 255


@pytest.mark.parametrize(("images", "name", "severity", "message"), [
    (DIGITS[:2], "fog", 1, "unknown corruption 'fog'; allowed: gaussian_noise, "),
    (DIGITS[:2], "contrast", 6, "contrast: severity 6 of 2 uint8 images"),
    (DIGITS[:2].astype(np.float32), "contrast", 1, "of 2 float32 images"),
    (DIGITS[:2, :, :7], "contrast", 1, "sides of at least 8 pixels"),
    (np.zeros((2, 64), np.uint8), "contrast", 1, r"an example has shape \(64,\)"),
])  # fmt: skip
def test_what_is_no_image_or_no_corruption_is_refused(images, name, severity, message):
    with pytest.raises(InputError, match=message):
        corrupt(images, name, severity, np.arange(2))
