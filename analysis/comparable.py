"""Whether scores can be compared at all."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from losstune.spaces import InputError

# Within these, no square and no product of squares in the tests leaves the range of floats.
SMALLEST, LARGEST = 1e-100, 1e100


def check_scores(scores: Any, alpha: float = 0.05, rope: float | None = None) -> pd.DataFrame:
    """The scores as floats, rows without any score dropped; InputError (one line) says what cannot be compared."""
    if not isinstance(scores, pd.DataFrame):
        raise InputError(f"scores: a {type(scores).__name__}; needed: a DataFrame, a row per seed, a column per loss")
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not 0 < alpha < 1:
        raise InputError(f"alpha: {alpha!r} is out of bounds; allowed: (0, 1)")
    if rope is not None and (isinstance(rope, bool) or not isinstance(rope, int | float) or not 0 < rope < np.inf):
        raise InputError(f"rope: {rope!r} is out of bounds; allowed: a number above 0")
    if scores.shape[1] < 2:
        found = "1 loss" if scores.shape[1] else "no loss"
        raise InputError(f"scores: {found}; needed: at least 2 columns, one per loss")
    if not scores.columns.is_unique:
        raise InputError(f"scores: column {scores.columns[scores.columns.duplicated()][0]!r} occurs twice")
    for name, column in scores.items():
        if not pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column):
            raise InputError(f"scores: column {name!r} is not numeric ({column.dtype})")
    scores = scores.set_axis([str(name) for name in scores.columns], axis=1).astype(float)
    for name, column in scores.items():
        if np.isinf(column).any():
            raise InputError(f"scores: column {name!r} holds an infinite value; allowed: finite numbers or empty")
        sizes = column.abs()
        if ((sizes > LARGEST) | (sizes < SMALLEST) & (sizes > 0)).any():
            raise InputError(f"scores: column {name!r} holds a value whose size is out of bounds; "
                             f"allowed: 0, or {SMALLEST:g} to {LARGEST:g}")
        if column.count() < 2:
            seeds = "1 seed" if column.count() else "0 seeds"
            raise InputError(f"scores: column {name!r} has {seeds}; needed: at least 2")  # fmt: skip
    return scores.dropna(how="all")
