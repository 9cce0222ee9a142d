"""A folder of images, a folder per class, in the layout of ImageNet."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from losstune.spaces.errors import InputError
from losstune.trainables.datasets.dataset import Dataset, Split
from losstune.trainables.datasets.image_files import ImageFiles, header
from losstune.trainables.datasets.places import TEST_FOLDERS, split_size

STORED_SIZE = 256  # pixels of a side, where images differ in size
CHECKED = 20_000  # files whose header is read in any case
_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif")
_OTHERS = ("thumbs.db", "desktop.ini")  # what operating systems leave in folders of images


def from_folder(spec: str, path: Path) -> Dataset:
    """The data set of path/train/CLASS/... and path/test/CLASS/... (or val where there is no test with classes).

    Classes are the folders' names, sorted; images may lie in folders within. If all have one size, that is theirs, and
    up to IN_MEMORY they are decoded once; else they are stored as squares of 256 pixels, or of N with "?size=N", see
    ImageFiles. With both test and val, val is not used: validation is held out of train. InputError names the folder or
    file that cannot be used: the headers of 20,000 files are read here, of a larger set as many as tell sizes and
    colour; a file that is damaged further on is named when it is used.
    """
    where = f"data: {spec}"
    size = split_size(spec.removeprefix("folder:"), where)[1]
    test_root = next((path / name for name in TEST_FOLDERS if (path / name).is_dir() and _folders(path / name)), None)
    if test_root is None:
        raise InputError(f"{where}: {' and '.join(n for n in TEST_FOLDERS if (path / n).is_dir())} holds no folders of "
                         f"classes; allowed: the classes of train, each with its images")  # fmt: skip
    classes = _classes(path / "train", where)
    unknown = [name for name in _folders(test_root) if name not in classes]
    if unknown:
        raise InputError(f"{where}: class {unknown[0]} of {test_root.name} does not occur in train; allowed: "
                         f"{', '.join(classes[:10])}{' ...' if len(classes) > 10 else ''}")  # fmt: skip
    files = {root: _files(root, classes, where) for root in (path / "train", test_root)}
    paths = (os.path.join(root, os.fsdecode(name)) for root, (names, _) in files.items() for name in names)
    native, channels = _look(paths, where)
    side = size or STORED_SIZE
    stored = native if native and size is None else (side, side)
    train, test = (
        Split(ImageFiles(np.arange(len(y)), f"{where}: {root.name}", (channels, *stored), str(root), names,
                         native == stored), y)
        for root, (names, y) in files.items()
    )  # fmt: skip
    dataset = Dataset(spec, train, test, len(classes), tuple(classes))
    return dataset.in_memory() if native == stored else dataset


def _folders(root: Path) -> list[str]:
    return sorted(entry.name for entry in os.scandir(root) if entry.is_dir() and not entry.name.startswith("."))


def _classes(root: Path, where: str) -> list[str]:
    classes = _folders(root)
    if len(classes) < 2:
        raise InputError(f"{where}: train holds {len(classes)} folders of classes; allowed: at least 2, "
                         f"train/CLASS/IMAGES")  # fmt: skip
    loose = [name for name in os.listdir(root) if name.lower().endswith(_SUFFIXES) and not name.startswith(".")]
    if loose:
        raise InputError(f"{where}: train/{min(loose)} lies in no class; allowed: train/CLASS/IMAGES")
    return classes


def _files(root: Path, classes: list[str], where: str) -> tuple[np.ndarray, np.ndarray]:
    """Relative paths (N,) as bytes, sorted within their classes, and labels (N,)."""
    names: list[bytes] = []
    counts = []
    for name in classes:
        own = sorted(_images_below(root, name, where))
        if not own and root.name == "train":
            raise InputError(f"{where}: class {name} has no image in train; allowed: at least one of every class")
        names += own
        counts.append(len(own))
    if not names:
        raise InputError(f"{where}: {root.name} holds no image; allowed: at least one")
    return np.array(names), np.repeat(np.arange(len(classes)), counts)


def _images_below(root: Path, name: str, where: str) -> Iterable[bytes]:
    for folder, below, files in os.walk(root / name, followlinks=True):
        below[:] = [entry for entry in below if not entry.startswith(".")]
        for file in files:
            if file.startswith(".") or file.lower() in _OTHERS:
                continue
            path = os.path.join(folder, file)[len(str(root)) + 1 :]
            if not file.lower().endswith(_SUFFIXES):
                raise InputError(f"{where}: {root.name}/{path} is not an image by its name; allowed: "
                                 f"{', '.join(_SUFFIXES)}")  # fmt: skip
            yield os.fsencode(path)


def _look(paths: Iterable[str], where: str) -> tuple[tuple[int, int] | None, int]:
    """The size of all images, None where they differ, and how many channels they are read with: 1 if all are grey."""
    size, differ, channels = None, False, 1
    for number, path in enumerate(paths):
        height, width, grey = header(path, where)
        differ |= size not in (None, (height, width))
        size = (height, width)
        channels = channels if grey else 3
        if differ and channels == 3 and number >= CHECKED:
            break
    return None if differ else size, channels
