"""The report's tables: as frames for table.csv and runs.csv, as text for Markdown, LaTeX and the page."""

from __future__ import annotations

import numpy as np
import pandas as pd

from losstune.analysis.looks import level_of, look_at
from losstune.analysis.power import cannot_reach
from losstune.analysis.results import (
    Results,
    difference_unit,
    head,
    metric_name,
    show,
    show_p,
    show_parameter,
    show_parameters,
)
from losstune.analysis.tabletext import Table
from losstune.analysis.wording import found_against, odd_intervals, seeds_cell
from losstune.spaces import InputError


def results_frame(results: Results) -> pd.DataFrame:
    """table.csv: a row per loss, the best mean first, losses without a score last (n_seeds 0, mean NaN).

    Columns: loss; hyperparameters (one readable column), then each one in its own column (NaN where a loss has none
    of that name); epochs; n_seeds; failed (members); mean and standard_error of the study's metric (its own
    direction and unit: accuracy in [0, 1]); in_best_set; paper_rule; difference to the best mean, ci_low, ci_high, p;
    baseline_difference, baseline_ci_low, baseline_ci_high, baseline_p (with a baseline); <metric>_mean and
    <metric>_standard_error for the others. Differences say how much better: positive is better for every metric.
    """
    table = _compared(results)
    table["mean"] *= results.direction()
    failed = results.members[results.members["state"] == "failed"]["loss"].value_counts()
    front = pd.DataFrame([_configuration(results, loss) for loss in table.index], index=table.index)
    front["n_seeds"] = table.pop("n_seeds")
    front["failed"] = failed.reindex(table.index).fillna(0).astype(int)
    others = {}
    for metric in results.metrics()[1:]:
        grouped = results.members.groupby("loss")[metric]
        others[f"{metric}_mean"], others[f"{metric}_standard_error"] = grouped.mean(), grouped.sem()
    return front.join(table).join(pd.DataFrame(others)).rename_axis("loss").reset_index()


def _compared(results: Results) -> pd.DataFrame:
    """`compare`'s frame, or its columns without a test where there is nothing to compare."""
    scores = results.score_matrix()
    try:
        table = look_at(results).table.drop(columns="practically_equivalent", errors="ignore")
    except InputError:
        table = pd.DataFrame({"mean": scores.mean(), "standard_error": scores.sem(), "n_seeds": scores.count()})
        table = table.sort_values("mean", ascending=False, kind="stable")
        table[["difference", "ci_low", "ci_high", "p"]] = np.nan
        table[["in_best_set", "paper_rule"]] = False
    # A loss that was not confirmed, or for which the metric is not defined, keeps its row.
    table = table.reindex([*table.index, *(loss for loss in results.study["losses"] if loss not in table.index)])
    table["n_seeds"] = table["n_seeds"].fillna(0).astype(int)
    for rule in ("in_best_set", "paper_rule"):
        table[rule] = table[rule].fillna(False).astype(bool)
    first = ["mean", "standard_error", "n_seeds", "in_best_set", "paper_rule"]
    return table[[*first, *(name for name in table.columns if name not in first)]]


def _configuration(results: Results, loss: str) -> dict:
    """The chosen hyperparameters of a loss, readable and one by one, and its epochs."""
    chosen = results.chosen(loss)
    if chosen is None:
        return {"hyperparameters": "", "epochs": np.nan}
    return {"hyperparameters": show_parameters(chosen["params"]), **chosen["params"], "epochs": chosen["best_epoch"]}


def runs_frame(results: Results) -> pd.DataFrame:
    """runs.csv: a row per confirmed member, in the study's order of losses: loss, seed, state, epochs, metrics."""
    order = {loss: place for place, loss in enumerate(results.study["losses"])}
    runs = results.members.sort_values(["loss", "seed"], key=lambda c: c.map(order) if c.name == "loss" else c)
    metrics = results.metrics()
    rest = [name for name in runs.columns if name.startswith("validation_")]
    return runs[["loss", "seed", *metrics, *rest, "epochs", "state", "reason"]].reset_index(drop=True)


def report_tables(results: Results, verdict: dict) -> list[Table]:
    """Every table of the report, in its order."""
    frame = results_frame(results)
    tables = [
        results_table(results, frame), baseline_table(results, frame), pairs_table(verdict, results.rows),
        improvement_table(verdict, results.rows),
        other_metrics_table(results, frame), hyperparameters_table(results, frame), budget_table(results),
    ]  # fmt: skip
    return [table for table in tables if table is not None]


def results_table(results: Results, frame: pd.DataFrame) -> Table:
    """Mean, difference to the best, both rules: the main table."""
    metric = results.metric
    rows = [_result_row(results, row, best=place == 0) for place, row in enumerate(frame.to_dict("records"))]
    columns = ["loss", f"test {head(metric)}", results.rows, f"to the best{_unit(metric)}", "interval", "p", "best set",
               "paper rule", "failed"]  # fmt: skip
    if not frame["failed"].any():
        columns, rows = columns[:-1], [cells[:-1] for cells in rows]
    caption = (f"Test {metric_name(metric)} of each loss at its chosen configuration: mean ± standard error over "
               f"{results.rows}. ")  # fmt: skip
    caption += "Differences: positive is better. " * (results.direction() < 0) + "Bold: in the best set."
    caption += _odd(results, frame, "")
    return Table("results", caption, columns, rows, _best(frame), frozenset({0, 6, 7}))


def _result_row(results: Results, row: dict, best: bool) -> list[str]:
    score = mean_and_error(row["mean"], row["standard_error"], results.metric)
    lacking = "not in each search" if results.rows == "searches" else "not confirmed"
    return [row["loss"], score if row["loss"] in results.confirmed() else lacking, str(row["n_seeds"]),
            *_difference(row, "", results.metric, best), "yes" if row["in_best_set"] else "",
            "bold" if row["paper_rule"] else "", str(row["failed"] or "")]  # fmt: skip


def baseline_table(results: Results, frame: pd.DataFrame) -> Table | None:
    """Differences to the declared baseline, or None without one."""
    if "baseline_p" not in frame:
        return None
    baseline, metric = results.study["baseline"], results.metric
    findings = [found_against(row["baseline_difference"], row["baseline_p"], level_of(results))
                for row in frame.to_dict("records")]  # fmt: skip
    rows = [[row["loss"], *_difference(row, "baseline_", metric, best=row["loss"] == baseline), finding]
            for row, finding in zip(frame.to_dict("records"), findings, strict=True)]  # fmt: skip
    caption = (f"Difference to the baseline {baseline}; p adjusted over the pairs with it alone. Bold: shown to be "
               f"better than {baseline}.{_odd(results, frame, 'baseline_')}")  # fmt: skip
    bold = frozenset(place for place, finding in enumerate(findings) if finding == "better")
    columns = ["loss", f"difference{_unit(metric)}", "interval", "p", "finding"]
    return Table("baseline", caption, columns, rows, bold, frozenset({0, 4}))


def _odd(results: Results, frame: pd.DataFrame, prefix: str) -> str:
    """What the intervals of a table have to explain, to follow its caption."""
    tested = frame[[f"{prefix}ci_low", f"{prefix}ci_high", f"{prefix}p"]].dropna().to_numpy()
    planned = bool(results.study["confirm"].get("looks"))
    return "".join(f" {text}" for text in odd_intervals(tested, level_of(results), planned))


def pairs_table(verdict: dict, rows_are: str = "seeds") -> Table | None:
    """All pairs of losses, the separated first; None where nothing was compared. rows_are: see `Results.rows`."""
    metric, rows = verdict["metric"], []
    separated = [{**pair, "losses": [pair["better"], pair["worse"]]} for pair in verdict["separated_pairs"]]
    for pair in [*separated, *verdict["undecided_pairs"]]:
        low, high = pair.get("seeds_needed_low"), pair.get("seeds_needed_high")
        needed = "" if "better" in pair else seeds_cell(low, high)
        rows.append([*pair["losses"], show(pair["difference"], metric, sign=True),
                     bounds(pair["ci_low"], pair["ci_high"], metric), show_p(pair["p"]),
                     "separated" if "better" in pair else "undecided", needed])  # fmt: skip
    caption = "All pairs of losses, adjusted p and simultaneous intervals. Bold: separated."
    ends = [(pair["ci_low"], pair["ci_high"], pair["p"]) for pair in [*separated, *verdict["undecided_pairs"]]]
    caption += "".join(f" {text}" for text in odd_intervals(ends, verdict["alpha"], bool(verdict["looks"])))
    columns = ["better mean", "worse mean", f"difference{_unit(metric)}", "interval", "p", "finding",
               f"{rows_are} to decide"]  # fmt: skip
    bold = frozenset(range(len(separated)))
    return Table("pairs", caption, columns, rows, bold, frozenset({0, 1, 5}), frozenset({0, 2})) if rows else None


def improvement_table(verdict: dict, rows_are: str = "seeds") -> Table | None:
    """How often one loss beats another; None where nothing was compared. rows_are: what is paired."""
    rows = [
        [row["loss_a"], row["loss_b"], f"{100 * row['probability']:.1f}",
         *(f"{100 * row[f'{kind}_low']:.0f} to {100 * row[f'{kind}_high']:.0f}" for kind in ("alone", "ci")),
         str(row["pairs"]), row["reading"]]
        for row in verdict["improvement"]
    ]  # fmt: skip
    caption = (f"How often the first loss beats the second: share of {rows_are}, ties half, with "
               "exact intervals, of this pair alone and for all pairs together, by which it is read; meaningful: three "
               "times in four is not ruled out.")
    # At P = 1 the lower end is above 1/2 where the sign test with Bonferroni's adjustment rejects.
    fewest = min((row["pairs"] for row in verdict["improvement"]), default=1)
    unreachable = cannot_reach("sign", fewest, verdict["alpha"], len(rows) or 1, rows_are)
    caption += f" By these intervals {unreachable}." if unreachable else ""
    columns = ["loss", "against", "P(first better) (%)", "alone", "interval", rows_are, "reading"]
    return Table("improvement", caption, columns, rows, text=frozenset({0, 1, 6})) if rows else None  # fmt: skip


def other_metrics_table(results: Results, frame: pd.DataFrame) -> Table | None:
    """The metrics that were not declared: exploratory, no test."""
    others = results.metrics()[1:]
    rows = [[row["loss"], *(mean_and_error(row[f"{m}_mean"], row[f"{m}_standard_error"], m)
                            + of_seeds(results.members.loc[results.members["loss"] == row["loss"], m], results.rows)
                            for m in others)] for row in frame.to_dict("records")]  # fmt: skip
    caption = f"Other metrics on the test set, mean ± standard error over {results.rows}: exploratory, not tested."
    return Table("other_metrics", caption, ["loss", *map(head, others)], rows) if others else None


def hyperparameters_table(results: Results, frame: pd.DataFrame) -> Table:
    """The chosen configuration of each loss."""
    rows = []
    for loss in frame["loss"]:
        chosen = results.chosen(loss) or {"params": {}, "number": "", "best_epoch": "", "score": np.nan}
        params = dict(chosen["params"])
        shared = [show_parameter(params.pop(name, "")) for name in ("learning_rate", "weight_decay")]
        rows.append([loss, show_parameters(params), *shared, str(chosen["best_epoch"]), str(chosen["number"]),
                     show(chosen["score"], results.metric), _too_narrow(results, loss)])  # fmt: skip
    columns = ["loss", "own hyperparameters", "learning rate", "weight decay", "epochs", "trial",
               f"validation {head(results.metric)}", "range too narrow"]  # fmt: skip
    caption = "The chosen configuration of each loss: the best validation score among its full-length trials."
    if not results.edges:
        columns, rows = columns[:-1], [cells[:-1] for cells in rows]
    return Table("hyperparameters", caption, columns, rows, text=frozenset({0, 1, 7}))


def _too_narrow(results: Results, loss: str) -> str:
    """What lies at an end of its range, with the range to try."""
    return "; ".join(f"{edge['hyperparameter'].replace('_', ' ')}: try {edge['try'][0]:.3g} to {edge['try'][1]:.3g}"
                     for edge in results.edges if edge["loss"] == loss)  # fmt: skip


def budget_table(results: Results) -> Table:
    """What each loss was given and spent, per phase."""
    columns = ["loss", "phase", "asked", "complete", "stopped", "failed", "member_epochs", "slot_seconds"]
    rows = [[*(str(row[name]) for name in columns[:-2]), f"{row['member_epochs']:,.0f}", f"{row['slot_seconds']:,.1f}"]
            for row in results.budget.to_dict("records")]  # fmt: skip
    names = [name.replace("_", "-") for name in columns]
    caption = "Configurations (search) and seeds (confirm) per loss, how they ended, and what they cost."
    return Table("budget", caption, names, rows, text=frozenset({0, 1}))


def mean_and_error(mean: float, error: float, metric: str) -> str:
    """ "98.08 ± 0.14"; "not defined" where the loss defines no probabilities; no error for a single seed."""
    return show(mean, metric) if pd.isna(mean) or pd.isna(error) else f"{show(mean, metric)} ± {show(error, metric)}"


def of_seeds(values: pd.Series, rows_are: str = "seeds") -> str:
    """To follow what is said of values, some of which are NaN: " (7 of 8 seeds)"."""
    return f" ({values.count()} of {len(values)} {rows_are})" if 0 < values.count() < len(values) else ""


def _unit(metric: str) -> str:
    return f" ({difference_unit(metric).strip()})" if difference_unit(metric) else ""


def _best(frame: pd.DataFrame) -> frozenset[int]:
    return frozenset(np.flatnonzero(frame["in_best_set"]).tolist())


def _difference(row: dict, prefix: str, metric: str, best: bool) -> list[str]:
    """Difference, interval and p as cells; blank for a loss against itself and where nothing was tested."""
    if best or pd.isna(row[f"{prefix}difference"]):
        return ["", "", ""]
    return [show(row[f"{prefix}difference"], metric, sign=True),
            bounds(row[f"{prefix}ci_low"], row[f"{prefix}ci_high"], metric), show_p(row[f"{prefix}p"])]  # fmt: skip


def bounds(low: float | None, high: float | None, metric: str) -> str:
    """An interval as a cell: "+0.12 to +0.34"."""
    if low is None or high is None or not np.isfinite([low, high]).all():
        return "unbounded"
    if low == high:
        return "never varies"
    return f"{show(low, metric, sign=True)} to {show(high, metric, sign=True)}"
