"""One visual language for every figure: sizes, colours that also work in dark mode, SVG and PDF without dates."""

from __future__ import annotations

import io
import re
from typing import Any

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from losstune.analysis.pdf_fonts import shared_fonts

# Okabe and Ito's colours, told apart also by colour-blind readers. Each stands for one CSS variable of the page,
# so that dark mode can change it: every colour in a figure has to be one of these.
INK, MUTED, GRID, PAPER = "#1b1f24", "#5d6670", "#dde1e6", "#fffffe"
BEST, OTHER, CHOSEN, SECOND, FAINT = "#0072b2", "#8b949e", "#d55e00", "#56b4e9", "#c3c9d0"
VARIABLES = {
    INK: "--ink", MUTED: "--muted", GRID: "--grid", PAPER: "--paper", BEST: "--best", OTHER: "--other",
    CHOSEN: "--chosen", SECOND: "--second", FAINT: "--faint",
}  # fmt: skip
HOVER = "hover: "  # begins the names of groups in SVG that become titles, which browsers show on hover
STYLE = {
    "font.family": "DejaVu Sans", "font.size": 9.5, "axes.titlesize": 10, "axes.labelsize": 9.5,
    "xtick.labelsize": 9, "ytick.labelsize": 9, "text.color": INK, "axes.labelcolor": MUTED, "axes.titlecolor": INK,
    "axes.edgecolor": OTHER, "xtick.color": MUTED, "ytick.color": MUTED, "axes.facecolor": PAPER,
    "figure.facecolor": PAPER, "savefig.facecolor": PAPER, "savefig.edgecolor": PAPER, "axes.spines.top": False,
    "axes.spines.right": False, "axes.grid": True, "grid.color": GRID, "grid.linewidth": 0.8, "axes.axisbelow": True,
    "axes.linewidth": 0.8, "xtick.major.size": 3, "ytick.major.size": 0, "lines.linewidth": 1.6,
    "legend.frameon": False, "legend.fontsize": 9, "svg.fonttype": "none", "svg.hashsalt": "losstune",
    "pdf.fonttype": 42, "figure.constrained_layout.use": True,
}  # fmt: skip


def style():
    """The context in which a figure is built and saved; matplotlib's own settings stay as they were."""
    return matplotlib.rc_context({**matplotlib.rcParamsDefault, **STYLE, "backend": "agg"})


def new_figure(width: float, height: float, margins: dict[str, float] | None = None) -> Figure:
    """An empty figure of that many inches; the layout fits its labels, or leaves the margins given in inches.

    margins: left, right, bottom, top, between_columns, between_rows. Fixed ones are much faster to draw.
    """
    if margins is None:
        return Figure(figsize=(width, height))
    figure = Figure(figsize=(width, height), layout="none")
    figure.subplots_adjust(
        left=margins["left"] / width, right=1 - margins["right"] / width,
        bottom=margins["bottom"] / height, top=1 - margins["top"] / height,
    )  # fmt: skip
    return figure


def panels(figure: Figure, rows: int, columns: int, margins: dict[str, float], **kwargs: Any) -> np.ndarray:
    """rows x columns axes as a flat array, with the gaps that the margins name."""
    width, height = figure.get_size_inches()
    wide = (width - margins["left"] - margins["right"] - (columns - 1) * margins["between_columns"]) / columns
    high = (height - margins["bottom"] - margins["top"] - (rows - 1) * margins["between_rows"]) / rows
    gaps = {"wspace": margins["between_columns"] / wide, "hspace": margins["between_rows"] / high}
    return figure.subplots(rows, columns, squeeze=False, gridspec_kw=gaps, **kwargs).ravel()


def hover(artist: Artist, text: str) -> None:
    """Have an artist say something while the pointer is over it, in SVG."""
    artist.set_gid(HOVER + text)


def to_svg(figure: Figure) -> str:
    """The figure as an SVG document, the same text every time."""
    out = io.StringIO()
    FigureCanvasSVG(figure)
    figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    return re.sub(rf'<g id="{HOVER}([^"]*)">', r"<g><title>\1</title>", out.getvalue())


def to_pdf(figure: Figure) -> bytes:
    """The figure as a PDF page, the same bytes every time; call it after `to_svg`."""
    out = io.BytesIO()
    FigureCanvasPdf(figure)
    # The layout was found when the SVG was drawn; finding it again takes time and drifts.
    figure.set_layout_engine("none")
    with shared_fonts():
        figure.savefig(out, format="pdf", metadata={"CreationDate": None, "Creator": None, "Producer": None})
    return out.getvalue()


def inline(svg: str, name: str, description: str) -> str:
    """An SVG document as an element of the page: its colours and its font are the page's."""
    body = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    body = re.sub(r'<g id="[^"]*"', "<g", body)
    # Two figures of one page may hold different shapes of the same hashed name.
    body = re.sub(r'(id="|url\(#|href="#)([mpC])', rf"\1{name}-\2", body)
    for colour, variable in VARIABLES.items():
        body = body.replace(colour, f"var({variable})")
    body = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", body, flags=re.DOTALL)
    body = body.replace("font-family: 'DejaVu Sans'", "font-family: system-ui, sans-serif")
    sized = r'\1style="--width: \2pt; max-width: \2pt"'
    body = re.sub(r'(<svg [^>]*?)width="([0-9.]+)pt" height="[0-9.]+pt"', sized, body, count=1)
    return body.replace("<svg ", f'<svg role="img" aria-label="{description}" ', 1).strip()


def number_axis(axis: Any, values: np.ndarray, ticks: int = 4) -> None:
    """Few, short tick labels; a log scale where positive values span more than a decade."""
    values = values[np.isfinite(values)]
    low, high = (values.min(), values.max()) if len(values) else (0.0, 1.0)
    if low > 0 and high / low > 10:
        axis._set_axes_scale("log")
        # Below two decades powers of ten alone would be one or two labels.
        axis.set_major_locator(LogLocator(subs=(1.0, 3.0) if high / low < 60 else (1.0,), numticks=ticks))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(FuncFormatter(short_number))
    else:
        axis.set_major_locator(MaxNLocator(nbins=ticks, steps=[1, 2, 2.5, 5, 10]))
        axis.set_major_formatter(FuncFormatter(short_number))


def short_number(value: float, _=None) -> str:
    """A number as short as it can be said: 0.0001 -> "1e-4", 20.0 -> "20"."""
    if value and (abs(value) < 0.0099 or abs(value) >= 1e5):
        mantissa, exponent = f"{value:.1e}".split("e")
        return f"{mantissa.removesuffix('.0')}e{int(exponent)}"
    return f"{value:.6g}"


def bare(axes: Axes, grid: str) -> None:
    """Grid lines along one axis only ("x" or "y")."""
    axes.grid(False, axis="y" if grid == "x" else "x")
