"""Batches: what is in them by hand, and the same bits whether the data are in memory or on disk."""

import gc
import threading
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from image_folders import image_net, pixels, varied
from torchvision.transforms import v2

from losstune.spaces.errors import InputError
from losstune.trainables import inputs as inputs_module
from losstune.trainables.augmentation import check, resolve
from losstune.trainables.datasets import Split, load_dataset
from losstune.trainables.datasets.image_files import ImageFiles
from losstune.trainables.datasets.mapped import MappedArray
from losstune.trainables.inputs import Inputs, Normalization
from losstune.trainables.metrics import METRICS
from losstune.trainables.network import Network
from losstune.trainables.recipe import Recipe
from losstune.trainables.scoring import Scorer
from losstune.trainables.seeds import generator
from losstune.trainables.trainer import Stack

pytestmark = pytest.mark.filterwarnings("ignore:The image decoding and encoding capabilities")
DATASET = "losstune.trainables.datasets.dataset"
RRC = [{"random_resized_crop": {"size": [9, 7]}}, "flip"]


def generators(streams: int, step: int) -> list[torch.Generator]:
    return [generator("tests", stream, step) for stream in range(streams)]


def order(examples: int, streams: int = 3, steps: int = 5, batch: int = 4) -> torch.Tensor:
    draws = [torch.randperm(examples, generator=generator("order", s))[: steps * batch] for s in range(streams)]
    return torch.stack(draws).view(streams, steps, batch)


def batches(inputs: Inputs, of: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return list(inputs.batches(of, partial(generators, len(of))))


def equal(first: list, second: list) -> bool:
    return len(first) == len(second) and all(
        torch.equal(a, b) for one, other in zip(first, second, strict=True) for a, b in zip(one, other, strict=True)
    )


@pytest.fixture
def png(tmp_path) -> Path:
    """A folder of images of one size."""
    return image_net(tmp_path / "png", lambda number: (12, 10), train=10, suffix=".png")


def in_memory_and_on_disk(root: Path, monkeypatch, tmp_path):
    """Training splits of the same images: in memory from an npz file, as files, and memory-mapped."""
    data = load_dataset(f"folder:{root}", None, tmp_path)
    arrays = {"x_train": data.train.x, "y_train": data.train.y, "x_test": data.test.x, "y_test": data.test.y}
    np.savez(tmp_path / "all.npz", **arrays)
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
    resident = load_dataset("npz:all.npz", None, tmp_path).train
    monkeypatch.setattr(f"{DATASET}.IN_MEMORY", 0)
    files = load_dataset(f"folder:{root}", None, tmp_path).train
    mapped = load_dataset(f"npy:{tmp_path}", None, tmp_path).train
    assert isinstance(files.x, ImageFiles) and isinstance(mapped.x, MappedArray)
    return resident, files, mapped


# --- in memory ---


def test_batches_of_vectors_are_the_normalized_rows():
    x, y = np.random.default_rng(0).normal(3, 2, (30, 5)).astype(np.float32), np.arange(30) % 4
    inputs = Inputs(Split(x, y), Normalization(x))
    assert len(inputs) == 30 and inputs.resident and inputs.y.tolist() == y.tolist()
    of = order(30)
    expected = (x - x.mean(0, dtype=np.float64)) / x.std(0, dtype=np.float64)
    for step, (xs, ys) in enumerate(batches(inputs, of)):
        assert xs.shape == (3, 4, 5) and xs.dtype == torch.float32 and ys.dtype == torch.int64
        assert torch.equal(ys, torch.from_numpy(y)[of[:, step]])
        np.testing.assert_allclose(xs, expected[of[:, step]], rtol=1e-5, atol=1e-6)
    assert step == 4


@pytest.mark.parametrize("shape", [(5,), (3, 6, 5)])
def test_a_normalized_copy_changes_no_bit(monkeypatch, shape):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (30, *shape), np.uint8) if len(shape) == 3 else rng.normal(size=(30, 5)).astype(np.float32)
    split, of = Split(x, np.arange(30) % 4), order(30)
    kept = Inputs(split, Normalization(x))
    monkeypatch.setattr(inputs_module, "_COPY", 0)
    gathered = Inputs(split, Normalization(x))
    assert equal(batches(kept, of), batches(gathered, of))
    assert torch.equal(kept.normalized(7, 40), gathered.normalized(7, 40)) and len(kept.normalized(7, 40)) == 23


def test_each_stream_is_augmented_from_its_own_generator_of_each_step():
    x = np.random.default_rng(0).integers(0, 256, (30, 3, 12, 10), np.uint8)
    normalization, pipeline, of = Normalization(x), resolve("crop_flip", (3, 12, 10)), order(30)
    together = batches(Inputs(Split(x, np.arange(30)), normalization, augmentation=pipeline), of)
    for step, (xs, _) in enumerate(together):
        for stream, draws in enumerate(generators(3, step)):
            images = torch.from_numpy(x)[of[stream, step]]
            assert torch.equal(xs[stream], normalization(pipeline(images, pipeline.draw(draws, 4))))


def test_no_generator_is_asked_for_where_nothing_is_drawn():
    x = np.zeros((8, 1, 4, 4), np.uint8)
    inputs = Inputs(Split(x, np.zeros(8, np.int64)), Normalization(x), augmentation=resolve("none", (1, 4, 4)))
    assert len(list(inputs.batches(order(8, 1, 2), None))) == 2


def test_evaluation_sees_the_center_where_training_crops():
    x = np.random.default_rng(0).integers(0, 256, (6, 3, 12, 10), np.uint8)
    normalization = Normalization(x)
    pipeline = resolve([{"crop": {"size": 6}}], (3, 12, 10))
    inputs = Inputs(Split(x, np.zeros(6, np.int64)), normalization, augmentation=pipeline)
    assert torch.equal(inputs.normalized(2, 5), normalization(torch.from_numpy(x)[2:5, :, 3:9, 2:8]))


# --- on disk ---


@pytest.mark.parametrize("augmentation", ["none", "crop_flip", RRC], ids=["none", "crop_flip", "random_resized_crop"])
@pytest.mark.parametrize("threads", [1, 3])
def test_data_on_disk_give_the_bits_of_data_in_memory(png, tmp_path, monkeypatch, augmentation, threads):
    splits = in_memory_and_on_disk(png, monkeypatch, tmp_path)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    make = partial(Inputs, normalization=Normalization(splits[0].x), augmentation=resolve(augmentation, (3, 12, 10)))
    resident, *streamed = (make(split) for split in splits)
    assert resident.resident and not streamed[0].resident
    of = order(30)
    of[1], of[2, 0] = of[0], of[0, 0, 0]  # streams that share examples, and one example all over a batch
    expected = batches(resident, of)
    for inputs in streamed:
        assert equal(batches(inputs, of), expected)
        assert equal(batches(inputs, of[:1, :1]), batches(resident, of[:1, :1]))
        for start in (0, 8, 16, 24, 3):
            assert torch.equal(inputs.normalized(start, start + 8), resident.normalized(start, start + 8))
        some = torch.tensor([29, 3, 3, 0])
        assert torch.equal(inputs.at(some), resident.at(some))
        assert torch.equal(resident.at(some), resident.normalized(0, 30)[some])


def test_a_network_trained_from_disk_has_the_bits_of_one_trained_from_memory(
    png, tmp_path, monkeypatch, make_trial, same_bits
):
    splits = in_memory_and_on_disk(png, monkeypatch, tmp_path)
    make = partial(Inputs, normalization=Normalization(splits[0].x), augmentation=resolve("crop_flip", (3, 12, 10)))
    recipe, ends = Recipe(epochs=2, batch_size=8, augmentation=check("crop_flip")), []
    for split in splits:
        stack = Stack("tests", Network("mlp", (3, 12, 10), 10), recipe, make(split), make(split.take(np.arange(9))),
                      Scorer(METRICS["accuracy"], 10).followed)  # fmt: skip
        stack.join(make_trial("softmax", epochs=2))
        results = [stack.train_epoch()["softmax"] for _ in range(2)]
        ends.append((stack.state("softmax"), [(result.train_loss, result.scores) for result in results]))
    assert all(same_bits(ends[0][0], state) and curve == ends[0][1] for state, curve in ends[1:])


def test_vectors_on_disk_give_the_bits_of_vectors_in_memory(tmp_path, monkeypatch):
    x = np.random.default_rng(0).normal(size=(30, 5))
    for name, array in {"x_train": x, "y_train": np.arange(30) % 3, "x_test": x, "y_test": np.arange(30) % 3}.items():
        np.save(tmp_path / f"{name}.npy", array)
    held = load_dataset(f"npy:{tmp_path}", None, tmp_path).train
    monkeypatch.setattr(f"{DATASET}.IN_MEMORY", 0)
    mapped = load_dataset(f"npy:{tmp_path}", None, tmp_path).train
    resident, streamed = Inputs(held, Normalization(held.x)), Inputs(mapped, Normalization(mapped.x))
    assert equal(batches(resident, order(30)), batches(streamed, order(30)))
    assert torch.equal(resident.normalized(4, 20), streamed.normalized(4, 20))


def test_results_do_not_depend_on_timing(png, tmp_path, monkeypatch):
    _, files, _ = in_memory_and_on_disk(png, monkeypatch, tmp_path)
    make = partial(Inputs, files, Normalization(files.x), augmentation=resolve("crop_flip", (3, 12, 10)))
    expected, read, rng = batches(make(), order(30)), ImageFiles.read, np.random.default_rng(0)

    def slow(self, indices):
        time.sleep(rng.uniform(0, 0.01))
        return read(self, indices)

    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    monkeypatch.setattr(ImageFiles, "read", slow)
    seen = []
    for x, y in make().batches(order(30), partial(generators, 3)):
        time.sleep(rng.uniform(0, 0.02))
        seen.append((x, y))
    assert equal(seen, expected)


def tiny(number: int) -> tuple[int, int]:
    return 1 + number % 4, 1 + number % 5


@pytest.mark.parametrize("sizes", [varied, tiny])
def test_crops_are_cut_from_the_files_own_resolution(tmp_path, sizes):
    root = image_net(tmp_path / "net", sizes, train=10, suffix=".png")
    split = load_dataset("folder:net?size=24", None, tmp_path).train
    pipeline, normalization, of = resolve(RRC, (3, 24, 24)), Normalization(split.x), order(30)
    seen = batches(Inputs(split, normalization, augmentation=pipeline), of)
    files = sorted((root / "train").rglob("*.png"))
    assert len(files) == 30
    for step, (xs, _) in enumerate(seen):
        assert xs.shape == (3, 4, 3, 9, 7)
        for stream, draws in enumerate(generators(3, step)):
            numbers = of[stream, step].tolist()
            originals = [torch.from_numpy(pixels(*sizes(n), n)).permute(2, 0, 1) for n in numbers]
            boxes = pipeline.crop.boxes(draws, torch.tensor([image.shape[1:] for image in originals]))
            cut = torch.stack([v2.functional.resized_crop(image, *box, [9, 7], antialias=True)
                               for image, box in zip(originals, boxes.tolist(), strict=True)])  # fmt: skip
            rest = pipeline.without_crop
            assert torch.equal(xs[stream], normalization(rest(cut, rest.draw(draws, 4))))
    # Evaluation sees the middle of what is stored.
    stored = torch.from_numpy(split.x.read(np.arange(4)))
    inputs = Inputs(split, normalization, augmentation=pipeline)
    assert torch.equal(inputs.normalized(0, 4), normalization(pipeline.at_test(stored)))


@pytest.mark.parametrize("augmentation", ["none", RRC])
def test_each_image_of_a_step_is_decoded_once(tmp_path, monkeypatch, augmentation):
    image_net(tmp_path / "net", varied)
    split = load_dataset("folder:net?size=24", None, tmp_path).train
    inputs = Inputs(split, Normalization(split.x), augmentation=resolve(augmentation, (3, 24, 24)))
    decoded, decode = [], ImageFiles._decode
    monkeypatch.setattr(ImageFiles, "_decode", lambda self, index: decoded.append(index) or decode(self, index))
    of = torch.tensor([[[3, 5, 3, 7]], [[5, 3, 1, 1]]])
    ((x, _),) = batches(inputs, of)
    assert sorted(decoded) == [1, 3, 5, 7]
    assert torch.equal(x[0, 0], x[0, 2]) == (augmentation == "none")


def test_a_few_steps_are_read_ahead_and_no_more(png, tmp_path, monkeypatch):
    _, files, _ = in_memory_and_on_disk(png, monkeypatch, tmp_path)
    steps = []

    def noted(step):
        steps.append(step)
        return generators(1, step)

    inputs = Inputs(files, Normalization(files.x), augmentation=resolve("crop_flip", (3, 12, 10)))
    iterator = inputs.batches(torch.zeros(1, 50, 2, dtype=torch.int64), noted)
    for used in range(6):
        next(iterator)
        deadline = time.monotonic() + 60
        while len(steps) < used + 5 and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(0.01)
        assert steps == list(range(used + 5))
    iterator.close()
    assert len(steps) == 10


# --- endings ---


def alive(prefix: str) -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(prefix)]


@pytest.mark.parametrize("augmentation", ["none", RRC])
def test_closing_early_ends_the_thread_and_abandons_what_it_reads(tmp_path, monkeypatch, augmentation):
    image_net(tmp_path / "net", varied, train=30)
    split = load_dataset("folder:net?size=24", None, tmp_path).train
    inputs = Inputs(split, Normalization(split.x), augmentation=resolve(augmentation, (3, 24, 24)))
    iterator = inputs.batches(order(90, 1, 3, 30), partial(generators, 1))
    next(iterator)
    decode, closing = ImageFiles._decode, threading.Event()
    decoded = []

    def waiting(self, index):
        decoded.append(index)
        closing.wait(60)
        time.sleep(0.02)
        return decode(self, index)

    monkeypatch.setattr(ImageFiles, "_decode", waiting)
    assert alive("losstune-ahead")
    closing.set()
    iterator.close()
    assert not alive("losstune-ahead") and len(decoded) < 30
    assert len(batches(inputs, order(90, 1, 3, 30))) == 3


def test_inputs_that_are_dropped_leave_no_thread(png, tmp_path, monkeypatch):
    _, files, _ = in_memory_and_on_disk(png, monkeypatch, tmp_path)
    inputs = Inputs(files, Normalization(files.x))
    inputs.normalized(0, 4)
    batches(inputs, order(30))
    assert alive("losstune-reader") and alive("losstune-evaluation")
    del inputs
    deadline = time.monotonic() + 60
    while alive("losstune-") and time.monotonic() < deadline:
        gc.collect()  # threads of earlier tests may hang on the tracebacks that these looked at
    assert not alive("losstune-")


@pytest.mark.parametrize("augmentation", ["none", RRC])
def test_a_damaged_image_is_named_where_its_batch_is_due(tmp_path, augmentation):
    root = image_net(tmp_path / "net", varied)
    split = load_dataset("folder:net?size=24", None, tmp_path).train
    inputs = Inputs(split, Normalization(split.x), augmentation=resolve(augmentation, (3, 24, 24)))
    damaged = root / "train" / "n01443537" / "n01443537_1.JPEG"  # the sixth
    damaged.write_bytes(damaged.read_bytes()[:-300])
    iterator = inputs.batches(torch.tensor([[[0, 1], [2, 3], [4, 5], [6, 7]]]), partial(generators, 1))
    next(iterator), next(iterator)
    message = f"data: folder:net.size=24: train: {damaged} cannot be decoded: .*; allowed: whole JPEG, PNG"
    with pytest.raises(InputError, match=message) as error:
        next(iterator)
    assert "\n" not in str(error.value) and not alive("losstune-ahead")
    with pytest.raises(InputError, match=message):
        inputs.normalized(4, 8)
    assert len(inputs.normalized(0, 4)) == 4  # what is read ahead is not asked for
    damaged.unlink()
    with pytest.raises(InputError, match="n01443537_1.JPEG cannot be decoded: No such file"):
        Normalization(split.x)


# --- normalization ---


def test_normalization_of_images_on_disk_is_that_of_all_where_they_are_few(png, tmp_path, monkeypatch):
    resident, files, mapped = in_memory_and_on_disk(png, monkeypatch, tmp_path)
    x = resident.x.astype(np.float64)
    for split in (files, mapped):
        normalization = Normalization(split.x)
        np.testing.assert_allclose(normalization.mean.flatten(), x.mean((0, 2, 3)), rtol=1e-6)
        np.testing.assert_allclose(1 / normalization.scale.flatten(), x.std((0, 2, 3)), rtol=1e-6)
        assert normalization.mean.shape == normalization.scale.shape == (3, 1, 1)


def test_normalization_of_large_data_is_that_of_an_even_sample(tmp_path, monkeypatch):
    monkeypatch.setattr(f"{DATASET}.IN_MEMORY", 0)
    x = np.random.default_rng(0).integers(0, 256, (50, 2, 9, 8), np.uint8)
    for name, array in {"x_train": x, "y_train": np.arange(50) % 2, "x_test": x, "y_test": np.arange(50) % 2}.items():
        np.save(tmp_path / f"{name}.npy", array)
    split = load_dataset(f"npy:{tmp_path}", None, tmp_path).train
    monkeypatch.setattr(inputs_module, "SAMPLE", 8)
    sample = x[[0, 7, 14, 21, 28, 35, 42, 49]]
    np.testing.assert_allclose(Normalization(split.x).mean.flatten(), sample.mean((0, 2, 3)), rtol=1e-6)


def test_large_images_in_memory_are_counted_rather_than_copied(monkeypatch):
    x = np.random.default_rng(0).integers(0, 256, (40, 3, 7, 5), np.uint8)
    x[:, 1] = 200  # a channel without any deviation
    first = Normalization(x)
    monkeypatch.setattr(inputs_module, "_EXACT", 0)
    second = Normalization(x)
    np.testing.assert_allclose(second.mean, first.mean, rtol=1e-6)
    np.testing.assert_allclose(second.scale, first.scale, rtol=1e-6)
    assert second.scale[1] == 1


# --- a GPU ---


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("augmentation", ["none", "crop_flip", RRC])
def test_a_gpu_gets_the_same(png, tmp_path, monkeypatch, augmentation):
    splits = in_memory_and_on_disk(png, monkeypatch, tmp_path)
    make = partial(Inputs, normalization=Normalization(splits[0].x), augmentation=resolve(augmentation, (3, 12, 10)))
    expected = batches(make(splits[0]), order(30))
    for split in splits:
        for (x, y), (x_cpu, y_cpu) in zip(batches(make(split, device="cuda"), order(30)), expected, strict=True):
            assert x.is_cuda and torch.equal(y.cpu(), y_cpu)
            torch.testing.assert_close(x.cpu(), x_cpu, rtol=1e-5, atol=1e-5)
