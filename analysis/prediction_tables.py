"""The report's tables of what the recorded predictions say, from calibration to other test sets."""

from __future__ import annotations

import numpy as np
import pandas as pd

from losstune.analysis.agreement import FORMS, agreement_of_losses
from losstune.analysis.looks import level_of
from losstune.analysis.predicted import Predicted
from losstune.analysis.results import Results, difference_unit, metric_name, show, show_p
from losstune.analysis.tables import bounds, of_seeds
from losstune.analysis.tabletext import Table
from losstune.analysis.wording import listed, odd_intervals

FORM_TEXTS = {
    "same_class": "Share of test examples (%) for which two models of different seeds predict the same class",
    "same_outcome": "Share of test examples (%) that two models of different seeds both get right, or both get wrong",
    "same_error": "Of the test examples that two models of different seeds both get wrong, the share (%) for which "
                  "they predict the same class",
}  # fmt: skip
MOST_CLASSES = 20  # rows of the table of classes
LEAST_VOTERS = 3


def prediction_tables(results: Results, found: Predicted) -> list[Table]:
    """Every table of measures of the predictions."""
    losses = list(found.members["loss"].unique())
    tables = [*calibration_tables(found), ensembles_table(found), mixed_table(found)]
    if len(found.agreement.models) > 1:
        tables += agreement_tables(agreement_of_losses(found.agreement), losses, results.study["num_classes"])
    tables.append(voted_table(found))
    tables += [classes_table(found, level_of(results)), crossed_table(found)]
    return [table for table in tables if table is not None]


def mean_of(values: pd.Series, metric: str) -> str:
    """Mean and standard error of a measure over seeds, and of how many where not of all; "not defined" where it is for
    none."""
    few, values = of_seeds(values), values.dropna()
    if values.empty:
        return "not defined"
    error = f" ± {show(values.sem(), metric)}" if len(values) > 1 else ""
    return show(values.mean(), metric) + error + few


def calibration_tables(found: Predicted) -> list[Table]:
    """NLL and Brier score, and calibration errors with their intervals, before and after temperature scaling."""
    rows: dict[str, list[list[str]]] = {"probabilities": [], "calibration": []}
    for loss, own in found.members.groupby("loss", sort=False):
        scores = [mean_of(own[prefix + name], name) for name in ("nll", "brier") for prefix in ("", "scaled_")]
        errors = [_with_interval(own[prefix + name], "ece", found.intervals.get((str(loss), prefix + name)))
                  for name in ("ece", "adaptive_ece") for prefix in ("", "scaled_")]  # fmt: skip
        rows["probabilities"].append([str(loss), *scores, _temperatures(own)])
        rows["calibration"].append([str(loss), *errors])
    scaled = "scaled: after one temperature per seed, fitted on the validation split."
    text = f"Probabilities on the test set, mean ± standard error over seeds; {scaled}"
    reasons = [reason for reason in found.members["temperature_reason"].dropna().unique()]
    if reasons:
        text += f" No temperature where {'; '.join(reasons)}."
    errors_text = f"Calibration errors on the test set, mean over seeds; {scaled}"
    if found.intervals:
        errors_text += (" In brackets: an interval for the error on endlessly many examples, over seeds and test "
                        "examples. It reaches further down than up: few examples make errors too large.")  # fmt: skip
    return [
        Table("probabilities", text, ["loss", "NLL", "NLL scaled", "Brier", "Brier scaled", "temperature"],
              rows["probabilities"]),
        Table("calibration", errors_text, ["loss", "ECE (%)", "ECE scaled (%)", "adaptive ECE (%)",
                                           "adaptive ECE scaled (%)"], rows["calibration"]),
    ]  # fmt: skip


def _with_interval(values: pd.Series, metric: str, ends: tuple[float, float] | None) -> str:
    """The mean over seeds with its interval, or its standard error where there is none."""
    if ends is None:
        return mean_of(values, metric)
    return f"{show(values.mean(), metric)} ({show(ends[0], metric)} to {show(ends[1], metric)}){of_seeds(values)}"


def _temperatures(own: pd.DataFrame) -> str:
    fitted = own["temperature"].dropna()
    if fitted.empty:
        return "not defined"
    low, high = f"{fitted.min():.2f}", f"{fitted.max():.2f}"
    return (low if low == high else f"{low} to {high}") + of_seeds(own["temperature"])


def ensembles_table(found: Predicted) -> Table | None:
    """All the seeds of a loss together against one of them."""
    rows = [
        [row["loss"], str(row["size"]),
         *(show(row[name], "accuracy") for name in ("member_accuracy", "vote_accuracy", "accuracy")),
         *(show(row[name], "nll") for name in ("member_nll", "nll"))]
        for row in found.ensembles.to_dict("records") if row["size"] > 1
    ]  # fmt: skip
    columns = ["loss", "members", "one member (%)", "vote (%)", "mean of probabilities (%)", "NLL of one",
               "NLL together"]  # fmt: skip
    caption = ("The confirmed seeds of a loss as one ensemble: test accuracy by majority vote and by the mean of "
               "probabilities, beside the mean of its members. One ensemble each, so its own chance is not measured.")
    return Table("ensembles", caption, columns, rows) if rows else None  # fmt: skip


def mixed_table(found: Predicted) -> Table | None:
    """Half the seeds of one loss with half those of another, beside both halves of one."""
    if found.mixed.empty:
        return None
    cells = {(row["loss_a"], row["loss_b"]): row for row in found.mixed.to_dict("records")}
    losses = list(dict.fromkeys(found.mixed["loss_a"]))
    rows = [[a, *(show((cells.get((a, b)) or cells[b, a])["vote_accuracy"], "accuracy") for b in losses)]
            for a in losses]  # fmt: skip
    caption = (f"Ensembles of {int(found.mixed['size'].iloc[0])}, half of one loss and half of another (Kornblith et "
               "al., Figure D.3): test accuracy (%) by majority vote; on the diagonal both halves are of one loss.")
    absent = [loss for loss in found.members["loss"].unique() if loss not in losses]
    caption += f" Not in it, because members of one of their halves are missing: {listed(absent)}." if absent else ""
    return Table("mixed_ensembles", caption, ["loss", *losses], rows)  # fmt: skip


def agreement_tables(means: pd.DataFrame, losses: list[str], classes: int) -> list[Table]:
    """A table for each form of agreement that is defined for some two models and says something of its own."""
    if classes > 2:
        return [agreement_table(means, losses, form) for form in FORMS if means[form].notna().any()]
    why = (" Of two classes, models that are both wrong predict the same one: other forms of agreement say nothing "
           "beyond this.")  # fmt: skip
    return [agreement_table(means, losses, "same_class", why)] if means["same_class"].notna().any() else []


def agreement_table(means: pd.DataFrame, losses: list[str], form: str, note: str = "") -> Table:
    """Losses by losses: how often models of different seeds agree."""
    cells = {(row["loss_a"], row["loss_b"]): row[form] for row in means.to_dict("records")}
    rows = [[a, *(show(cells.get((a, b), cells.get((b, a), np.nan)), "accuracy") for b in losses)] for a in losses]
    caption = f"{FORM_TEXTS[form]}; on the diagonal two seeds of one loss.{note}"
    return Table(f"agreement_{form}", caption, ["loss", *losses], rows)


def voted_table(found: Predicted) -> Table | None:
    """Losses by losses: how often the majorities of their seeds agree; None where two seeds would be no majority."""
    if len(found.voted) < 2 or found.ensembles["size"].min() < LEAST_VOTERS:
        return None
    rows = [[loss, *(show(share, "accuracy") for share in found.voted.loc[loss])] for loss in found.voted.index]
    caption = ("Share of test examples (%) on which the seeds of two losses vote for the same class (Kornblith et al., "
               "Figure D.2). Above the agreement of single models: what is left is what the losses change.")
    return Table("agreement_ensembles", caption, ["loss", *found.voted.index], rows)  # fmt: skip


def classes_table(found: Predicted, alpha: float) -> Table | None:
    """The largest differences in recall between a loss and the best mean, class by class; exploratory."""
    if found.class_differences is None or not found.class_differences["differs"].any():
        return None
    clear = found.class_differences[found.class_differences["differs"]]
    shown = clear.reindex(clear["difference"].abs().sort_values(ascending=False, kind="stable").index)
    rows = [[row["loss"], str(row["class"]), str(row["examples"]), show(row["difference"], "accuracy", sign=True),
             bounds(row["ci_low"], row["ci_high"], "accuracy"),
             show_p(row["p"])] for row in shown.head(MOST_CLASSES).to_dict("records")]  # fmt: skip
    caption = ("Classes that a loss recognizes more or less often than the best mean does, by more than chance over "
               "seeds explains (adjusted over all classes and losses). Exploratory: another test set would move it.")
    if len(shown) > MOST_CLASSES:
        caption += f" The {MOST_CLASSES} largest of {len(shown)}."
    ends = shown[["ci_low", "ci_high", "p"]].head(MOST_CLASSES).to_numpy()
    caption += "".join(f" {text}" for text in odd_intervals(ends, alpha))
    return Table("classes", caption, ["loss", "class", "test examples", "recall (points)", "interval", "p"], rows)


def crossed_table(found: Predicted) -> Table | None:
    """Each loss against the best mean for new seeds and new test examples, and what the variance comes from."""
    if found.crossed is None:
        return None
    first = found.crossed["loss_a"].iloc[0]
    own = found.crossed[found.crossed["loss_a"] == first]
    rows = [[row["loss_b"], show(-row["difference"], found.of, sign=True),
             bounds(-row["ci_high"], -row["ci_low"], found.of),
             *(_share(row[f"{part}_share"]) for part in ("seeds", "examples", "interaction"))]
            for row in own.to_dict("records")]  # fmt: skip
    unit = difference_unit(found.of).strip() or "nats, positive is better"
    caption = (f"Difference in {metric_name(found.of)} to {first} that would hold for other seeds and other "
               "test examples of the same kind: simultaneous intervals of a crossed bootstrap; and the share of the "
               "variance of the difference that comes from seeds, from examples, and from both together.")  # fmt: skip
    if found.crossed_without:
        caption += (f" Not in it: {'; '.join(found.crossed_without)}. A seed that failed has no predictions, whereas "
                    "the results count it as the constant predictor.")  # fmt: skip
    columns = ["loss", f"to {first} ({unit})", "interval", "from seeds (%)", "from examples (%)", "from both (%)"]
    return Table("test_set", caption, columns, rows)


def _share(value: float) -> str:
    return "" if np.isnan(value) else f"{100 * value:.0f}"
