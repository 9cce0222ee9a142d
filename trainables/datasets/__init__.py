"""The data sets by name: DATASETS; where they are, and how they are loaded. No torch at import."""

from __future__ import annotations

import importlib
import zipfile
from pathlib import Path

from losstune.spaces.errors import InputError
from losstune.trainables.datasets.dataset import Dataset, Sizes, Source, Split
from losstune.trainables.user_files import read_text, resolve_file, split_reference

__all__ = ["DATASETS", "Dataset", "Sizes", "Source", "Split", "load_dataset", "locate"]

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

_NPZ = "npz:"
_ARRAYS = ("x_train", "y_train", "x_test", "y_test")


def locate(spec: str, data_root: str | None, folder: Path) -> Path | None:
    """Where the data are: the npz or Python file, the data root, or None for embedded data. Reads no data.

    InputError in milliseconds when spec names nothing, or its files are not there. folder: the study file's;
    relative paths start there, then at the current directory.
    """
    where = f"data: {spec}"
    if spec.startswith(_NPZ):
        return _locate_npz(spec.removeprefix(_NPZ), folder, where)
    reference = split_reference(spec)
    if reference:
        return resolve_file(reference[0], folder, where)
    if spec not in DATASETS:
        raise InputError(f"data: unknown data set {spec!r}; allowed: {', '.join(DATASETS)}, npz:PATH, "
                         f"or FILE.py:FUNCTION")  # fmt: skip
    return _locate_files(DATASETS[spec], data_root, where) if DATASETS[spec].files else None


def load_dataset(spec: str, data_root: str | None, folder: Path, source: str | None = None) -> Dataset:
    """The data set that spec names: one of DATASETS, npz:PATH or FILE.py:FUNCTION. InputError when it is no good.

    source: the text of the user's FILE.py; without it the file is read.
    """
    # Only imported here: listing the table needs none of it.
    from losstune.trainables.datasets.arrays import from_function, from_npz

    where = f"data: {spec}"
    if split_reference(spec):
        file = split_reference(spec)[0]
        return from_function(spec, read_text(file, folder, where) if source is None else source, Path(folder) / file)
    path = locate(spec, data_root, folder)
    if spec.startswith(_NPZ):
        return from_npz(spec, path)
    module_name, _, function_name = DATASETS[spec].loader.partition(":")
    return getattr(importlib.import_module(module_name), function_name)(path)


def _locate_npz(name: str, folder: Path, where: str) -> Path:
    path = resolve_file(name, folder, where)
    try:
        with zipfile.ZipFile(path) as archive:
            found = [member.removesuffix(".npy") for member in archive.namelist()]
    except (OSError, zipfile.BadZipFile):
        raise InputError(f"{where}: {name} is not an npz file; allowed: what numpy.savez writes") from None
    missing = [array for array in _ARRAYS if array not in found]
    if missing:
        raise InputError(f"{where}: there is no array {', '.join(missing)}; found: {', '.join(found) or 'none'}; "
                         f"allowed: {', '.join(_ARRAYS)}")  # fmt: skip
    return path


def _locate_files(source: Source, data_root: str | None, where: str) -> Path:
    if not data_root:
        raise InputError(f"{where}: no data root is named; set LOSSTUNE_DATA (or --data-root) to the folder that "
                         f"holds {', '.join(source.files)} (the layout of torchvision.datasets)")  # fmt: skip
    root = Path(data_root).expanduser()
    if source.legacy_files and all((root / file).is_file() for file in source.legacy_files):
        return root
    missing = [file for file in source.files if not (root / file).is_file()]
    if missing:
        raise InputError(f"{where}: the data root {data_root} lacks {', '.join(missing)}; set LOSSTUNE_DATA (or "
                         f"--data-root) to a folder that holds them, in the layout of torchvision.datasets"
                         )  # fmt: skip
    return root
