"""Parts of the report's page: tables, lists and figures as HTML."""

from __future__ import annotations

import re
from html import escape

from losstune.analysis.figures import Drawn
from losstune.analysis.glossary import TERMS, term_of
from losstune.analysis.tabletext import Table

SHOWN = 8
DENSE = 7  # columns from which a table is set smaller, to fit the page


def anchor(term: str) -> str:
    """The id of a term's definition on the page."""
    return "term-" + re.sub(r"[^a-z0-9]+", "-", term.lower()).strip("-")


def _heading(name: str) -> str:
    """A column's heading, which leads to its definition where it is a technical term."""
    term = term_of(name)
    return f'<a href="#{anchor(term)}">{escape(name)}</a>' if term in TERMS else escape(name)


def html_table(table: Table) -> str:
    """A table in a box of its own that scrolls sideways; bold rows are tinted."""
    side = [' class="text"' if place in table.text else "" for place in range(len(table.columns))]
    heads = "".join(f"<th{kind}>{_heading(name)}</th>" for kind, name in zip(side, table.columns, strict=True))
    rows = []
    for row, cells in enumerate(table.rows):
        shown = [f"<b>{escape(cell)}</b>" if table.is_bold(row, place) else escape(cell)
                 for place, cell in enumerate(cells)]  # fmt: skip
        body = "".join(f"<td{kind}>{cell}</td>" for kind, cell in zip(side, shown, strict=True))
        rows.append(f"<tr{' class=best' * (row in table.bold)}>{body}</tr>")
    dense = ' class="dense"' if len(table.columns) >= DENSE else ""
    return (f'<div class="scroll" tabindex="0"><table{dense}><caption><span>{escape(table.caption)}</span></caption>\n'
            f"<thead><tr>{heads}</tr></thead>\n<tbody>" + "\n".join(rows) + "</tbody></table></div>\n")  # fmt: skip


def figures(drawn: list[Drawn], group: str, layout: str) -> str:
    shown = "".join(f"<figure>{one.inline()}</figure>\n" for one in drawn if one.group == group)
    return f'<div class="figures {layout}">\n{shown}</div>\n' if shown else ""


def listing(sentences: list[str], shown: int = SHOWN) -> str:
    """Sentences as a list; all but the first few fold away."""
    items = [f"<li>{escape(sentence)}</li>" for sentence in sentences]
    text = f'<ul class="findings">{"".join(items[:shown])}</ul>'
    if len(items) > shown:
        text += (f"<details><summary>{len(items) - shown} more</summary>"
                 f'<ul class="findings">{"".join(items[shown:])}</ul></details>')  # fmt: skip
    return text + "\n"


def sentence(text: str) -> str:
    """The text with a full stop, and a capital unless it starts with the name of a loss."""
    text = text if text.endswith((".", "!", "?")) else f"{text}."
    return text if "_" in text.split(maxsplit=1)[0] else text[0].upper() + text[1:]
