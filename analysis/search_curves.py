"""The best validation score of each loss against its budget, and where one loss overtakes another."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from losstune.analysis.results import Results

ENDED = ("complete", "stopped", "failed")
QUANTITIES = ("configurations", "member_epochs")
# Scores nearer than this, relative to their size, differ by rounding only.
ROUNDING = 1e-12


def expected_best(values: np.ndarray, first: float | None = None) -> np.ndarray:
    """Expected best of n values drawn from B without replacement, n = 1 ... B, shape (B,); higher is better.

    sum over j of y_(j) C(j-1, n-1) / C(B, n), y_(1) <= ... <= y_(B): the unbiased estimate of the expected best of n
    independent draws (Tang et al. 2020). With `first`, a value that is always drawn first (a loss's default): the
    expected best of it and n - 1 others, n = 1 ... B + 1, shape (B + 1,).
    """
    if first is not None:
        rest = expected_best(np.maximum(values, first)) if len(values) else np.array([])
        return np.concatenate([[first], rest])
    ordered, rank = np.sort(np.asarray(values, dtype=float)), np.arange(1, len(values) + 1)
    return np.array([float(_weights(n, rank) @ ordered) for n in rank])


def _weights(n: int, rank: np.ndarray) -> np.ndarray:
    """C(j-1, n-1) / C(B, n) for ranks j = 1 ... B; by ratios, since the binomials themselves overflow."""
    # C(j, n) / C(B, n), the chance that none of the n lies above rank j, from j = B downwards.
    steps = np.clip(rank[1:] - n, 0, None) / rank[1:]
    none_above = np.append(np.cumprod(steps[::-1])[::-1], 1.0)
    return none_above * n / rank


def ended_trials(results: Results) -> dict[str, pd.DataFrame]:
    """Per loss of the study its search trials that have ended, in order of number; losses without any are left out.

    With a column `value`: the score, higher is better; NaN where there is none. Trials that run, or that a cap on
    the time cut off, are no part of any statement on the search.
    """
    trials, found = results.trials, {}
    for loss in results.study["losses"] if len(trials) else ():
        own = trials[(trials["loss"] == loss) & trials["state"].isin(ENDED)].sort_values("number")
        if len(own):
            value = results.direction() * pd.to_numeric(own["score"])
            found[loss] = own.assign(value=value.where(np.isfinite(value)))
    return found


def budget_curves(results: Results, ended: dict[str, pd.DataFrame]) -> dict[str, dict[str, Any]]:
    """Per loss its best validation score against what was spent; ended: `ended_trials`.

    Each curve holds `configurations` (1 ... B), `member_epochs` spent by then, and `best`, in the metric's own
    direction, None before a configuration could have been chosen; all of length B. kind:

    - "expected", for random search: the mean over all orders of what was drawn, the default first, as it was asked. A
      stopped trial counts with the score it had, at most the best of full length: trained on it would have had at
      least as much, but it could not be chosen. With any stopped trial the curve is therefore not exact
      (exact: False), and rather too low.
    - "realized", for all other methods, whose asks depend on earlier results: the best full-length trial so far, in
      order of number. A stopped trial changes nothing.

    A failed trial counts as the constant predictor. open_ended: there is nothing to search, and more budget buys none.
    """
    scores = [own["value"] for own in ended.values()]
    worst = pd.concat(scores).min() if scores else np.nan
    return {loss: _curve(results, own, worst) for loss, own in ended.items()}


def _curve(results: Results, own: pd.DataFrame, worst: float) -> dict[str, Any]:
    state, spent = own["state"].to_numpy(), own["member_epochs"].to_numpy(float)
    values = own["value"].fillna(worst).to_numpy(float)
    full = (state == "complete") & own["value"].notna().to_numpy()
    expected = results.study["search"].get("method") == "random" and bool(full.any())
    if expected:
        default = 1 if own["number"].iloc[0] == 0 else 0
        values = np.where(state == "stopped", np.minimum(values, values[full].max(initial=-np.inf)), values)
        best = expected_best(values[default:], values[0] if default else None)
        cost = _mean_cost(spent, default)
    else:
        best = np.maximum.accumulate(np.where((state == "stopped") | np.isnan(values), -np.inf, values))
        cost = np.cumsum(spent)
    return {
        "kind": "expected" if expected else "realized", "exact": not (expected and bool((state == "stopped").any())),
        "open_ended": not any(own["params"]), "configurations": list(range(1, len(own) + 1)),
        "member_epochs": [float(x) for x in cost],
        "best": [results.direction() * float(x) if np.isfinite(x) else None for x in best],
    }  # fmt: skip


def _mean_cost(spent: np.ndarray, default: int) -> np.ndarray:
    """Member-epochs of n configurations, n = 1 ... B, on average over all orders that leave the default in place."""
    rest = spent[default:]
    later = np.arange(1, len(rest) + 1) * (rest.mean() if len(rest) else 0.0)
    return np.concatenate([spent[:default], spent[:default].sum() + later])


def overtakings(curves: dict[str, dict[str, Any]], quantity: str, direction: int) -> dict[str, list[dict[str, Any]]]:
    """Who leads at which budget, and where two curves cross, over the budgets that every loss has had.

    quantity: one of QUANTITIES; direction: +1 where a higher score is better, -1 where a lower one is.
    leaders: {from, to, losses}, the best at these budgets, several where they are level. crossings: {at, ahead,
    behind}: from this budget on `ahead` is better than `behind`, which had been better before; each time it happens.
    """
    points = _common(curves, quantity)
    table = {loss: _at(curve, quantity, points, direction) for loss, curve in curves.items()}
    crossings = []
    for one, other in combinations(table, 2):
        sign = ahead(table[one], table[other])
        decided = np.flatnonzero(sign)
        for before, now in zip(decided, decided[1:], strict=False):
            if sign[before] != sign[now]:
                first, second = (one, other) if sign[now] > 0 else (other, one)
                crossings.append({"at": float(points[now]), "ahead": first, "behind": second})
    return {"leaders": _leaders(table, points), "crossings": sorted(crossings, key=lambda row: row["at"])}


def _common(curves: dict[str, dict[str, Any]], quantity: str) -> np.ndarray:
    """The budgets at which any curve has a step, as far as all curves go."""
    closed = [curve for curve in curves.values() if not curve["open_ended"]] or list(curves.values())
    last = min((curve[quantity][-1] for curve in closed), default=0.0)
    steps = np.unique([x for curve in curves.values() for x in curve[quantity]])
    return steps[steps <= last]


def _at(curve: dict[str, Any], quantity: str, points: np.ndarray, direction: int) -> np.ndarray:
    """What each of the budgets has bought, higher is better; -inf where it was nothing."""
    best = np.array([-np.inf, *(-np.inf if x is None else direction * x for x in curve["best"])])
    return best[np.searchsorted(curve[quantity], points, side="right")]


def ahead(one: Any, other: Any) -> np.ndarray:
    """+1 where one is better, -1 where the other is, 0 where they are level or one of them has nothing yet.

    one, other: scores, higher is better, of one shape; -inf stands for nothing.
    """
    both = np.isfinite(one) & np.isfinite(other)
    a, b = np.where(both, one, 0.0), np.where(both, other, 0.0)
    return np.where(np.abs(a - b) <= ROUNDING * np.maximum(np.abs(a), np.abs(b)), 0.0, np.sign(a - b))


def _leaders(table: dict[str, np.ndarray], points: np.ndarray) -> list[dict[str, Any]]:
    spans: list[dict[str, Any]] = []
    for place, x in enumerate(points):
        now = {loss: values[place] for loss, values in table.items() if np.isfinite(values[place])}
        top = max(now.values(), default=0.0)
        losses = [loss for loss, value in now.items() if top - value <= ROUNDING * abs(top)]
        if spans and spans[-1]["losses"] == losses:
            spans[-1]["to"] = float(x)
        elif losses:
            spans.append({"from": float(x), "to": float(x), "losses": losses})
    return spans
