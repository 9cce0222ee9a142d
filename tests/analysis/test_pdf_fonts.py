"""Fonts that many PDFs share are those that each PDF would have on its own, and some letters more."""

import contextlib
import re
import zlib
from io import BytesIO

import pytest
from fontTools.ttLib import TTFont

from losstune.analysis import drawing, pdf_fonts

TEXTS = ["accuracy (%)", "Größe \N{MINUS SIGN}3 \N{MULTIPLICATION SIGN} α", "only 12"]


def pdf_of(text: str, bold: bool = False) -> bytes:
    with drawing.style():
        figure = drawing.new_figure(2, 1)
        figure.text(0.1, 0.5, text)
        if bold:
            figure.text(0.1, 0.1, "bold", fontweight="bold")
        drawing.to_svg(figure)
        return drawing.to_pdf(figure)


def part(pdf: bytes, number: bytes) -> bytes:
    return re.search(rb"\n" + number + rb" 0 obj\n(.*?)\nendobj", pdf, re.DOTALL)[1]


def stream(pdf: bytes, number: bytes) -> bytes:
    return zlib.decompress(part(pdf, number).partition(b"stream\n")[2].removesuffix(b"\nendstream"))


def reference(text: bytes, name: bytes) -> bytes:
    return re.search(rb"/" + name + rb" (\d+) 0 R", text)[1]


def outlines(pdf: bytes) -> list[dict]:
    """Of every font, the points of each letter's outline and its width, by the letter's code on the page."""
    found = []
    fonts = (one for one in re.findall(rb"\n\d+ 0 obj\n(.*?)\nendobj", pdf, re.DOTALL) if b"/CIDToGIDMap" in one)
    for font_of in fonts:
        file = reference(part(pdf, reference(font_of, b"FontDescriptor")), b"FontFile2")
        font = TTFont(BytesIO(stream(pdf, file)))
        glyphs = stream(pdf, reference(font_of, b"CIDToGIDMap")).decode("utf-16be")
        names = {code: font.getGlyphName(ord(glyph)) for code, glyph in enumerate(glyphs) if ord(glyph)}
        found.append({code: (font["hmtx"][name], list(font["glyf"][name].getCoordinates(font["glyf"])[0]))
                      for code, name in names.items()})  # fmt: skip
    return found


@pytest.mark.parametrize("text", TEXTS)
def test_every_letter_on_the_page_has_the_outline_that_it_would_have(text, monkeypatch):
    """With matplotlib's own fonts as the oracle."""
    shared = pdf_of(text, bold=True)
    monkeypatch.setattr(drawing, "shared_fonts", contextlib.nullcontext)
    own = pdf_of(text, bold=True)
    assert shared != own and outlines(shared) == outlines(own)
    assert sum(map(len, outlines(own))) == len(set(text)) + len(set("bold"))


def test_the_bytes_do_not_depend_on_what_was_drawn_before():
    """Nor on whether the fonts are there already."""
    pdf_fonts._subset.cache_clear()
    alone = [pdf_of(text) for text in TEXTS if not pdf_fonts._subset.cache_clear()]
    pdf_fonts._subset.cache_clear()
    assert [pdf_of(text) for text in reversed(TEXTS)][::-1] == alone == [pdf_of(text) for text in TEXTS]


def test_fonts_are_made_once_for_all_figures_in_ascii():
    """That is what takes time."""
    pdf_fonts._subset.cache_clear()
    for text in ("accuracy", "a loss", "[0, 1]"):
        pdf_of(text)
    assert pdf_fonts._subset.cache_info().misses == 1
    assert pdf_fonts._backend_pdf_ps.get_glyphs_subset is pdf_fonts._cut_down
