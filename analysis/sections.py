"""The sections of the report's page on the verdict, the search and how it ran."""

from __future__ import annotations

import re
from html import escape, unescape
from typing import Any

from losstune.analysis.glossary import TERMS
from losstune.analysis.markup import anchor, figures, html_table, listing, sentence
from losstune.analysis.measure_sections import MEASURES, Section
from losstune.analysis.results import Results, difference_unit, factor, metric_name, show, with_minus
from losstune.analysis.wording import (
    audit_sentence,
    detectable_sentence,
    edge_sentence,
    listed,
    seeds_of,
    separated_sentence,
    undecided_sentence,
)

MOST_EDGES = 3  # sentences on ranges that were too narrow
MOST_SENTENCES = 12
MOST_FAILED = 10  # numbers of seeds or trials in one sentence


def asked(results: Results) -> str:
    """How many configurations each loss had: fewer than allowed where a grid is small or the hours were up."""
    most, budget = results.study["search"]["trials"], results.budget
    asked = budget.loc[budget["phase"] == "search", "asked"]
    return str(most) if (asked == most).all() else f"up to {most}"


def _verdict(results: Results, verdict: dict, tables: dict, drawn: list) -> str:
    best = "".join(f'<li class="best">{escape(loss)}</li>' for loss in verdict["best_set"])
    rows = f"{seeds_of(verdict)} {'paired ' * bool(verdict['paired'])}{results.rows}"
    chips = [*([rows] if verdict["method"] else []), f"alpha {verdict['alpha']:g}",
             f"metric: {metric_name(verdict['metric'])}"]  # fmt: skip
    chips = best + "".join(f"<li>{escape(chip)}</li>" for chip in chips)
    warnings = "".join(f'<p class="warn">{escape(sentence(text))}</p>' for text in _warnings(verdict))
    condition = f'<p class="quiet">This holds {escape(verdict["conditional_on"])}.</p>'
    condition += f'<p class="quiet">{escape(verdict["families"])}</p>' if verdict["families"] else ""
    first, _, rest = verdict["headline"].partition(". ")
    lines = f'<p class="headline">{escape(first.removesuffix("."))}.</p>'
    lines += f'<p class="gain">{escape(rest)}</p>' if rest else ""
    return (f'{lines}\n<ul class="chips">{chips}</ul>\n{warnings}'
            f"{condition if verdict['best_set'] else ''}\n")  # fmt: skip


def _warnings(verdict: dict) -> list[str]:
    """Notes and warnings; where many ranges were too narrow, one sentence for them all, the table has each."""
    edges, narrow = verdict["edges"], list(map(edge_sentence, verdict["edges"]))
    if len(edges) <= MOST_EDGES:
        return [*verdict["notes"], *verdict["warnings"]]
    names = [f"{edge['loss']}'s {edge['hyperparameter']}" for edge in edges]
    others = [text for text in verdict["warnings"] if text not in narrow]
    return [*verdict["notes"], *others, f"{len(edges)} ranges too narrow, the chosen value is at an end of each: "
            f"{listed(names)}; the table of chosen hyperparameters has what to try"]  # fmt: skip


def _results(results: Results, verdict: dict, tables: dict, drawn: list) -> str:
    return html_table(tables["results"])


def _scores(results: Results, verdict: dict, tables: dict, drawn: list) -> str:
    best = '<li><i class="full"></i>in the best set</li><li><i></i>not in it</li>' if verdict["method"] else ""
    shown = verdict["rope"] and verdict["method"]
    rope = "<li>grey band: the margin of practical equivalence</li>" if shown else ""
    key = f'<ul class="keys">{best}<li>small points: {results.rows}</li>{rope}</ul>'
    return key + figures(drawn, "score", "wide")


def _pairs(results: Results, verdict: dict, tables: dict, drawn: list) -> str:
    if "pairs" not in tables:
        return ""
    metric, alpha = verdict["metric"], verdict["alpha"]
    seeds = verdict["n_seeds"] if verdict["looks"] else None
    separated = [separated_sentence(pair, metric, alpha, seeds) for pair in verdict["separated_pairs"]]
    best = verdict["best_set"]
    leading = [p for p in verdict["undecided_pairs"] if set(p["losses"]) <= set(best)]
    rest = [p for p in verdict["undecided_pairs"] if p not in leading]
    body = "<h3>Separated</h3>" + (listing(separated) if separated else "<p>No pair of losses is separated.</p>")
    if leading:
        body += "<h3>Undecided, among the best set</h3>" + listing(
            [undecided_sentence(pair, metric, alpha, results.rows) for pair in leading]
        )
    if rest:
        others = listing([undecided_sentence(pair, metric, alpha, results.rows) for pair in rest], len(rest))
        more = "1 more undecided pair" if len(rest) == 1 else f"{len(rest)} more undecided pairs"
        body += f"<details><summary>{more}, outside the best set</summary>{others}</details>"
    if verdict["practically_equivalent"]:
        pairs = "; ".join(listed(pair) for pair in verdict["practically_equivalent"])
        margin = f"{show(verdict['rope'], metric)}{difference_unit(metric)}"
        body += f"<p>Practically equivalent (within {margin}): {escape(pairs)}.</p>"
    about = f"{seeds_of(verdict)} {results.rows}"
    body += f"<p>{escape(detectable_sentence(verdict['detectable'], about, metric))}</p>"
    folded = f"<details><summary>All pairs as a table</summary>{html_table(tables['pairs'])}</details>"
    folded += f"<details><summary>How often one beats the other</summary>{html_table(tables['improvement'])}</details>"
    return f'{body}{folded}<p class="quiet">{escape(_method(results, verdict))}</p>\n'


def _method(results: Results, verdict: dict) -> str:
    """The test, and what of the data bears on it."""
    metric = verdict["metric"]
    facts = f"Method: {verdict['method']}."
    if "one step of the metric" in verdict["method"]:
        facts += f" One step is {factor(metric) * (results.resolution() or 0):.2g}{difference_unit(metric)}."
    if verdict["realized_correlation"] is not None:
        correlation = with_minus(f"{verdict['realized_correlation']:.2f}")
        facts += f" Mean correlation of losses over {results.rows} {correlation}."
    if verdict["largest_skew"] is not None:
        facts += f" Largest skewness of a difference {verdict['largest_skew']:.2f}."
    return facts


def _baseline(results: Results, verdict: dict, tables: dict, drawn: list) -> str:
    return html_table(tables["baseline"]) if "baseline" in tables else ""


def _paper_rule(results: Results, verdict: dict, tables: dict, drawn: list) -> str:
    rule = verdict["paper_rule"]
    if rule is None:
        return ""
    text = f"By the rule that papers often use, bold would be: {listed(rule['bold'])}. "
    more, fewer = rule["only_in_best_set"], rule["only_in_paper_rule"]
    if not more and not fewer:
        text += "That is the best set."
    if more:
        text += f"It leaves out {listed(more)}, which no loss is shown to beat. "
    if fewer:
        text += f"It keeps {listed(fewer)}, which the test above separates from a better loss."
    why = "That rule is not adjusted for the number of losses: with 9 equal ones and 8 seeds it errs 51% of the time."
    return f'<p>{escape(text)}</p><p class="quiet">{why}</p>'


def _conditional(results: Results, verdict: dict, tables: dict, drawn: list) -> str:
    study, confirm = results.study, results.study["confirm"]
    text = (
        f"Every statement holds {verdict['conditional_on']}. The split has {study['n_train']:,} training, "
        f"{study['n_validation']:,} validation and {study['n_test']:,} test examples. Confirmed runs were "
        f"trained on {'training and validation' if confirm['train_on'] == 'all' else 'the training split'}. "
        f"The one metric that was declared is {metric_name(verdict['metric'])}; all others are exploratory."
    )
    return f"<p>{escape(text)}</p>"


def _hyperparameters(results: Results, verdict: dict, tables: dict, drawn: list) -> str:
    return html_table(tables["hyperparameters"])


def _curves(results: Results, verdict: dict, tables: dict, drawn: list) -> str:
    panels = figures(drawn, "curves", "small")
    text = (f"Validation {metric_name(results.metric)} by epoch, mean over seeds; the other losses in grey. The first "
            "epochs lie outside the frame.")  # fmt: skip
    return panels and f'<p class="quiet">{escape(text)}</p>{panels}'


def _search(results: Results, verdict: dict, tables: dict, drawn: list) -> str:
    key = ('<ul class="keys"><li><i class="full"></i>full length</li><li><i></i>stopped early</li>'
           '<li><i class="ring"></i>chosen</li><li>▽ below the frame</li><li>× failed</li></ul>')  # fmt: skip
    panels = figures(drawn, "hyperparameters", "cards")
    return panels and key + panels


def _honesty(results: Results, verdict: dict, tables: dict, drawn: list) -> str:
    if not verdict.get("search"):
        return ""
    key = ('<ul class="keys"><li>line: the best so far</li><li>points: full-length trials</li><li><i class="ring"></i>'
           'chosen</li><li>thin ring: chosen after half of the configurations</li></ul>')  # fmt: skip
    panels = figures(drawn, "honesty", "full")
    return (panels and key + panels) + listing(verdict["search"]["sentences"], MOST_SENTENCES)


def _budget(results: Results, verdict: dict, tables: dict, drawn: list) -> str:
    # Confirmed runs last as long as their loss's chosen epochs, so that only the search is meant to cost the same.
    alarming = [row for row in verdict["budget_audit"] if row["flagged"] and row["phase"] == "search"]
    alarms = "".join(f'<p class="warn">{escape(audit_sentence(row))}</p>' for row in alarming)
    audit = [audit_sentence(row) for row in verdict["budget_audit"] if row not in alarming]
    folded = f"<details><summary>The budget as a table</summary>{html_table(tables['budget'])}</details>"
    return figures(drawn, "budget", "wide") + alarms + listing(audit) + folded


def _failures(results: Results, verdict: dict, tables: dict, drawn: list) -> str:
    found = [f"{loss}: no configuration could be confirmed." for loss in verdict["unconfirmed"]]
    found += _by_reason(verdict["failed_members"], "seed", "confirm")
    found += _by_reason(verdict["failed_trials"], "number", "search")
    return listing(found) if found else "<p>No trial and no confirmed run failed.</p>"


def _by_reason(failed: list[dict], which: str, phase: str) -> list[str]:
    """A sentence for each loss and reason."""
    groups: dict[tuple[str, str], list[str]] = {}
    for one in failed:
        groups.setdefault((one["loss"], one["reason"]), []).append(f"{one[which]}")
    called = "seed" if which == "seed" else "trial"
    return [f"{loss}, {called} {own[0]} ({phase}): {reason}" if len(own) == 1
            else f"{loss}, {len(own)} {called}s, {_few(own)} ({phase}): {reason}"
            for (loss, reason), own in groups.items()]  # fmt: skip


def _few(names: list[str]) -> str:
    return listed(names if len(names) <= MOST_FAILED else [*names[: MOST_FAILED - 1], "others"])


def _other_metrics(results: Results, verdict: dict, tables: dict, drawn: list) -> str:
    return html_table(tables["other_metrics"]) if "other_metrics" in tables else ""


def words_used(page: str) -> str:
    """The terms that a page's HTML says, or that its headings lead to, with their meanings."""
    said = unescape(re.sub(r"<[^>]*>", " ", page)).lower()
    used = {term: meaning for term, meaning in TERMS.items()
            if f'#{anchor(term)}"' in page or re.search(rf"(?<!\w){re.escape(term.lower())}s?(?!\w)", said)}
    terms = "".join(f'<dt id="{anchor(term)}">{escape(term)}</dt><dd>{escape(meaning)}</dd>'
                    for term, meaning in used.items())  # fmt: skip
    return f"<details><summary>What the terms on this page mean</summary><dl>{terms}</dl></details>"


def words_of(sections: list[tuple[str, str, Section]]) -> tuple[str, str, Section]:
    """The section on the terms that these sections use."""

    def words(results: Results, verdict: dict, tables: dict, drawn: list) -> str:
        parts = (heading + body(results, verdict, tables, drawn) for _, heading, body in sections)
        return words_used(" ".join(parts))

    return "words", "Words", words


def _facts(results: Results, verdict: dict, tables: dict, drawn: list) -> str:
    search, confirm = results.study["search"], results.study["confirm"]
    facts = {
        "data": results.study["data"], "network": results.study["network"], "epochs": results.study["epochs"],
        "search": f"{search['method']}, {asked(results)} trials per loss, {_seeds(search['seeds'])} each",
        "confirm": f"{_seeds(confirm['seeds'])}, alpha {verdict['alpha']:g}", **results.facts,
    }  # fmt: skip
    rows = "".join(f"<dt>{escape(str(name))}</dt><dd>{escape(_fact(value))}</dd>" for name, value in facts.items())
    return f"<footer><dl>{rows}</dl></footer>"


def _seeds(number: int) -> str:
    return "1 seed" if number == 1 else f"{number} seeds"


def _fact(value: Any) -> str:
    return f"{value:,.4g}" if isinstance(value, float) else str(value)


_PARTS: list[tuple[str, str, Section]] = [
    ("verdict", "Verdict", _verdict),
    ("results", "Results", _results),
    ("scores", "Scores and differences", _scores),
    ("pairs", "Pair by pair", _pairs),
    ("baseline", "Against the baseline", _baseline),
    ("paper-rule", "The papers' rule", _paper_rule),
    ("conditional", "What this depends on", _conditional),
    ("other-metrics", "Other metrics", _other_metrics),
    *MEASURES,
    ("hyperparameters", "Chosen hyperparameters", _hyperparameters),
    ("curves", "Learning curves", _curves),
    ("search", "The search", _search),
    ("honesty", "How far to trust the search", _honesty),
    ("budget", "Budget", _budget),
    ("failures", "Failures", _failures),
]
SECTIONS = [*_PARTS, words_of(_PARTS), ("facts", "How it ran", _facts)]
