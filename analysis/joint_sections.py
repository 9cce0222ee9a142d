"""The page of the report over several studies."""

from __future__ import annotations

from html import escape
from typing import Any
from urllib.parse import quote

from losstune.analysis.figures import Drawn
from losstune.analysis.markup import figures, html_table, listing, sentence
from losstune.analysis.page import document
from losstune.analysis.ranking import DEFAULT, MODES, PAPER_MODES
from losstune.analysis.results import metric_name, show_p
from losstune.analysis.sections import words_used
from losstune.analysis.tabletext import Table
from losstune.analysis.wording import listed

PAPER = "Paper mode"  # how the sentences on them begin
FEW = 3  # panels
MOST_NAMES = 4  # of studies, in the line below the title


def joint_page(
    verdict: dict[str, Any], tables: list[Table], drawn: list[Drawn], links: dict[str, str | None]
) -> str:
    """The whole page. verdict: `joint_verdict`'s; links: study -> where its own report is, or None, relative to the
    page.
    """
    by_name = {table.name: table for table in tables}
    parts = [
        ("verdict", "Verdict", _verdict(verdict)),
        ("ranks", "Losses over all data sets", html_table(by_name["ranks"])),
        ("diagram", "Critical-difference diagram", _diagram(verdict, drawn)),
        ("pairs", "Pair by pair", _pairs(verdict, by_name)),
        ("paper-modes", "The papers' tests", _paper_modes(verdict, by_name, drawn)),
        ("profile", "Performance profile", _profile(verdict, drawn)),
        ("distribution", "Score distribution", _distribution(verdict, drawn)),
        ("studies", "Study by study", _studies(by_name, links)),
    ]
    names = [study["block"] for study in verdict["studies"]]
    more = len(names) - MOST_NAMES
    named = names if more <= 1 else [*names[:MOST_NAMES], f"{more} others"]
    about = (f"{listed(named)}: {len(verdict['losses'])} losses that all of them have, by "
             f"{metric_name(verdict['metric'])}")  # fmt: skip
    words = words_used(" ".join(heading + body for _, heading, body in parts))
    return document(f"{len(names)} studies: which loss?", about, [*parts, ("words", "Words", words)])


def _verdict(verdict: dict) -> str:
    best = "".join(f'<li class="best">{escape(loss)}</li>' for loss in verdict["best_set"])
    sets = len(verdict["datasets"])
    chips = [f"{sets} data set{'s' * (sets > 1)}", f"{len(verdict['studies'])} studies", f"alpha {verdict['alpha']:g}",
             f"metric: {metric_name(verdict['metric'])}"]  # fmt: skip
    first, _, rest = verdict["headline"].partition(". ")
    warnings = "".join(f'<p class="warn">{escape(sentence(text))}</p>' for text in verdict["warnings"])
    return (f'<p class="headline">{escape(first.removesuffix("."))}.</p><p class="gain">{escape(rest)}</p>\n'
            f'<ul class="chips">{best}{"".join(f"<li>{escape(chip)}</li>" for chip in chips)}</ul>\n{warnings}'
            f'<p class="quiet">This holds {escape(verdict["conditional_on"])}.</p>\n')  # fmt: skip


def _diagram(verdict: dict, drawn: list[Drawn]) -> str:
    """The default test's."""
    if not verdict["pairs"]:
        return ""
    key = ('<ul class="keys"><li><i class="full"></i>in the best set</li><li>bar: no two of the losses with a dot on '
           "it are separated</li></ul>")  # fmt: skip
    text = (f"{verdict['method']}. Each pair is tested by itself, so that a loss whose rank lies between those of two "
            "others need not be on their bar.")  # fmt: skip
    return f"{key}{figures(drawn, 'ranks', 'diagram')}<p class=\"quiet\">{escape(text)}</p>"


def _pairs(verdict: dict, tables: dict[str, Table]) -> str:
    if not verdict["pairs"]:
        return ""
    said = [text for text in verdict["sentences"] if not text.startswith(PAPER)]
    if not any(pair[DEFAULT] for pair in verdict["pairs"]):
        said = ["No pair of losses is separated.", *said]
    return f"{listing(said)}<details><summary>All pairs as a table</summary>{html_table(tables['pairs'])}</details>"


def _paper_modes(verdict: dict, tables: dict[str, Table], drawn: list[Drawn]) -> str:
    """Their diagrams, their errors, and what turns over without a third loss."""
    if not verdict["pairs"]:
        return ""
    shown = ""
    for mode in PAPER_MODES:
        title = MODES[mode].partition(";")[0].replace("paper mode", PAPER)
        shown += f"<h3>{escape(title)}</h3>{figures(drawn, mode, 'diagram')}"
    text = "For comparison with published diagrams; the verdict does not rest on them. Blue: the best set by the "
    text += "default test. "
    text += _friedman(verdict["friedman"])
    said = [text for text in verdict["sentences"] if text.startswith(PAPER)]
    summary = "<summary>Their findings, and what each hangs on</summary>"
    folded = f"<details>{summary}{html_table(tables['stability'])}</details>"
    return f"<p>{escape(text)}</p>{listing(said)}{shown}{folded}"


def _friedman(found: dict | None) -> str:
    """Friedman's test in a sentence; found: `ranking.friedman`'s, None for two losses."""
    if found is None:
        return "Friedman's test is not made for two losses."
    p, f = (f"p = {show_p(found[name])}".replace("= <", "<") for name in ("p", "p_f"))
    value = "infinite" if found["f"] is None else f"{found['f']:.2f}"
    return f"Friedman's test: chi2 = {found['chi2']:.2f}, {p}; Iman and Davenport's F = {value}, {f}."


def _profile(verdict: dict, drawn: list[Drawn]) -> str:
    shares = metric_name(verdict["metric"]) if "accuracy" in verdict["metric"] else ""
    what = f"errors, 1 - {shares}" if shares else f"{metric_name(verdict['metric'])}, as it is"
    text = (f"Dolan and More's: the share of data sets on which a loss comes within each ratio of the best one, of "
            f"{what}; the other losses in grey. At ratio 1 is the share of data sets that it wins.")  # fmt: skip
    panels = figures(drawn, "profile", _layout(verdict))
    return panels and f'{panels}<p class="quiet">{escape(text)}</p>'


def _layout(verdict: dict) -> str:
    """Of small multiples: a few panels would be huge over the page's full width."""
    return "full" if len(verdict["losses"]) > FEW else "diagram"


def _distribution(verdict: dict, drawn: list[Drawn]) -> str:
    text = ("The share of runs that are better than each score, all studies weighing the same, with a pointwise 95% "
            "bootstrap interval over seeds; the other losses in grey. It is no performance profile: scores are not "
            "compared with the best loss of their study.")  # fmt: skip
    panels = figures(drawn, "distribution", _layout(verdict))
    return panels and f'{panels}<p class="quiet">{escape(text)}</p>'


def _studies(tables: dict[str, Table], links: dict[str, str | None]) -> str:
    own = ", ".join(f'<a href="{escape(quote(link))}">{escape(block)}</a>' for block, link in links.items() if link)
    own = own and f"<p>Each study's own report: {own}.</p>"
    missing = [block for block, link in links.items() if not link]
    lacking = f"<p class=\"quiet\">No report yet: {escape(listed(missing))}.</p>" if missing else ""
    return f"{html_table(tables['means'])}{html_table(tables['studies'])}{own}{lacking}"
