"""The report's tables of corrupted and shifted test sets, and of transfer."""

from __future__ import annotations

import pandas as pd

from losstune.analysis.prediction_tables import mean_of
from losstune.analysis.results import Results
from losstune.analysis.robustness import CLEAN, MeasuredRobustness
from losstune.analysis.tabletext import Table
from losstune.analysis.transferred import MeasuredTransfer
from losstune.analysis.wording import listed
from losstune.trainables.other_data import OWN

EXPLORATORY = "Exploratory: the verdict is not about this."


def robustness_tables(results: Results, found: MeasuredRobustness) -> list[Table]:
    """Corrupted images, each corruption alone, and shifted test sets, as far as there are any."""
    tables = [] if found.errors.empty else [corruptions_table(found), corruption_errors_table(found)]
    return tables if found.shifted.empty else [*tables, shifted_table(results, found)]


def corruptions_table(found: MeasuredRobustness) -> Table:
    """Errors, mCE and relative mCE of each loss."""
    rows = [[str(loss), *(mean_of(own[name], "accuracy") for name in ("clean", "corrupted", "mce", "relative_mce")),
             mean_of(own["nll"], "nll"), mean_of(own["ece"], "ece")]
            for loss, own in found.members.groupby("loss", sort=False)]  # fmt: skip
    caption = (f"{found.examples:,} test examples, as they are and corrupted at five severities: mean ± standard error "
               f"over seeds. {_relative(found)} {EXPLORATORY}")  # fmt: skip
    columns = ["loss", "error (%)", "error corrupted (%)", "mCE (%)", "relative mCE (%)", "NLL corrupted",
               "ECE corrupted (%)"]  # fmt: skip
    return Table("corruptions", caption, columns, rows)


def _relative(found: MeasuredRobustness) -> str:
    if found.baseline is None:
        return "No mCE: there is no baseline that it could be relative to."
    text = f"mCE: relative to {found.baseline} with the same seed, which has 100."
    for what, names in (("mCE", found.undefined), ("relative mCE", found.relatively_undefined)):
        if names:
            text += f" Left out of {what}: {listed(names)}, which cost {found.baseline} nothing in some seed."
    return text


def corruption_errors_table(found: MeasuredRobustness) -> Table:
    """The mean error over the severities of each corruption."""
    hit = found.errors[found.errors["severity"] != CLEAN]
    means = hit.pivot_table(index=["loss", "seed"], columns="corruption", values="error", sort=False)
    names = list(means.columns)
    rows = [[str(loss), *(mean_of(own[name], "accuracy") for name in names)]
            for loss, own in means.groupby("loss", sort=False)]  # fmt: skip
    caption = f"Error (%) by corruption: mean over five severities, ± standard error over seeds. {EXPLORATORY}"
    return Table("corruption_errors", caption, ["loss", *(name.replace("_", " ") for name in names)], rows)


def shifted_table(results: Results, found: MeasuredRobustness) -> Table:
    """Accuracy and NLL on every shifted test set, beside the study's own."""
    members, names = results.members, list(found.shifted["data"].unique())
    rows = []
    for loss in results.confirmed():
        cells = [mean_of(members.loc[members["loss"] == loss, "accuracy"], "accuracy")]
        own = found.shifted[found.shifted["loss"] == loss]
        for name in names:
            cells += [mean_of(own.loc[own["data"] == name, kind], kind) for kind in ("accuracy", "nll")]
        rows.append([loss, *cells])
    caption = f"Shifted test sets of the same classes: mean ± standard error over seeds. {EXPLORATORY}"
    columns = ["loss", "test accuracy (%)", *(f"{name}: {what}" for name in names for what in ("accuracy (%)", "NLL"))]
    return Table("shifted", caption, columns, rows)


def transfer_table_of(results: Results, found: MeasuredTransfer) -> Table:
    """Accuracy of logistic regression on fixed features, a column per data set, the study's own first."""
    probes, names = found.probes, list(found.n_test)
    rows = []
    for loss in results.confirmed():
        own = probes[probes["loss"] == loss]
        trained = results.members.loc[results.members["loss"] == loss, "accuracy"]
        rows.append([loss, mean_of(trained, "accuracy"),
                     *(mean_of(own.loc[own["data"] == name, "accuracy"], "accuracy") for name in names)])  # fmt: skip
    columns = ["loss", "as trained (%)", *("own, relearned (%)" if name == OWN else f"{name} (%)" for name in names)]
    sizes = "; ".join(f"{'own' if name == OWN else name}: {_largest(probes, name):,} to learn from, {n:,} to test"
                      for name, n in found.n_test.items())  # fmt: skip
    caption = ("Test accuracy of L2-regularized logistic regression on the penultimate features, which stay as they "
               f"are: mean ± standard error over seeds. {sizes}. {_warnings(probes)}{EXPLORATORY}")  # fmt: skip
    return Table("transfer", caption, columns, rows)


def _largest(probes: pd.DataFrame, name: str) -> int:
    return int(probes.loc[probes["data"] == name, "n_train"].max())


def _warnings(probes: pd.DataFrame) -> str:
    """Fits whose optimum may lie elsewhere."""
    ends, unfinished = int((probes["at_end"] != "").sum()), int((~probes["converged"].astype(bool)).sum())
    text = f"In {ends} of {len(probes)} fits the chosen lambda is at an end of its range. " if ends else ""
    return text + (f"In {unfinished} of {len(probes)} the solver stopped early at some lambda. " if unfinished else "")
