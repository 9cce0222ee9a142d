"""`losstune compare`: the verdict on scores from a CSV file."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table

from losstune.spaces import InputError


def read_scores(path: Path) -> pd.DataFrame:
    """A column per loss, a row per seed; a column named seed is the index. InputError for what is not numbers."""
    try:
        scores = pd.read_csv(path)
    except (OSError, ValueError) as error:
        reason = " ".join(str(getattr(error, "strerror", None) or error).split())
        raise InputError(f"{path}: {reason}; allowed: a CSV file with a column per loss, a row per seed") from None
    scores = scores.drop(columns=[name for name in scores if str(name).startswith("Unnamed")])
    for name in scores:
        if not pd.api.types.is_numeric_dtype(scores[name]):
            raise InputError(f"{path}: column {name}: not numbers; allowed: a score per seed, empty where missing")
    return scores.set_index("seed") if "seed" in scores else scores


def show_comparison(path: Path, alpha: float, baseline: str | None, lower_is_better: bool, console: Console) -> None:
    """Print a row per loss, best first, and what can be said."""
    from losstune.analysis.significance import compare

    scores = read_scores(path)
    try:
        result = compare(-scores if lower_is_better else scores, alpha=alpha, baseline=baseline)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    sign = -1 if lower_is_better else 1
    result = result.sort_values("mean", ascending=False)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("loss", "n", "mean", "std. error", "to the best", f"{1 - alpha:.0%} interval", "p", "best set"):
        table.add_column(name, justify="left" if name == "loss" else "right")
    for loss, row in result.iterrows():
        ends = sorted((sign * row.ci_low, sign * row.ci_high))
        table.add_row(str(loss), f"{row.n_seeds:.0f}", f"{sign * row['mean']:.5g}", f"{row.standard_error:.2g}",
                      f"{sign * row.difference:+.3g}", f"{ends[0]:+.3g} to {ends[1]:+.3g}", f"{row.p:.3g}",
                      "yes" if row.in_best_set else "", style="bold" if row.in_best_set else None)  # fmt: skip
    console.print(table)
    best = [str(loss) for loss in result.index[result.in_best_set]]
    console.print(f"best set: {', '.join(best)} (no other loss is shown to beat them, at {alpha:g} over all pairs)")
