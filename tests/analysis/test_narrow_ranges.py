"""Ranges that were too narrow, as verdict, tables and page say it."""

import dataclasses
import html
import json

import pytest

from losstune.analysis.page import page
from losstune.analysis.report import write_tables
from losstune.analysis.tables import report_tables
from losstune.analysis.verdict import make_verdict
from losstune.analysis.wording import edge_sentence

UPPER = {"loss": "sigmoid", "hyperparameter": "learning_rate", "value": 3.1, "bound": 3.16, "side": "upper",
         "try": [0.00316, 100.0]}  # fmt: skip
LOWER = {"loss": "ce_el", "hyperparameter": "F", "value": 0.1, "bound": 0.1, "side": "lower", "try": [0.0, 0.3]}
SAID = "Range too narrow: sigmoid's learning_rate 3.1 is at the upper end of 0.00316 to 3.16; try 0.00316 to 100"


@pytest.fixture(scope="module")
def small(make_results):
    return make_results(losses={"softmax": 0.97, "sigmoid": 0.96, "ce_el": 0.95}, trials=4, seeds=5)


def with_edges(results, *edges):
    return dataclasses.replace(results, edges=list(edges))


def shown(results) -> str:
    """The page without its figures, which take seconds and say nothing of this."""
    verdict = make_verdict(results)
    return html.unescape(page(results, verdict, report_tables(results, verdict), []))


def test_sentences():
    assert edge_sentence(UPPER) == SAID
    assert edge_sentence(LOWER) == "Range too narrow: ce_el's F 0.1 is at the lower end of 0.1 to 0.3; try 0 to 0.3"


def test_the_verdict_has_them_as_data_and_as_sentences(small):
    verdict = make_verdict(with_edges(small, UPPER, LOWER))
    assert json.loads(json.dumps(verdict, allow_nan=False))["edges"] == [UPPER, LOWER]
    assert verdict["warnings"][-2:] == [SAID, edge_sentence(LOWER)]


def test_a_study_without_any_says_so_by_an_empty_list(small):
    verdict = make_verdict(small)
    assert verdict["edges"] == [] and not any("too narrow" in text for text in verdict["warnings"])
    assert "too narrow" not in shown(small).lower()


def test_one_loss_is_flagged_though_there_is_nothing_to_compare(make_results):
    """It is the search that fell short, not the comparison."""
    alone = make_results(losses={"sigmoid": 0.97}, trials=4, seeds=5, baseline=None)
    verdict = make_verdict(with_edges(alone, UPPER))
    assert verdict["warnings"] == [SAID] and SAID in shown(with_edges(alone, UPPER))


def test_the_table_of_hyperparameters_says_what_to_try(small):
    """A column that is there only when it is needed."""
    def table(results):
        return next(t for t in report_tables(results, make_verdict(results)) if t.name == "hyperparameters")

    found = table(with_edges(small, UPPER, {**UPPER, "hyperparameter": "weight_decay", "try": [1e-6, 1e-3]}))
    cells = {row[0]: row[-1] for row in found.rows}
    assert found.columns[-1] == "range too narrow"
    assert cells == {"sigmoid": "learning rate: try 0.00316 to 100; weight decay: try 1e-06 to 0.001",
                     "softmax": "", "ce_el": ""}  # fmt: skip
    assert table(small).columns == found.columns[:-1] and len(table(small).rows[0]) == len(found.columns) - 1


def test_the_page_has_a_sentence_for_each_and_one_for_many(small):
    """A page that begins with twenty warnings is not read."""
    few = shown(with_edges(small, UPPER, LOWER))
    assert f'<p class="warn">{SAID}.</p>' in few and edge_sentence(LOWER) in few
    many = shown(with_edges(small, *[UPPER, LOWER] * 2))
    assert SAID not in many and "4 ranges too narrow, the chosen value is at an end of each" in many
    assert many.count('class="warn">4 ranges too narrow') == 1 and "learning rate: try 0.00316 to 100" in many


def test_the_page_says_up_to_where_losses_were_asked_less(small):
    """A grid of fewer points, a search that ended early."""
    assert "4 configurations each" in shown(small) and "up to 4" not in shown(small)
    budget = small.budget.copy()
    budget.loc[(budget["loss"] == "ce_el") & (budget["phase"] == "search"), "asked"] = 3
    assert "up to 4 configurations each" in shown(dataclasses.replace(small, budget=budget))


def test_the_written_verdict_has_them(small, tmp_path):
    results = with_edges(small, UPPER)
    verdict = make_verdict(results)
    write_tables(results, verdict, report_tables(results, verdict), tmp_path)
    assert json.loads((tmp_path / "verdict.json").read_text())["edges"] == [UPPER]
    assert "range too narrow" in (tmp_path / "tables" / "hyperparameters.md").read_text()
