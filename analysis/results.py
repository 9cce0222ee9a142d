"""The tidy results of one study: what every other file of the analysis takes. No database, no training."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pandas as pd

from losstune.spaces import InputError
from losstune.trainables.features import Features
from losstune.trainables.predictions import Predictions
from losstune.trainables.robustness import Robustness
from losstune.trainables.transferred import Transferred

T = TypeVar("T")
LOWER_IS_BETTER = ("nll", "ece")
PERCENT = ("accuracy", "top5_accuracy", "balanced_accuracy", "ece")
NAMES = {
    "accuracy": "accuracy", "top5_accuracy": "top-5 accuracy", "nll": "NLL", "ece": "ECE", "auroc": "AUROC",
    "balanced_accuracy": "balanced accuracy", "macro_f1": "macro F1",
}  # fmt: skip
SHARED_HYPERPARAMETERS = ("learning_rate", "weight_decay")
TRAINING_MEASURES = ["loss", "seed", "epoch", "measure", "value"]
NOT_METRICS = ("loss", "seed", "state", "reason", "epochs")


@dataclass(frozen=True)
class Results:
    """What a study recorded, as frames.

    study: name, data, network, metric, baseline (str or None), losses (list of str, in the study's order), epochs
    (int), search {trials, seeds, method, halving}, confirm {seeds, alpha, rope, train_on}, num_classes, n_train,
    n_validation, n_test; where searches are joined (`repeats.join_searches`) also searches, their number.
    greater_is_better: of the study's metric.
    members: a row per confirmed member: loss, seed (int), state ('complete' | 'failed'), reason, epochs, and metrics
    on the test set: accuracy, top5_accuracy (only if K > 5), nll (nats), ece (in [0, 1]), the study's metric if it
    is another one, and validation_<metric>. nll and ece are NaN where a loss defines no probabilities. A failed
    member's row carries the constant predictor's scores.
    trials: a row per search trial: loss, number, state ('complete' | 'stopped' | 'failed' | 'cut' | 'running'), score
    (the metric's own direction), epochs (trained so far), best_epoch, member_epochs, slot_seconds, reason, params
    (dict, with learning_rate and weight_decay).
    curves: phase ('search' | 'confirm'), loss, trial (number or seed), epoch, value (the study's metric on
    validation, mean over a trial's seeds), train_loss.
    choices: loss, number, params (dict), best_epoch, score: the configuration that was confirmed.
    budget: loss, phase, asked, complete, stopped, failed, member_epochs, slot_seconds.
    notes: conditions beyond the usual ones, each a sentence. facts: where and how it ran, for the report's footer.
    predictions: by loss and seed of the confirmed members that have not failed, what reads their logits and targets:
    a function that returns `losstune.trainables.predictions.Predictions`, or raises InputError where they are damaged.
    features: the same of `losstune.trainables.features.Features`, of the members for which they were recorded.
    training_measures: what was followed over training of those that have not failed: loss, seed, epoch, measure
    ("margin_bias", "nc1", "nc2", "nc3", "class_separation"), value (of training examples; NaN where it is not
    defined). Empty where a study follows nothing.
    robustness, transfer: likewise what reads their scores on other test sets, and their features of other data sets by
    name; of members of which these were recorded.
    """

    study: dict[str, Any]
    greater_is_better: bool
    members: pd.DataFrame
    trials: pd.DataFrame
    curves: pd.DataFrame
    choices: pd.DataFrame
    budget: pd.DataFrame
    notes: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    edges: list[dict[str, Any]] = field(default_factory=list)
    predictions: dict[tuple[str, int], Callable[[], Predictions]] = field(default_factory=dict)
    features: dict[tuple[str, int], Callable[[], Features]] = field(default_factory=dict)
    training_measures: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=TRAINING_MEASURES))
    robustness: dict[tuple[str, int], Callable[[], Robustness]] = field(default_factory=dict)
    transfer: dict[tuple[str, int], Callable[[], dict[str, Transferred]]] = field(default_factory=dict)

    @property
    def metric(self) -> str:
        return self.study["metric"]

    def direction(self, metric: str | None = None) -> int:
        """+1 where higher is better, -1 where lower is; of the study's metric by default."""
        name = (metric or self.metric).removeprefix("validation_")
        if name == self.metric:
            return 1 if self.greater_is_better else -1
        return -1 if name in LOWER_IS_BETTER else 1

    def score_matrix(self, metric: str | None = None) -> pd.DataFrame:
        """Confirmed scores as seeds x losses, higher is better: a metric where lower is better comes negated.

        Losses in the study's order, only those with a confirmed member for which the metric is defined. Raises
        KeyError for an unknown metric.
        """
        name = metric or self.metric
        wide = self.members.pivot(index="seed", columns="loss", values=name).astype(float)
        defined = wide[self.confirmed()].dropna(axis="columns", how="all")
        return self.direction(name) * defined.rename_axis(columns=None)

    def confirmed(self) -> list[str]:
        """The losses with at least one confirmed member, in the study's order."""
        present = set(self.members["loss"])
        return [loss for loss in self.study["losses"] if loss in present]

    def readable(
        self, files: dict[tuple[str, int], Callable[[], T]], left_out: list[str]
    ) -> Iterator[tuple[tuple[str, int], T]]:
        """What the files of members hold, of `predictions` or another of these, a loss's members one after the other.

        Of those that cannot be read left_out gets a sentence each.
        """
        order = {loss: place for place, loss in enumerate(self.study["losses"])}
        for model in sorted(files, key=lambda model: (order.get(model[0], len(order)), model)):
            try:
                yield model, files[model]()
            except InputError as error:
                left_out.append(f"{model[0]}, seed {model[1]}: {self.unreadable(error)}")

    def unreadable(self, error: InputError) -> str:
        """What reading a member's file raised, in words: the file's name within the study, what it is, what helps."""
        path, found, reason = str(error).partition(": not a ")
        if not found:
            return str(error)
        name = "/".join(re.split(r"[/\\]", path)[-2:])
        what = "missing" if "No such file" in reason else "damaged"
        return f"{name} is {what}; losstune doctor {self.study['name']} looks into it"

    def failed_members(self) -> list[str]:
        """For what is measured of members' outputs: of which members there are none, a sentence for each loss."""
        said = []
        for loss in self.confirmed():
            own = self.members[self.members["loss"] == loss]
            seeds = own.loc[own["state"] == "failed", "seed"].tolist()
            if len(seeds) == len(own):
                said.append(f"{loss}: all its seeds failed, so that there are no predictions and no features of it")
            elif seeds:
                which = f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"
                said.append(f"{loss}, {which}: failed, so that there are no predictions and no features of it"
                            .replace("of it", "of them" if len(seeds) > 1 else "of it"))  # fmt: skip
        return said

    def resolution(self) -> float | None:
        """The step between possible scores where it is known: one test example, for shares of right answers.

        Of means over the seeds of a search, that of one seed by their number.
        """
        examples = self.study.get("n_test")
        averaged = self.study["confirm"]["seeds"] if self.study.get("searches") else 1
        return 1 / (examples * averaged) if self.metric in ("accuracy", "top5_accuracy") and examples else None

    @property
    def rows(self) -> str:
        """What a row of scores is: "seeds", or "searches" where the study repeats its search."""
        return "searches" if self.study.get("searches") else "seeds"

    def metrics(self) -> list[str]:
        """The metrics of the members, the study's own first; those on validation are left out."""
        names = [name for name in self.members.columns
                 if name not in NOT_METRICS and not name.startswith("validation_") and name != self.metric]
        return [self.metric, *names]  # fmt: skip

    def chosen(self, loss: str) -> dict[str, Any] | None:
        """The row of `choices` for a loss as a dict, or None where no trial of it could be chosen."""
        rows = self.choices[self.choices["loss"] == loss]
        return None if rows.empty else rows.iloc[0].to_dict()


def metric_name(metric: str) -> str:
    """A metric as people write it: "top5_accuracy" -> "top-5 accuracy"."""
    return NAMES.get(metric, metric)


def factor(metric: str) -> int:
    """100 for shares that are read in percent, otherwise 1."""
    return 100 if metric.removeprefix("validation_") in PERCENT else 1


def head(metric: str) -> str:
    """A column's heading: "accuracy (%)"."""
    return metric_name(metric) + (" (%)" if factor(metric) == 100 else "")


def unit(metric: str) -> str:
    """The unit of a value as text that follows it: " %" for shares in percent, otherwise nothing."""
    return " %" if factor(metric) == 100 else ""


def difference_unit(metric: str) -> str:
    """The unit of a difference as text that follows it: " points" for shares in percent, otherwise nothing."""
    return " points" if factor(metric) == 100 else ""


def decimals(metric: str) -> int:
    """How many decimals a value of the metric is shown with, in its unit."""
    return 2 if factor(metric) == 100 else 4


def show(value: float, metric: str, sign: bool = False) -> str:
    """A number in the metric's unit, without the unit: 0.98125 -> "98.12" (accuracy); "not defined" for NaN."""
    if pd.isna(value):
        return "not defined"
    scaled = round(settled(value * factor(metric)), decimals(metric)) + 0.0
    # A real minus sign is as wide as a plus, so that columns of signed numbers line up.
    return with_minus(f"{scaled:{'+' if sign and scaled else ''}.{decimals(metric)}f}")


def settled(value: float) -> float:
    """A number without the noise of binary fractions, so that equal means that were summed differently round alike."""
    return float(f"{value:.12g}")


def with_minus(text: str) -> str:
    """A number as text, with a real minus sign."""
    return text.replace("-", "−")


def show_p(p: float) -> str:
    """A p-value: three decimals, "< 0.001" below that."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def show_parameter(value: Any) -> str:
    """A hyperparameter's value, to three digits where it is a number: 0.012345 -> "0.0123"."""
    if isinstance(value, float):
        return f"{value:.3g}"
    return str(value)


def show_parameters(params: dict[str, Any]) -> str:
    """A configuration in one line, the loss's own hyperparameters first: "alpha 0.1, learning rate 0.05, ..."."""
    names = sorted(params, key=lambda name: name in SHARED_HYPERPARAMETERS)
    return ", ".join(f"{name.replace('_', ' ') if name in SHARED_HYPERPARAMETERS else name} "
                     f"{show_parameter(params[name])}" for name in names)  # fmt: skip
