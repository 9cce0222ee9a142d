"""Where data sets are. Finds and looks at names only, so that what is missing is said in milliseconds."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable
from pathlib import Path

from losstune.spaces.errors import InputError
from losstune.trainables.datasets.dataset import Source
from losstune.trainables.user_files import resolve_file

ARRAYS = ("x_train", "y_train", "x_test", "y_test")
TEST_FOLDERS = ("test", "val")  # the first that has classes is the test split
_SIZE = re.compile(r"(?P<path>.+)\?size=(?P<size>[^?]*)")
_LARGEST = 4096  # pixels


def locate_npz(name: str, folder: Path, where: str) -> Path:
    """The npz file with the four arrays."""
    path = resolve_file(name, folder, where)
    try:
        with zipfile.ZipFile(path) as archive:
            found = [member.removesuffix(".npy") for member in archive.namelist()]
    except (OSError, zipfile.BadZipFile):
        raise InputError(f"{where}: {name} is not an npz file; allowed: what numpy.savez writes") from None
    missing = [array for array in ARRAYS if array not in found]
    if missing:
        raise InputError(f"{where}: there is no array {', '.join(missing)}; found: {', '.join(found) or 'none'}; "
                         f"allowed: {', '.join(ARRAYS)}")  # fmt: skip
    return path


def locate_npy(name: str, folder: Path, where: str) -> Path:
    """The folder of the four .npy files."""
    path = resolve_folder(name, folder, where)
    missing = [f"{array}.npy" for array in ARRAYS if not (path / f"{array}.npy").is_file()]
    if missing:
        raise InputError(f"{where}: there is no file {', '.join(missing)} in {name}; found: {_listing(path)}; "
                         f"allowed: {', '.join(f'{array}.npy' for array in ARRAYS)}")  # fmt: skip
    return path


def locate_images(name: str, folder: Path, where: str) -> Path:
    """The folder that holds train/ and test/ or val/."""
    path = resolve_folder(split_size(name, where)[0], folder, where)
    parts = [("train",), TEST_FOLDERS]
    if not all(any((path / part).is_dir() for part in either) for either in parts):
        raise InputError(f"{where}: the folder lacks {'test or val' if (path / 'train').is_dir() else 'train'}; found: "
                         f"{_listing(path)}; allowed: train/CLASS/IMAGES and test/CLASS/IMAGES or val/CLASS/IMAGES"
                         )  # fmt: skip
    return path


def locate_csv(name: str, folder: Path, where: str) -> Path:
    """The CSV file."""
    return resolve_file(name, folder, where)


def locate_files(source: Source, data_root: str | None, where: str) -> Path:
    """The data root, when it holds the files of a data set of the table."""
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


def resolve_folder(name: str, folder: Path, where: str) -> Path:
    """The folder, looked for beside the study and then in the current directory; InputError when in neither."""
    for base in (Path(folder), Path.cwd()):
        path = base / Path(name).expanduser()
        if path.is_dir():
            return path.resolve()
    raise InputError(f"{where}: there is no folder {name}; allowed: a path relative to the study file's folder "
                     f"({folder}) or to the current directory, or an absolute path")  # fmt: skip


def split_size(name: str, where: str) -> tuple[str, int | None]:
    """("photos", 128) for "photos?size=128", ("photos", None) for "photos"."""
    match = _SIZE.fullmatch(name)
    if not match:
        return name, None
    if not (match["size"].isdecimal() and 1 <= int(match["size"]) <= _LARGEST):
        raise InputError(f"{where}: size={match['size']} is not a number of pixels; allowed: 1 to {_LARGEST}")
    return match["path"], int(match["size"])


def _listing(path: Path) -> str:
    found = sorted(entry.name + "/" * entry.is_dir() for entry in path.iterdir())
    return ", ".join(found[:10]) + (" ..." if len(found) > 10 else "") or "nothing"


LOCATORS: dict[str, Callable[[str, Path, str], Path]] = {
    "npz": locate_npz,
    "npy": locate_npy,
    "folder": locate_images,
    "csv": locate_csv,
}
