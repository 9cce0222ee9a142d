"""What is found, in sentences. "Not shown to differ" is never written "equal"."""

from __future__ import annotations

from typing import Any

from losstune.analysis.results import difference_unit, metric_name, show, show_p, unit

CONDITIONAL_ON = (
    "at the configurations that this one search found, on this split and test set; the variance of the search is "
    "unmeasured, and more seeds cannot reduce it"
)
MOST_NAMES = 5


def listed(names: list[str]) -> str:
    """Names as prose: "a", "a and b", "a, b and c"."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def interval(low: float | None, high: float | None, metric: str, alpha: float) -> str:
    """An interval of a difference: "95% interval +0.32 to +1.23 points"."""
    if low is None or high is None:
        return f"{100 * (1 - alpha):g}% interval unbounded"
    return (f"{100 * (1 - alpha):g}% interval {show(low, metric, sign=True)} to {show(high, metric, sign=True)}"
            f"{difference_unit(metric)}")  # fmt: skip


def seeds_range(low: int | None, high: int | None) -> str:
    """The seeds that would decide a pair: "24 to 310 seeds", "24 seeds or more, without limit"."""
    if low is None:
        return "more seeds than is practical"
    if high is None:
        return f"at least {low:,} seeds, perhaps without limit"
    return f"{low:,} seeds" if low == high else f"{low:,} to {high:,} seeds"


def headline(verdict: dict[str, Any], means: dict[str, float]) -> str:
    """The verdict in two or three sentences that need no statistics. means: in the metric's own direction."""
    metric, best, every = verdict["metric"], verdict["best_set"], len(means)
    top = verdict["highest_mean"]
    score = f"{show(means[top], metric)}{unit(metric)}"
    if len(best) == 1:
        others = "the other loss is" if every == 2 else f"each of the other {every - 1} losses is"
        first = (f"{top} wins: the best {metric_name(metric)}, {score}, and {others} behind it by more than chance "
                 "explains.")  # fmt: skip
    elif len(best) == every:
        first = (f"No winner: the {every} losses are not shown to differ with {verdict['n_seeds']} seeds. "
                 f"The best mean {metric_name(metric)} is that of {top}, {score}.")  # fmt: skip
    else:
        names = listed(best) if len(best) <= MOST_NAMES else listed([*best[:3], f"{len(best) - 3} others"])
        first = (f"No single winner: {names} lead, and no loss is shown to be better than any of them. "
                 f"The best mean {metric_name(metric)} is that of {top}, {score}.")  # fmt: skip
    return " ".join(filter(None, [first, _against_baseline(verdict)]))


def _against_baseline(verdict: dict[str, Any]) -> str:
    baseline, metric = verdict["baseline"], verdict["metric"]
    if baseline is None:
        return ""
    if baseline["gain_of"] == baseline["loss"]:
        return "That is the baseline itself."
    gain = f"{show(baseline['gain'], metric)}{difference_unit(metric)}"
    bounds = interval(baseline["ci_low"], baseline["ci_high"], metric, verdict["alpha"])
    if baseline["separated"]:
        return f"{baseline['gain_of']} gains {gain} over the baseline {baseline['loss']} ({bounds})."
    return f"Its gain over the baseline {baseline['loss']}, {gain} ({bounds}), is within what chance explains."


def separated_sentence(pair: dict[str, Any], metric: str, alpha: float) -> str:
    """One pair that was separated, in words."""
    p = f"p = {show_p(pair['p'])}".replace("= <", "<")
    return (f"{pair['better']} beats {pair['worse']} by {show(pair['difference'], metric)}{difference_unit(metric)} "
            f"({interval(pair['ci_low'], pair['ci_high'], metric, alpha)}; {p}).")  # fmt: skip


def undecided_sentence(pair: dict[str, Any], metric: str, alpha: float) -> str:
    """One pair that was not separated, in words, with the seeds that would decide it."""
    first, second = pair["losses"]
    close = "; the two are practically equivalent" if pair["practically_equivalent"] else ""
    return (f"{first} and {second} are not shown to differ: {show(pair['difference'], metric, sign=True)}"
            f"{difference_unit(metric)} ({interval(pair['ci_low'], pair['ci_high'], metric, alpha)}){close}; "
            f"deciding would take {seeds_range(pair['seeds_needed_low'], pair['seeds_needed_high'])}.")  # fmt: skip


def audit_sentence(row: dict[str, Any]) -> str:
    """One line of the budget audit, in words."""
    quantity = row["quantity"].replace("_", "-")
    spread = (f"{row['phase'].capitalize()}: between {row['lowest']:,.0f} ({row['lowest_loss']}) and "
              f"{row['highest']:,.0f} ({row['highest_loss']}) {quantity} per loss")  # fmt: skip
    if row["ratio"] is None:
        return f"{spread}: one loss spent nothing."
    flag = ", more than 1.25 times as many" if row["flagged"] else ""
    reason = "; each loss is confirmed for its own chosen number of epochs" if row["phase"] == "confirm" else ""
    return f"{spread}, a ratio of {row['ratio']:.2f}{flag}{reason}."
