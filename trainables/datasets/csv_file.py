"""A table of feature vectors in a CSV file."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np

from losstune.spaces.errors import InputError
from losstune.trainables.datasets.dataset import Dataset, Split
from losstune.trainables.datasets.splitting import hold_out
from losstune.trainables.user_files import read_text

LABELS = ("label", "class", "target", "y")
SPLIT = "split"
_TEST_SHARE, _TEST_SEED = 0.2, 0  # of a table that comes without a split of its own


def from_csv(spec: str, path: Path) -> Dataset:
    """The data set of a CSV file with a header: a row per example, a column per feature, one of labels.

    Labels: the column named label, class, target or y, in this order of preference and any case; else the last one.
    They are classes by name; if all are whole numbers, classes are in the order of the numbers. A column named split
    says train or test of each row; without one, a stratified fifth is held out as test split, always the same. Every
    other column holds numbers. Fields are separated by commas, semicolons or tabs, whichever the header has most of.
    """
    where = f"data: {spec}"
    header, rows, lines = _table(read_text(str(path), path.parent, where), where)
    folded = [name.casefold() for name in header]
    split_at = folded.index(SPLIT) if SPLIT in folded else None
    label_at = next((folded.index(name) for name in LABELS if name in folded), None)
    if label_at is None:
        label_at = max(at for at in range(len(header)) if at != split_at)
    features = [at for at in range(len(header)) if at not in (label_at, split_at)]
    if not features:
        raise InputError(f"{where}: there is no column of features beside {header[label_at]}; allowed: at least one")
    x = _numbers(rows, features, header, lines, where)
    y, names = _classes([row[label_at] for row in rows], header[label_at], lines, where)
    if split_at is None:
        train, test = _held_out(Split(x, y), names, where)
    else:
        in_test = _is_test([row[split_at] for row in rows], header[split_at], lines, where)
        train, test = (Split(x[part], y[part]) for part in (~in_test, in_test))
    absent = np.setdiff1d(np.arange(len(names)), train.y)
    if len(absent):
        raise InputError(f"{where}: class {names[absent[0]]} has no row of train; allowed: at least one of every class")
    if len(names) < 2:
        raise InputError(f"{where}: column {header[label_at]} holds one class ({names[0]}); allowed: at least 2")
    return Dataset(spec, train, test, len(names), names)


def _table(text: str, where: str) -> tuple[list[str], list[list[str]], list[int]]:
    """Header, rows of equal length, and the line of each row."""
    first = text.partition("\n")[0]
    reader = csv.reader(io.StringIO(text), delimiter=max(",;\t", key=first.count))
    try:
        header = [name.strip() for name in next(reader, [])]
        numbered = [(row, reader.line_num) for row in reader if row]
    except csv.Error as error:
        raise InputError(f"{where}: line {reader.line_num}: {error}; allowed: a CSV table") from None
    rows, lines = [row for row, _ in numbered], [line for _, line in numbered]
    if not rows:
        raise InputError(f"{where}: there are no rows below the header; allowed: a row per example")
    if any(_is_number(name) or not name for name in header):
        raise InputError(f"{where}: line 1 is no header ({first[:60].strip()}); allowed: a name for each column")
    doubled = next((name for at, name in enumerate(header) if name in header[:at]), None)
    if doubled:
        raise InputError(f"{where}: two columns are named {doubled}; allowed: a name of its own for each column")
    for row, line in zip(rows, lines, strict=True):
        if len(row) != len(header):
            raise InputError(f"{where}: line {line} has {len(row)} fields; allowed: {len(header)}, as the header has")
    return header, rows, lines


def _numbers(rows: list[list[str]], at: list[int], header: list[str], lines: list[int], where: str) -> np.ndarray:
    """The columns `at` of all rows, (N, D) float32, all finite."""
    try:
        with np.errstate(over="ignore"):
            x = np.array([[row[k] for k in at] for row in rows]).astype(np.float64).astype(np.float32)
        bad = np.argwhere(~np.isfinite(x))
    except ValueError:
        bad = [(n, k) for n, row in enumerate(rows) for k, column in enumerate(at) if not _is_number(row[column])]
    if len(bad):
        n, column = bad[0][0], at[bad[0][1]]
        raise InputError(f"{where}: line {lines[n]}, column {header[column]}: {rows[n][column]!r} is not a number of "
                         f"float32; allowed: finite numbers up to 3.4e38")  # fmt: skip
    return x


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _classes(labels: list[str], column: str, lines: list[int], where: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Classes (N,) 0..K-1 and their names."""
    labels = [label.strip() for label in labels]
    if "" in labels:
        raise InputError(f"{where}: line {lines[labels.index('')]}, column {column}: the label is missing; allowed: a "
                         f"class for each row")  # fmt: skip
    distinct = set(labels)
    try:
        names = sorted(distinct, key=int)
    except ValueError:
        names = sorted(distinct)
    number = {name: k for k, name in enumerate(names)}
    return np.array([number[label] for label in labels], dtype=np.int64), tuple(names)


def _is_test(values: list[str], column: str, lines: list[int], where: str) -> np.ndarray:
    values = [value.strip().casefold() for value in values]
    for value, line in zip(values, lines, strict=True):
        if value not in ("train", "test"):
            raise InputError(f"{where}: line {line}, column {column}: {value!r} is not a split; allowed: train, test")
    for name in ("train", "test"):
        if name not in values:
            raise InputError(f"{where}: column {column} has no row of {name}; allowed: some of train and some of test")
    return np.array([value == "test" for value in values])


def _held_out(split: Split, names: tuple[str, ...], where: str) -> tuple[Split, Split]:
    counts = np.bincount(split.y)
    if counts.min() < 2:
        raise InputError(f"{where}: class {names[counts.argmin()]} has one row; allowed: at least 3 of every class, or "
                         f"a column split with train and test")  # fmt: skip
    try:
        return hold_out(split, _TEST_SHARE, _TEST_SEED)
    except InputError:
        raise InputError(f"{where}: a fifth of {len(split)} rows does not hold every one of {len(names)} classes; "
                         f"allowed: more rows, or a column split with train and test") from None  # fmt: skip
