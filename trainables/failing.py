"""Why a trial cannot go on."""

from __future__ import annotations

from losstune.trainables.metrics import NotScored, comparable
from losstune.trainables.scoring import Scorer
from losstune.trainables.trainer import EpochResult


def failure(seeds: tuple[int, ...], result: EpochResult, scorer: Scorer) -> tuple[str, bool] | None:
    """Why a trial of these seeds cannot go on after an epoch, if so, and whether it is that the metric raised."""
    for seed, loss, finite in zip(seeds, result.train_loss, result.finite, strict=True):
        if loss != loss or loss in (float("inf"), float("-inf")) or not finite:
            what = f"the training loss became {loss}" if finite or loss != loss else "a weight became infinite"
            return f"{what} in epoch {result.epoch} with seed {seed}", False
    for score in result.scores[scorer.metric.name]:
        if not comparable(score):
            why = unscored(score, f"{scorer.metric.name} on validation")
            return f"{why} in epoch {result.epoch}", isinstance(score, NotScored)
    return None


def unscored(score: float, what: str) -> str:
    """Why a score is of no use."""
    return score.why if isinstance(score, NotScored) else f"{what} became {score:g}"
