"""A study that repeats its search: a row of scores per search, its mean over fresh seeds, and the search's variance.

Every search has a split and configurations of its own, shared by all losses, so that rows are paired. The tests are
those of `significance`, on searches in place of seeds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from losstune.analysis.power import detectable_difference
from losstune.analysis.repeats_notes import about_lacking, notes_of
from losstune.analysis.results import Results, difference_unit, factor, show
from losstune.analysis.variance_components import Components, components
from losstune.analysis.verdict import UNCONFIRMED, make_verdict
from losstune.analysis.wording import in_searches, listed
from losstune.spaces import InputError

WHATEVER = ("name", "n_train", "n_validation", "search_number")  # of a study, what searches need not have in common
MORE_SEARCHES = (8, 16)  # of which the power is given; from 8 on sign flips test


@dataclass(frozen=True)
class Repeated:
    """The searches of one study, joined.

    results: as those of one search; members has a row per loss and search, which stands in seed, from 1 on, its scores
    are means over the seeds; choices and curves are empty, budget is of all searches. Only losses that are confirmed in
    all searches are in members, so that rows are paired. parts: each search's own results.
    losses: those whose metric is defined in all searches. scores: searches x seeds x losses, higher is better.
    planned: how many searches there are to be. lacking: loss -> the searches, from 1 on, in which it is not confirmed.
    """

    results: Results
    parts: list[Results]
    losses: list[str]
    scores: np.ndarray
    planned: int
    lacking: dict[str, list[int]]

    @property
    def searches(self) -> int:
        return len(self.parts)

    @property
    def seeds(self) -> int:
        """Of each search."""
        return self.scores.shape[1]

    def losses_components(self) -> dict[str, Components]:
        """Of each loss's scores, in the metric's own direction."""
        own = self.results.direction() * self.scores
        return {loss: components(own[:, :, at]) for at, loss in enumerate(self.losses)}

    def pairs_components(self) -> dict[tuple[str, str], Components]:
        """Of each pair's differences seed by seed, the higher mean first, so that the mean is at least 0."""
        means, found = self.scores.mean(axis=(0, 1)), {}
        for pair in combinations(range(len(self.losses)), 2):
            first, second = sorted(pair, key=lambda at: -means[at])
            difference = self.scores[:, :, first] - self.scores[:, :, second]
            found[self.losses[first], self.losses[second]] = components(difference)
        return found


def join_searches(parts: list[Results], name: str, planned: int, reported: tuple[int, ...] = ()) -> Repeated:
    """Join the searches of a study, in their order.

    name: the study's. planned: how many searches there are to be. reported: of how many searches there have been
    reports before. Raises InputError (one line): fewer than two searches, searches that are not of the same study or
    were confirmed with different numbers of seeds, a search without some of its seeds.
    """
    if len(parts) < 2:
        raise InputError(f"{name}: {len(parts) or 'no'} search is confirmed; needed: at least 2")
    _check_same(parts, name)
    matrices = [part.score_matrix() for part in parts]
    losses = [loss for loss in matrices[0] if all(loss in own for own in matrices)]
    if not losses:
        raise InputError(f"{name}: no loss is confirmed in each of its searches; needed: at least 1")
    counts = sorted({int(count) for own in matrices for count in own[losses].count()})
    if len(counts) != 1:
        raise InputError(f"{name}: its searches are confirmed with {listed(list(map(str, counts)))} seeds; needed: as "
                         "many in each, and of every loss")  # fmt: skip
    scores = np.stack([own[losses].to_numpy() for own in matrices])
    lacking = _lacking(parts)
    study = {**parts[0].study, "name": name, "searches": len(parts), "confirm": {**parts[0].study["confirm"]}}
    joined = replace(
        parts[0], study=study, members=_members(parts, lacking), trials=_numbered(parts, "trials"),
        curves=parts[0].curves.iloc[:0], choices=parts[0].choices.iloc[:0], budget=_budget(parts),
        notes=notes_of(parts, planned, reported), edges=[], facts=_facts(parts), predictions={},
    )  # fmt: skip
    return Repeated(joined, parts, losses, scores, planned, lacking)


def _lacking(parts: list[Results]) -> dict[str, list[int]]:
    found = {loss: [number for number, part in enumerate(parts, start=1) if loss not in part.confirmed()]
             for loss in parts[0].study["losses"]}  # fmt: skip
    return {loss: numbers for loss, numbers in found.items() if numbers}


def _check_same(parts: list[Results], name: str) -> None:
    first = parts[0]
    for number, part in enumerate(parts[1:], start=2):
        found = [field for field, value in first.study.items()
                 if field not in WHATEVER and part.study.get(field) != value]  # fmt: skip
        if part.facts.get("data_digest") != first.facts.get("data_digest"):
            found.append("data digest")
        if found:
            raise InputError(f"{name}: search {number} differs from search 1 in {listed(found)}; needed: the same, "
                             "which a run of the study sees to")  # fmt: skip


def _numbered(parts: list[Results], frame: str) -> pd.DataFrame:
    """A frame of every search, with the search's number."""
    frames = [getattr(part, frame).assign(search=part.study.get("search_number", place))
              for place, part in enumerate(parts, start=1)]  # fmt: skip
    return pd.concat(frames, ignore_index=True)


def members_of(parts: list[Results]) -> pd.DataFrame:
    """Every confirmed member, with the number of its search."""
    return _numbered(parts, "members")


def _members(parts: list[Results], lacking: dict[str, list[int]]) -> pd.DataFrame:
    """A row per loss and search: means over its seeds; failed only if all of them are. Without losses that lack a
    search: one of them would leave no pair of losses paired."""
    every = members_of(parts)
    every = every[~every["loss"].isin(lacking)]
    grouped = every.drop(columns=["seed", "state", "reason"]).groupby(["loss", "search"])
    means = grouped.agg(lambda column: column.astype(float).mean()).reset_index().rename(columns={"search": "seed"})
    failed = (every["state"] == "failed").groupby([every["loss"], every["search"]]).all().to_numpy()
    means.insert(2, "state", np.where(failed, "failed", "complete"))
    means.insert(3, "reason", np.where(failed, "every seed of this search failed", ""))
    return means


def _budget(parts: list[Results]) -> pd.DataFrame:
    every = pd.concat([part.budget for part in parts], ignore_index=True)
    return every.groupby(["loss", "phase"], sort=False).sum().reset_index()


def _facts(parts: list[Results]) -> dict[str, Any]:
    """Those that all searches share, what they took together, and how often the test set has been looked at by now."""
    first = parts[0].facts
    shared = {name: value for name, value in first.items() if all(part.facts.get(name) == value for part in parts)}
    took = {name: sum(part.facts.get(name) or 0.0 for part in parts) for name in ("wall_seconds", "slot_seconds")
            if name in first}  # fmt: skip
    return {**shared, **took, "test_set_looks": parts[-1].facts.get("test_set_looks")}


def repeats_verdict(repeated: Repeated) -> dict[str, Any]:
    """The verdict over searches: as `make_verdict`'s, n_seeds and seeds_needed count rows, which are searches.

    searches: count, planned, seeds (of each), lacking (see `Repeated`), losses and differences (the variance
    components, see `Components`), detectable (see `detectable`) and sentences. failed_members and failed_trials have
    the number of their search.
    """
    verdict = make_verdict(repeated.results)
    verdict["method"] = verdict["method"] and in_searches(verdict["method"])
    verdict["headline"] = in_searches(verdict["headline"])
    verdict["warnings"] = [text for text in map(in_searches, verdict["warnings"]) if not text.startswith(UNCONFIRMED)]
    verdict["warnings"] += [*_failed(repeated), *about_lacking(repeated.lacking, repeated.searches)]
    verdict["unconfirmed"] = [loss for loss, numbers in repeated.lacking.items() if len(numbers) == repeated.searches]
    if verdict["method"]:
        verdict["conditional_on"] = _conditional_on(repeated)
    every = {"failed_members": ("members", "seed"), "failed_trials": ("trials", "number")}
    for name, (frame, number) in every.items():
        rows = _numbered(repeated.parts, frame)
        rows = rows[rows["state"] == "failed"].astype({number: int})
        verdict[name] = rows[["search", "loss", number, "reason"]].to_dict("records")
    losses, pairs = repeated.losses_components(), repeated.pairs_components()
    verdict["searches"] = {
        "count": repeated.searches, "planned": repeated.planned, "seeds": repeated.seeds, "lacking": repeated.lacking,
        "losses": [{"loss": loss, **vars(found)} for loss, found in losses.items()],
        "differences": [{"losses": list(pair), **vars(found)} for pair, found in pairs.items()],
        "detectable": detectable(repeated), "sentences": sentences(repeated, verdict),
    }  # fmt: skip
    return verdict


def _failed(repeated: Repeated) -> list[str]:
    every = members_of(repeated.parts)
    counts = every.loc[every["state"] == "failed", "loss"].value_counts(sort=False)
    return [f"{count} of {repeated.searches * repeated.seeds} confirmed runs of {loss} failed; failed runs score as "
            "the constant predictor" for loss, count in counts.items()]  # fmt: skip


def _conditional_on(repeated: Repeated) -> str:
    return (f"for this way of searching, on this test set: the rows are {repeated.searches} independent searches, each "
            f"on a split of its own and confirmed with {repeated.seeds} fresh seeds, so that the variance of the "
            "search is measured and is part of every test and interval; the splits are of the same examples, so that "
            "what another sample of data would change is not")  # fmt: skip


def detectable(repeated: Repeated) -> list[dict[str, Any]]:
    """The true difference that is found with power 80% with so many searches, for the pair of median variance.

    searches: this number and larger ones; difference: in the metric's unit, None where no searches differ. By a paired
    t-test at alpha divided by the number of pairs, which is Holm's first step.
    """
    pairs = repeated.pairs_components()
    spread = [found.standard_error * np.sqrt(found.searches) for found in pairs.values()]
    if not spread:
        return []
    alpha = repeated.results.study["confirm"].get("alpha", 0.05) / len(spread)
    numbers = [repeated.searches, *(n for n in MORE_SEARCHES if n > repeated.searches)]
    found = [float(detectable_difference(np.median(spread), alpha, number)) for number in numbers]
    most = 1.0 if factor(repeated.results.metric) == 100 else math.inf  # no two shares differ by more
    return [{"searches": number, "difference": value if 0 < value <= most else None}
            for number, value in zip(numbers, found, strict=True)]  # fmt: skip


def sentences(repeated: Repeated, verdict: dict[str, Any]) -> list[str]:
    """What the variance components say, in words."""
    metric, losses = repeated.results.metric, repeated.losses_components()
    found = [f"{loss}: {_spread(parts, metric)}." for loss, parts in losses.items()]
    leading = _leading(repeated, verdict)
    if leading:
        pairs = repeated.pairs_components()
        # Equal means may be ordered the other way round there.
        found.append(_what_more_gives(leading, pairs.get(leading) or pairs[leading[::-1]], metric))
    reach = [f"{show(row['difference'], metric)}{difference_unit(metric)} with {row['searches']} searches"
             for row in detectable(repeated) if row["difference"] is not None]  # fmt: skip
    if reach:
        found.append(f"Between two losses of median variance, a true difference is found with power 80% from "
                     f"{listed(reach)}.")  # fmt: skip
    return found


def _spread(found: Components, metric: str) -> str:
    unit = difference_unit(metric)
    if found.between is None:
        return "with one seed per search, the searches' variance cannot be told from that of seeds"
    said = (f"a standard deviation of {show(found.between, metric)}{unit} between searches and "
            f"{show(found.within, metric)}{unit} between seeds of one search")  # fmt: skip
    if found.share is None:
        return said
    return (f"{said}; of the variance of a search's mean over {found.seeds} seeds {found.share:.0%} is the search's "
            f"(95% interval {found.share_low:.0%} to {found.share_high:.0%})")  # fmt: skip


def _leading(repeated: Repeated, verdict: dict[str, Any]) -> tuple[str, str] | None:
    """The two highest means of those in the best set, whose order is undecided; None where there is one winner."""
    best = [loss for loss in verdict["best_set"] if loss in repeated.losses][:2]
    return None if len(best) < 2 else (best[0], best[1])


def _what_more_gives(pair: tuple[str, str], found: Components, metric: str) -> str:
    unit, searches, seeds = difference_unit(metric), 2 * found.searches, 2 * found.seeds
    said = (f"{pair[0]} minus {pair[1]} has a standard error of {show(found.standard_error, metric)}{unit} with "
            f"{found.searches} searches of {found.seeds} seed{'s' * (found.seeds > 1)}")  # fmt: skip
    if found.share is None:
        return f"{said}."
    return (f"{said}; it would be about {show(found.error_with(searches=searches), metric)} with {searches} searches, "
            f"and about {show(found.error_with(seeds=seeds), metric)} with {seeds} seeds in each.")  # fmt: skip
