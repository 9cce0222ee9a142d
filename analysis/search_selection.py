"""What choosing by validation score did: how much the chosen scores flatter, and what half the budget would choose."""

from __future__ import annotations

from functools import cache
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from losstune.analysis.results import Results
from losstune.analysis.search_curves import ahead

Row = dict[str, Any]


@cache
def expected_maximum(candidates: int) -> float:
    """Expected largest of so many independent standard normal values: 0 for one, 1.87 for 20."""
    if candidates == 1:
        return 0.0
    return float(stats.order_statistic(stats.Normal(), r=candidates, n=candidates).mean())


def winners_bias(results: Results, ended: dict[str, pd.DataFrame]) -> dict[str, Any]:
    """By how much the chosen validation scores flatter the chosen configurations; ended: `ended_trials`.

    losses: a row per confirmed loss with a chosen score: chosen, fresh (mean validation score of its confirmed seeds
    that did not fail), seeds, observed (how much better chosen is than fresh), standard_error of that, candidates (the
    trials that could have been chosen or were stopped), and expected: `expected_maximum(candidates)` times the noise of
    a trial's score, which is the confirmed seeds' standard deviation over the root of the seeds per trial.

    expected is what chance alone gives where all configurations are equally good, and more than it gives where they
    are not. It covers the choice of the configuration, not that of the epoch, which adds to observed. standard_error
    and expected are None with fewer than two such seeds or an unknown number of seeds per trial. median_observed and
    median_expected: over the losses that have them, since one unsteady loss would rule a mean. reason: why there are
    no rows, or None.
    """
    column = f"validation_{results.metric}"
    if results.study["confirm"].get("train_on") == "all":
        rows, reason = [], "the confirmed runs trained on the validation split too"
    elif column not in results.members or results.members[column].isna().all():
        rows, reason = [], "no confirmed run has a validation score"
    else:
        rows = [row for loss in results.confirmed() if (row := _bias_row(results, loss, ended.get(loss))) is not None]
        reason = None if rows else "no confirmed loss has both a chosen score and a fresh validation score"
    medians = {f"median_{name}": _median([row[name] for row in rows]) for name in ("observed", "expected")}
    return {"losses": rows, **medians, "reason": reason}


def _bias_row(results: Results, loss: str, own: pd.DataFrame | None) -> Row | None:
    members, choice = results.members, results.chosen(loss)
    kept = members[(members["loss"] == loss) & (members["state"] == "complete")]
    fresh = pd.to_numeric(kept[f"validation_{results.metric}"]).dropna()
    if own is None or choice is None or pd.isna(choice["score"]) or fresh.empty:
        return None
    candidates, per_trial = int((own["state"] != "failed").sum()), results.study["search"].get("seeds")
    error = expected = None
    if len(fresh) > 1 and per_trial and candidates:
        deviation = float(fresh.std(ddof=1))
        error = deviation * float(np.sqrt(1 / per_trial + 1 / len(fresh)))
        expected = expected_maximum(candidates) * deviation / float(np.sqrt(per_trial))
    return {
        "loss": loss, "chosen": float(choice["score"]), "fresh": float(fresh.mean()), "seeds": len(fresh),
        "observed": results.direction() * float(choice["score"] - fresh.mean()), "standard_error": error,
        "candidates": candidates, "expected": expected,
    }  # fmt: skip


def _median(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.median(known)) if known else None


def half_budget(results: Results, ended: dict[str, pd.DataFrame]) -> dict[str, Any] | None:
    """What the first half of each loss's configurations would have chosen; None where no loss has two.

    losses: a row per loss: configurations, half (rounded down, at least one), number and score as chosen after all
    of them, half_number and half_score as chosen after half (None where no full-length trial was among them), same
    (configuration), gain (how much better score is than half_score; None where either is missing). leader and
    half_leader: the loss with the best chosen score, of equal ones the first. reversed: the pairs of losses whose
    order by chosen score turns round, as [ahead after all, ahead after half].

    As recorded, in order of number: trials of the first half may have been stopped because of later ones.
    """
    if max(map(len, ended.values()), default=0) < 2:
        return None
    rows = [_half_row(results, loss, own) for loss, own in ended.items()]
    whole, half = ({row["loss"]: results.direction() * row[key] for row in rows if row[key] is not None}
                   for key in ("score", "half_score"))  # fmt: skip
    reversed_ = []
    for one, other in combinations([loss for loss in whole if loss in half], 2):
        now, then = ahead(whole[one], whole[other]), ahead(half[one], half[other])
        if now * then < 0:
            reversed_.append([one, other] if now > 0 else [other, one])
    leader, half_leader = (max(scores, key=scores.__getitem__, default=None) for scores in (whole, half))
    return {"losses": rows, "leader": leader, "half_leader": half_leader, "reversed": reversed_}


def _half_row(results: Results, loss: str, own: pd.DataFrame) -> Row:
    half, chosen = max(1, len(own) // 2), results.chosen(loss)
    recorded = chosen is not None and not pd.isna(chosen["score"])
    number, score = (int(chosen["number"]), float(chosen["score"])) if recorded else _best(own)
    half_number, half_score = _best(own.iloc[:half])
    both = score is not None and half_score is not None
    return {
        "loss": loss, "configurations": len(own), "half": half, "number": number, "score": score,
        "half_number": half_number, "half_score": half_score, "same": both and number == half_number,
        "gain": results.direction() * (score - half_score) if both else None,
    }  # fmt: skip


def _best(own: pd.DataFrame) -> tuple[int | None, float | None]:
    """Number and score of the best full-length trial, of equal ones the first, as the search itself chooses."""
    full = own[(own["state"] == "complete") & own["value"].notna()]
    if full.empty:
        return None, None
    best = full.iloc[full["value"].argmax()]
    return int(best["number"]), float(best["score"])
