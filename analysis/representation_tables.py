"""The report's tables of what the recorded features say: separation, neural collapse, spectra, similarity, sparsity."""

from __future__ import annotations

import numpy as np
import pandas as pd

from losstune.analysis.represented import PENULTIMATE, Represented
from losstune.analysis.results import settled, with_minus
from losstune.analysis.tabletext import Table

SEPARATION = {
    "cosine": "R² cosine", "cosine_mean_subtracted": "R² mean subtracted", "squared_euclidean": "R² Euclidean",
    "within": "distance within", "between": "distance between", "angular_visual_hardness": "angular visual hardness",
}  # fmt: skip
MOST_PLACES = 5
COLLAPSE = {"nc1": "NC1", "nc2": "NC2", "nc3": "NC3", "nc4": "NC4", "nearest_center_accuracy": "nearest center right"}
RANKS = {f"{of}_{what}": f"{of}, {what.replace('_', ' ')}" for of in ("activations", "weights", "centroids")
         for what in ("effective_rank", "participation_ratio")}  # fmt: skip


def representation_tables(found: Represented) -> list[Table]:
    """Every table of measures of the features."""
    text = {
        "separation": "Penultimate features of {}: class separation R² (Kornblith et al., Eq. 11) by three distances, "
                      "mean cosine distances within and between classes, angular visual hardness (lower is easier).",
        "collapse": "Neural collapse of {} (Zhou et al.): NC1 to NC3 are 0 in full collapse; NC4: share of examples "
                    "whose nearest class center is the predicted class.",
        "spectra": "How many directions {}, the final layer's weights and the class centers use.",
    }  # fmt: skip
    tables = []
    for name, columns in (("separation", SEPARATION), ("collapse", COLLAPSE), ("spectra", RANKS)):
        for split, of in (("test", "the test examples"), ("train", "the training examples")):
            own = found.members[found.members["split"] == split]
            if len(own):
                caption = f"{text[name].format(of)} Mean ± standard error over seeds."
                tables.append(_by_loss(f"{name}_{split}", caption, own, columns))
    return [*tables, *_similarity_tables(found), *_sparsity_tables(found)]


def _by_loss(name: str, caption: str, own: pd.DataFrame, columns: dict[str, str]) -> Table:
    rows = [[str(loss), *(_mean(part[column]) for column in columns)] for loss, part in own.groupby("loss", sort=False)]
    return Table(name, caption, ["loss", *columns.values()], rows)


def _mean(values: pd.Series) -> str:
    """Mean and standard error over seeds, to the second digit of the error."""
    values = values.dropna()
    if values.empty:
        return "not defined"
    error = values.sem() if len(values) > 1 else np.nan
    if np.isnan(error) or error == 0:
        return with_minus(f"{settled(values.mean()):.4g}")
    places = min(max(1 - int(np.floor(np.log10(error))), 0), MOST_PLACES)
    return with_minus(f"{settled(values.mean()):.{places}f} ± {error:.{places}f}")


def _similarity_tables(found: Represented) -> list[Table]:
    own = found.similarity[found.similarity["layer"] == PENULTIMATE]
    if own.empty:
        return []
    losses = list(dict.fromkeys(own["loss_a"]))
    cells = {(row["loss_a"], row["loss_b"]): row["cka"] for row in own.to_dict("records")}
    rows = [[a, *(_cell(cells.get((a, b), cells.get((b, a), np.nan))) for b in losses)] for a in losses]
    caption = ("Similarity of penultimate features on the same test examples: debiased linear CKA between models of "
               "different seeds; on the diagonal two seeds of one loss, the ceiling of what a change of loss can keep.")
    return [Table("similarity", caption, ["loss", *losses], rows)]  # fmt: skip


def _sparsity_tables(found: Represented) -> list[Table]:
    if found.sparsity.empty:
        return []
    wide = found.sparsity.pivot_table(index="loss", columns="layer", values="sparsity", sort=False)
    layers = list(dict.fromkeys(found.sparsity["layer"]))
    rows = [[str(loss), *(_percent(wide.loc[loss].get(layer, np.nan)) for layer in layers)] for loss in wide.index]
    caption = "Share of activations (%) that are exactly zero, layer by layer, mean over seeds."
    return [Table("sparsity", caption, ["loss", *layers], rows)]


def _cell(value: float) -> str:
    return "not defined" if np.isnan(value) else with_minus(f"{value:.3f}")


def _percent(value: float) -> str:
    return "" if np.isnan(value) else f"{100 * value:.1f}"
