"""Metrics of a member's logits: the few that are followed over epochs, and all of them at the end."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from losstune.trainables.datasets import Split
from losstune.trainables.metrics import METRICS, Metric, accuracy_of, constant_score

FOLLOWED = ("accuracy", "nll")  # beside the study's metric


@dataclass(frozen=True)
class Scorer:
    """Scores members of any loss by the study's metric and the standard ones. NaN: not defined for that loss."""

    metric: Metric
    num_classes: int

    def followed(self, logits: np.ndarray, loss: str, targets: np.ndarray) -> dict[str, list[float]]:
        """Per epoch: the study's metric, accuracy and NLL of logits (n, N, K); a value per member each."""
        scores = {name: self._each(METRICS[name], logits, loss, targets) for name in FOLLOWED}
        if self.metric.name not in scores:
            scores[self.metric.name] = self._each(self.metric, logits, loss, targets)
        return scores

    def all(self, logits: np.ndarray, loss: str, targets: np.ndarray) -> dict[str, float]:
        """Every metric of one member's logits (N, K)."""
        family = _family(loss)
        return {metric.name: metric.score(logits, targets, family) for metric in self._metrics()}

    def floor(self, train_targets: np.ndarray, split: Split) -> dict[str, float]:
        """The constant predictor's metrics, which a failed member scores."""
        return {m.name: constant_score(m, train_targets, split.y, self.num_classes) for m in self._metrics()}

    def _metrics(self) -> list[Metric]:
        standard = [metric for metric in METRICS.values() if self.num_classes >= metric.min_classes]
        return standard if self.metric.name in METRICS else [*standard, self.metric]

    def _each(self, metric: Metric, logits: np.ndarray, loss: str, targets: np.ndarray) -> list[float]:
        if metric.name == "accuracy":
            return accuracy_of(logits, targets).tolist()
        family = _family(loss)
        return [metric.score(own, targets, family) for own in logits]


def _family(loss: str) -> str | None:
    """How a loss's logits become probabilities, if at all."""
    from losstune.trainables.losses.combine import loss_of  # torch, which who only hands a scorer on need not load

    return loss_of(loss).probabilities
