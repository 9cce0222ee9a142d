"""What is found, in sentences. "Not shown to differ" is never written "equal"."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

from losstune.analysis.results import difference_unit, factor, metric_name, show, show_p, unit

CONDITIONAL_ON = (
    "at the configurations that this one search found, on this split and test set; the variance of the search is "
    "unmeasured, and more seeds cannot reduce it"
)
FAMILIES = (
    "All pairs of losses are one family of tests, the pairs with the baseline another. The chance of any false "
    "separation is held at alpha within each; that of one in either is up to about twice as large (7.7% to 9.5% at "
    "alpha 5% in simulations)."
)
MOST_NAMES = 5
MOST_SEEDS_SAID = 1000


def listed(names: list[str], word: str = "and") -> str:
    """Names as prose: "a", "a and b", "a, b and c"."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {word} {names[-1]}"


def in_searches(text: str) -> str:
    """A statement about rows of scores, which it calls seeds, where the rows are searches."""
    return re.sub(r"\bseed(s?)\b", lambda found: "searches" if found[1] else "search", text)


def interval(low: float | None, high: float | None, metric: str, alpha: float) -> str:
    """An interval of a difference: "95% interval +0.32 to +1.23 points"."""
    if low is None or high is None:
        return f"{100 * (1 - alpha):.4g}% interval unbounded"
    if low == high:
        return "the difference never varies"
    return (f"{100 * (1 - alpha):.4g}% interval {show(low, metric, sign=True)} to {show(high, metric, sign=True)}"
            f"{difference_unit(metric)}")  # fmt: skip


def seeds_range(low: int | None, high: int | None, rows: str = "seeds") -> str:
    """The seeds that would decide a pair: "24 to 310 seeds", "24 to more than 1,000 seeds"."""
    if low is None:
        return f"more {rows} than is practical"
    if high is None and low <= MOST_SEEDS_SAID:
        return f"at least {_about(low)} {rows}, perhaps without limit"
    return f"{_span(low, high)} {rows}"


def seeds_cell(low: int | None, high: int | None) -> str:
    """The same for a cell of a table: "24 to 310", "24 to no limit"."""
    if low is None:
        return "no limit"
    return f"{_about(low)} to no limit" if high is None and low <= MOST_SEEDS_SAID else _span(low, high)


def _span(low: int, high: int | None) -> str:
    first, last = _about(low), _about(high or math.inf)
    return first if first == last else f"{first} to {last}"


def _about(seeds: float) -> str:
    """Rounded up to two digits, since the range is a rough guide; beyond a limit, that it is."""
    if seeds > MOST_SEEDS_SAID:
        return f"more than {MOST_SEEDS_SAID:,}"
    step = 10 ** max(len(str(seeds)) - 2, 0)
    return f"{-(-seeds // step) * step:,}"


def seeds_of(verdict: dict[str, Any]) -> str:
    """How many seeds each loss has: "10", or "5 to 8"."""
    fewest, most = verdict["n_seeds"], verdict["most_seeds"]
    return f"{fewest}" if fewest == most else f"{fewest} to {most}"


def headline(verdict: dict[str, Any], means: dict[str, float]) -> str:
    """The verdict in two or three sentences that need no statistics. means: in the metric's own direction."""
    best, every = verdict["best_set"], len(means)
    if len(best) == 1:
        first = _one_winner(verdict, every, means)
    elif len(best) == every:
        first = (f"No winner: the {every} losses are not shown to differ with {seeds_of(verdict)} seeds. "
                 f"{_best_mean(verdict, means)}")  # fmt: skip
    else:
        names = best if len(best) <= MOST_NAMES else [*best[:3], f"{len(best) - 3} others"]
        others = [loss for loss in means if loss not in best]
        rest = (f"{others[0]} is beaten by {listed(_beating(verdict, others[0]))}" if len(others) == 1
                else f"each of the other {len(others)} is beaten by some loss")  # fmt: skip
        first = (f"No single winner: no loss is shown to beat {listed(names, 'or')}, and {rest}. "
                 f"{_best_mean(verdict, means)}")  # fmt: skip
    return " ".join(filter(None, [first, _against_baseline(verdict)]))


def _beating(verdict: dict[str, Any], loss: str) -> list[str]:
    """The losses that beat one, the first few of many."""
    found = [pair["better"] for pair in verdict["separated_pairs"] if pair["worse"] == loss]
    return found if len(found) <= MOST_NAMES else [*found[:3], f"{len(found) - 3} others"]


def _score(verdict: dict[str, Any], means: dict[str, float]) -> str:
    return f"{show(means[verdict['highest_mean']], verdict['metric'])}{unit(verdict['metric'])}"


def _top_is_baseline(verdict: dict[str, Any]) -> bool:
    return verdict["baseline"] is not None and verdict["baseline"]["loss"] == verdict["highest_mean"]


def _best_mean(verdict: dict[str, Any], means: dict[str, float]) -> str:
    itself = ", the baseline itself" if _top_is_baseline(verdict) else ""
    return (f"The best mean {metric_name(verdict['metric'])}, {_score(verdict, means)}, is that of "
            f"{verdict['highest_mean']}{itself}.")  # fmt: skip


def _one_winner(verdict: dict[str, Any], every: int, means: dict[str, float]) -> str:
    top = verdict["highest_mean"]
    beaten = [pair for pair in verdict["separated_pairs"] if pair["better"] == top]
    if len(beaten) < every - 1:
        return (f"No loss is shown to beat {top}, and every other loss is beaten by some loss, though not each of them "
                f"by {top}. {_best_mean(verdict, means)}")  # fmt: skip
    named = f"{top}, the baseline," if _top_is_baseline(verdict) else top
    others = "the other loss is" if every == 2 else f"each of the other {every - 1} losses is"
    return (f"{named} wins: the best mean {metric_name(verdict['metric'])}, {_score(verdict, means)}, and {others} "
            "behind it by more than chance explains.")  # fmt: skip


def _against_baseline(verdict: dict[str, Any]) -> str:
    """What the test of the pairs with the baseline says, a family of its own that can differ from that of all pairs."""
    baseline, metric = verdict["baseline"], verdict["metric"]
    if baseline is None or _top_is_baseline(verdict):
        return ""
    bounds = interval(baseline["ci_low"], baseline["ci_high"], metric, verdict["alpha"])
    bounds += _odd_interval(baseline, baseline["separated"], "an earlier look" * baseline.get("carried", False))
    gain = f"{show(baseline['gain'], metric, sign=not baseline['separated'])}{difference_unit(metric)}"
    if baseline["separated"]:
        said = f"gains {gain} over the baseline {baseline['loss']} ({bounds})."
    else:
        said = f"is not shown to gain over the baseline {baseline['loss']}: {gain} ({bounds})."
    # With two losses there is only one family.
    return f"{'Tested against the baseline alone, ' * bool(verdict['families'])}{baseline['gain_of']} {said}"


def _odd_interval(pair: dict[str, Any], separated: bool, earlier: str = "") -> str:
    """Why an interval seems to contradict its test, where it does. earlier: the planned look whose test it was, where
    that is not the present one, of which the interval is."""
    covers = _covers_zero(pair["ci_low"], pair["ci_high"])
    if earlier and covers:
        return f" of all seeds so far, which covers zero: {earlier} separated them, and that stays"
    if separated and covers:
        return ", which covers zero: the step-down test is sharper than the interval"
    if not separated and not covers:
        return ", which excludes zero, but the test decides and does not separate them"
    return ""


def _covers_zero(low: float | None, high: float | None) -> bool:
    return low is None or high is None or low <= 0 <= high


def odd_intervals(rows: Iterable[Sequence[float]], alpha: float, earlier: bool = False) -> list[str]:
    """What a table of intervals and p has to explain, a sentence each.

    rows: low, high, p of each pair. earlier: whether p may be that of an earlier look.
    """
    covered = excluded = False
    for low, high, p in rows:
        covers = _covers_zero(low, high)
        covered |= p <= alpha and covers
        excluded |= p > alpha and not covers
    other = ", or it was an earlier look that separated the two" if earlier else ""
    said = [f"Where p is at most {alpha:.3g} and the interval covers zero: the step-down test is sharper than the "
            f"interval{other}."] if covered else []  # fmt: skip
    return said + [f"Where p is above {alpha:.3g} and the interval excludes zero: the test decides and does not "
                   "separate them."] * bool(excluded)  # fmt: skip


def found_against(difference: float, p: float, alpha: float) -> str:
    """What a test against the baseline found: "better", "worse", or nothing."""
    return "" if not p <= alpha or difference == 0 else "better" if difference > 0 else "worse"


def separated_sentence(pair: dict[str, Any], metric: str, alpha: float, seeds: int | None = None) -> str:
    """One pair that was separated, in words. seeds: of the present look, where several are planned."""
    p, since = f"p = {show_p(pair['p'])}".replace("= <", "<"), pair.get("separated_with", seeds)
    earlier = "" if since == seeds else f"the look with {since} seeds"
    p += f" with {since} seeds" if earlier else ""
    bounds = interval(pair["ci_low"], pair["ci_high"], metric, alpha) + _odd_interval(pair, True, earlier)
    return (f"{pair['better']} beats {pair['worse']} by {show(pair['difference'], metric)}{difference_unit(metric)} "
            f"({bounds}; {p}).")  # fmt: skip


def undecided_sentence(pair: dict[str, Any], metric: str, alpha: float, rows: str = "seeds") -> str:
    """One pair that was not separated, in words, with the seeds that would decide it. rows: see `Results.rows`."""
    first, second = pair["losses"]
    close = "; the two are practically equivalent" if pair["practically_equivalent"] else ""
    bounds = interval(pair["ci_low"], pair["ci_high"], metric, alpha) + _odd_interval(pair, separated=False)
    return (f"{first} and {second} are not shown to differ: {show(pair['difference'], metric, sign=True)}"
            f"{difference_unit(metric)} ({bounds}){close}; "
            f"deciding would take "
            f"{seeds_range(pair['seeds_needed_low'], pair['seeds_needed_high'], rows)}.")  # fmt: skip


def detectable_sentence(detectable: dict[str, float | None], rows: str, metric: str) -> str:
    """How small a difference so many rows, "10 seeds", can find."""
    low, middle, high = (detectable[name] for name in ("smallest", "median", "largest"))
    if middle is None or (factor(metric) == 100 and middle > 1):
        return f"With {rows} no difference, however large, would be found with a chance of 80%."
    unit = difference_unit(metric)
    said = f"With {rows} a true difference of {show(middle, metric)}{unit} would be found with a chance of 80%"
    if low is None or high is None or show(low, metric) == show(high, metric):
        return f"{said}."
    span = f"{show(low, metric)} to {show(high, metric)}"
    return f"{said} (median over pairs; {span}, by how much a pair varies)."


def audit_sentence(row: dict[str, Any]) -> str:
    """One line of the budget audit, in words."""
    quantity, phase = row["quantity"].replace("_", "-"), row["phase"].capitalize()
    low, high = _amount(row["lowest"]), _amount(row["highest"])
    if low == high:
        return f"{phase}: {low} {quantity} for each loss."
    spread = f"{phase}: between {low} ({row['lowest_loss']}) and {high} ({row['highest_loss']}) {quantity} per loss"
    if row["ratio"] is None:
        return f"{spread}: one loss spent nothing."
    flag = ", more than 1.25 times as many" if row["flagged"] else ""
    reason = "; each loss is confirmed for its own chosen number of epochs" if row["phase"] == "confirm" else ""
    return f"{spread}, a ratio of {row['ratio']:.2f}{flag}{reason}."


def _amount(value: float) -> str:
    return f"{value:,.0f}" if value == 0 or value >= 10 else f"{value:.2g}"


def edge_sentence(edge: dict[str, Any]) -> str:
    """A chosen value at an end of what was searched, in words, with the range to try."""
    low, high = edge["try"]
    first, last = (edge["bound"], high) if edge["side"] == "lower" else (low, edge["bound"])
    return (f"Range too narrow: {edge['loss']}'s {edge['hyperparameter']} {edge['value']:.3g} is at the {edge['side']} "
            f"end of {first:.3g} to {last:.3g}; try {low:.3g} to {high:.3g}")  # fmt: skip
