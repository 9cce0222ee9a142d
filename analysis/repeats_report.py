"""The report of a study that repeats its search: page, tables, figures and verdict over the searches."""

from __future__ import annotations

import json
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd

from losstune.analysis.markup import html_table, listing
from losstune.analysis.repeats import Repeated, members_of, repeats_verdict
from losstune.analysis.report import write_figures, write_file, write_texts
from losstune.analysis.results import Results, difference_unit, head, metric_name, show, show_parameters
from losstune.analysis.sections import SECTIONS, words_of
from losstune.analysis.tables import (
    baseline_table,
    budget_table,
    improvement_table,
    other_metrics_table,
    pairs_table,
    results_frame,
    results_table,
)
from losstune.analysis.tabletext import Table
from losstune.analysis.variance_components import Components

MOST_SENTENCES = 12
OF_ONE_SEARCH = ("hyperparameters", "epochs")  # columns of table.csv that each search has its own of


def write_repeats_report(repeated: Repeated, folder: str | Path) -> Path:
    """Write the report over the searches into folder (made if missing) and return the path of report.html.

    report.html, verdict.json (see `repeats_verdict`), figures and tables as `write_report`'s; table.csv: a row per
    loss, with n_searches, and n_seeds of each search; runs.csv: a row per confirmed member, with its search from 1 on.
    """
    # matplotlib takes a second to import, and verdicts and tables do not need it.
    from losstune.analysis.figures import draw_all
    from losstune.analysis.page import page

    folder, results = Path(folder), repeated.results
    frame, verdict = results_frame(results), repeats_verdict(repeated)
    tables, drawn = _tables(repeated, frame, verdict), draw_all(results, frame)
    own = frame.drop(columns=list(OF_ONE_SEARCH)).rename(columns={"n_seeds": "n_searches"})
    own.insert(list(own.columns).index("n_searches") + 1, "n_seeds", repeated.seeds)
    write_file(folder / "table.csv", own.to_csv(index=False, lineterminator="\n"))
    write_file(folder / "runs.csv", _runs(repeated).to_csv(index=False, lineterminator="\n"))
    write_file(folder / "verdict.json", json.dumps(verdict, indent=2, allow_nan=False) + "\n")
    write_texts(tables, folder)
    write_figures(drawn, folder)
    study = results.study
    about = (f"{study['data']} with {study['network']}: {len(study['losses'])} losses, searched {repeated.searches} "
             f"times, each time on a split of its own and confirmed with {repeated.seeds} fresh seeds")  # fmt: skip
    return write_file(folder / "report.html", page(results, verdict, tables, drawn, REPEATED_SECTIONS, about))


def _runs(repeated: Repeated) -> pd.DataFrame:
    runs, metrics = members_of(repeated.parts), repeated.results.metrics()
    order = {loss: place for place, loss in enumerate(repeated.results.study["losses"])}
    runs = runs.sort_values(["loss", "search", "seed"], key=lambda c: c.map(order) if c.name == "loss" else c)
    rest = [name for name in runs.columns if name.startswith("validation_")]
    return runs[["loss", "search", "seed", *metrics, *rest, "epochs", "state", "reason"]]


def _tables(repeated: Repeated, frame: pd.DataFrame, verdict: dict[str, Any]) -> list[Table]:
    results = repeated.results
    tables = [results_table(results, frame), baseline_table(results, frame), pairs_table(verdict, results.rows),
              improvement_table(verdict, results.rows), variance_table(repeated),
              difference_variance_table(repeated), choices_table(repeated),
              other_metrics_table(results, frame), budget_table(results)]  # fmt: skip
    return [table for table in tables if table is not None]


def variance_table(repeated: Repeated) -> Table:
    """The variance components of each loss's scores."""
    metric = repeated.results.metric
    rows = [[loss, f"{show(found.mean, metric)} ± {show(found.standard_error, metric)}", *_cells(found, metric)]
            for loss, found in repeated.losses_components().items()]  # fmt: skip
    columns = ["loss", f"test {head(metric)}", *_columns(repeated)]
    return Table("variance", _caption(repeated, "each loss's score"), columns, rows)


def difference_variance_table(repeated: Repeated) -> Table | None:
    """The variance components of the difference of each pair of losses; None for one loss."""
    metric = repeated.results.metric
    rows = [[*pair, f"{show(found.mean, metric, sign=True)} ± {show(found.standard_error, metric)}",
             *_cells(found, metric)] for pair, found in repeated.pairs_components().items()]  # fmt: skip
    columns = ["better mean", "worse mean", "difference", *_columns(repeated)]
    caption = _caption(repeated, "the difference of each pair of losses, seed by seed")
    return Table("variance_differences", caption, columns, rows, text=frozenset({0, 1})) if rows else None


def _caption(repeated: Repeated, what: str) -> str:
    metric = repeated.results.metric
    unit = f", in {difference_unit(metric).strip()}" if difference_unit(metric) else ""
    return (f"Standard deviations of {what} between searches and between seeds of one search; the search's share of "
            "the variance of a search's mean, with its 95% interval; and the standard error to be expected with twice "
            f"the searches, or twice the seeds in each{unit}.")  # fmt: skip


def _columns(repeated: Repeated) -> list[str]:
    return ["between searches", "between seeds", "search's share", "95% interval",
            f"error, {2 * repeated.searches} searches", f"error, {2 * repeated.seeds} seeds"]  # fmt: skip


def _cells(found: Components, metric: str) -> list[str]:
    if found.between is None:
        return ["not measured"] * 6
    if found.share is None:
        return [show(found.between, metric), show(found.within, metric), *["none"] * 4]
    errors = found.error_with(searches=2 * found.searches), found.error_with(seeds=2 * found.seeds)
    return [show(found.between, metric), show(found.within, metric), f"{found.share:.0%}",
            f"{found.share_low:.0%} to {found.share_high:.0%}", *(show(error, metric) for error in errors)]  # fmt: skip


def choices_table(repeated: Repeated) -> Table:
    """What each search chose for each loss, and how it was confirmed."""
    metric, rows = repeated.results.metric, []
    for loss in repeated.results.study["losses"]:
        for number, part in enumerate(repeated.parts, start=1):
            chosen = part.chosen(loss) or {"params": {}, "best_epoch": "", "score": float("nan")}
            test = part.members.loc[part.members["loss"] == loss, metric].mean()
            rows.append([loss, str(number), part.study["name"], show_parameters(chosen["params"]) or "none trained",
                         str(chosen["best_epoch"]), show(chosen["score"], metric), show(test, metric)])  # fmt: skip
    columns = ["loss", "search", "its study", "configuration", "epochs", f"validation {head(metric)}",
               f"test {head(metric)}"]  # fmt: skip
    caption = "What each search chose. Each has a folder, a report and a winner of its own, under its study's name."
    return Table("choices", caption, columns, rows, text=frozenset({0, 2, 3}))


def _variance(results: Results, verdict: dict, tables: dict, drawn: list) -> str:
    body = listing(verdict["searches"]["sentences"], MOST_SENTENCES) + html_table(tables["variance"])
    if "variance_differences" in tables:
        body += f"<details><summary>Of differences</summary>{html_table(tables['variance_differences'])}</details>"
    few = ("Variances of few searches are known badly, as their intervals say. The test set is the same in all, so "
           "that what another one would change is in none of these numbers.")  # fmt: skip
    return f'{body}<p class="quiet">{escape(few)}</p>'


def _choices(results: Results, verdict: dict, tables: dict, drawn: list) -> str:
    return html_table(tables["choices"])


def _conditional(results: Results, verdict: dict, tables: dict, drawn: list) -> str:
    trained_on = "training and validation" if results.study["confirm"]["train_on"] == "all" else "the training split"
    text = (f"Every statement holds {verdict['conditional_on']}. Confirmed runs were trained on {trained_on}; the test "
            f"set has {results.study['n_test']:,} examples. The one metric that was declared is "
            f"{metric_name(verdict['metric'])}; all others are exploratory.")  # fmt: skip
    return f"<p>{escape(text)}</p>"


def _failures(results: Results, verdict: dict, tables: dict, drawn: list) -> str:
    found = [f"{one['loss']}, search {one['search']}, seed {one['seed']} (confirm): {one['reason']}"
             for one in verdict["failed_members"]]  # fmt: skip
    found += [f"{one['loss']}, search {one['search']}, trial {one['number']}: {one['reason']}"
              for one in verdict["failed_trials"]]  # fmt: skip
    return listing(found) if found else "<p>No trial and no confirmed run failed.</p>"


_OWN = {
    "conditional": [("variance", "The variance of the search", _variance),
                    ("choices", "What each search chose", _choices),
                    ("conditional", "What this depends on", _conditional)],
    "failures": [("failures", "Failures", _failures)],
}  # fmt: skip
_SHARED = ("verdict", "results", "scores", "pairs", "baseline", "paper-rule", "other-metrics", "budget")
_PARTS = [section for shared in SECTIONS for section in _OWN.get(shared[0], [shared] if shared[0] in _SHARED else [])]
REPEATED_SECTIONS = [*_PARTS, words_of(_PARTS)]
