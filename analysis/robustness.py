"""How confirmed members fare on corrupted and on shifted test sets, from what was recorded of them. Exploratory.

E_{s,c} is the top-1 error at severity s of corruption c, E_clean that on the same examples uncorrupted; f is a loss's
member, b the baseline's with the same seed (Hendrycks and Dietterich 2019, where b is AlexNet):

    CE_c = sum_s E^f_{s,c} / sum_s E^b_{s,c}
    relative CE_c = sum_s (E^f_{s,c} - E^f_clean) / sum_s (E^b_{s,c} - E^b_clean)

and mCE, relative mCE are their means over the corruptions. A corruption that costs the baseline nothing in some seed,
where the ratio is not defined, is left out of the mean for every loss and seed alike.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from losstune.analysis.results import Results
from losstune.trainables.corruptions import SEVERITIES
from losstune.trainables.robustness import Robustness

T = TypeVar("T")
CLEAN = 0  # as a severity
ROUNDING = 1e-9  # of sums of errors: less is no error


@dataclass(frozen=True)
class MeasuredRobustness:
    """errors: a row per loss, seed, corruption and severity (0: uncorrupted): error in [0, 1], nll, ece. members: a row
    per loss and seed, see `corruption_errors`. shifted: loss, seed, data, accuracy, nll, ece. examples: how many are
    corrupted. baseline: what CE is relative to, or None. left_out: members that are not in it and why, a sentence each.
    undefined, relatively_undefined: corruptions that are left out of mCE, and of relative mCE.
    """

    errors: pd.DataFrame
    members: pd.DataFrame
    shifted: pd.DataFrame
    examples: int
    baseline: str | None
    left_out: list[str] = field(default_factory=list)
    undefined: list[str] = field(default_factory=list)
    relatively_undefined: list[str] = field(default_factory=list)


def measure_robustness(results: Results) -> MeasuredRobustness | None:
    """What was recorded on other test sets; None where nothing was, or nothing can be read.

    A failed member, of which nothing is recorded, counts as the constant predictor that it is scored as everywhere.
    """
    left_out: list[str] = []
    records = dict(results.readable(results.robustness, left_out))
    records = alike(records, lambda own: own.examples, "so many corrupted examples", left_out)
    if not records:
        return None
    errors = pd.DataFrame(
        [row for model, own in records.items() for row in _error_rows(model, own, _shared(records.values()))]
        + _failed_error_rows(results, _shared(records.values())),
        columns=["loss", "seed", "corruption", "severity", "error", "nll", "ece"],
    )
    baseline = results.study.get("baseline") or ("softmax" if "softmax" in results.study["losses"] else None)
    baseline = baseline if baseline in set(errors["loss"]) else None
    members, undefined = corruption_errors(errors, baseline)
    examples = next(iter(records.values())).examples
    return MeasuredRobustness(errors, members, _shifted(results, records, left_out), examples, baseline, left_out,
                              *undefined)  # fmt: skip


def corruption_errors(errors: pd.DataFrame, baseline: str | None) -> tuple[pd.DataFrame, tuple[list[str], list[str]]]:
    """mCE of every member, and the corruptions that are left out of it and of the relative one.

    errors: a row per loss, seed, corruption and severity, 0 of uncorrupted: error in [0, 1], nll, ece. The result: a
    row per loss and seed: clean, corrupted (mean errors over corruptions and severities), mce, relative_mce (1: as
    the baseline; NaN without one of the same seed), nll, ece (means over corruptions and severities).
    """
    hit = errors[errors["severity"] != CLEAN]
    members = hit.groupby(["loss", "seed"], sort=False).agg(corrupted=("error", "mean"), nll=("nll", _mean),
                                                            ece=("ece", _mean))  # fmt: skip
    members["clean"] = errors[errors["severity"] == CLEAN].groupby(["loss", "seed"])["error"].first()
    sums = hit.pivot_table(index=["loss", "seed"], columns="corruption", values="error", aggfunc="sum", sort=False)
    worse = sums.sub(len(SEVERITIES) * members["clean"], axis=0)
    ratios = [_mean_ratio(part, baseline) for part in (sums, worse)]
    for name, (ratio, _) in zip(("mce", "relative_mce"), ratios, strict=True):
        members[name] = ratio
    columns = ["loss", "seed", "clean", "corrupted", "mce", "relative_mce", "nll", "ece"]
    return members.reset_index()[columns], (ratios[0][1], ratios[1][1])


def _mean(values: pd.Series) -> float:
    return values.mean(skipna=False)


def _mean_ratio(sums: pd.DataFrame, baseline: str | None) -> tuple[pd.Series, list[str]]:
    """Mean over corruptions of each member's sum over the baseline's of the same seed; corruptions without a ratio."""
    if baseline is None or baseline not in sums.index.get_level_values("loss"):
        return pd.Series(np.nan, index=sums.index), []
    of = sums.xs(baseline, level="loss")
    defined = (of > ROUNDING).all()
    ratios = sums.loc[:, defined] / of.loc[:, defined].reindex(sums.index.get_level_values("seed")).to_numpy()
    return ratios.mean(axis=1, skipna=False), list(defined.index[~defined])


def alike(records: dict[tuple[str, int], T], key: Callable[[T], Any], of: str, left_out: list[str]
          ) -> dict[tuple[str, int], T]:  # fmt: skip
    """The members for which key is what it is for most of them: others were recorded of something else."""
    if not records:
        return {}
    usual = Counter(map(key, records.values())).most_common(1)[0][0]
    left_out += [f"{loss}, seed {seed}: recorded when record had others than {of}" for (loss, seed), own
                 in records.items() if key(own) != usual]  # fmt: skip
    return {model: own for model, own in records.items() if key(own) == usual}


def _shared(records: Iterable[Robustness]) -> list[str]:
    """The corruptions that every member was measured on, in the order in which they were."""
    first, *rest = records
    return [name for name in first.corrupted if all(name in own.corrupted for own in rest)]


def _error_rows(model: tuple[str, int], own: Robustness, names: list[str]) -> list[tuple]:
    rows = []
    for name in names:
        for severity, scores in zip((CLEAN, *SEVERITIES), (own.clean, *own.corrupted[name]), strict=True):
            rows.append((*model, name, severity, 1 - scores.accuracy, scores.nll, scores.ece))
    return rows


def _failed(results: Results) -> list[tuple[str, int, float]]:
    """Loss, seed and test accuracy of the members that failed."""
    failed = results.members[results.members["state"] == "failed"]
    return list(failed[["loss", "seed", "accuracy"]].itertuples(index=False, name=None))


def _failed_error_rows(results: Results, names: list[str]) -> list[tuple]:
    classes = results.study["num_classes"]
    return [(loss, seed, name, severity, 1 - accuracy, float(np.log(classes)), np.nan)
            for loss, seed, accuracy in _failed(results) for name in names
            for severity in (CLEAN, *SEVERITIES)]  # fmt: skip


def _shifted(results: Results, records: dict[tuple[str, int], Robustness], left_out: list[str]) -> pd.DataFrame:
    rows, constant = [], {}
    for name in dict.fromkeys(name for own in records.values() for name in own.shifted):
        those = {model: own.shifted[name] for model, own in records.items() if name in own.shifted}
        for (loss, seed), own in alike(those, lambda own: own.digest, f"this {name}", left_out).items():
            rows.append((loss, seed, name, own.accuracy, own.nll, own.ece))
            constant[name] = own.constant_accuracy
    rows += [(loss, seed, name, accuracy, float(np.log(results.study["num_classes"])), np.nan)
             for loss, seed, _ in _failed(results) for name, accuracy in constant.items()]  # fmt: skip
    return pd.DataFrame(rows, columns=["loss", "seed", "data", "accuracy", "nll", "ece"])
