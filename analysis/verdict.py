"""What the evidence allows one to say, as one JSON-serialisable dict: verdict.json."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from losstune.analysis.improvement import probability_of_improvement
from losstune.analysis.looks import Look, level_of, look_at, plan_sentences, progress_sentence
from losstune.analysis.results import Results, metric_name
from losstune.analysis.significance import comparison_table
from losstune.analysis.wording import CONDITIONAL_ON, FAMILIES, edge_sentence, headline, listed

UNEQUAL = 1.25
UNCONFIRMED = "not compared, because no configuration was confirmed"  # how the warning on such losses begins
AUDITED = ("member_epochs", "slot_seconds")


def make_verdict(results: Results) -> dict[str, Any]:
    """The verdict on confirmed results, the design's procedure; becomes verdict.json.

    Differences say how much better, in the metric's unit: positive is better also where a lower value is better.
    p-values are adjusted over all pairs, those with the baseline over the pairs with the baseline; intervals are
    simultaneous; None stands for unbounded. Where looks are planned, alpha is the level of this one, looks has the plan
    (see `look_at`), and baseline says whether its p is carried from an earlier one; otherwise looks is None. Fewer than
    two confirmed losses or two seeds: the same keys, with an empty best set and a headline that says why there is no
    comparison.
    """
    reason = _too_few(results.score_matrix(), " in each search" if results.rows == "searches" else "")
    look = look_at(results) if reason is None else None
    plan, seen = look.plan if look else None, results.facts.get("test_set_looks")
    verdict = {
        "study": results.study["name"], "metric": results.metric, "greater_is_better": results.greater_is_better,
        "alpha": level_of(results), "rope": results.study["confirm"].get("rope"), "conditional_on": CONDITIONAL_ON,
        "looks": plan, "test_set_looks": seen.described() if seen else None,
        **(_nothing(reason or "") if look is None else _findings(results, look)),
        **_failures(results), "budget_audit": audit_budget(results.budget), "notes": _notes(results, plan),
        "edges": [dict(edge) for edge in results.edges],
    }  # fmt: skip
    if look is not None:
        means = (results.direction() * look.comparison.scores.mean()).to_dict()
        said = [headline(verdict, means), *_failed_wholly(results), *([progress_sentence(plan)] if plan else [])]
        verdict["headline"] = " ".join(said)
        verdict["warnings"] += _incomplete(results)
    verdict["warnings"] += map(edge_sentence, results.edges)
    return _plain(verdict)


def _notes(results: Results, plan: dict[str, Any] | None) -> list[str]:
    """The results' notes, and what planned looks and other looks at the test set have to do with the verdict."""
    notes, seen = [*results.notes, *(plan_sentences(plan) if plan else [])], results.facts.get("test_set_looks")
    if seen and (seen.studies > 1 or seen.unknown or not seen.exact):
        notes.append(f"{seen} The more often it is looked at, the more what is chosen by it fits it alone.")
    return notes


def _too_few(scores: pd.DataFrame, where: str) -> str | None:
    """Why scores (seeds x losses) allow no comparison, or None where they do."""
    if scores.shape[1] < 2:
        return f"{scores.shape[1] or 'no'} loss was confirmed{where}, and it takes two"
    if scores.count().max() < 2:
        return "each loss has one confirmed seed, which says nothing about chance"
    if scores.count().min() < 2:
        return f"{scores.count().idxmin()} has one confirmed seed, which says nothing about chance"
    return None


def _nothing(reason: str) -> dict[str, Any]:
    """The keys of `_findings` where nothing can be compared."""
    return {
        "headline": f"No comparison is possible: {reason}.", "best_set": [], "highest_mean": None, "n_seeds": 0,
        "most_seeds": 0,
        "method": None, "paired": None, "baseline": None, "families": None, "separated_pairs": [],
        "undecided_pairs": [], "practically_equivalent": [], "paper_rule": None, "realized_correlation": None,
        "largest_skew": None, "warnings": [], "detectable": None, "improvement": [],
    }  # fmt: skip


def _findings(results: Results, look: Look) -> dict[str, Any]:
    comparison, table, baseline = look.comparison, look.table, results.study.get("baseline")
    baseline = baseline if baseline in table.index else None
    gain = _gain(table, baseline, comparison.alpha)
    if gain is not None and look.plan:
        # p of an earlier look is in place of that of all seeds, of which the interval is.
        gain["carried"] = bool(comparison_table(comparison, baseline).loc[gain["gain_of"], "baseline_p"] != gain["p"])
    separated, undecided = _pairs(comparison.pairs)
    return {
        "best_set": comparison.best_set, "highest_mean": table.index[0], "n_seeds": comparison.seeds,
        "most_seeds": int(comparison.scores.count().max()),
        "method": comparison.method, "paired": comparison.paired,
        "baseline": gain,
        "families": FAMILIES if baseline and len(table) > 2 else None,
        "separated_pairs": separated, "undecided_pairs": undecided,
        "practically_equivalent": [pair["losses"] for pair in undecided if pair["practically_equivalent"]]
        + [[pair["better"], pair["worse"]] for pair in separated if pair["practically_equivalent"]],
        "paper_rule": _paper_rule(table), "realized_correlation": comparison.correlation,
        "largest_skew": comparison.skew, "warnings": list(comparison.warnings),
        "detectable": _detectable(comparison.pairs["detectable"]),
        "improvement": probability_of_improvement(comparison.scores, comparison.alpha).to_dict("records"),
    }  # fmt: skip


def _detectable(pairs: pd.Series) -> dict[str, float]:
    """What difference between two losses the tests would find with power 80%, over all pairs."""
    return {"smallest": pairs.min(), "median": pairs.median(), "largest": pairs.max()}


def _pairs(pairs: pd.DataFrame) -> tuple[list[dict], list[dict]]:
    """The separated and the undecided pairs as dicts, the clearest first."""
    separated, undecided = [], []
    numbers = ["difference", "ci_low", "ci_high", "p", "practically_equivalent"]
    for row in pairs.to_dict("records"):
        shared = {name: row[name] for name in numbers}
        if row["separated"]:
            since = {"separated_with": row["separated_with"]} if "separated_with" in row else {}
            separated.append({"better": row["loss_a"], "worse": row["loss_b"], **shared, **since})
        else:
            needed = {name: row[name] for name in ("seeds_needed_low", "seeds_needed_high")}
            undecided.append({"losses": [row["loss_a"], row["loss_b"]], **shared, **needed})
    return separated, undecided


def _gain(table: pd.DataFrame, baseline: str | None, alpha: float) -> dict[str, Any] | None:
    """What the highest mean gains over the declared baseline, tested over the pairs with the baseline alone."""
    if baseline is None:
        return None
    row = table.iloc[0]
    return {
        "loss": baseline, "gain_of": table.index[0], "gain": row["baseline_difference"],
        "ci_low": row["baseline_ci_low"], "ci_high": row["baseline_ci_high"], "p": row["baseline_p"],
        "separated": bool(row["baseline_p"] <= alpha),
    }  # fmt: skip


def _paper_rule(table: pd.DataFrame) -> dict[str, Any]:
    """What the papers would print in bold, beside the best set."""
    bold, ours = list(table.index[table["paper_rule"]]), list(table.index[table["in_best_set"]])
    return {
        "rule": "bold unless Welch's unadjusted t-test against the best mean gives p <= 0.05; no error guarantee",
        "bold": bold, "only_in_best_set": [loss for loss in ours if loss not in bold],
        "only_in_paper_rule": [loss for loss in bold if loss not in ours],
    }  # fmt: skip


def _failures(results: Results) -> dict[str, Any]:
    members = results.members[results.members["state"] == "failed"]
    trials = results.trials[results.trials["state"] == "failed"]
    return {
        "failed_members": members[["loss", "seed", "reason"]].to_dict("records"),
        "failed_trials": trials[["loss", "number", "reason"]].to_dict("records"),
        "unconfirmed": [loss for loss in results.study["losses"] if loss not in set(results.members["loss"])],
    }


def _failed_wholly(results: Results) -> list[str]:
    """For the headline: the losses of which every seed failed, so that its numbers are not those of a trained model."""
    states = {loss: own for loss, own in results.members.groupby("loss")["state"] if (own == "failed").all()}
    if len(states) == len(results.confirmed()):
        return [f"All {results.rows} of every loss failed and count as the constant predictor."]
    named = {results.study.get("baseline"): ", the baseline,"}
    return [f"All {len(states[loss])} {results.rows} of {loss}{named.get(loss, '')} failed and count as the constant "
            "predictor." for loss in results.confirmed() if loss in states]  # fmt: skip


def _incomplete(results: Results) -> list[str]:
    """Warnings about failed members and losses or seeds that are missing."""
    found, failed = [], results.members.loc[results.members["state"] == "failed", "loss"].value_counts(sort=False)
    for loss, count in failed.items():
        runs = "1 confirmed seed" if count == 1 else f"{count} confirmed seeds"
        found.append(f"{runs} of {loss} failed; failed seeds score as the constant predictor, and where losses fail "
                     "in rare seeds, false separations can be far more frequent than alpha")
    missing = [loss for loss in results.study["losses"] if loss not in set(results.members["loss"])]
    if missing:
        found.append(f"{UNCONFIRMED}: {listed(missing)}")
    undefined = [loss for loss in results.confirmed() if loss not in results.score_matrix()]
    if undefined:
        found.append(f"not compared, because {metric_name(results.metric)} is not defined for it: {listed(undefined)}")
    return found  # fmt: skip


def audit_budget(budget: pd.DataFrame) -> list[dict[str, Any]]:
    """Per phase and quantity: which losses spent most and least, and their ratio; flagged above 1.25.

    ratio is None where a loss spent nothing although another one did.
    """
    rows = []
    for phase, group in budget.groupby("phase", sort=False):
        for quantity in AUDITED:
            spent = group.set_index("loss")[quantity].astype(float)
            most, least = float(spent.max()), float(spent.min())
            ratio = 1.0 if most == least else most / least if least > 0 else None
            rows.append({
                "phase": phase, "quantity": quantity, "highest_loss": spent.idxmax(), "highest": most,
                "lowest_loss": spent.idxmin(), "lowest": least, "ratio": ratio,
                "flagged": ratio is None or ratio > UNEQUAL,
            })  # fmt: skip
    return rows


def _plain(value: Any) -> Any:
    """The value in JSON's own types: numpy scalars unpacked, NaN and infinities as None."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
