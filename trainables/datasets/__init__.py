"""The data sets by name: DATASETS; where they are, and how they are loaded. No torch at import."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

from losstune.spaces.errors import InputError
from losstune.trainables.datasets.dataset import Dataset, Format, OnDisk, Sizes, Source, Split
from losstune.trainables.datasets.places import LOCATORS, locate_files
from losstune.trainables.user_files import read_text, resolve_file, split_reference

__all__ = ["DATASETS", "FORMATS", "Dataset", "Format", "OnDisk", "Sizes", "Source", "Split", "load_dataset", "locate"]

_TORCHVISION = "losstune.trainables.datasets.torchvision_sets"

DATASETS: dict[str, Source] = {
    "digits": Source(
        summary="1,797 handwritten digits, grey 8 x 8; embedded, nothing to download",
        source="UCI optical recognition of handwritten digits (test part), as in scikit-learn",
        licence="CC BY 4.0",
        loader="losstune.trainables.datasets.digits:load",
        sizes=Sizes(n_train=1437, n_test=360, num_classes=10, input_shape=(1, 8, 8)),
    ),
    "fashion_mnist": Source(
        summary="70,000 pieces of clothing, grey 28 x 28",
        source="Xiao et al. 2017, through torchvision",
        licence="MIT",
        loader=f"{_TORCHVISION}:load_fashion_mnist",
        sizes=Sizes(n_train=60_000, n_test=10_000, num_classes=10, input_shape=(1, 28, 28)),
        files=tuple(
            f"FashionMNIST/raw/{part}-{kind}"
            for part in ("train", "t10k")
            for kind in ("images-idx3-ubyte", "labels-idx1-ubyte")
        ),
        legacy_files=("FashionMNIST/processed/training.pt", "FashionMNIST/processed/test.pt"),
    ),
    "cifar10": Source(
        summary="60,000 colour images 32 x 32 in 10 classes",
        source="Krizhevsky 2009, through torchvision",
        licence="none stated by its authors; research use, cite Krizhevsky 2009",
        loader=f"{_TORCHVISION}:load_cifar10",
        sizes=Sizes(n_train=50_000, n_test=10_000, num_classes=10, input_shape=(3, 32, 32)),
        files=tuple(
            f"cifar-10-batches-py/{file}"
            for file in (*(f"data_batch_{k}" for k in range(1, 6)), "test_batch", "batches.meta")
        ),
    ),
    "cifar100": Source(
        summary="60,000 colour images 32 x 32 in 100 classes",
        source="Krizhevsky 2009, through torchvision",
        licence="none stated by its authors; research use, cite Krizhevsky 2009",
        loader=f"{_TORCHVISION}:load_cifar100",
        sizes=Sizes(n_train=50_000, n_test=10_000, num_classes=100, input_shape=(3, 32, 32)),
        files=tuple(f"cifar-100-python/{file}" for file in ("train", "test", "meta")),
    ),
}

FORMATS: dict[str, Format] = {
    "npz": Format("FILE", "your own arrays in one file: x_train, y_train, x_test, y_test; images or features",
                  "losstune.trainables.datasets.arrays:from_npz"),
    "npy": Format("FOLDER", "the same as x_train.npy ...; above 1 GiB they are mapped and read as they are used",
                  "losstune.trainables.datasets.mapped:from_npy"),
    "folder": Format("FOLDER", "images in train/CLASS/ and test/CLASS/ or val/CLASS/; FOLDER?size=N: stored N x N",
                     "losstune.trainables.datasets.folder:from_folder"),
    "csv": Format("FILE", "a table with a header; labels in the column label, class, target, y or the last",
                  "losstune.trainables.datasets.csv_file:from_csv"),
}  # fmt: skip


def locate(spec: str, data_root: str | None, folder: Path) -> Path | None:
    """Where the data are: the user's file or folder, the data root, or None for embedded data. Reads no data.

    InputError in milliseconds when spec names nothing, or its files are not there. folder: the study file's;
    relative paths start there, then at the current directory.
    """
    where = f"data: {spec}"
    prefix, _, name = spec.partition(":")
    if prefix in LOCATORS and name:
        return LOCATORS[prefix](name, folder, where)
    reference = split_reference(spec)
    if reference:
        return resolve_file(reference[0], folder, where)
    if spec not in DATASETS:
        own = ", ".join(f"{prefix}:{format.names}" for prefix, format in FORMATS.items())
        raise InputError(f"data: unknown data set {spec!r}; allowed: {', '.join(DATASETS)}, {own}, or "
                         f"FILE.py:FUNCTION")  # fmt: skip
    return locate_files(DATASETS[spec], data_root, where) if DATASETS[spec].files else None


def load_dataset(spec: str, data_root: str | None, folder: Path, source: str | None = None) -> Dataset:
    """The data set that spec names: one of DATASETS, FORMATS or FILE.py:FUNCTION. InputError when it is no good.

    source: the text of the user's FILE.py; without it the file is read.
    """
    where = f"data: {spec}"
    if spec.partition(":")[0] not in FORMATS and split_reference(spec):
        from losstune.trainables.datasets.arrays import from_function  # only here: listing the table needs none of it

        file = split_reference(spec)[0]
        return from_function(spec, read_text(file, folder, where) if source is None else source, Path(folder) / file)
    path, prefix = locate(spec, data_root, folder), spec.partition(":")[0]
    if prefix in FORMATS:
        return _function(FORMATS[prefix].loader)(spec, path)
    return _function(DATASETS[spec].loader)(path)


def _function(loader: str) -> Callable[..., Dataset]:
    module_name, _, name = loader.partition(":")
    return getattr(importlib.import_module(module_name), name)
