"""How far the search can be trusted: best score against budget, the selection's optimism, who was given how much."""

from __future__ import annotations

from math import comb
from typing import Any

import pandas as pd

from losstune.analysis.results import Results, difference_unit, metric_name, show, unit
from losstune.analysis.search_curves import QUANTITIES, budget_curves, ended_trials, overtakings
from losstune.analysis.search_selection import half_budget, winners_bias
from losstune.analysis.verdict import audit_budget
from losstune.analysis.wording import MOST_NAMES, listed
from losstune.spaces import InputError, space_of

Row = dict[str, Any]


def search_honesty(results: Results) -> dict[str, Any]:
    """What has to be known of a search before its choices are believed; JSON-serialisable, None where undefined.

    Scores are validation scores in the metric's own direction, differences say how much better. Keys:

    - metric, greater_is_better, method.
    - curves: per loss, see `search_curves.budget_curves`; overtakings: per quantity (configurations, member_epochs)
      leaders and crossings, see `search_curves.overtakings`.
    - spaces: a row per loss: hyperparameters (how many are searched), passes (per step), configurations (ended),
      member_epochs.
    - failures: a row per loss: ended, stopped, failed, crash_rate (failed / ended).
    - winners_bias: see `winners_bias`; half_budget: see `half_budget`.
    - budget_audit: the search's rows of `verdict.audit_budget`; edges: the results' ranges that were too narrow.

    Without a search trial that has ended, curves and rows are empty, and half_budget is None.
    """
    ended, direction = ended_trials(results), results.direction()
    curves = budget_curves(results, ended)
    return {
        "metric": results.metric, "greater_is_better": results.greater_is_better,
        "method": results.study["search"].get("method"), "curves": curves,
        "overtakings": {quantity: overtakings(curves, quantity, direction) for quantity in QUANTITIES},
        "spaces": [_space_row(results, loss, own) for loss, own in ended.items()],
        "failures": [_failure_row(loss, own) for loss, own in ended.items()],
        "winners_bias": winners_bias(results, ended), "half_budget": half_budget(results, ended),
        "budget_audit": _search_audit(results.budget), "edges": [dict(edge) for edge in results.edges],
    }  # fmt: skip


def _space_row(results: Results, loss: str, own: pd.DataFrame) -> Row:
    searched = {name for params in own["params"] for name in params}
    return {
        "loss": loss, "hyperparameters": len(searched), "passes": _passes(results, loss), "configurations": len(own),
        "member_epochs": float(own["member_epochs"].sum()),
    }  # fmt: skip


def _passes(results: Results, loss: str) -> int:
    """Forward and backward passes per step, as the study recorded them or as the loss's space says."""
    recorded = results.study.get("passes", {})
    if loss in recorded:
        return int(recorded[loss])
    try:
        return space_of(loss).passes
    except InputError:
        return 1  # another package's loss, which may not be installed here


def _failure_row(loss: str, own: pd.DataFrame) -> Row:
    stopped, failed = (int((own["state"] == state).sum()) for state in ("stopped", "failed"))
    return {"loss": loss, "ended": len(own), "stopped": stopped, "failed": failed, "crash_rate": failed / len(own)}


def _search_audit(budget: pd.DataFrame) -> list[Row]:
    if budget.empty:
        return []
    search = budget[budget["phase"] == "search"]
    return audit_budget(search) if search["asked"].sum() else []


def sentences(found: dict[str, Any], metric: str) -> list[str]:
    """What `search_honesty` found, in sentences; metric: the study's. None of them rests on a test.

    The budget's audit is not among them: the report says it with the budget.
    """
    if not found["curves"]:
        return ["No search is recorded, so nothing is known of how the configurations were chosen."]
    said = [_about_curves(found, metric), *_about_overtakings(found, metric), *_about_equality(found)]
    return [*said, *_about_edges(found["edges"]), *_about_failures(found["failures"]),
            _about_bias(found["winners_bias"], metric), *_about_half(found["half_budget"], metric)]  # fmt: skip


def _about_curves(found: dict[str, Any], metric: str) -> str:
    kinds = {curve["kind"] for curve in found["curves"].values()}
    first = f"Best validation {metric_name(metric)} against budget: "
    if "expected" not in kinds:
        return (f"{first}the path that this search took, the best full-length trial so "
                "far; another search would take another path.")  # fmt: skip
    exact = all(curve["exact"] for curve in found["curves"].values())
    rough = "" if exact else (", except that a stopped trial counts with the score it had when it was stopped, so that "
                              "small budgets look somewhat worse than they are")  # fmt: skip
    return (f"{first}the expectation over all orders in which the random search could have drawn its "
            f"configurations{rough}.")  # fmt: skip


def _about_overtakings(found: dict[str, Any], metric: str) -> list[str]:
    if len(found["curves"]) < 2:
        return []
    said = []
    for quantity, both in found["overtakings"].items():
        if both["leaders"]:
            spans = [f"{listed(span['losses'])} from {span['from']:,.0f} on" for span in both["leaders"]]
            said.append(f"Best validation {metric_name(metric)} by {quantity.replace('_', '-')} per loss: "
                        f"{', '.join(spans)}; compared up to {both['leaders'][-1]['to']:,.0f}.")  # fmt: skip
    last = {frozenset((row["ahead"], row["behind"])): row
            for row in found["overtakings"]["configurations"]["crossings"]}  # fmt: skip
    if last:
        latest = sorted(last.values(), key=lambda row: -row["at"])
        named = [f"{row['ahead']} passes {row['behind']} at {row['at']:,.0f}" for row in latest[:MOST_NAMES]]
        more = f"; and {len(latest) - MOST_NAMES} earlier" if len(latest) > MOST_NAMES else ""
        pairs = f"{len(latest)} of {comb(len(found['curves']), 2)} pairs of losses"
        said.append(f"The curves of {pairs} cross, the last time at this many configurations: {'; '.join(named)}{more}"
                    ". Which of two such losses is ahead depends on the budget.")  # fmt: skip
    return said


def _about_equality(found: dict[str, Any]) -> list[str]:
    """Losses that search more hyperparameters, take more passes, or were given fewer configurations."""
    rows, said = found["spaces"], []
    counts = [row["hyperparameters"] for row in rows]
    if max(counts) > min(counts):
        most, least = ([row["loss"] for row in rows if row["hyperparameters"] == n] for n in (max(counts), min(counts)))
        said.append(f"The losses search from {min(counts)} hyperparameters ({_few(least)}) to {max(counts)} "
                    f"({_few(most)}): with as many configurations a larger space is covered more thinly, and its loss "
                    "may be compared further from its best.")  # fmt: skip
    for row in rows:
        if row["passes"] > 1:
            said.append(f"{row['loss']} takes {row['passes']} passes per step, so an epoch of one seed counts as "
                        f"{row['passes']} member-epochs: {row['member_epochs']:,.0f} in the search.")  # fmt: skip
    asked = {row["loss"]: row["configurations"] for row in rows}
    if len(set(asked.values())) > 1:
        low, high = min(asked, key=asked.__getitem__), max(asked, key=asked.__getitem__)
        said.append(f"Not every loss had as many configurations: {asked[low]} ({low}) to {asked[high]} ({high}).")
    return said


def _few(losses: list[str]) -> str:
    kept = losses if len(losses) <= MOST_NAMES else [*losses[:3], f"{len(losses) - 3} others"]
    return listed(kept)


def _about_edges(edges: list[Row]) -> list[str]:
    losses = list(dict.fromkeys(edge["loss"] for edge in edges))
    return [f"A chosen value of {_few(losses)} lies at an end of what was searched: more configurations would not "
            "have helped there, a wider range may."] if losses else []  # fmt: skip


def _about_failures(failures: list[Row]) -> list[str]:
    bad = [f"{row['failed']} of {row['ended']} of {row['loss']} ({row['crash_rate']:.0%})"
           for row in sorted(failures, key=lambda row: -row["crash_rate"]) if row["failed"]]  # fmt: skip
    if not bad:
        return ["No trial of the search failed."]
    return [f"Trials of the search that failed, each counted as one of its loss's: {listed(bad)}."]


def _about_bias(bias: dict[str, Any], metric: str) -> str:
    if bias["reason"] is not None:
        return f"How much the chosen validation scores flatter is not known: {bias['reason']}."
    points, typical = difference_unit(metric), bias["median_observed"]
    most = max(bias["losses"], key=lambda row: row["observed"])
    over = f", in the median of {len(bias['losses'])} losses," if len(bias["losses"]) > 1 else ""
    said = (f"The chosen validation scores are{over} {show(abs(typical), metric)}{points} "
            f"{'better' if typical >= 0 else 'worse'} than those of the same configurations' fresh seeds")
    if most["observed"] > 0:
        said += (f"; {most['loss']}'s flatters most ({show(most['chosen'], metric)} against "
                 f"{show(most['fresh'], metric)}{unit(metric)})")  # fmt: skip
    if bias["median_expected"]:
        said += (f"; choosing by chance alone among equally good configurations would make them "
                 f"{show(bias['median_expected'], metric)}{points} better")  # fmt: skip
    return f"{said}. The verdict does not use them: it rests on the fresh seeds."


def _losses(count: int) -> str:
    return "1 loss" if count == 1 else f"{count} losses"


def _about_half(half: dict[str, Any] | None, metric: str) -> list[str]:
    if half is None:
        return []
    rows = half["losses"]
    other = [row["loss"] for row in rows if row["half_number"] is not None and not row["same"]]
    none = [row["loss"] for row in rows if row["number"] is not None and row["half_number"] is None]
    said = f"After half the configurations another one would have been chosen for {len(other)} of {_losses(len(rows))}"
    gains = {row["loss"]: row["gain"] for row in rows if row["gain"] is not None}
    if other:
        most = max(gains, key=gains.__getitem__)
        said += (f"; the second half gained at most {show(gains[most], metric)}{difference_unit(metric)} in validation "
                 f"{metric_name(metric)} ({most})")  # fmt: skip
    said += f"; for {_few(none)} none of full length" if none else ""
    if half["leader"] is None or half["half_leader"] is None:
        return [f"{said}."]
    same = half["leader"] == half["half_leader"]
    first = f"{half['leader']} would have led as well" if same else (
        f"{half['half_leader']} would have led instead of {half['leader']}")  # fmt: skip
    pairs = len(half["reversed"])
    order = "no pair changes its order" if not pairs else f"{pairs} pair{'s' * (pairs > 1)} of losses would be reversed"
    return [f"{said}. By validation {metric_name(metric)} {first}, and {order}."]
