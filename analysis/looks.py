"""Looks at the results that were planned, at rising numbers of seeds.

Where K looks are planned, look k tests all seeds so far at alpha / K (Bonferroni over the
looks), and what an earlier look has separated stays separated. What earlier looks have separated is computed again
from the first seeds, as each of them had them; nothing is remembered. The chance of a false separation in any look
is then at most alpha wherever that of a single look is at most its level.

A separation of which the present means are the other way round is withdrawn: to say less is always allowed, and "a
beats b" beside a higher mean of b is no finding. Losses that were added or taken out since count as if they always had
been in the study, or never.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from losstune.analysis.results import Results, show_p
from losstune.analysis.significance import Comparison, analyse, comparison_table
from losstune.analysis.wording import listed
from losstune.spaces import InputError


@dataclass(frozen=True)
class Look:
    """The latest look at a study's results.

    comparison: see `analyse`; where looks are planned, alpha is the level of each, p of a pair that was separated is
    the one that separated it, and pairs has separated_with, the seeds that did (None for others). table: what
    `comparison_table` gives of it, with the study's baseline. plan: what was planned and what came of it, for
    verdict.json, or None without planned looks: see `look_at`.
    """

    comparison: Comparison
    table: pd.DataFrame
    plan: dict[str, Any] | None


def look_at(results: Results) -> Look:
    """Compare the confirmed losses, as the study's plan has it.

    plan: planned (seeds of each look), alpha (over all looks), level (of each), seeds (so many are looked at), look
    (its number from 1 on, None where it is none of the planned), enough (every pair is separated), next (seeds of the
    next look, None after the last or when there is enough), carried and withdrawn: separations of earlier looks that
    stand and that do not, each as better, worse, seeds and p. Raises InputError (one line) as `analyse` does.
    """
    confirm, scores = results.study["confirm"], results.score_matrix()
    alpha, planned, level = confirm.get("alpha", 0.05), list(confirm.get("looks") or ()), level_of(results)
    found = analyse(scores, level, confirm.get("rope"), results.resolution())
    baseline = results.study.get("baseline")
    baseline = baseline if baseline in found.scores.columns else None
    if not planned:
        return Look(found, comparison_table(found, baseline), None)
    earlier = _earlier(scores, [seeds for seeds in planned if seeds < confirm["seeds"]], level, results.resolution())
    found, carried, withdrawn = _carry(found, earlier)
    table = comparison_table(found, baseline)
    if baseline is not None:
        _carry_baseline(table, earlier, baseline)
    enough = bool(found.pairs["separated"].all())
    plan = {"planned": planned, "alpha": alpha, "level": level, **_place(planned, confirm["seeds"], found, enough),
            "carried": carried, "withdrawn": withdrawn}  # fmt: skip
    return Look(found, table, plan)


def level_of(results: Results) -> float:
    """The level at which one look tests: the study's alpha, shared out among its planned looks."""
    confirm = results.study["confirm"]
    return confirm.get("alpha", 0.05) / max(1, len(confirm.get("looks") or ()))


def _earlier(scores: pd.DataFrame, looks: list[int], level: float, resolution: float | None) -> dict[int, Comparison]:
    """What earlier looks found, by their seeds; a look at which nothing could be compared separated nothing."""
    found = {}
    for seeds in looks:
        try:
            found[seeds] = analyse(scores[scores.index < seeds], level, resolution=resolution)
        except InputError:
            continue
    return found


def _place(planned: list[int], wanted: int, found: Comparison, enough: bool) -> dict[str, Any]:
    """Where in the plan a look is. One without some of its seeds is none of the planned."""
    whole = found.seeds == len(found.scores) == wanted
    number = planned.index(wanted) + 1 if whole and wanted in planned else None
    later = [seeds for seeds in planned if seeds > found.seeds]
    return {"seeds": found.seeds, "look": number, "enough": enough, "next": None if enough or not later else later[0]}


def _carry(now: Comparison, earlier: dict[int, Comparison]) -> tuple[Comparison, list[dict], list[dict]]:
    """What is separated now or was before; the separations of earlier looks that stand, and those that do not."""
    first: dict[frozenset, dict] = {}
    for seeds, found in earlier.items():
        for row in found.pairs[found.pairs["separated"]].to_dict("records"):
            pair = {"better": row["loss_a"], "worse": row["loss_b"]}
            first.setdefault(frozenset(pair.values()), {**pair, "seeds": seeds, "p": row["p"]})
    rows, stands = now.pairs.to_dict("records"), []
    for row in rows:
        row["separated_with"] = now.seeds if row["separated"] else None
        before = first.get(frozenset((row["loss_a"], row["loss_b"])))
        if before and row["loss_a"] == before["better"] and row["difference"] > 0:
            row.update(p=before["p"], a_beats_b=True, separated=True, separated_with=before["seeds"],
                       seeds_needed_low=None, seeds_needed_high=None)  # fmt: skip
            stands.append(before)
    pairs = pd.DataFrame(rows).astype({name: object for name in ("seeds_needed_low", "seeds_needed_high")})
    beaten = set(pairs.loc[pairs["a_beats_b"], "loss_b"])
    best = [loss for loss in now.best_set if loss not in beaten]
    withdrawn = [one for one in first.values() if one not in stands]
    return replace(now, pairs=pairs, best_set=best), stands, withdrawn


def _carry_baseline(table: pd.DataFrame, earlier: dict[int, Comparison], baseline: str) -> None:
    """The same for the pairs with the baseline, a family of its own: p of the look that separated one, in place."""
    for found in reversed(earlier.values()):  # the first look that separated a pair has the last word
        before = comparison_table(found, baseline).reindex(table.index)
        same = before["baseline_difference"] * table["baseline_difference"] > 0
        clear = same & (before["baseline_p"] <= found.alpha)
        table.loc[clear, "baseline_p"] = before.loc[clear, "baseline_p"]


def plan_sentences(plan: dict[str, Any]) -> list[str]:
    """What a reader has to know of planned looks, from the plan of a `Look`."""
    planned, number = plan["planned"], plan["look"]
    looks = f"{listed([f'{seeds}' for seeds in planned])} seeds"
    said = [f"{len(planned)} looks are planned, at {looks}: each is tested at alpha / {len(planned)} = "
            f"{plan['level']:.3g}, which holds the chance of a false separation in any of them at "
            f"{plan['alpha']:g} as long as the plan is kept."]  # fmt: skip
    if number is None:
        said.append(f"This look, with {plan['seeds']} seeds, is none of them: the error rate is no longer guaranteed.")
    said += [f"{one['better']} beats {one['worse']} since the look with {one['seeds']} seeds "
             f"(p {show_p(one['p']) if one['p'] < 0.001 else '= ' + show_p(one['p'])}); that stays."
             for one in plan["carried"]]  # fmt: skip
    said += [f"{one['better']} was separated from {one['worse']} with {one['seeds']} seeds, but no longer has the "
             "higher mean: that is withdrawn." for one in plan["withdrawn"]]  # fmt: skip
    return said


def progress_sentence(plan: dict[str, Any]) -> str:
    """Where in the plan a look is, for the headline."""
    number, planned = plan["look"], plan["planned"]
    here = (f"This look, with {plan['seeds']} seeds, was not planned" if number is None
            else f"Look {number} of {len(planned)}, with {plan['seeds']} seeds")  # fmt: skip
    if plan["enough"] and number is not None and number < len(planned):
        return f"{here}: every pair is separated, and the seeds that are planned beyond are not needed."
    return f"{here}; the next is planned with {plan['next']}." if plan["next"] else f"{here}."
