"""`losstune compare` on published numbers: means, their errors and the number of runs, or average ranks.

A row per loss, of one table, or of several that the columns data and network tell apart. The runs themselves are not
there, so that nothing can be paired.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console

from losstune.search.compare import is_number, read_lines
from losstune.spaces import InputError

ERRORS = ("standard_error", "std")
RANKS = ("loss", "average_rank", "n")
COLUMNS = ("loss", "mean", *ERRORS, "n", "data", "network")
SHAPE = "allowed: columns loss, mean, standard_error or std, n, data, network; or loss, average_rank, n"


@dataclass(frozen=True)
class Published:
    """What a file of published means holds.

    blocks: data set and network, in words -> its rows, indexed by loss: mean and, where the file has errors, error and
    n. datasets: block -> data set. error: the column that errors are in, or None. steps: block -> one unit in the last
    printed digit of its means and of its errors, as many as the longest number shows.
    """

    blocks: dict[str, pd.DataFrame]
    datasets: dict[str, str]
    error: str | None
    steps: dict[str, tuple[float, float]]

    @property
    def losses(self) -> list[str]:
        return list(dict.fromkeys(loss for block in self.blocks.values() for loss in block.index))

    def means(self) -> pd.DataFrame:
        """Blocks x losses, NaN where a block lacks a loss."""
        return pd.DataFrame({block: rows["mean"] for block, rows in self.blocks.items()}).T.reindex(columns=self.losses)


def is_published(path: Path) -> bool:
    """Whether a file holds a row per loss, in place of a row per seed. InputError for one that cannot be read."""
    names = _names(read_lines(path))
    return "loss" in names and ("mean" in names or "average_rank" in names)


def _names(lines: list[tuple[int, list[str]]]) -> list[str]:
    return [cell.strip() for cell in lines[0][1]]


def read_published(path: Path) -> Published:
    """Read published means. InputError (one line) for what is wrong in the file."""
    lines = read_lines(path)
    names = _names(lines)
    error = _check_columns(path, names, COLUMNS)
    if (error is None) == ("n" in names):
        raise InputError(f"{path}: {'n without errors' if error is None else 'errors without n'}; needed: n, the "
                         "number of runs, and standard_error or std")  # fmt: skip
    rows = list(_rows(path, lines, ("loss", "data", "network")))
    blocks: dict[str, dict[str, dict[str, float]]] = {}
    datasets, printed = {}, defaultdict(list)
    for number, cells in rows:
        block = ", ".join(cells[name] for name in ("data", "network") if name in cells)
        printed[block].append(cells)
        datasets[block], loss = cells.get("data", ""), cells["loss"]
        if loss in blocks.setdefault(block, {}):
            where = f" of {block}" if block else ", and there is no column data or network to tell tables apart"
            raise InputError(f"{path}, line {number}: {loss} has a row already{where}; needed: one row per loss")
        blocks[block][loss] = _numbers(path, number, cells, error)
    for block, found in blocks.items():
        if len(found) < 2:
            raise InputError(f"{path}: {f'{block}: ' if block else ''}1 loss; needed: at least 2")
    steps = {block: (_step(own, "mean"), _step(own, error) if error else 0.0) for block, own in printed.items()}
    frames = {block: pd.DataFrame(found).T.rename_axis("loss") for block, found in blocks.items()}
    return Published(frames, datasets, error, steps)


def _check_columns(path: Path, names: list[str], allowed: tuple[str, ...]) -> str | None:
    """Which column of errors there is, None without."""
    for place, name in enumerate(names):
        if name not in allowed:
            raise InputError(f"{path}: the column {name!r} is unknown; {SHAPE}")
        if name in names[:place]:
            raise InputError(f"{path}: the column {name!r} occurs twice; needed: one per name")
    errors = [name for name in names if name in ERRORS]
    if len(errors) == 2:
        raise InputError(f"{path}: columns standard_error and std; allowed: one of them")
    if "network" in names and "data" not in names:
        raise InputError(f"{path}: networks without the column data; needed: the data set of each")
    return errors[0] if errors else None


def _rows(path: Path, lines: list, words: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    """The lines below the header, each with its number and cells by column; words must not be empty."""
    names = _names(lines)
    if len(lines) < 2:
        raise InputError(f"{path}: no rows below the header; {SHAPE}")
    for number, cells in lines[1:]:
        if len(cells) != len(names):
            raise InputError(f"{path}, line {number}: {len(cells)} values under {len(names)} names")
        row = dict(zip(names, map(str.strip, cells), strict=True))
        for name, text in row.items():
            if name in words and not text:
                raise InputError(f"{path}, line {number}: column {name}: is empty; needed: a name")
            if name not in words and not (is_number(text) and np.isfinite(float(text))):
                raise InputError(f"{path}, line {number}: column {name}: {text!r} is not a number; needed: a finite "
                                 "one in each row")  # fmt: skip
        yield number, row


def _numbers(path: Path, line: int, cells: dict[str, str], error: str | None) -> dict[str, float]:
    found = {"mean": float(cells["mean"])}
    if error is not None:
        found |= {"error": float(cells[error]), "n": _count(path, line, cells["n"])}
        if found["error"] < 0:
            raise InputError(f"{path}, line {line}: column {error}: {cells[error]} is out of bounds; allowed: 0 or "
                             "more")  # fmt: skip
    return found


def _count(path: Path, line: int, text: str) -> float:
    if float(text) < 2 or float(text) % 1:
        raise InputError(f"{path}, line {line}: column n: {text} is out of bounds; allowed: whole numbers from 2 on")
    return float(text)


def _step(rows: list[dict[str, str]], column: str) -> float:
    """One unit in the last digit of the number with the most decimals: 0.1 for 77.8 and 77."""
    return float(Decimal(1).scaleb(min(int(Decimal(row[column]).as_tuple().exponent) for row in rows)))


def read_ranks(path: Path) -> tuple[dict[str, float], int]:
    """Average ranks by loss, and over how many data sets they are. InputError (one line) for what is wrong."""
    lines = read_lines(path)
    names = _names(lines)
    _check_columns(path, names, RANKS)
    if set(names) != set(RANKS):
        raise InputError(f"{path}: average ranks without n; needed: columns {', '.join(RANKS)}, n the number of data "
                         "sets")  # fmt: skip
    ranks, counts = {}, set()
    for number, cells in _rows(path, lines, ("loss",)):
        if cells["loss"] in ranks:
            raise InputError(f"{path}, line {number}: {cells['loss']} has a row already; needed: one row per loss")
        ranks[cells["loss"]] = float(cells["average_rank"])
        counts.add(int(_count(path, number, cells["n"])))
    if len(counts) > 1:
        raise InputError(f"{path}: column n: {sorted(counts)} differ; needed: the same number of data sets in each row")
    return ranks, counts.pop()


def show_published(path: Path, alpha: float, baseline: str | None, lower_is_better: bool, console: Console) -> None:
    """Print what can be said from published numbers: table by table, then over data sets where there are several."""
    from losstune.search import published_tables as tables

    if not 0 < alpha < 1:
        raise InputError(f"--alpha: {alpha!r} is out of bounds; allowed: (0, 1)")
    if "average_rank" in _names(read_lines(path)):
        ranks, blocks = read_ranks(path)
        if baseline is not None or lower_is_better:
            option = "--baseline" if baseline is not None else "--lower-is-better"
            raise InputError(f"{option}: {path} has average ranks, where 1 is best and no loss is tested against one "
                             "other; allowed: neither option")  # fmt: skip
        tables.show_average_ranks(path, ranks, blocks, alpha, console)
        return
    found = read_published(path)
    everywhere = [loss for loss in found.losses if all(loss in rows.index for rows in found.blocks.values())]
    if baseline is not None and baseline not in everywhere:
        raise InputError(f"--baseline: {baseline!r} is not in {path}, or not in each of its tables; allowed: "
                         f"{', '.join(everywhere)}")  # fmt: skip
    if found.error is None and len(found.blocks) == 1:
        raise InputError(f"{path}: means alone, of one table, allow no test; needed: columns standard_error or std and "
                         "n, or several data sets in a column data")  # fmt: skip
    if found.error is not None:
        for block in found.blocks:
            tables.show_block(found, block, alpha, baseline, lower_is_better, console)
    if len(found.blocks) > 1:
        tables.show_over_blocks(found, alpha, baseline, lower_is_better, console)
