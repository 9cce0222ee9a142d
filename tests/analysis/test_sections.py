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


def shown(name, results, verdict=None):
    """The text of a section of the page."""
    verdict = verdict or make_verdict(results)
    body = {section: body for section, _, body in SECTIONS}[name]
    tables = {table.name: table for table in report_tables(results, verdict)}
    return " ".join(re.sub("<[^>]*>", " ", body(results, verdict, tables, [])).split())


def test_the_step_of_the_metric_is_said_in_its_unit(make_results):
    """360 test images: 1 / 360 is 0.28 points."""
    results = make_results(losses={"softmax": 0.97, "sigmoid": 0.975}, seeds=3)
    said = shown("pairs", results)
    assert "below one step of the metric. One step is 0.28 points." in said and "correlation" not in said


def test_nothing_is_in_a_best_set_where_nothing_was_tested(make_results):
    losses = {"softmax": 0.97, "sigmoid": 0.975}
    alone = make_results(losses=losses, seeds=1)
    assert "in the best set" not in shown("scores", alone) and "0 seeds" not in shown("verdict", alone)
    assert "confirm 1 seed, alpha 0.05" in shown("facts", alone)
    assert "in the best set" in shown("scores", make_results(losses=losses, seeds=5))


def test_the_same_reason_is_said_once(results, verdict):
    members = [{"loss": "softmax", "seed": seed, "reason": "NaN in epoch 2"} for seed in range(8)]
    members.append({"loss": "softmax", "seed": 8, "reason": "out of memory"})
    trials = [{"loss": "ce_el", "number": number, "reason": "NaN in epoch 4"} for number in range(12)]
    said = shown("failures", results, {**verdict, "failed_members": members, "failed_trials": trials})
    assert "softmax, 8 seeds, 0, 1, 2, 3, 4, 5, 6 and 7 (confirm): NaN in epoch 2" in said
    assert "softmax, seed 8 (confirm): out of memory" in said and "more" not in said
    assert "ce_el, 12 trials, 0, 1, 2, 3, 4, 5, 6, 7, 8 and others (search): NaN in epoch 4" in said


def test_a_share_of_eight_keeps_its_half(verdict):
    row = {**verdict["improvement"][0], "probability": 0.625}
    assert improvement_table({**verdict, "improvement": [row]}).rows[0][2] == "62.5"


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
