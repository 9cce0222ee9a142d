"""Fonts in PDFs: cutting one down to what a figure shows takes longer than drawing the figure, so many share it."""

from __future__ import annotations

import contextlib
import string
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, BinaryIO

from matplotlib.backends import _backend_pdf_ps
from matplotlib.font_manager import get_font

_cut_down = _backend_pdf_ps.get_glyphs_subset


@dataclass(frozen=True)
class Subset:
    """Part of a font, as matplotlib takes what fontTools makes. glyph_index_map: from the font's glyphs to its own."""

    data: bytes
    glyph_index_map: dict[int, int]

    @property
    def font(self) -> Subset:
        return self

    def save(self, file: BinaryIO, **_: Any) -> None:
        file.write(self.data)


@contextlib.contextmanager
def shared_fonts() -> Iterator[None]:
    """A context in which PDFs are saved: a font of which a figure shows ASCII is embedded with all of ASCII.

    Then most figures have the same fonts, which are made once. What a figure's fonts hold depends on the figure alone.
    """
    # Nothing public serves; with a matplotlib that does it otherwise PDFs are only slower.
    if not hasattr(_backend_pdf_ps, "SubsetResults"):
        yield
        return
    _backend_pdf_ps.get_glyphs_subset = _shared
    try:
        yield
    finally:
        _backend_pdf_ps.get_glyphs_subset = _cut_down


def _shared(font: Any, glyphs: Iterable[int]) -> contextlib.AbstractContextManager[Subset]:
    shown, common = frozenset(glyphs), _ascii(font)
    # matplotlib embeds what lies beyond the first 256 characters, such as a minus, as another font.
    return contextlib.nullcontext(_subset(font, shown if shown.isdisjoint(common) else shown | common))


@lru_cache(maxsize=64)
def _ascii(font: Any) -> frozenset[int]:
    """The glyphs of ASCII that a font has."""
    characters = get_font(font).get_charmap()
    return frozenset(characters[ord(one)] for one in string.printable if ord(one) in characters)


@lru_cache(maxsize=64)
def _subset(font: Any, glyphs: frozenset[int]) -> Subset:
    with _cut_down(font, set(glyphs)) as found:
        return Subset(_backend_pdf_ps.font_as_file(found.font).getvalue(), found.glyph_index_map)
