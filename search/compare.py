"""`losstune compare`: the verdict on scores from a CSV file."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from losstune.spaces import InputError

if TYPE_CHECKING:
    from losstune.analysis.significance import Comparison

MISSING = ("", "nan", "na", "n/a", "null", "none")
# What pandas calls an index that was written without a name and read back.
INDEX_NAMES = ("", "Unnamed: 0")
SEED = "seed"
SHAPE = "allowed: a CSV file with a column per loss, a row per seed"
CONDITIONAL_ON = ("This holds for the runs as given: on their test set, at their configurations, with seeds drawn as "
                  "theirs were")  # fmt: skip


def read_scores(path: Path) -> pd.DataFrame:
    """A column per loss, a row per seed; a column named seed, in any case, is the index. InputError for what is not
    numbers, and for seeds without a name of their own."""
    lines = read_lines(path)
    names, rows = [_column(cell) for cell in lines[0][1]], lines[1:]
    _check_header(path, names, rows)
    for number, cells in rows:
        if len(cells) > len(names):
            raise InputError(f"{path}, line {number}: {len(cells)} values under {len(names)} names; {SHAPE}")
    cells = [(number, line + [""] * (len(names) - len(line))) for number, line in rows]
    columns = {name: [(number, line[place].strip()) for number, line in cells] for place, name in enumerate(names)}
    if names[0] in INDEX_NAMES:
        columns.pop(names[0])
    seeds = columns.pop(SEED, None)
    _check_seeds(path, seeds or [])
    if seeds is None and names[0] in columns:
        _check_counting(path, columns)
    scores = {name: [_number(path, name, *cell) for cell in column] for name, column in columns.items()}
    return pd.DataFrame(scores, index=None if seeds is None else pd.Index([text for _, text in seeds], name=SEED))


def _column(cell: str) -> str:
    name = cell.strip()
    return SEED if name.casefold() == SEED else name


def _check_seeds(path: Path, seeds: list[tuple[int, str]]) -> None:
    """That each row is a seed of its own."""
    first: dict[str, int] = {}
    for number, text in seeds:
        if not text:
            raise InputError(f"{path}, line {number}: column {SEED}: is empty; needed: the seed of each row")
        if text in first:
            raise InputError(f"{path}, line {number}: column {SEED}: {text} is that of line {first[text]} too; "
                             "needed: a row per seed")  # fmt: skip
        first[text] = number


def _check_counting(path: Path, columns: dict[str, list[tuple[int, str]]]) -> None:
    """That the first column of scores does not number the rows: as a loss it would win or lose each comparison."""
    name, cells = next(iter(columns.items()))
    texts = [text for _, text in cells]
    counts = any(texts == [str(start + k) for k in range(len(texts))] for start in (0, 1))
    if counts and min(len(columns), len(texts)) > 1:
        raise InputError(f"{path}: column {name!r} counts rows; allowed: to call it {SEED}, to remove it, or, if these "
                         f"are scores, to write {texts[0]}.0")  # fmt: skip


def read_lines(path: Path) -> list[tuple[int, list[str]]]:
    """The lines that are not blank, each with its number and cells, the header first. InputError for no such file."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True, skipinitialspace=True)
            lines = [(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]
    except (OSError, ValueError, csv.Error) as error:
        reason = " ".join(str(getattr(error, "strerror", None) or error).split())
        raise InputError(f"{path}: {reason}; {SHAPE}") from None
    if not lines:
        raise InputError(f"{path}: is empty; {SHAPE}")
    return lines


def _check_header(path: Path, names: list[str], rows: list) -> None:
    """That every name stands for one column of scores; the first may have none where it is an index."""
    for separator, called in ((";", "semicolons"), ("\t", "tabs")):
        if len(names) == 1 and separator in names[0]:
            raise InputError(f"{path}: separated by {called} ({separator!r}); allowed: commas, and decimal points")
    if all(map(is_number, names)):
        raise InputError(f"{path}: the first row holds numbers only; needed: a header, the name of each loss")
    for place, name in enumerate(names):
        if name in names[:place]:
            raise InputError(f"{path}: the column {name or 'without a name'!r} occurs twice; needed: one per name")
        is_index = place == 0 and _index_like([cells[0].strip() for _, cells in rows])
        if name == "" and not is_index:
            raise InputError(f"{path}: column {place + 1} has no name; needed: the name of a loss, or 'seed'")
        if name == INDEX_NAMES[1] and place == 0 and not is_index:
            raise InputError(f"{path}: column 1, {name!r}, is no index; needed: the name of a loss, or 'seed'")
    if not rows:
        raise InputError(f"{path}: no rows below the header; {SHAPE}")


def is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text


def _index_like(cells: list[str]) -> bool:
    """Whether cells label rows: no two the same, and whole numbers or words, which scores are not."""
    return len(set(cells)) == len(cells) and all(cell.isdigit() or not is_number(cell) for cell in cells)


def _number(path: Path, name: str, line: int, text: str) -> float:
    if text.casefold() in MISSING:
        return math.nan
    if not is_number(text):
        raise InputError(f"{path}, line {line}: column {name}: {text!r} is not a number; "
                         "allowed: a score per seed, empty where missing")  # fmt: skip
    return float(text)


def show_comparison(path: Path, alpha: float, baseline: str | None, lower_is_better: bool, console: Console) -> None:
    """Print a row per loss, best first, what it gains over the baseline, and what can be said."""
    from losstune.analysis.significance import analyse, comparison_table
    from losstune.analysis.wording import FAMILIES, odd_intervals

    scores = read_scores(path)
    try:
        found = analyse(-scores if lower_is_better else scores, alpha)
        result = comparison_table(found, baseline)
    except InputError as error:
        reason = str(error)
        about = reason.startswith("scores: ")
        raise InputError(f"{path}: {reason.removeprefix('scores: ')}" if about else f"--{reason}") from None
    sign = -1 if lower_is_better else 1
    print_table(_main_rows(result, sign, alpha), result.in_best_set, console)
    best = ", ".join(result.index[result.in_best_set])
    say = [f"best set: {best} (no other loss is shown to beat them, at {alpha:g} over all pairs)"]
    if baseline is not None:
        console.print(Text(f"\nagainst the baseline {baseline}, tested over its own pairs alone"))
        rows = result.drop(index=baseline)
        better = (rows.baseline_p <= alpha) & (rows.baseline_difference > 0)
        print_table(_baseline_rows(rows, sign, alpha), better, console)
        say += [FAMILIES] * (len(result) > 2)
    tests = [result[[f"{of}ci_low", f"{of}ci_high", f"{of}p"]] for of in ("", "baseline_") if f"{of}p" in result]
    say += odd_intervals(np.concatenate(tests), alpha)
    for line in say + _about(found):
        console.print(Text(line))


def _about(found: Comparison) -> list[str]:
    fewest, most = found.seeds, found.scores.count().max()
    seeds = f"{fewest} seeds" if fewest == most else f"{fewest} to {most} seeds"
    rows = "; a row must be the same seed for every loss" if found.pairs["paired"].any() else ""
    return [f"method: {found.method}; {seeds}", *(f"warning: {text}" for text in found.warnings),
            f"{CONDITIONAL_ON}{rows}."]  # fmt: skip


Rows = list[list[str]]


def _main_rows(result: pd.DataFrame, sign: int, alpha: float) -> Rows:
    """Heads, then a row per loss. The number of seeds has a column only where it differs between losses."""
    rows = [["loss", "n", "mean", "s.e.", "to best", f"{100 * (1 - alpha):g}% interval", "p"]]
    for loss, row in result.iterrows():
        against = [number(sign * row.difference, 3, "+"), _interval(row.ci_low, row.ci_high, sign), number(row.p, 3)]
        rows.append([str(loss), f"{row.n_seeds:.0f}", number(sign * row["mean"], 5), number(row.standard_error, 2),
                     *(against if loss != result.index[0] else [""] * 3)])  # fmt: skip
    same = result.n_seeds.nunique() == 1
    return [row[:1] + row[2:] for row in rows] if same else rows


def _baseline_rows(result: pd.DataFrame, sign: int, alpha: float) -> Rows:
    from losstune.analysis.wording import found_against

    rows = [["loss", "to baseline", f"{100 * (1 - alpha):g}% interval", "p", "finding"]]
    for loss, row in result.iterrows():
        ends = _interval(row.baseline_ci_low, row.baseline_ci_high, sign)
        rows.append([str(loss), number(sign * row.baseline_difference, 3, "+"), ends, number(row.baseline_p, 3),
                     found_against(row.baseline_difference, row.baseline_p, alpha)])  # fmt: skip
    return rows


def _interval(low: float, high: float, sign: int) -> str:
    if not np.isfinite([low, high]).all():
        return "unbounded"
    if low == high:
        return "never varies"
    return " to ".join(number(end, 3, "+") for end in sorted((sign * low, sign * high)))


def number(value: float, digits: int, sign: str = "") -> str:
    """A number with so many digits; never "-0" or "+0"."""
    from losstune.analysis.results import settled

    return f"{settled(value):{sign}.{digits}g}" if value else "0"


def print_table(rows: Rows, bold: pd.Series, console: Console) -> None:
    """Names as they are, not as markup; a narrow gap, then names over several lines, where the window is narrow."""
    for gap in (2, 1):
        table = Table(box=None, pad_edge=False, padding=(0, gap, 0, 0), header_style="bold")
        for place, head in enumerate(rows[0]):
            side = "left" if place == 0 else "right"
            table.add_column(Text(head), justify=side, no_wrap=place > 0, overflow="fold")
        for row, stands_out in zip(rows[1:], bold, strict=True):
            table.add_row(*map(Text, row), style="bold" if stands_out else None)
        if console.measure(table).maximum <= console.width:
            break
    console.print(table, soft_wrap=False)
