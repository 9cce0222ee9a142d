"""The handwritten digits that scikit-learn carries."""

from __future__ import annotations

import gzip
import importlib.util
from pathlib import Path

import numpy as np

from losstune.trainables.datasets.dataset import Dataset, Split
from losstune.trainables.datasets.splitting import hold_out

# The set comes without a split of its own; this one is its fixed, stratified test split.
_TEST_SHARE, _TEST_SEED = 0.2, 0


def load(data_root: Path | None = None) -> Dataset:
    """1,437 training and 360 test images (N, 1, 8, 8), grey levels 0 to 16; the data root is not used."""
    table = _table()
    x = table[:, :64].astype(np.uint8).reshape(-1, 1, 8, 8)
    train, test = hold_out(Split(x, table[:, 64].astype(np.int64)), _TEST_SHARE, _TEST_SEED)
    return Dataset("digits", train, test, 10, tuple(map(str, range(10))))


def _table() -> np.ndarray:
    """(1797, 65): 64 grey levels and the label."""
    # Importing sklearn.datasets takes a second, reading its file 15 ms.
    package = importlib.util.find_spec("sklearn")
    file = Path(package.submodule_search_locations[0]) / "datasets" / "data" / "digits.csv.gz" if package else None
    if file and file.is_file():
        with gzip.open(file, "rt") as lines:
            return np.loadtxt(lines, delimiter=",")
    from sklearn.datasets import load_digits

    digits = load_digits()
    return np.column_stack([digits.data, digits.target])
