"""The sections of the report's page on what the confirmed members put out; exploratory, all of them."""

from __future__ import annotations

from collections.abc import Callable
from html import escape

import numpy as np

from losstune.analysis.crossed import interval_of_test_set
from losstune.analysis.markup import figures, html_table, listing
from losstune.analysis.results import Results, metric_name, show

FEW_SEEDS = 8
Section = Callable[[Results, dict, dict, list], str]


def _test_set(results: Results, verdict: dict, tables: dict, drawn: list) -> str:
    if "test_set" not in tables:
        return ""
    text = ("The verdict is about this one test set. These intervals ask what would hold for another one of the same "
            "size too; they are wider wherever examples, not seeds, are what is scarce.")  # fmt: skip
    if results.metric == "accuracy":
        best = float(np.clip(results.score_matrix().mean().max(), 0, 1))
        low, high = (show(end, "accuracy") for end in interval_of_test_set(best, results.study["n_test"]))
        text += (f" {show(best, 'accuracy')} % right of {results.study['n_test']:,} examples by one network says by "
                 f"itself no more than {low} to {high} % (95%, Wilson).")  # fmt: skip
    if len(results.score_matrix()) < FEW_SEEDS:
        text += " With so few seeds it is hardly known how much they vary, and intervals may be too narrow."
    if results.metric not in ("accuracy", "nll"):
        text += f" They are about accuracy, which is a mean over examples; {metric_name(results.metric)} is not."
    return f"<p>{escape(text)}</p>{html_table(tables['test_set'])}"


def _calibration(results: Results, verdict: dict, tables: dict, drawn: list) -> str:
    if "calibration" not in tables:
        return ""
    key = ('<ul class="keys"><li><i class="full"></i>as trained</li><li><i class="ring"></i>after temperature scaling'
           "</li><li>area: share of the predictions</li></ul>")  # fmt: skip
    panels = figures(drawn, "reliability", "small")
    text = "From here to the chosen hyperparameters everything is exploratory: beside the verdict, not adjusted for it."
    return (f'<p class="quiet">{text}</p>' + (panels and key + panels) + html_table(tables["calibration"])
            + html_table(tables["probabilities"]))  # fmt: skip


def _agreement(results: Results, verdict: dict, tables: dict, drawn: list) -> str:
    panels = figures(drawn, "agreement", "wide")
    if "agreement_same_class" not in tables:
        why = "How often losses agree is measured between different seeds, and there is one."
        return panels and f'{panels}<p class="quiet">{why}</p>'
    more = "".join(html_table(tables[name]) for name in ("agreement_same_outcome", "agreement_same_error")
                   if name in tables)  # fmt: skip
    folded = f"<details><summary>Other forms of agreement</summary>{more}</details>" if more else ""
    if "agreement_ensembles" in tables:
        voted = html_table(tables["agreement_ensembles"])
        folded += f"<details><summary>Between ensembles of seeds</summary>{voted}</details>"
    return panels + html_table(tables["agreement_same_class"]) + folded


def _ensembles(results: Results, verdict: dict, tables: dict, drawn: list) -> str:
    if "ensembles" not in tables:
        return ""
    folded = "mixed_ensembles" in tables and html_table(tables["mixed_ensembles"])
    more = f"<details><summary>Two losses together</summary>{folded}</details>" if folded else ""
    return html_table(tables["ensembles"]) + more


def _classes(results: Results, verdict: dict, tables: dict, drawn: list) -> str:
    return html_table(tables["classes"]) if "classes" in tables else ""


def _separation(results: Results, verdict: dict, tables: dict, drawn: list) -> str:
    return figures(drawn, "separation", "full") + _test_and_train("separation", tables)


def _collapse(results: Results, verdict: dict, tables: dict, drawn: list) -> str:
    return _test_and_train("collapse", tables)


def _training_curves(results: Results, verdict: dict, tables: dict, drawn: list) -> str:
    """Nothing where a study follows nothing over training."""
    panels, more = (figures(drawn, group, "full") for group in ("training-curves", "training-curves-more"))
    if not panels and not more:
        return ""
    key = ('<ul class="keys"><li><i class="full"></i>mean over seeds</li><li>band: from the lowest to the highest '
           "seed</li><li>faint: the other losses</li></ul>")  # fmt: skip
    folded = more and f"<details><summary>NC2 and NC3</summary>{more}</details>"
    text = "<p>Of the same training examples after some of the epochs of the confirmed runs, not augmented.</p>"
    table = html_table(tables["margin_bias"]) if "margin_bias" in tables else ""
    return text + key + panels + folded + table


def _spectra(results: Results, verdict: dict, tables: dict, drawn: list) -> str:
    return figures(drawn, "spectra", "full") + _test_and_train("spectra", tables)


def _test_and_train(name: str, tables: dict) -> str:
    """The table on test examples, and that on training examples folded away."""
    shown = [html_table(tables[f"{name}_{split}"]) for split in ("test", "train") if f"{name}_{split}" in tables]
    folded = f"<details><summary>On training examples</summary>{shown[1]}</details>" if len(shown) > 1 else ""
    return shown[0] + folded if shown else ""


def _similarity(results: Results, verdict: dict, tables: dict, drawn: list) -> str:
    layers = figures(drawn, "layers", "full")
    more = f"<details><summary>Layer by layer, between seeds of each loss</summary>{layers}</details>"
    return html_table(tables["similarity"]) + (layers and more) if "similarity" in tables else ""


def _sparsity(results: Results, verdict: dict, tables: dict, drawn: list) -> str:
    return html_table(tables["sparsity"]) if "sparsity" in tables else ""


def _corruptions(results: Results, verdict: dict, tables: dict, drawn: list) -> str:
    if "corruptions" not in tables:
        return ""
    key = ('<ul class="keys"><li>solid: the lowest error on corrupted images</li><li>dashed: the baseline</li>'
           "<li>grey: the other losses</li><li>severity 0: as it is</li></ul>")  # fmt: skip
    folded = f"<details><summary>Corruption by corruption</summary>{html_table(tables['corruption_errors'])}</details>"
    return html_table(tables["corruptions"]) + key + figures(drawn, "corruptions", "small") + folded


def _shifted(results: Results, verdict: dict, tables: dict, drawn: list) -> str:
    return html_table(tables["shifted"]) if "shifted" in tables else ""


def _transfer(results: Results, verdict: dict, tables: dict, drawn: list) -> str:
    return html_table(tables["transfer"]) if "transfer" in tables else ""


def _left_out(results: Results, verdict: dict, tables: dict, drawn: list) -> str:
    """Members that the sections above do not count."""
    return listing(verdict["left_out_of_measures"]) if verdict.get("left_out_of_measures") else ""


MEASURES: list[tuple[str, str, Section]] = [
    ("test-set", "Another test set", _test_set),
    ("calibration", "Calibration", _calibration),
    ("classes", "Class by class", _classes),
    ("agreement", "Do they make the same mistakes?", _agreement),
    ("ensembles", "Ensembles of seeds", _ensembles),
    ("separation", "Class separation", _separation),
    ("collapse", "Neural collapse", _collapse),
    ("training-curves", "Margin and collapse over training", _training_curves),
    ("spectra", "Spectra", _spectra),
    ("similarity", "Similarity of representations", _similarity),
    ("sparsity", "Sparsity of activations", _sparsity),
    ("corruptions", "Corrupted images", _corruptions),
    ("shifted", "Shifted test sets", _shifted),
    ("transfer", "Transfer to other data", _transfer),
    ("left-out", "Not in these measures", _left_out),
]
