"""Everything in the report folder of several studies: page, verdict, tables and figures."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from losstune.analysis.joint import Joint, join, joint_verdict
from losstune.analysis.joint_tables import joint_tables
from losstune.analysis.profiles import Profile, score_distribution
from losstune.analysis.ranking import DEFAULT, MODES
from losstune.analysis.report import write_figures, write_file, write_texts
from losstune.analysis.results import Results, factor, head, metric_name
from losstune.spaces import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def write_joint_report(
    results: list[Results], folder: str | Path, pages: Sequence[str | None] = (), missing: Sequence[str] = ()
) -> Path:
    """Write the report over several studies into folder (made if missing) and return the path of report.html.

    report.html (self-contained), verdict.json (`joint_verdict`), tables/*.csv, *.md and *.tex, figures/*.svg and
    *.pdf. pages: where each study's own report.html is, relative to the folder, None where there is none. missing: see
    `join`. The same results give the same bytes. Each file is replaced as a whole. Raises InputError (one line) as
    `join` does, before anything is written.
    """
    # matplotlib takes a second to import, and what cannot be joined does not need it.
    joint, folder = join(results, missing), Path(folder)
    from losstune.analysis.figures import draw
    from losstune.analysis.joint_sections import joint_page

    verdict = joint_verdict(joint)
    tables, drawn = joint_tables(joint, verdict), draw(_figures(joint))
    write_file(folder / "verdict.json", json.dumps(verdict, indent=2, allow_nan=False) + "\n")
    write_texts(tables, folder)
    write_figures(drawn, folder)
    links = dict(zip(joint.studies.index, pages, strict=False))
    return write_file(folder / "report.html", joint_page(verdict, tables, drawn, links))


def _figures(joint: Joint) -> Iterator[tuple[str, str, str, Figure, bool]]:
    """As `figures.draw` takes them: ranks and ratios over data sets, where there are several, and scores over runs."""
    from losstune.analysis.ranking_figures import critical_difference_figure, distribution_figure, profile_figure

    if joint.ranking is not None:
        for mode, method in MODES.items():
            text, group = f"Average ranks and bars: {method}", "ranks" if mode == DEFAULT else mode
            yield f"critical_difference_{mode}", group, text, critical_difference_figure(joint.ranking, mode), True
        profile = _profile(joint)
        if profile is not None:
            text = "Share of data sets within each ratio to the best, per loss"
            yield "performance_profile", "profile", text, profile_figure(profile), True
    if joint.scores["score"].nunique() > 1:
        text = f"Share of runs with a better test {metric_name(joint.metric)} than each, per loss"
        scale, label = joint.direction * factor(joint.metric), f"test {head(joint.metric)}"
        figure = distribution_figure(score_distribution(joint.scores), scale, label)
        yield "score_distribution", "distribution", text, figure, True


def _profile(joint: Joint) -> Profile | None:
    """The performance profile over data sets; None where ratios of the metric mean nothing."""
    try:
        return joint.profile()
    except InputError:
        return None
