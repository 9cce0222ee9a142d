"""What the recorded predictions of the confirmed members say beyond their scores, read one after the other."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from losstune.analysis.agreement import Agreement, agreement
from losstune.analysis.calibration import DRAWS as CALIBRATION_DRAWS
from losstune.analysis.calibration import (
    OF_PROBABILITIES,
    calibration_interval,
    confidences,
    prediction_measures,
    reliability,
)
from losstune.analysis.crossed import DRAWS, crossed_bootstrap
from losstune.analysis.ensembles import Ensembles
from losstune.analysis.looks import level_of
from losstune.analysis.per_class import class_differences, class_recalls, right_answers
from losstune.analysis.results import Results
from losstune.analysis.temperature import Temperature, fit_temperature, scaled_logits, scaled_measures
from losstune.analysis.wording import listed
from losstune.spaces import InputError
from losstune.trainables.metrics import to_probabilities
from losstune.trainables.predictions import Predictions

ENSEMBLE_BYTES, MOST_BYTES = 36, 2**30  # per example, class and loss; of all
LEAST_IN_TAIL, MOST_DRAWS = 20, 20_000  # draws of a bootstrap beyond an interval's ends, and in all
SMALLEST = 1e-300  # keeps the logarithm of a probability that underflowed finite


@dataclass(frozen=True)
class Predicted:
    """members: a row per member: loss, seed, the measures of `prediction_measures`, the same after temperature scaling
    as scaled_nll ..., temperature (NaN where not defined) and temperature_reason (why not, or None). reliability,
    scaled_reliability: per loss, of all its seeds together; losses without probabilities, or for which no temperature
    is defined, are not there. intervals: per loss and measure ("ece", "scaled_adaptive_ece" ...) the ends of
    `calibration_interval` at the level of the verdict, where it is defined. agreement: of all members. ensembles,
    mixed: see `Ensembles.within` and `.across`; voted: losses x losses, the share of test examples for which their
    seeds vote for the same class; all three empty where they would take too much memory. recalls, class_differences:
    see `per_class`, to the best mean; None where that is not defined. crossed: see `crossed_bootstrap`, None where it
    cannot be had; crossed_without: which seeds and losses are not in it and why, in words; of: the score per example
    that it is about, "accuracy" or "nll". left_out: which members are not in any of it and why, a sentence each.
    """

    members: pd.DataFrame
    reliability: dict[str, pd.DataFrame]
    scaled_reliability: dict[str, pd.DataFrame]
    intervals: dict[tuple[str, str], tuple[float, float]]
    agreement: Agreement
    ensembles: pd.DataFrame
    mixed: pd.DataFrame
    voted: pd.DataFrame
    recalls: pd.DataFrame
    class_differences: pd.DataFrame | None
    crossed: pd.DataFrame | None
    crossed_without: list[str]
    of: str
    left_out: list[str]


def measure_predictions(results: Results) -> Predicted | None:
    """Every measure of the recorded predictions; None where there are none that can be read."""
    gathered = _gather(results)
    usual = gathered.seen.most_common(1)
    if usual and usual[0][0] != _digest(gathered.targets):
        gathered = _gather(results, usual[0][0])  # the first one was of another test set than most are
    if not gathered.models:
        return None
    by_member = dict(zip(gathered.models, range(len(gathered.models)), strict=True))
    losses = list(dict.fromkeys(loss for loss, _ in gathered.models))
    seeds = sorted({seed for _, seed in gathered.models})
    classes, targets, ensembles = np.array(gathered.classes), gathered.targets, gathered.ensembles
    recalls, differences = _per_class(results, gathered, by_member, losses, seeds)
    whole, common = _common(gathered, by_member, losses, seeds)
    return Predicted(
        members=pd.DataFrame(gathered.rows),
        reliability={loss: reliability(*map(np.concatenate, zip(*parts, strict=True)))
                     for loss, parts in gathered.confidence.items()},
        scaled_reliability={loss: reliability(*map(np.concatenate, zip(*parts, strict=True)))
                            for loss, parts in gathered.scaled.items()},
        intervals=_intervals(gathered, level_of(results)), agreement=agreement(gathered.models, classes, targets),
        ensembles=ensembles.within() if ensembles else pd.DataFrame(),
        mixed=ensembles.across() if ensembles else pd.DataFrame(),
        voted=_voted(ensembles, targets) if ensembles else pd.DataFrame(),
        recalls=recalls, class_differences=differences,
        crossed=_crossed(results, gathered, by_member, whole, common),
        crossed_without=_without(results, by_member, whole, common), of=_of(results),
        left_out=[*results.failed_members(), *gathered.left_out],
    )  # fmt: skip


@dataclass
class _Gathered:
    """What is kept of each member while all are read one after the other."""

    targets: np.ndarray
    num_classes: int = 0
    ensembles: Ensembles | None = None
    models: list[tuple[str, int]] = field(default_factory=list)
    rows: list[dict] = field(default_factory=list)
    classes: list[np.ndarray] = field(default_factory=list)  # the predicted ones
    scores: list[np.ndarray] = field(default_factory=list)  # per example, higher is better
    confidence: dict[str, list] = field(default_factory=dict)
    scaled: dict[str, list] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    seen: Counter = field(default_factory=Counter)  # test sets, by their digest


def _digest(targets: np.ndarray) -> str:
    return hashlib.sha256(targets.astype(np.int64).tobytes()).hexdigest()


def _gather(results: Results, wanted: str | None = None) -> _Gathered:
    """Read all members. wanted: the digest of the test set; by default that of the first member."""
    found, seeds = _Gathered(np.empty(0, dtype=np.int64)), sorted({seed for _, seed in results.predictions})
    for (loss, seed), one in results.readable(results.predictions, found.left_out):
        own = _digest(one.test_targets)
        found.seen[own] += 1
        wanted = wanted or own
        if own != wanted:
            found.left_out.append(f"{loss}, seed {seed}: its predictions are of another test set than most")
            continue
        try:
            if not len(found.targets):
                _begin(found, results, one, seeds)
            _take_in(found, results, loss, seed, one)
        except InputError as error:
            found.left_out.append(f"{loss}, seed {seed}: {error}")
    return found


def _begin(found: _Gathered, results: Results, one: Predictions, seeds: list[int]) -> None:
    """Make ready for members of the test set that this one is of."""
    targets, classes = one.test_targets.astype(np.int64), one.test_logits.shape[1]
    needed = len(targets) * classes * len({loss for loss, _ in results.predictions}) * ENSEMBLE_BYTES
    if needed <= MOST_BYTES:
        found.ensembles = Ensembles(targets, classes, seeds)
    else:
        found.left_out.append(f"ensembles are not measured: {len(targets):,} test examples of {classes:,} classes "
                              f"would take {needed / 2**30:.1f} GiB, more than {MOST_BYTES / 2**30:g}")  # fmt: skip
    found.targets, found.num_classes = targets, classes


def _take_in(found: _Gathered, results: Results, loss: str, seed: int, one: Predictions) -> None:
    logits, targets, family = one.test_logits, found.targets, one.probabilities
    plain = prediction_measures(logits, targets, family)
    train_on = results.study["confirm"]["train_on"]
    try:
        heat = fit_temperature(one.validation_logits, one.validation_targets.astype(np.int64), family, train_on)
    except InputError as error:  # what the test split says stands all the same
        heat = Temperature(math.nan, f"validation cannot be used ({error})")
    scaled = scaled_measures(logits, targets, family, heat)
    if found.ensembles is not None:
        found.ensembles.add(loss, seed, logits, family)  # refuses what does not fit: nothing is kept of such a member
    found.rows.append({
        "loss": loss, "seed": seed, **plain, **{f"scaled_{name}": scaled[name] for name in OF_PROBABILITIES},
        "temperature": heat.value if heat.reason is None else np.nan, "temperature_reason": heat.reason,
    })  # fmt: skip
    probabilities = to_probabilities(logits, family)
    found.models.append((loss, seed))
    found.classes.append(logits.argmax(1).astype(np.uint16 if logits.shape[1] <= 2**16 else np.uint32))
    if probabilities is not None:
        found.confidence.setdefault(loss, []).append(confidences(probabilities, targets))
    if heat.reason is None:
        sharper = to_probabilities(scaled_logits(logits, family, heat), "softmax")
        found.scaled.setdefault(loss, []).append(confidences(sharper, targets))
    found.scores.append(_per_example(_of(results), logits, probabilities, targets))


def _of(results: Results) -> str:
    """What the score of one example is: the study's metric where it is a mean over examples."""
    return "nll" if results.metric == "nll" else "accuracy"


def _per_example(of: str, logits: np.ndarray, probabilities: np.ndarray | None, targets: np.ndarray) -> np.ndarray:
    """(N,) scores whose mean is the metric, higher is better; empty where a loss has none."""
    if of == "accuracy":
        return logits.argmax(1) == targets
    if probabilities is None:
        return np.empty(0)
    return np.log(np.maximum(probabilities[np.arange(len(targets)), targets], SMALLEST)).astype(np.float32)


def _intervals(found: _Gathered, alpha: float) -> dict[tuple[str, str], tuple[float, float]]:
    """`Predicted.intervals`; none where alpha is too small for the draws."""
    draws, intervals = max(CALIBRATION_DRAWS, math.ceil(LEAST_IN_TAIL / alpha)), {}
    if draws > MOST_DRAWS:
        return intervals
    for prefix, kept in (("", found.confidence), ("scaled_", found.scaled)):
        for loss, members in kept.items():
            for name, adaptive in (("ece", False), ("adaptive_ece", True)):
                ends = calibration_interval(members, adaptive, alpha, draws)
                if not math.isnan(ends[0]):
                    intervals[loss, prefix + name] = tuple(ends)
    return intervals


def _voted(ensembles: Ensembles, targets: np.ndarray) -> pd.DataFrame:
    losses, classes = ensembles.voted_classes()
    return pd.DataFrame(agreement([(loss, 0) for loss in losses], classes, targets).same_class, losses, losses)


def _common(found: _Gathered, places: dict, losses: list[str], seeds: list[int]) -> tuple[list[str], list[int]]:
    """The losses that have scores per example, and the seeds that all of them have."""
    whole = [loss for loss in losses
             if any((loss, seed) in places and len(found.scores[places[loss, seed]]) for seed in seeds)]  # fmt: skip
    return whole, [seed for seed in seeds if all((loss, seed) in places for loss in whole)]


def _crossed(
    results: Results, found: _Gathered, places: dict, losses: list[str], seeds: list[int]
) -> pd.DataFrame | None:
    """None for fewer than two losses or seeds, and where alpha is too small for the draws."""
    alpha = level_of(results)
    draws = max(DRAWS, math.ceil(LEAST_IN_TAIL / alpha))
    if len(losses) < 2 or len(seeds) < 2 or len(found.targets) < 2 or draws > MOST_DRAWS:
        return None
    scores = np.array([[found.scores[places[loss, seed]] for seed in seeds] for loss in losses])
    return crossed_bootstrap(scores, losses, alpha, draws)


def _without(results: Results, places: dict, losses: list[str], seeds: list[int]) -> list[str]:
    """`Predicted.crossed_without`: "seed 3 of every loss (softmax failed)", "mmc (all its seeds failed)"."""
    states = results.members.set_index(["loss", "seed"])["state"]
    failed, said = set(states.index[states == "failed"]), []
    for loss in [loss for loss in results.confirmed() if loss not in losses]:
        own = [member for member in states.index if member[0] == loss]
        measured = any(member in places for member in own)
        why = "not defined" if measured else "no predictions that can be used"
        said.append(f"{loss} ({'all its seeds failed' if failed.issuperset(own) else why})")
    reasons: dict[str, list[str]] = {}
    for seed in sorted(set(states.index.get_level_values("seed")) - set(seeds)):
        lacking = [loss for loss in losses if (loss, seed) not in places]
        parts = {"failed": [loss for loss in lacking if (loss, seed) in failed],
                 "cannot be used": [loss for loss in lacking if (loss, seed) not in failed]}  # fmt: skip
        why = "; ".join(f"{listed(own)} {what}" for what, own in parts.items() if own)
        reasons.setdefault(why, []).append(f"{seed}")
    return said + [f"seed{'s' * (len(own) > 1)} {listed(own)} of every loss ({why})" for why, own in reasons.items()]


def _per_class(results: Results, found: _Gathered, places: dict, losses: list[str], seeds: list[int]
               ) -> tuple[pd.DataFrame, pd.DataFrame | None]:  # fmt: skip
    """Recalls of every class, and their differences to the loss with the best mean of the study's metric."""
    number = found.num_classes
    examples = np.bincount(found.targets, minlength=number)
    right = np.full((len(seeds), len(losses), number), np.nan)
    for (loss, seed), place in places.items():
        answers = right_answers(found.classes[place].astype(np.int64), found.targets, number)
        right[seeds.index(seed), losses.index(loss)] = answers
    means = results.score_matrix().mean()
    best = means[[loss for loss in losses if loss in means]].idxmax() if set(losses) & set(means.index) else None
    try:
        differences = class_differences(right, examples, losses, best, level_of(results))
    except InputError:  # one loss, one seed: nothing to compare
        differences = None
    return class_recalls(right, examples, losses), differences
