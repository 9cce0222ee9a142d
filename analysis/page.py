"""Reports as one HTML page: sections in order, nothing loaded from elsewhere."""

from __future__ import annotations

from html import escape
from importlib.resources import files
from typing import Any

from losstune.analysis.figures import Drawn
from losstune.analysis.measure_sections import Section
from losstune.analysis.results import Results
from losstune.analysis.sections import SECTIONS, asked
from losstune.analysis.tabletext import Table

# Links within the page where a browser refuses them: in a frame of MLflow's, whose address is no file's.
SCROLL = (
    'document.addEventListener("click",e=>{const a=e.target.closest(\'a[href^="#"]\'),'
    't=a&&document.getElementById(a.getAttribute("href").slice(1));if(t){e.preventDefault();'
    'for(let d=t.closest("details");d;d=d.parentElement.closest("details"))d.open=true;t.scrollIntoView()}})'
)


def page(results: Results, verdict: dict[str, Any], tables: list[Table], drawn: list[Drawn],
         sections: list[tuple[str, str, Section]] = SECTIONS, about: str | None = None) -> str:  # fmt: skip
    """The whole page. tables and drawn: those of `report_tables` and `draw_all`. about: what is said below its title.
    """
    by_name = {table.name: table for table in tables}
    parts = [(name, title, body(results, verdict, by_name, drawn)) for name, title, body in sections]
    return document(f"{results.study['name']}: which loss?", about or _about(results), parts)


def document(title: str, about: str, parts: list[tuple[str, str, str]]) -> str:
    """A whole page: title, a line about it, and the parts as sections (id, heading, HTML), those without HTML left out.

    title, about and headings are plain text.
    """
    parts = [part for part in parts if part[2]]
    contents = "".join(f'<li><a href="#{name}">{escape(heading)}</a></li>' for name, heading, _ in parts)
    sections = "\n".join(
        f'<section id="{name}"{" class=verdict" * (name == "verdict")}><h2>{escape(heading)}</h2>\n{body}</section>'
        for name, heading, body in parts
    )
    title, css = escape(title), files("losstune.analysis").joinpath("report.css").read_text(encoding="utf-8")
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n<title>{title}</title>\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<style>\n{css}</style></head>\n'
        f"<body><main>\n<header><h1>{title}</h1><p>{escape(about)}</p>\n"
        f'<nav aria-label="contents"><ol>{contents}</ol></nav></header>\n{sections}\n</main>\n'
        f"<script>{SCROLL}</script></body></html>\n"
    )


def _about(results: Results) -> str:
    study = results.study
    losses = "1 loss" if len(study["losses"]) == 1 else f"{len(study['losses'])} losses"
    return (f"{study['data']} with {study['network']}: {losses}, {asked(results)} "
            f"configurations each, confirmed with {study['confirm']['seeds']} fresh "
            f"seed{'s' * (study['confirm']['seeds'] != 1)}")  # fmt: skip
