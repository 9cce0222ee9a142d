"""Several studies as blocks of one comparison: what holds over data sets.

Seeds are averaged within a study, and studies of the same data set are averaged to one block: neither seeds nor
networks are data sets. Which data sets are the same their digests say, where they are recorded, and else their names.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from losstune.analysis.profiles import Profile, block_means, interquartile_means, performance_profile
from losstune.analysis.ranking import (
    DEFAULT,
    MODES,
    PAPER_MODES,
    Ranking,
    aggregate_datasets,
    rank_losses,
    rank_table,
)
from losstune.analysis.results import PERCENT, Results, difference_unit, metric_name, show, show_p
from losstune.analysis.wording import listed
from losstune.spaces import InputError

DIGITS = 8  # of a digest, where a name is not enough
CONDITIONAL_ON = (
    "at the configurations that one search per study found, on these data sets and networks; the tests treat the data "
    "sets as a sample of those that the reader cares about"
)


@dataclass(frozen=True)
class Joint:
    """Several studies over the losses that they have in common.

    studies: indexed by block: data (as the study calls it), dataset (see `datasets`), recorded (whether the digest of
    its data is), network, seeds (the fewest of any loss), failed (confirmed runs of common losses).
    scores: long, a row per confirmed run: block, loss, seed, score (higher is better: a metric where lower is
    better comes negated). means: blocks x losses. datasets: block -> data set, by one name each. left_out: block ->
    losses that it has and another study lacks. baseline: that of all studies, or None. alpha: the smallest of the
    studies'.
    """

    metric: str
    greater_is_better: bool
    alpha: float
    baseline: str | None
    studies: pd.DataFrame
    scores: pd.DataFrame
    means: pd.DataFrame
    datasets: dict[str, str]
    left_out: dict[str, list[str]]
    missing: tuple[str, ...] = ()

    @property
    def direction(self) -> int:
        """+1 where a higher metric is better, -1 where a lower one is."""
        return 1 if self.greater_is_better else -1

    @cached_property
    def sets(self) -> pd.DataFrame:
        """Data sets x losses: the blocks of each data set averaged."""
        return aggregate_datasets(self.means, self.datasets)

    @cached_property
    def ranking(self) -> Ranking | None:
        """The tests over data sets; None for a single one."""
        return rank_losses(self.sets, self.alpha, self.baseline) if len(self.sets) > 1 else None

    def profile(self) -> Profile:
        """The performance profile over data sets: of errors for shares of right answers, else of the metric itself.

        Raises InputError where a metric is negative, so that ratios mean nothing.
        """
        if self.metric in PERCENT and self.greater_is_better:
            # An accuracy of 1 may come out of the mean over seeds above 1 by rounding.
            return performance_profile((1 - self.sets).clip(lower=0))
        return performance_profile(self.direction * self.sets, self.greater_is_better)


def join(results: list[Results], missing: Sequence[str] = ()) -> Joint:
    """Studies as blocks, over the losses that were confirmed in each of them, in the first study's order.

    A block is named after its study, with its data set and network where two have the same name. missing: studies that
    belong to these and are not among them, of which the report warns. Raises InputError (one line): fewer than two
    studies, different metrics, fewer than two losses in common, a study given twice.
    """
    if len(results) < 2:
        raise InputError(f"join: {len(results)} study; needed: at least 2")
    first = results[0]
    for other in results[1:]:
        if (other.metric, other.greater_is_better) != (first.metric, first.greater_is_better):
            raise InputError(f"join: the metric of {first.study['name']} is {first.metric}, that of "
                             f"{other.study['name']} {other.metric}; needed: the same one in all")  # fmt: skip
    matrices = dict(zip(_names(results), (study.score_matrix() for study in results), strict=True))
    common = [loss for loss in matrices[next(iter(matrices))] if all(loss in own for own in matrices.values())]
    if len(common) < 2:
        raise InputError(f"join: the studies have {len(common)} confirmed losses in common; needed: at least 2")
    scores = _long({block: own[common] for block, own in matrices.items()})
    baselines = {study.study.get("baseline") for study in results}
    baseline = baselines.pop() if len(baselines) == 1 else None
    datasets = dict(zip(matrices, _datasets(results), strict=True))
    return Joint(
        metric=first.metric, greater_is_better=first.greater_is_better, scores=scores, means=block_means(scores),
        alpha=min(study.study["confirm"].get("alpha", 0.05) for study in results),
        baseline=baseline if baseline in common else None, datasets=datasets,
        studies=_studies(matrices, results, common, datasets),
        left_out={block: [loss for loss in own if loss not in common] for block, own in matrices.items()},
        missing=tuple(missing),
    )  # fmt: skip


def _names(results: list[Results]) -> list[str]:
    names = [str(study.study["name"]) for study in results]
    for k, study in enumerate(results):
        if sum(other.study["name"] == study.study["name"] for other in results) > 1:
            names[k] = f"{names[k]} ({study.study['data']}, {study.study['network']})"
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"join: the study {name} is given twice")
    return names


def _digest(study: Results) -> str | None:
    return study.facts.get("data_digest")


def _datasets(results: list[Results]) -> list[str]:
    """The data set of each study: the name of the first study with the same digest, with the digest where another data
    set has that name too. A study without a digest has the data set of the first one with its name."""
    names, firsts = [str(study.study["data"]) for study in results], {}
    for name, study in zip(names, results, strict=True):
        if _digest(study):
            firsts.setdefault(_digest(study), name)
    shared = [name for name in firsts.values() if list(firsts.values()).count(name) > 1]
    labels = {digest: f"{name} ({digest[:DIGITS]})" if name in shared else name for digest, name in firsts.items()}
    own = {name: labels[_digest(study)] for name, study in reversed([*zip(names, results, strict=True)])
           if _digest(study)}  # fmt: skip
    return [labels.get(_digest(study), own.get(name, name)) for name, study in zip(names, results, strict=True)]


def _long(matrices: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Seeds x losses per block -> long scores; a seed that a loss lacks has no row."""
    whole = pd.concat(matrices, names=["block", "seed"]).rename_axis(columns="loss")
    return whole.stack().dropna().rename("score").reset_index()[["block", "loss", "seed", "score"]]


def _studies(
    matrices: dict[str, pd.DataFrame], results: list[Results], common: list[str], datasets: dict[str, str]
) -> pd.DataFrame:
    rows = {}
    for (block, own), study in zip(matrices.items(), results, strict=True):
        failed = study.members["loss"].isin(common) & (study.members["state"] == "failed")
        rows[block] = {"data": study.study["data"], "dataset": datasets[block], "recorded": bool(_digest(study)),
                       "network": study.study["network"], "seeds": int(own[common].count().min()),
                       "failed": int(failed.sum())}  # fmt: skip
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("block")


def joint_verdict(joint: Joint) -> dict[str, Any]:
    """What holds over the data sets, JSON-serialisable; in words: headline, sentences and warnings.

    The tests are over data sets, studies of one data set averaged. With a single data set nothing is tested: friedman
    and critical_difference are None, pairs, best_set, groups and stability are empty. mean and iqm are in the metric's
    own direction, differences say how much better. None stands for undefined or unbounded.
    """
    sets, ranking = joint.sets, joint.ranking
    table = rank_table(sets, joint.baseline).assign(mean=lambda frame: joint.direction * frame["mean"])
    stable = pd.DataFrame() if ranking is None else ranking.stability
    return {
        "metric": joint.metric, "greater_is_better": joint.greater_is_better, "alpha": joint.alpha,
        "baseline": joint.baseline, "conditional_on": CONDITIONAL_ON, "datasets": list(sets.index),
        "losses": list(joint.means.columns), "studies": _records(joint.studies.reset_index()),
        "left_out": joint.left_out, "table": _records(table.reset_index()), "iqm": _iqm(joint),
        "method": MODES[DEFAULT], "paper_modes": {mode: MODES[mode] for mode in PAPER_MODES},
        "best_set": [] if ranking is None else ranking.best_set,
        "friedman": _records(pd.DataFrame([ranking.friedman]))[0] if ranking and ranking.friedman else None,
        "critical_difference": None if ranking is None else ranking.critical_difference,
        "pairs": [] if ranking is None else _records(ranking.pairs),
        "groups": {} if ranking is None else ranking.groups, "stability": _records(stable),
        "headline": _headline(joint, table, ranking), "sentences": _sentences(joint, table, ranking),
        "warnings": _warnings(joint, ranking),
    }  # fmt: skip


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows in JSON's own types; NaN and infinities as None."""
    return json.loads(frame.to_json(orient="records", double_precision=15))


def _iqm(joint: Joint) -> list[dict[str, Any]]:
    """Interquartile means over studies, in the metric's own direction."""
    table = interquartile_means(joint.scores)
    if not joint.greater_is_better:
        table = table.assign(iqm=-table["iqm"], ci_low=-table["ci_high"], ci_high=-table["ci_low"])
    return _records(table.reset_index())


def _headline(joint: Joint, table: pd.DataFrame, ranking: Ranking | None) -> str:
    top = f"The best average rank, {table['average_rank'].iloc[0]:.2f}, is that of {table.index[0]}."
    if ranking is None:
        name = joint.studies["dataset"].iloc[0]
        return (f"All {len(joint.studies)} studies use the data set {name}: nothing can be said about other data "
                f"sets. {top}")  # fmt: skip
    best, every, sets = ranking.best_set, len(table), f"{len(ranking.means)} data sets"
    if len(best) == every:
        return f"No winner: the {every} losses are not shown to differ over {sets}. {top}"
    rest = "the other loss is" if every - len(best) == 1 else f"each of the other {every - len(best)} is"
    beaten = ranking.pairs[ranking.pairs[DEFAULT] & (ranking.pairs["better"] == best[0])]
    if len(beaten) == every - 1:
        return f"{best[0]} wins: it is shown to beat every other loss over {sets}. {top}"
    start = "" if len(best) == 1 else "No single winner: "
    return f"{start}{'no' if start else 'No'} loss is shown to beat {listed(best, 'or')} over {sets}, and {rest} " \
           f"beaten by some loss. {top}"  # fmt: skip


def _sentences(joint: Joint, table: pd.DataFrame, ranking: Ranking | None) -> list[str]:
    said = []
    for row in [] if ranking is None else ranking.pairs[ranking.pairs[DEFAULT]].to_dict("records"):
        sign = 1 if row["better"] == row["loss_a"] else -1
        worse, wins = (row["loss_b"], row["a_better"]) if sign > 0 else (row["loss_a"], row["b_better"])
        gain = _gain(sign * row["mean_difference"], joint)
        p = f"p = {show_p(row[f'p_{DEFAULT}'])}".replace("= <", "<")
        said.append(f"{row['better']} beats {worse}: better on {wins} of {len(ranking.means)} data sets, "
                    f"{gain} on average ({p}).")  # fmt: skip
    if joint.baseline and table.index[0] != joint.baseline:
        gain = _gain(table["mean_difference"].iloc[0], joint)
        said.append(f"{table.index[0]} has the best average rank; its mean {metric_name(joint.metric)} is {gain} "
                    f"than that of the baseline {joint.baseline}, over all data sets.")  # fmt: skip
    for mode in PAPER_MODES if ranking else ():
        found = ranking.stability[ranking.stability["mode"] == mode]
        moved = int((found["changes_without"].str.len() > 0).sum())
        turned = f"; {moved} of its {len(found)} verdicts would turn over if one other loss were left out"
        said.append(f"{MODES[mode][0].upper()}{MODES[mode][1:]}. Here it separates {int(found['separated'].sum())} of "
                    f"{len(found)} pair{'s' * (len(found) > 1)}{turned * (len(found) > 1)}.")  # fmt: skip
    return said


def _gain(difference: float, joint: Joint) -> str:
    """"1.20 points better", or worse: ranks and means may disagree."""
    amount = f"{show(abs(difference), joint.metric)}{difference_unit(joint.metric)}"
    return f"{amount} {'worse' if difference < 0 else 'better'}"


def _warnings(joint: Joint, ranking: Ranking | None) -> list[str]:
    found = [] if ranking is None else list(ranking.warnings)
    if joint.missing:
        found.append(f"{listed(list(joint.missing))} {'is' if len(joint.missing) == 1 else 'are'} not done, and not in "
                     "this report")  # fmt: skip
    for name, own in joint.studies.groupby("dataset", sort=False):
        if len(own) > 1:
            found.append(f"{listed(list(own.index))} use the data set {name}: networks on one data set are not "
                         "independent blocks, so their means are averaged to one")  # fmt: skip
    found += _about_names(joint.studies)
    for block, losses in joint.left_out.items():
        if losses:
            found.append(f"not compared, because not every study has them: {listed(losses)} (of {block})")
    for block, row in joint.studies.iterrows():
        if row["failed"]:
            found.append(f"{row['failed']} confirmed runs of {block} failed and score as the constant predictor")
    if joint.scores.groupby(["block", "loss"]).size().nunique() > 1:
        found.append("losses or studies have different numbers of seeds; each mean counts once, however many seeds it "
                     "rests on")  # fmt: skip
    return found


def _about_names(studies: pd.DataFrame) -> list[str]:
    """Where names and digests of data sets disagree, or where there is a name alone."""
    found = []
    for _, own in studies.groupby("dataset", sort=False):
        names = list(dict.fromkeys(own["data"]))
        if len(names) > 1:
            found.append(f"{listed(names)} are the same data, by their digest, and count as one data set")
    for name, own in studies.groupby("data", sort=False):
        if own["dataset"].nunique() > 1:
            found.append(f"{own['dataset'].nunique()} data sets have the name {name}: their digests differ, so that "
                         "they count as different ones")  # fmt: skip
    known, unknown = studies["dataset"][studies["recorded"]], studies[~studies["recorded"]]
    if len(unknown) and (len(known) or len(unknown) > unknown["dataset"].nunique()):
        found.append(f"the data of {listed(list(unknown.index))} are known by name only: whether they are those of "
                     "another study is not checked")  # fmt: skip
    return found
