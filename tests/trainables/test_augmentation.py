"""Augmentation as a study names it: specs, errors, shapes, and results that depend on an image's own draws alone."""

import subprocess
import sys

import pytest
import torch
from torchvision.transforms.v2 import functional as vision

from losstune.spaces import InputError
from losstune.trainables.augmentation import AUGMENTATIONS, OPERATIONS, check, output_shape, resolve

COLOUR, GREY = (3, 32, 32), (1, 8, 8)
FEW = {name: name for name in AUGMENTATIONS} | {
    "bilinear": [{"rotation": {"interpolation": "bilinear", "fill": [9, 99, 199]}}, {"cutout": {"value": 7}}],
    "resized": [{"random_resized_crop": {"size": [20, 30]}}, {"autoaugment": {"policy": "svhn", "fill": 128}}],
    "smaller": [{"crop": {"size": 24}}, {"flip": {"probability": 1}}, {"autoaugment": {"interpolation": "bilinear"}}],
}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def some_images(count: int, shape: tuple[int, int, int], seed: int = 0) -> torch.Tensor:
    """Smooth patterns with some noise, a few of them in few levels."""
    generator = seeded(seed)
    coarse = torch.rand(count, shape[0], 4, 4, generator=generator) * 255
    images = torch.nn.functional.interpolate(coarse, shape[1:], mode="bilinear")
    images += 8 * torch.randn(images.shape, generator=generator)
    images = images.clamp(0, 255).to(torch.uint8)
    images[:2] = images[:2] // 128 * 255
    return images


def refused(spec, shape=COLOUR) -> str:
    with pytest.raises(InputError) as caught:
        resolve(spec, shape)
    message = str(caught.value)
    assert message.startswith("recipe.augmentation") and "\n" not in message and "allowed: " in message
    return message


def test_listing_and_checking_need_no_torch():
    code = (
        "import sys; import losstune.trainables.augmentation as a;"
        "print(*a.AUGMENTATIONS, a.output_shape([{'crop': {'size': 24}}], (3, 32, 32))[1], 'torch' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.split() == [*AUGMENTATIONS, "24", "False"]
    assert {"none", "crop", "crop_flip", "crop_flip_erasing", "imagenet"} < set(AUGMENTATIONS)


def test_a_checked_spec_is_hashable_and_says_only_what_was_given():
    spec = [{"crop": {"pad": 4}}, "flip", {"rotation": {"degrees": 15}}, {"erasing": None}]
    operations = check(spec)
    assert operations == (
        ("crop", (("pad", 4),)),
        ("flip", ()),
        ("rotation", (("degrees", (-15, 15)),)),
        ("erasing", ()),
    )
    assert check(operations) == operations and hash(operations) == hash(check(spec))
    assert check("none") == check([]) == () and check("crop_flip") == check(["crop", "flip"])


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_named_ones_hold_together(name):
    assert output_shape(name, (3, 64, 64)) == resolve(name, (3, 64, 64)).output_shape
    assert (name == "none") == resolve(name, COLOUR).is_identity
    assert AUGMENTATIONS[name].summary and AUGMENTATIONS[name].source


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("no", "recipe.augmentation: 'no' is not an augmentation; allowed: none, crop"),
        (7, "recipe.augmentation: 7 is not an augmentation"),
        (["spin"], "recipe.augmentation: unknown operation 'spin'; allowed: crop, flip"),
        ([{"crop": {}, "flip": {}}], "is not an operation; allowed: a name, or {name: {parameter: value}}"),
        ([{"crop": 4}], "is not an operation"),
        ([{"crop": {"padding": 4}}], "recipe.augmentation.crop: unknown parameter 'padding'; allowed: pad, size"),
        ([{"crop": {"pad": -1}}], "recipe.augmentation.crop.pad: -1 is out of bounds; allowed: a whole number from 0"),
        ([{"crop": {"pad": 1.5}}], "crop.pad: 1.5 is not a whole number"),
        ([{"crop": {"size": [32, 32, 3]}}], "crop.size: [32, 32, 3] is not a pair; allowed: pixels"),
        ([{"crop": {"size": 48}}], "augmentation.crop: 48 x 48 is more than the images' 32 x 32; allowed: up to"),
        ([{"crop": {"size": 48, "pad": 4}}], "32 x 32 padded by 4; allowed: up to 40 x 40"),
        ([{"flip": {"probability": 1.5}}], "flip.probability: 1.5 is out of bounds; allowed: a number in [0, 1]"),
        ([{"flip": {"probability": True}}], "flip.probability: True is not a number"),
        ([{"flip": {"probability": float("nan")}}], "flip.probability: nan is not a number"),
        ([{"rotation": {"degrees": 200}}], "rotation.degrees: 200 is out of bounds; allowed: a number in [0, 180]"),
        ([{"rotation": {"degrees": [20, 10]}}], "rotation.degrees: [20, 10] is out of bounds"),
        ([{"rotation": {"degrees": "big"}}], "rotation.degrees: 'big' is not a pair"),
        ([{"rotation": {"interpolation": "cubic"}}], "'cubic' is not known; allowed: nearest, bilinear"),
        ([{"rotation": {"fill": [0, 0]}}], "rotation: fill has 2 levels for images of 3 channels; allowed: a number"),
        ([{"color_jitter": {"hue": 0.7}}], "color_jitter.hue: 0.7 is out of bounds; allowed: a number in [0, 0.5]"),
        ([{"color_jitter": {"contrast": -0.1}}], "color_jitter.contrast: -0.1 is below 0; allowed: a number >= 0"),
        ([{"erasing": {"scale": 0.3}}], "erasing.scale: 0.3 is not a pair; allowed: a pair [low, high] within [0, 1]"),
        ([{"erasing": {"value": 256}}], "erasing.value: 256 is out of bounds; allowed: a number in [0, 255]"),
        ([{"erasing": {"value": "random"}}], "erasing.value: 'random' is not a grey level"),
        ([{"autoaugment": {"policy": "mnist"}}], "autoaugment.policy: 'mnist' is not known; allowed: imagenet"),
        ([{"random_resized_crop": {"scale": [0, 1]}}], "random_resized_crop.scale: [0, 1] is out of bounds"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_one_line(spec, message):
    assert message in refused(spec)


@pytest.mark.parametrize(
    ("spec", "shape", "message"),
    [
        ("crop_flip", (64,), "recipe.augmentation: crop is for images, not feature vectors; allowed: none"),
        ("cifar_autoaugment", GREY, "recipe.augmentation.autoaugment: is for colour images, these have 1 channel"),
        ("crop_flip_jitter", GREY, "recipe.augmentation.color_jitter: saturation is of colour images"),
        ([{"color_jitter": {"contrast": 1}}], (4, 8, 8), "is for grey and colour images, these have 4 channels"),
        ([{"crop": {"size": 6}}, {"crop": {"size": 7}}], GREY, "crop: 7 x 7 is more than the images' 6 x 6"),
    ],
)
def test_images_that_an_operation_cannot_take(spec, shape, message):
    assert message in refused(spec, shape)
    with pytest.raises(InputError):
        output_shape(spec, shape)


def test_feature_vectors_and_no_operations_pass_and_draw_nothing():
    pipeline, generator, x = resolve("none", (5,)), seeded(), torch.rand(4, 5)
    draws = pipeline.draw(generator, 4)
    assert draws == {} and pipeline(x, draws) is x and pipeline.at_test(x) is x and pipeline.output_shape == (5,)
    assert torch.equal(generator.get_state(), seeded().get_state())


@pytest.mark.parametrize("name", FEW)
def test_a_result_depends_on_the_images_own_draws_alone(name):
    """Bit for bit: alone, among 7, among 64, in another order, and among so many that they go in pieces."""
    shape = (3, 40, 36) if name in AUGMENTATIONS else COLOUR
    images = some_images(64, shape)
    pipeline = resolve(FEW[name], shape)
    draws = pipeline.draw(seeded(1), 64)
    assert all(len(values) == 64 for values in draws.values())
    together = pipeline(images, draws)
    assert together.dtype == torch.uint8 and together.shape == (64, *pipeline.output_shape)

    def of(rows):
        return pipeline(images[rows], {key: values[rows] for key, values in draws.items()})

    for first in range(0, 64, 13):
        assert torch.equal(of(torch.tensor([first])), together[first : first + 1])
    for rows in (torch.arange(7), torch.arange(20, 27), torch.arange(64).flip(0), torch.arange(64).repeat(4)):
        assert torch.equal(of(rows), together[rows])
    channels_last = images.contiguous(memory_format=torch.channels_last)
    assert torch.equal(pipeline(channels_last, draws), together)


@pytest.mark.parametrize("name", FEW)
def test_the_seed_alone_decides(name):
    pipeline = resolve(FEW[name], COLOUR)
    first = pipeline.draw(seeded(1), 8)
    torch.rand(5)
    again, other = pipeline.draw(seeded(1), 8), pipeline.draw(seeded(2), 8)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert name == "none" or any(not torch.equal(first[key], other[key]) for key in first)
    assert all(values.device.type == "cpu" for values in first.values())


def test_images_of_a_batch_are_drawn_one_by_one():
    image = some_images(1, COLOUR).repeat(200, 1, 1, 1)
    pipeline = resolve("crop_flip", COLOUR)
    results = pipeline(image, pipeline.draw(seeded(), 200))
    assert len({tuple(r.flatten().tolist()) for r in results}) > 100


def test_evaluation_sees_the_images_or_their_middle():
    images = some_images(5, COLOUR)
    for name in ("crop_flip", "cifar_autoaugment", "crop_flip_erasing"):
        assert resolve(name, COLOUR).at_test(images) is images
    middle = images[:, :, 4:28, 4:28]
    assert torch.equal(resolve([{"crop": {"size": 24}}, "flip"], COLOUR).at_test(images), middle)
    assert torch.equal(resolve([{"random_resized_crop": {"size": 24}}], COLOUR).at_test(images), middle)
    larger = resolve([{"random_resized_crop": {"size": [16, 48]}}], COLOUR).at_test(images)
    expected = vision.resize(vision.center_crop(images, [11, 32]), [16, 48], antialias=True)
    assert larger.shape == (5, 3, 16, 48) and torch.equal(larger, expected)
    stored = some_images(2, (3, 256, 256))
    assert torch.equal(resolve("imagenet", (3, 256, 256)).at_test(stored), stored[:, :, 16:240, 16:240])


def test_a_reader_may_do_the_crop_itself():
    """It draws boxes from the files' own sizes, and the rest of the pipeline does the rest."""
    pipeline = resolve("imagenet", (3, 256, 256))
    assert pipeline.crop.size == (224, 224) and pipeline.output_shape == (3, 224, 224)
    rest = pipeline.without_crop
    assert rest.crop is None and rest.input_shape == rest.output_shape == (3, 224, 224)
    sizes = torch.tensor([[100, 300], [500, 40], [1, 1]])
    boxes = pipeline.crop.boxes(seeded(), sizes)
    assert boxes.dtype == torch.int64 and boxes.shape == (3, 4)
    assert (boxes[:, :2] + boxes[:, 2:] <= sizes).all() and (boxes[:, 2:] > 0).all() and (boxes[:, :2] >= 0).all()
    assert torch.equal(pipeline.draw(seeded(), 3, sizes)["0.box"], boxes)
    assert set(rest.draw(seeded(), 3)) == {"0.flip"}
    plain = resolve("crop_flip", COLOUR)
    assert plain.crop is None and plain.without_crop is plain


def test_every_operation_has_its_step_and_says_what_it_is():
    for name, operation in OPERATIONS.items():
        pipeline = resolve([name], COLOUR)
        assert type(pipeline.steps[0]).__doc__ and operation.summary and operation.source
        assert pipeline(some_images(3, COLOUR), pipeline.draw(seeded(), 3)).shape == (3, *COLOUR)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("name", FEW)
def test_a_gpu_gives_the_same(name):
    images = some_images(64, COLOUR)
    pipeline = resolve(FEW[name], COLOUR)
    draws = pipeline.draw(seeded(3), 64)
    on_cpu, on_gpu = pipeline(images, draws), pipeline(images.cuda(), draws)
    assert on_gpu.is_cuda
    differ = (on_gpu.cpu().int() - on_cpu.int()).abs()
    assert (differ == 0).float().mean() >= (1 if name in ("none", "crop", "crop_flip", "crop_flip_erasing") else 0.995)
