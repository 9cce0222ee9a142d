"""What the page says once, and which terms it explains."""

import re

import pytest

from losstune.analysis.search_honesty import search_honesty, sentences
from losstune.analysis.sections import SECTIONS, words_of, words_used
from losstune.analysis.tables import improvement_table, report_tables
from losstune.analysis.verdict import make_verdict


def ids(html):
    return re.findall('<dt id="term-([^"]+)"', html)


def test_words_are_those_that_the_page_says():
    """In its text, also in the plural, or behind a heading's link; not within words, and not in attributes."""
    page = '<p title="CKA">A piece of seeds is &quot;separated&quot;</p><th><a href="#term-nc2">second</a></th>'
    assert ids(words_used(page)) == ["seed", "separated", "nc2"]


def test_words_of_sections_are_of_their_headings_and_their_bodies():
    sections = [("a", "Against the baseline", lambda *given: "<p>by mCE</p>"), ("b", "Empty", lambda *given: "")]
    name, heading, words = words_of(sections)
    assert (name, heading, ids(words(None, {}, {}, []))) == ("words", "Words", ["baseline", "mce"])


@pytest.fixture(scope="module")
def verdict(results):
    return make_verdict(results)


def test_a_flagged_row_of_the_budget_is_said_once(results, verdict):
    """ce_el took 1.4 times the slot-seconds of the others in the search."""
    sections = {name: body for name, _, body in SECTIONS}
    tables = {table.name: table for table in report_tables(results, verdict)}
    said = sections["budget"](results, verdict, tables, [])
    assert re.sub("<[^>]*>", " ", said).count("(ce_el) slot-seconds per loss, a ratio of") == 1
    assert not any("slot-seconds per loss" in text for text in sentences(search_honesty(results), "accuracy"))


def test_improvement_says_where_no_clear_difference_is_enough(verdict):
    """10 seeds, 45 pairs: 2^-9, times 45, is 0.088; with 3 losses 2^-9, times 3, is 0.006."""
    caption = improvement_table(verdict).caption
    assert caption.endswith(
        "By these intervals 10 seeds cannot separate anything at alpha = 0.05, however clear the differences: the "
        "smallest p that the sign test can reach is 0.00195, 0.0879 after Bonferroni's adjustment over 45 pairs; it "
        "takes 11 seeds."
    )
    few = {**verdict, "improvement": verdict["improvement"][:3]}
    assert "cannot separate" not in improvement_table(few).caption
