"""The tables as text and as frames."""

import dataclasses

import numpy as np
import pytest

from losstune.analysis.figures import draw_all
from losstune.analysis.results import show, show_p, show_parameters
from losstune.analysis.tables import report_tables, results_frame, runs_frame
from losstune.analysis.tabletext import Table, latex
from losstune.analysis.verdict import make_verdict

TABLE = Table("t", "Top & more", ["loss_name", "accuracy (%)"], [["a_b", "98.0 ± 0.1"], ["c", "97.0"]], frozenset({0}))


def test_markdown_text():
    assert TABLE.to_markdown() == (
        "Top & more\n\n| loss\\_name | accuracy (%) |\n| :-- | --: |\n| **a\\_b** | **98.0 ± 0.1** |\n| c | 97.0 |\n"
    )


def test_latex_text():
    text = TABLE.to_latex()
    assert "\\caption{Top \\& more}\n" in text and "\\begin{tabular}{lr}\n\\toprule" in text
    assert "loss\\_name & accuracy (\\%) \\\\\n\\midrule" in text
    assert "\\textbf{a\\_b} & \\textbf{98.0 $\\pm$ 0.1} \\\\\nc & 97.0 \\\\\n\\bottomrule" in text


def test_latex_escapes_every_special_character():
    assert latex(r"\&%$#_{}~^") == (
        r"\textbackslash{}\&\%\$\#\_\{\}\textasciitilde{}\textasciicircum{}"
    )


@pytest.mark.parametrize(
    ("value", "metric", "sign", "text"),
    [(0.98125, "accuracy", False, "98.12"), (-0.001, "accuracy", True, "−0.10"), (0.0123, "nll", True, "+0.0123"),
     (-1e-9, "accuracy", True, "0.00"), (np.nan, "nll", False, "not defined")],
)  # fmt: skip
def test_numbers(value, metric, sign, text):
    assert show(value, metric, sign) == text


def test_equal_means_that_were_summed_differently_are_shown_alike():
    """29 of 32 right, 90.625 %: three thirds of it are a little more or less."""
    for noise in (-1e-15, 0.0, 1e-15):
        assert show(0.90625 + noise, "accuracy") == "90.62"


def test_only_what_beats_the_baseline_is_bold(make_results):
    results = make_results(losses={"softmax": 0.95, "sigmoid": 0.98, "ce_el": 0.91, "dropout": 0.95})
    (table,) = (one for one in report_tables(results, make_verdict(results)) if one.name == "baseline")
    findings = {row[0]: row[-1] for row in table.rows}
    assert findings == {"sigmoid": "better", "ce_el": "worse", "softmax": "", "dropout": ""}
    assert [table.rows[place][0] for place in table.bold] == ["sigmoid"]
    assert "Bold: shown to be better than softmax." in table.caption


def test_intervals_that_seem_to_contradict_p_are_explained_below_their_table(make_results):
    """Of 3 losses and 3 seeds as in test_compare: Holm's step is sharper than Bonferroni's interval."""
    results = make_results(losses={"softmax": 0.9, "sigmoid": 0.9, "ce_el": 0.9}, seeds=3)
    scores = {"softmax": [0.9, 0.91, 0.92], "sigmoid": [0.8, 0.81, 0.82], "ce_el": [0.897, 0.906, 0.9149]}
    members = results.members.assign(macro_f1=[score for own in scores.values() for score in own])
    study = {**results.study, "metric": "macro_f1", "baseline": None}
    odd = dataclasses.replace(results, members=members, study=study)
    said = "Where p is at most 0.05 and the interval covers zero: the step-down test is sharper than the interval."
    captions = {table.name: table.caption for table in report_tables(odd, make_verdict(odd))}
    assert captions["results"].endswith(said) and captions["pairs"].endswith(said)
    plain = {table.name: table.caption for table in report_tables(results, make_verdict(results))}
    assert "covers zero" not in plain["results"] + plain["pairs"]


def test_small_texts():
    assert (show_p(0.0004), show_p(0.0123)) == ("< 0.001", "0.012")
    params = {"learning_rate": 0.05, "weight_decay": 1e-4, "F": "0,0.5"}
    assert show_parameters(params) == "F 0,0.5, learning rate 0.05, weight decay 0.0001"


def test_table_csv_has_the_promised_columns(results):
    table = results_frame(results)
    for name in ("loss", "hyperparameters", "tau", "learning_rate", "weight_decay", "n_seeds", "mean", "standard_error",
                 "in_best_set", "paper_rule", "difference", "ci_low", "ci_high", "p", "baseline_difference",
                 "nll_mean", "ece_standard_error", "failed"):  # fmt: skip
        assert name in table.columns
    assert len(table) == 10 and table["mean"].is_monotonic_decreasing and (table["n_seeds"] == 10).all()
    row = table.set_index("loss").loc["squared_error"]
    assert np.isnan(row["nll_mean"]) and row["kappa"] == results.chosen("squared_error")["params"]["kappa"]


def test_a_loss_that_was_not_confirmed_keeps_its_row(results):
    members = results.members[results.members["loss"] != "dropout"]
    choices = results.choices[results.choices["loss"] != "dropout"]
    partial = dataclasses.replace(results, members=members, choices=choices)
    last = results_frame(partial).iloc[-1]
    assert last["loss"] == "dropout" and last["n_seeds"] == 0 and np.isnan(last["mean"]) and not last["in_best_set"]
    assert report_tables(partial, make_verdict(partial))[0].rows[-1][:3] == ["dropout", "not confirmed", "0"]


def test_runs_csv_has_a_row_per_member(results):
    runs = runs_frame(results)
    assert len(runs) == 100 and list(runs.columns[:3]) == ["loss", "seed", "accuracy"]
    assert list(runs["loss"].unique()) == results.study["losses"]
    assert {"nll", "ece", "top5_accuracy", "validation_accuracy"} <= set(runs.columns)


def test_report_tables(results):
    tables = {table.name: table for table in report_tables(results, make_verdict(results))}
    assert set(tables) == {
        "results", "baseline", "pairs", "improvement", "other_metrics", "hyperparameters", "budget",
    }  # fmt: skip
    main = tables["results"]
    assert main.rows[0][:2] == ["cosine_softmax", "98.08 ± 0.14"] and main.is_bold(0, 0) and not main.is_bold(0, 2)
    assert len(tables["pairs"].rows) == 45 and len(tables["budget"].rows) == 20
    assert ["squared_error", "not defined"] == [tables["other_metrics"].rows[-1][place] for place in (0, 2)]


def test_a_metric_that_a_seed_lacks_says_of_how_many_it_is(results):
    members = results.members.copy()
    members.loc[(members["loss"] == "softmax") & (members["seed"] < 3), "ece"] = np.nan
    partial = dataclasses.replace(results, members=members)
    (table,) = (one for one in report_tables(partial, make_verdict(partial)) if one.name == "other_metrics")
    marked = {row[0]: [cell.endswith(" (7 of 10 seeds)") for cell in row[1:]] for row in table.rows}
    assert marked["softmax"] == [False, False, True] and not any(marked["sigmoid"] + marked["squared_error"])


def test_score_matrix_is_higher_is_better(results, make_results):
    assert (results.score_matrix("nll").dropna() <= 0).all(axis=None)
    assert "squared_error" not in results.score_matrix("nll")
    assert results.score_matrix().shape == (10, 10)
    assert list(make_results(losses={"softmax": 0.9, "sigmoid": 0.95}).score_matrix()) == ["softmax", "sigmoid"]


def test_the_same_mean_is_shown_alike_in_the_figure_and_the_table(make_results):
    """29 of 32 right in each seed of both, once a little more by binary fractions."""
    results = make_results(losses={"softmax": 0.9, "sigmoid": 0.9}, seeds=3)
    noise = results.members["loss"].map({"softmax": 0.0, "sigmoid": 1e-15})
    results = dataclasses.replace(results, members=results.members.assign(accuracy=0.90625 + noise))
    figure = next(one for one in draw_all(results, results_frame(results)) if one.name == "score")
    assert "90.62" in figure.svg and "90.63" not in figure.svg
