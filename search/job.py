"""From a plan to the job that every lane of it gets. Imports torch."""

from __future__ import annotations

from pathlib import Path

from losstune.search.plan import Plan, class_weights, decay_norm, precision
from losstune.trainables.lane import Job
from losstune.trainables.recipe import Recipe
from losstune.trainables.scoring import Scorer
from losstune.trainables.trainer import Network


def make_job(plan: Plan, folder: Path) -> Job:
    """What lanes train and how; folder: where their checkpoints and predictions go."""
    study, recipe = plan.study, plan.study.recipe
    device = "cuda" if study.resources.gpus else "cpu"
    return Job(
        study=study.name,
        network=Network(study.network, plan.input_shape, plan.num_classes, decay_norm(study),
                        study.sources.get("network")),
        recipe=Recipe(recipe.epochs, recipe.batch_size, recipe.momentum, recipe.augmentation, class_weights(plan),
                      precision(study)),
        scorer=Scorer(plan.metric, plan.num_classes),
        folder=str(folder), device=device, width=study.resources.members,
        confirm_on_all=study.confirm.train_on == "all",
    )  # fmt: skip
