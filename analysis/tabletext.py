"""A table as text, for CSV, Markdown and LaTeX."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, field

LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "−": "$-$", "<": "$<$", ">": "$>$",
}  # fmt: skip


@dataclass(frozen=True)
class Table:
    """One table as text.

    rows: cells as shown; bold: the rows that stand out, by setting the cells of bold_columns in bold; text: the
    columns aligned left, the others are aligned right.
    """

    name: str
    caption: str
    columns: list[str]
    rows: list[list[str]]
    bold: frozenset[int] = field(default_factory=frozenset)
    text: frozenset[int] = frozenset({0})
    bold_columns: frozenset[int] = frozenset({0, 1})

    def is_bold(self, row: int, column: int) -> bool:
        return row in self.bold and column in self.bold_columns and self.rows[row][column] != ""

    def to_csv(self) -> str:
        """The cells as they are shown, without bold and caption, a header first."""
        out = io.StringIO()
        csv.writer(out, lineterminator="\n").writerows([self.columns, *self.rows])
        return out.getvalue()

    def to_markdown(self) -> str:
        """GitHub's tables, the caption above."""
        rule = [":--" if place in self.text else "--:" for place in range(len(self.columns))]
        body = [[f"**{_markdown(cell)}**" if self.is_bold(row, place) else _markdown(cell)
                 for place, cell in enumerate(cells)] for row, cells in enumerate(self.rows)]  # fmt: skip
        lines = [[_markdown(name) for name in self.columns], rule, *body]
        return f"{self.caption}\n\n" + "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"

    def to_latex(self) -> str:
        """A table environment for the booktabs package."""
        layout = "".join("l" if place in self.text else "r" for place in range(len(self.columns)))
        body = [" & ".join(rf"\textbf{{{latex(cell)}}}" if self.is_bold(row, place) else latex(cell)
                           for place, cell in enumerate(cells)) for row, cells in enumerate(self.rows)]  # fmt: skip
        return "\n".join([
            r"% needs \usepackage{booktabs}", r"\begin{table}", r"\centering", rf"\caption{{{latex(self.caption)}}}",
            rf"\label{{tab:{self.name}}}", rf"\begin{{tabular}}{{{layout}}}", r"\toprule",
            " & ".join(map(latex, self.columns)) + r" \\", r"\midrule", *(line + r" \\" for line in body),
            r"\bottomrule", r"\end{tabular}", r"\end{table}", "",
        ])  # fmt: skip


def latex(text: str) -> str:
    """Text with LaTeX's special characters escaped."""
    return "".join(LATEX.get(letter, letter) for letter in text)


def _markdown(text: str) -> str:
    return "".join(f"\\{letter}" if letter in "|*_<>\\" else letter for letter in text)
