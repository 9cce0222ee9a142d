"""Everything in a study's report folder, but winner.yaml: page, tables, figures, verdict."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from losstune.analysis.predicted import measure_predictions
from losstune.analysis.prediction_tables import prediction_tables
from losstune.analysis.representation_tables import representation_tables
from losstune.analysis.represented import measure_features
from losstune.analysis.results import Results
from losstune.analysis.robustness import measure_robustness
from losstune.analysis.robustness_tables import robustness_tables, transfer_table_of
from losstune.analysis.search_honesty import search_honesty, sentences
from losstune.analysis.tables import report_tables, results_frame, runs_frame
from losstune.analysis.tabletext import Table
from losstune.analysis.training_curves import training_curves, training_tables
from losstune.analysis.transferred import PROBE_COLUMNS, measure_transfer
from losstune.analysis.verdict import make_verdict

if TYPE_CHECKING:
    from losstune.analysis.figures import Drawn


def write_report(results: Results, folder: str | Path) -> Path:
    """Write the report of a study into folder (made if missing) and return the path of report.html.

    report.html (self-contained), table.csv, runs.csv, prediction_measures.csv and feature_measures.csv (a row per
    confirmed member, of features one per split), transfer.csv where features of other data are kept, verdict.json,
    figures/*.svg and *.pdf, tables/*.csv, *.md and *.tex. The same results give the same bytes. Each file is replaced
    as a whole; an interruption leaves no half-written one. What an earlier report wrote and this one does not goes.
    """
    # matplotlib takes a second to import, and verdicts and tables do not need it.
    from losstune.analysis.figures import draw_all
    from losstune.analysis.page import page

    folder = Path(folder)
    frame, verdict = results_frame(results), make_verdict(results)
    tables, drawn = report_tables(results, verdict), draw_all(results, frame)
    measured = _add_measures(results, verdict, tables, drawn)
    for name in ("prediction_measures", "feature_measures"):
        _write_frame(folder / f"{name}.csv", measured.get(name))
    _add_other_data(results, verdict, tables, drawn, folder / "transfer.csv")
    write_tables(results, verdict, tables, folder)
    write_figures(drawn, folder)
    return write_file(folder / "report.html", page(results, verdict, tables, drawn))


def write_figures(drawn: list[Drawn], folder: Path) -> None:
    """Write figures/*.svg and *.pdf into folder, all that there are."""
    written = []
    for figure in drawn:
        if figure.pdf is not None:
            written += [write_file(folder / "figures" / f"{figure.name}.svg", figure.svg),
                        write_file(folder / "figures" / f"{figure.name}.pdf", figure.pdf)]  # fmt: skip
    _remove_others(folder / "figures", written, (".svg", ".pdf"))


def _add_measures(results: Results, verdict: dict, tables: list[Table], drawn: list[Drawn]
                  ) -> dict[str, pd.DataFrame]:  # fmt: skip
    """Add how far the search can be trusted, and what is recorded of predictions and features; give a row per member of
    what was measured."""
    from losstune.analysis.figures import draw
    from losstune.analysis.prediction_figures import prediction_figures
    from losstune.analysis.representation_figures import representation_figures
    from losstune.analysis.search_figures import search_figures
    from losstune.analysis.training_curve_figures import training_curve_figures

    search = search_honesty(results)
    drawn += draw(search_figures(results, search))
    # The curves are in the figure; a verdict over thousands of trials would be megabytes of them.
    verdict["search"] = {name: value for name, value in search.items() if name != "curves"}
    verdict["search"]["sentences"] = sentences(search, results.metric)
    predicted, represented = measure_predictions(results), measure_features(results)
    left_out, members = [], {}
    verdict["left_out_of_measures"] = left_out
    left_out += _all_unread(results, "predictions", predicted) + _all_unread(results, "features", represented)
    if predicted is not None:
        tables += prediction_tables(results, predicted)
        drawn += draw(prediction_figures(predicted))
        left_out += predicted.left_out
        members["prediction_measures"] = predicted.members
    if represented is not None:
        tables += representation_tables(represented)
        drawn += draw(representation_figures(represented))
        left_out += represented.left_out
        members["feature_measures"] = represented.members
    curves = training_curves(results)
    tables += training_tables(curves)
    drawn += draw(training_curve_figures(curves))
    return members


def _all_unread(results: Results, kind: str, measured: object) -> list[str]:
    """Why there are no measures of what is recorded, predictions or features, where nothing of it can be read."""
    recorded, reasons = getattr(results, kind), []
    if measured is not None or not recorded:
        return []
    for _ in results.readable(recorded, reasons):
        pass
    why = f": {reasons[0]}" if reasons else ""
    return [f"nothing is measured of {kind}: those of all {len(recorded)} confirmed members are no good{why}"]


def _add_other_data(
    results: Results, verdict: dict, tables: list[Table], drawn: list[Drawn], probes: Path
) -> None:  # fmt: skip
    """Add what members make of corrupted and shifted test sets, and of other data sets, where it was recorded.

    probes: where what was learned of the latter is kept, so that another report need not learn it again.
    """
    from losstune.analysis.figures import draw
    from losstune.analysis.robustness_figures import robustness_figures

    left_out: list[str] = []
    robust = measure_robustness(results)
    if robust is not None:
        tables += robustness_tables(results, robust)
        drawn += draw(robustness_figures(robust))
        left_out += robust.left_out
    transferred = measure_transfer(results, _known_probes(probes))
    if transferred is not None:
        write_file(probes, transferred.probes.to_csv(index=False, lineterminator="\n"))
        tables.append(transfer_table_of(results, transferred))
        left_out += transferred.left_out
    if left_out:
        verdict["left_out_of_measures"] = [*verdict.get("left_out_of_measures", []), *left_out]


def _known_probes(path: Path) -> pd.DataFrame | None:
    """What an earlier report kept; None where there is nothing, or something else."""
    if not path.is_file():
        return None
    try:
        found = pd.read_csv(path, keep_default_na=False, na_values={"accuracy": "", "penalty": ""})
    except ValueError:  # which pandas' own errors are
        return None
    return found if set(PROBE_COLUMNS) <= set(found.columns) else None


def write_tables(results: Results, verdict: dict, tables: list[Table], folder: str | Path) -> None:
    """Write table.csv, runs.csv, verdict.json and tables/*.csv, *.md and *.tex into folder; needs no matplotlib.

    training_measures.csv too, a row per seed, epoch and measure, where something was followed over training.
    """
    folder = Path(folder)
    write_file(folder / "table.csv", results_frame(results).to_csv(index=False, lineterminator="\n"))
    write_file(folder / "runs.csv", runs_frame(results).to_csv(index=False, lineterminator="\n"))
    _write_frame(folder / "training_measures.csv", results.training_measures)
    write_file(folder / "verdict.json", json.dumps(verdict, indent=2, allow_nan=False) + "\n")
    write_texts(tables, folder)


def write_texts(tables: list[Table], folder: Path) -> None:
    """Write tables/*.csv, *.md and *.tex into folder, all that there are."""
    texts = {f"{table.name}.{kind}": text for table in tables for kind, text in
             (("csv", table.to_csv()), ("md", table.to_markdown()), ("tex", table.to_latex()))}  # fmt: skip
    written = [write_file(folder / "tables" / name, text) for name, text in texts.items()]
    _remove_others(folder / "tables", written, (".csv", ".md", ".tex"))


def _write_frame(path: Path, frame: pd.DataFrame | None) -> None:
    """Write a table with a row per member; where there is none, nothing stays of an earlier report's."""
    if frame is None or frame.empty:
        path.unlink(missing_ok=True)
    else:
        write_file(path, frame.to_csv(index=False, lineterminator="\n"))


def _remove_others(folder: Path, written: list[Path], suffixes: tuple[str, ...]) -> None:
    """Remove what an earlier report wrote and this one does not."""
    for path in folder.glob("*"):
        if path.suffix in suffixes and path not in written:
            path.unlink(missing_ok=True)


def write_file(path: Path, content: str | bytes) -> Path:
    """Write a file so that it is there as a whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content.encode("utf-8") if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(temporary, "wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())  # what says that a study is reported must not outlive the report
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return path
