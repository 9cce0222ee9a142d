"""What is followed over training: neural collapse and class separation of an epoch's training features, by name."""

from __future__ import annotations

from losstune.analysis.collapse import neural_collapse
from losstune.analysis.separation import class_separation
from losstune.trainables.feature_statistics import FeatureStatistics


def training_measures(statistics: FeatureStatistics) -> dict[str, float]:
    """nc1, nc2, nc3 of `neural_collapse` and class_separation, R^2 by cosine; NaN where one is not defined."""
    collapse = neural_collapse(statistics).values
    return {**{name: collapse[name] for name in ("nc1", "nc2", "nc3")},
            "class_separation": class_separation(statistics).values["cosine"]}  # fmt: skip
