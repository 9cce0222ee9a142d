"""What ensembles of confirmed members gain: of the seeds of one loss, and of two losses together.

An ensemble predicts in two ways: by the mean of its members' probabilities, where all of them have some, and by
majority vote, the modal predicted class, as in Kornblith et al. 2020 (Figures D.2 and D.3). A tied vote is broken at
random in expectation: it counts as right by the share of the true class among the tied ones. Ensembles of two members
tie wherever these disagree, so that their vote is no better than one member.

There is one ensemble of each kind, so how much a gain would vary with other seeds is not measured.
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from losstune.analysis.calibration import brier, check_outputs, check_targets
from losstune.spaces import InputError
from losstune.trainables.metrics import accuracy, ece, nll, to_probabilities

MEASURES = {"nll": nll, "brier": brier, "ece": ece}


@dataclass
class _Sum:
    """Some members together: votes (N, K), probabilities (N, K) summed or None where a member has none, and the
    sum of every member's own measures."""

    votes: np.ndarray
    probabilities: np.ndarray | None
    size: int
    own: dict[str, float]

    def __add__(self, other: _Sum) -> _Sum:
        defined = self.probabilities is not None and other.probabilities is not None
        return _Sum(self.votes + other.votes, self.probabilities + other.probabilities if defined else None,
                    self.size + other.size, {name: self.own[name] + other.own[name] for name in self.own})  # fmt: skip


class Ensembles:
    """Takes members one by one, and forgets them: holds 3 x losses x N x K counts and sums, whatever the seeds.

    targets: (N,). num_classes: K. seeds: those of the confirmed members, in order; the members of each loss form a
    first and a second half by them, of equal size, and one seed is left over where their number is odd.
    """

    def __init__(self, targets: np.ndarray, num_classes: int, seeds: Sequence[Hashable]) -> None:
        check_targets(targets, len(targets), num_classes)
        self.targets, self.num_classes = targets, num_classes
        half = len(seeds) // 2
        # Of three parts, so that halves of equal size and the whole both come from sums that are kept.
        self._part_of = {seed: min(k // half, 2) if half else 2 for k, seed in enumerate(seeds)}
        self._half, self._seen, self._sums = half, set(), {}

    def add(self, loss: str, seed: Hashable, logits: np.ndarray, family: str | None) -> None:
        """Take in a member's logits (N, K) on the targets. InputError where they do not fit, for a seed that is not
        one of seeds, and for a member that was taken in before."""
        check_outputs(logits, self.targets)
        if logits.shape[1] != self.num_classes:
            raise InputError(f"logits: {logits.shape[1]} classes; needed: {self.num_classes}")
        if seed not in self._part_of or (loss, seed) in self._seen:
            why = "was taken in before" if (loss, seed) in self._seen else "is none of the study's seeds"
            raise InputError(f"ensembles: seed {seed} of {loss} {why}")
        self._seen.add((loss, seed))
        parts = self._sums.setdefault(loss, {})
        part, probabilities = self._part_of[seed], to_probabilities(logits, family)
        own = {"accuracy": accuracy(logits, self.targets), **self._scores(probabilities)}
        votes = np.zeros(logits.shape, dtype=np.int32)
        votes[np.arange(len(logits)), logits.argmax(1)] = 1
        member = _Sum(votes, probabilities, 1, own)
        parts[part] = parts[part] + member if part in parts else member

    def within(self) -> pd.DataFrame:
        """Ensembles of all the seeds of a loss, a row each, in the order of their first members.

        Columns: loss, size (members); vote_accuracy and vote_ties (share of examples); accuracy, nll, brier, ece of
        the mean of probabilities (NaN where the loss has none); member_accuracy, member_nll, member_brier, member_ece:
        means over the members; vote_gain, accuracy_gain, nll_gain, brier_gain, ece_gain over them, positive where the
        ensemble is better. nll_gain and brier_gain cannot be negative (Jensen); ece_gain can be, since averaging lowers
        confidence.
        """
        return pd.DataFrame([{"loss": loss, **self._measured(self._whole(loss))} for loss in self._sums])

    def across(self) -> pd.DataFrame:
        """Ensembles half of one loss and half of another, all of one size and of different seeds, a row per pair.

        As Kornblith's Figure D.3, whose diagonal are the rows with loss_a = loss_b: both halves of one loss. Two losses
        make two such ensembles (the first half of the seeds from one and the second half from the other, and the other
        way round); the row holds their mean. Columns: loss_a, loss_b, and those of `within`; better_accuracy and
        better_vote_accuracy: of the better one of the two losses' own ensembles of that size. Only losses with a member
        for every seed of both halves; empty for fewer than two seeds.
        """
        losses = [loss for loss, parts in self._sums.items() if self._is_whole(parts)]
        found = {}
        for a, b in itertools.combinations_with_replacement(losses, 2):
            mixed = [self._measured(self._sums[one][0] + self._sums[other][1])
                     for one, other in ([(a, b)] if a == b else [(a, b), (b, a)])]  # fmt: skip
            found[a, b] = {name: float(np.mean([row[name] for row in mixed])) for name in mixed[0]}
        for (a, b), row in found.items():
            for name in ("accuracy", "vote_accuracy"):
                row[f"better_{name}"] = float(np.maximum(found[a, a][name], found[b, b][name]))
        table = pd.DataFrame([{"loss_a": a, "loss_b": b, **row} for (a, b), row in found.items()])
        return table.astype({"size": int}) if len(table) else table

    def voted_classes(self) -> tuple[list[str], np.ndarray]:
        """The losses, and the classes (losses, N) that the seeds of each vote for, of tied ones the lowest: for
        `agreement`, which makes Kornblith's Figure D.2 of them."""
        return list(self._sums), np.array([self._whole(loss).votes.argmax(1) for loss in self._sums])

    def _whole(self, loss: str) -> _Sum:
        first, *others = self._sums[loss].values()
        for other in others:
            first = first + other
        return first

    def _is_whole(self, parts: dict[int, _Sum]) -> bool:
        return self._half > 0 and all(part in parts and parts[part].size == self._half for part in (0, 1))

    def _measured(self, members: _Sum) -> dict[str, float]:
        """The columns of `within` from size on."""
        mean = None if members.probabilities is None else members.probabilities / members.size
        found = {**self._voted(members.votes), "accuracy": np.nan if mean is None else accuracy(mean, self.targets),
                 **self._scores(mean)}  # fmt: skip
        own = {name: total / members.size for name, total in members.own.items()}
        gains = {
            "vote_gain": found["vote_accuracy"] - own["accuracy"], "accuracy_gain": found["accuracy"] - own["accuracy"],
            **{f"{name}_gain": own[name] - found[name] for name in MEASURES},
        }  # fmt: skip
        return {"size": members.size, **found, **{f"member_{name}": value for name, value in own.items()}, **gains}

    def _scores(self, probabilities: np.ndarray | None) -> dict[str, float]:
        return {name: np.nan if probabilities is None else measure(probabilities, self.targets)
                for name, measure in MEASURES.items()}  # fmt: skip

    def _voted(self, votes: np.ndarray) -> dict[str, float]:
        top = votes.max(1, keepdims=True)
        tied = (votes == top).sum(1)
        right = np.take_along_axis(votes, self.targets[:, None], 1)[:, 0] == top[:, 0]
        return {"vote_accuracy": float((right / tied).mean()), "vote_ties": float((tied > 1).mean())}
