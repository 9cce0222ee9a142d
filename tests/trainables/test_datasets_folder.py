"""Folders of images: what is read is what torchvision and Pillow read, and what cannot be read is named."""

import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from image_folders import CLASSES, image_net, pixels, varied, write
from PIL import Image
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from losstune.spaces.errors import InputError
from losstune.trainables.datasets import OnDisk, load_dataset, locate
from losstune.trainables.datasets.splitting import hold_out

# torchvision 0.29 announces that its decoders will move to TorchCodec.
pytestmark = pytest.mark.filterwarnings("ignore:The image decoding and encoding capabilities")
DATASET = "losstune.trainables.datasets.dataset"


def load(root: Path, options: str = ""):
    return load_dataset(f"folder:{root.name}{options}", None, root.parent)


def same(number: int) -> tuple[int, int]:
    return 12, 10


# --- the layout ---


def test_an_imagenet_shaped_folder_is_what_torchvisions_imagefolder_reads(tmp_path):
    root = image_net(tmp_path / "net", varied)
    data = load(root)
    assert data.class_names == CLASSES and data.num_classes == 3 and data.input_shape == (3, 256, 256)
    assert (len(data.train), len(data.test)) == (12, 6)
    as_stored = v2.Compose([v2.PILToTensor(), v2.Resize(256, antialias=True), v2.CenterCrop(256)])
    for split, part in ((data.train, "train"), (data.test, "val")):
        expected = ImageFolder(root / part, as_stored)
        assert isinstance(split.x, OnDisk) and split.x.dtype == np.uint8
        assert split.x.shape == (len(expected), 3, 256, 256)
        assert split.y.tolist() == expected.targets and split.y.dtype == np.int64
        images = split.x.read(np.arange(len(split)))
        assert images.flags.c_contiguous
        assert np.array_equal(images, np.stack([image for image, _ in expected]))


@pytest.mark.parametrize(
    ("height", "width"), [(40, 40), (41, 64), (64, 41), (16, 23), (33, 16), (16, 16), (90, 17), (3, 2), (1, 1)]
)
def test_stored_images_are_torchvisions_resize_and_center_crop(tmp_path, height, width):
    root = image_net(tmp_path / "net", lambda number: (height, width) if number else (20, 21), suffix=".png")
    data = load(root, "?size=16")
    assert data.input_shape == (3, 16, 16)
    expected = v2.Compose([v2.Resize(16, antialias=True), v2.CenterCrop(16)])
    original = torch.from_numpy(pixels(height, width, 1)).permute(2, 0, 1)
    assert np.array_equal(data.train.x.read(np.array([1]))[0], expected(original).numpy())


def test_images_of_one_size_are_decoded_into_memory_as_they_are(tmp_path, monkeypatch):
    root = image_net(tmp_path / "net", same, suffix=".png")
    data = load(root)
    assert isinstance(data.train.x, np.ndarray) and data.input_shape == (3, 12, 10)
    assert all(np.array_equal(image, pixels(12, 10, n).transpose(2, 0, 1)) for n, image in enumerate(data.train.x))
    monkeypatch.setattr(f"{DATASET}.IN_MEMORY", data.train.x.nbytes)
    on_disk = load(root)
    assert isinstance(on_disk.train.x, OnDisk) and on_disk.train.x.native
    assert np.array_equal(on_disk.train.x.read(np.arange(12)), data.train.x)
    assert on_disk.digest() == data.digest()


def test_images_that_differ_can_be_held_in_memory_too(tmp_path, monkeypatch):
    data = load(image_net(tmp_path / "net", varied), "?size=32")
    held = data.in_memory()
    assert isinstance(held.train.x, np.ndarray) and held.digest() == data.digest()
    assert np.array_equal(held.test.x, data.test.x.read(np.arange(6)))
    assert held.in_memory() is held
    monkeypatch.setattr(f"{DATASET}.IN_MEMORY", held.train.x.nbytes + held.test.x.nbytes - 1)
    assert data.in_memory() is data


def test_nested_folders_suffixes_and_what_systems_leave(tmp_path):
    root = image_net(tmp_path / "net", same, suffix=".png")
    write(root / "train" / CLASSES[1] / "more" / "a.JPG", pixels(12, 10, 50))
    write(root / "train" / CLASSES[1] / "Zürich.webp", pixels(12, 10, 51))
    (root / "train" / ".DS_Store").touch()
    (root / "train" / CLASSES[0] / "Thumbs.db").touch()
    (root / "train" / CLASSES[0] / ".hidden.png").touch()
    (root / "train" / CLASSES[0] / ".cache").mkdir()
    (root / "train" / CLASSES[0] / ".cache" / "a.txt").touch()
    (root / "train" / "labels.txt").touch()
    assert np.bincount(load(root).train.y).tolist() == [4, 6, 4]


def test_a_test_folder_without_classes_is_passed_over_for_val_and_one_with_them_is_not(tmp_path):
    root = image_net(tmp_path / "net", same, val=3)
    write(root / "test" / "unlabelled.jpg", pixels(12, 10, 0))
    assert len(load(root).test) == 9
    shutil.rmtree(root / "test")
    shutil.copytree(root / "train", root / "test")
    assert len(load(root).test) == 12


# --- modes ---


def test_grey_stays_grey_only_where_all_is(tmp_path):
    root = image_net(tmp_path / "net", same, mode="L")
    grey = load(root)
    assert grey.input_shape == (1, 12, 10)
    first = Image.open(root / "train" / CLASSES[0] / f"{CLASSES[0]}_0.JPEG")
    assert np.array_equal(grey.train.x[0, 0], np.asarray(first))
    write(root / "val" / CLASSES[2] / "colour.png", pixels(12, 10, 60))
    mixed = load(root)
    assert mixed.input_shape == (3, 12, 10) and np.array_equal(mixed.train.x[0], np.repeat(grey.train.x[0], 3, 0))


@pytest.mark.parametrize(
    ("name", "mode"),
    [("a.png", "RGBA"), ("a.png", "P"), ("a.png", "1"), ("a.png", "LA"), ("a.jpg", "CMYK"), ("a.gif", None),
     ("a.webp", "RGBA")],
)  # fmt: skip
def test_other_modes_are_read_as_pillow_converts_them(tmp_path, name, mode):
    root = image_net(tmp_path / "net", same)
    file = root / "train" / CLASSES[0] / name
    write(file, pixels(12, 10, 70), mode)
    image = load(root).train.x[0]
    with Image.open(file) as expected:
        assert np.array_equal(image, np.asarray(expected.convert("RGB")).transpose(2, 0, 1))


def test_sixteen_bits_become_eight(tmp_path):
    root = image_net(tmp_path / "net", same, suffix=".png", mode="L")
    levels = np.arange(120, dtype=np.uint16).reshape(12, 10) * 500
    write(root / "train" / CLASSES[0] / "a.png", levels)
    data = load(root)
    assert data.input_shape == (1, 12, 10) and np.array_equal(data.train.x[0, 0], levels // 256)


def test_a_cameras_rotation_is_not_applied_and_an_animation_shows_its_first_picture(tmp_path):
    root, folder = image_net(tmp_path / "net", same), tmp_path / "net" / "train" / CLASSES[0]
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels(12, 10, 1)).save(folder / "a.jpg", exif=exif)
    frames = [Image.fromarray(pixels(12, 10, seed)).quantize() for seed in (2, 3)]
    frames[0].save(folder / "b.gif", save_all=True, append_images=frames[1:])
    data = load(root)
    assert data.input_shape == (3, 12, 10)
    assert np.array_equal(data.train.x[1], np.asarray(frames[0].convert("RGB")).transpose(2, 0, 1))


# --- what a split on disk costs ---


def test_taking_joining_and_pickling_read_nothing(tmp_path):
    root = image_net(tmp_path / "net", varied, train=20)
    data = load(root)
    train, validation = hold_out(data.train, 0.2, 0)
    everything = data.train.x.read(np.arange(60))
    shutil.rmtree(root)
    both = train.joined(validation)
    assert (len(train), len(validation), len(both)) == (48, 12, 60)
    size = len(pickle.dumps((data.train, data.test, both)))
    assert size < 20_000
    image_net(root, varied, train=20)
    taken = pickle.loads(pickle.dumps(validation)).take(slice(3, 5))
    keep = np.setdiff1d(np.arange(60), train.x.index)[3:5]
    assert np.array_equal(taken.x.read(np.arange(2)), everything[keep])
    assert np.array_equal(both.x.read(np.array([59])), validation.x.read(np.array([11])))
    with pytest.raises(ValueError, match="are different data"):
        data.train.joined(data.test)


def test_the_digest_is_of_names_and_content(tmp_path, monkeypatch):
    root = image_net(tmp_path / "net", varied)
    first = load(root).digest()
    moved = shutil.copytree(root, tmp_path / "elsewhere" / "net")
    assert load(moved).digest() == first and load(moved, "?size=64").digest() != first
    file = moved / "train" / CLASSES[0] / f"{CLASSES[0]}_1.JPEG"
    content = bytearray(file.read_bytes())
    content[-20] ^= 1
    file.write_bytes(content)
    assert load(moved).digest() != first
    # Of more than HASHED bytes every k-th file is read; names and lengths of all count.
    total = sum(file.stat().st_size for file in (root / "train").rglob("*.JPEG"))
    monkeypatch.setattr(f"{DATASET}.HASHED", total // 3)
    assert load(root).digest() == load(moved).digest()
    file.rename(file.with_name("renamed.JPEG"))
    assert load(root).digest() != load(moved).digest()


# --- bad input ---


def fails(root: Path, message: str, options: str = "") -> None:
    with pytest.raises(InputError, match=message) as error:
        data = load(root, options)
        data.train.x.read(np.arange(len(data.train)))
    assert str(error.value).startswith(f"data: folder:{root.name}{options}: ") and "\n" not in str(error.value)
    assert "allowed: " in str(error.value)


def test_missing_folders(tmp_path):
    with pytest.raises(InputError, match="data: folder:no: there is no folder no; allowed: a path relative to the"):
        locate("folder:no", None, tmp_path)
    with pytest.raises(InputError, match="unknown data set 'folder:'"):
        locate("folder:", None, tmp_path)
    root = image_net(tmp_path / "net", same)
    os.rename(root / "val", root / "dev")
    fails(root, "the folder lacks test or val; found: dev/, train/; allowed: train/CLASS/IMAGES and test")
    os.rename(root / "dev", root / "val")
    os.rename(root / "train", root / "images")
    with pytest.raises(InputError, match="the folder lacks train; found: images/, val/"):
        locate("folder:net", None, tmp_path)


@pytest.mark.parametrize("size", ["0", "big", "5000", "", "1.5", "-3"])
def test_bad_stored_sizes(tmp_path, size):
    root = image_net(tmp_path / "net", same)
    fails(root, f"size={size} is not a number of pixels; allowed: 1 to 4096", f"?size={size}")


def test_bad_classes(tmp_path):
    root = image_net(tmp_path / "net", same)
    (root / "train" / "empty").mkdir()
    fails(root, "class empty has no image in train; allowed: at least one of every class")
    os.rename(root / "train" / "empty", root / "val" / "zebra")
    fails(root, "class zebra of val does not occur in train; allowed: n01440764, n01443537, n02102040")
    os.rmdir(root / "val" / "zebra")
    write(root / "train" / "loose.png", pixels(12, 10, 0))
    fails(root, "train/loose.png lies in no class; allowed: train/CLASS/IMAGES")
    (root / "train" / "loose.png").unlink()
    for file in (root / "val").rglob("*.JPEG"):
        file.unlink()
    fails(root, "val holds no image; allowed: at least one")
    shutil.rmtree(root / "val" / CLASSES[0])
    shutil.rmtree(root / "val")
    (root / "val").mkdir()
    fails(root, "val holds no folders of classes")
    shutil.rmtree(root / "train")
    (root / "train" / "one").mkdir(parents=True)
    write(root / "val" / "one" / "a.png", pixels(12, 10, 0))
    fails(root, "train holds 1 folders of classes; allowed: at least 2")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"notes", r"train/n01440764/a.txt is not an image by its name; allowed: .jpg, .jpeg, .png"),
        ("a.bmp", b"BM", r"a.bmp is not an image by its name"),
        ("a.jpg", b"<html>", r"/net/train/n01440764/a.jpg is not an image; allowed: JPEG, PNG, WebP or GIF"),
        ("a.jpg", b"", r"a.jpg is not an image"),
        ("a.png", b"\x89PNG\r\n\x1a\n\0\0", r"a.png (is not an image|cannot be decoded)"),
    ],
)
def test_files_that_are_no_images(tmp_path, name, content, message):
    root = image_net(tmp_path / "net", same)
    (root / "train" / CLASSES[0] / name).write_bytes(content)
    fails(root, message)


def test_images_of_another_kind_and_damaged_ones(tmp_path):
    root = image_net(tmp_path / "net", varied)
    file = root / "train" / CLASSES[0] / "a.png"
    Image.fromarray(pixels(12, 10, 0)).save(file, "TIFF")
    fails(root, r"a.png is a TIFF image; allowed: JPEG, PNG, WebP or GIF")
    file.unlink()
    for name, reason in ((f"{CLASSES[1]}_2.JPEG", "Image is incomplete or truncated"), ("b.png", "Out of bound read")):
        file = root / "train" / CLASSES[1] / name
        write(file, pixels(60, 60, 0))
        file.write_bytes(file.read_bytes()[:-400])
        fails(root, f"{name} cannot be decoded: {reason}.*; allowed: whole JPEG, PNG, WebP or GIF files")
        file.unlink()
    unreadable = load(root)
    shutil.rmtree(root / "train" / CLASSES[0])
    with pytest.raises(InputError, match=r"_0.JPEG cannot be decoded: No such file or directory"):
        unreadable.train.x.read(np.array([0]))
    with pytest.raises(InputError, match=r"_0.JPEG cannot be read: No such file or directory"):
        unreadable.digest()
