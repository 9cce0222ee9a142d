"""The margin's bias, neural collapse and class separation over training: means over seeds, and how they went."""

from __future__ import annotations

import numpy as np
import pandas as pd

from losstune.analysis.results import Results, with_minus
from losstune.analysis.tabletext import Table

TITLES = {
    "margin_bias": "margin bias", "class_separation": "R² cosine", "nc1": "NC1", "nc2": "NC2", "nc3": "NC3",
}  # fmt: skip


def training_curves(results: Results) -> pd.DataFrame:
    """A row per loss, measure and epoch: mean, low, high, the smallest and the largest value over seeds, and seeds,
    how many have one.

    From `Results.training_measures`; losses in the study's order, measures in that of TITLES, epochs ascending. Seeds
    for which a measure is not defined in an epoch (NaN, or infinite) are left out of it; epochs without any too.
    """
    found, order = results.training_measures, {"loss": results.study["losses"], "measure": list(TITLES)}
    for name, values in order.items():
        found = found[found[name].isin(values)]
    found = found[np.isfinite(found["value"].astype(float))]
    # As categories, so that rows come in these orders.
    found = found.assign(**{name: pd.Categorical(found[name], values) for name, values in order.items()})
    grouped = found.groupby(["loss", "measure", "epoch"], observed=True)["value"]
    curves = grouped.agg(mean="mean", low="min", high="max", seeds="count").reset_index()
    return curves.astype({"loss": object, "measure": object})


def training_tables(curves: pd.DataFrame) -> list[Table]:
    """How the margin's bias went, of `training_curves`; none where no loss has one.

    Kobayashi 2019, Sec. 4.1: the softmax loss only lowers it, a large-margin regularizer or label smoothing first
    lowers and then raises it.
    """
    own, rows = curves[curves["measure"] == "margin_bias"], []
    for loss, curve in own.groupby("loss", sort=False):
        first, last, lowest = curve.iloc[0], curve.iloc[-1], curve.loc[curve["mean"].idxmin()]
        rows.append([str(loss), _show(first["mean"]), _show(lowest["mean"]), str(lowest["epoch"]),
                     _show(last["mean"]), f"{_show(last['low'])} to {_show(last['high'])}"])  # fmt: skip
    columns = ["loss", "margin bias (first epoch measured)", "lowest", "at epoch", "at the end", "range over seeds"]
    caption = ("Bias of the margin that is built into the softmax loss (Kobayashi, Eq. 7), over training: mean over "
               "the training examples that are looked at and over seeds, at epochs that were measured.")  # fmt: skip
    return [Table("margin_bias", caption, columns, rows)] if rows else []


def _show(value: float) -> str:
    return with_minus(f"{value:.4f}")
