"""From a plan to the job that every lane of it gets. Without torch."""

from __future__ import annotations

from pathlib import Path

from losstune.search.locations import files_of
from losstune.search.plan import Plan, class_weights, decay_norm, precision
from losstune.search.recipe_part import schedule_of
from losstune.search.record_part import recording
from losstune.trainables.augmentation import check
from losstune.trainables.job import Job
from losstune.trainables.network import Network
from losstune.trainables.recipe import Recipe
from losstune.trainables.scoring import Scorer


def make_job(plan: Plan, folder: Path) -> Job:
    """What lanes train and how; folder: where their checkpoints and predictions go."""
    study = plan.study
    device = "cuda" if study.resources.gpus else "cpu"
    return Job(
        study=study.name,
        network=Network(study.network, plan.network_shape, plan.num_classes, decay_norm(study),
                        study.sources.get("network")),
        recipe=_recipe(plan),
        scorer=Scorer(plan.metric, plan.num_classes),
        folder=str(folder), storage=files_of(folder), device=device, width=study.resources.members,
        backend=None if study.resources.backend == "auto" else study.resources.backend,
        compiled=study.resources.compile,
        confirm_on_all=study.confirm.train_on == "all", patience=60 * study.stop.stalled_minutes,
        record=recording(study.record),
    )  # fmt: skip


def _recipe(plan: Plan) -> Recipe:
    said = plan.study.recipe
    return Recipe(
        epochs=said.epochs, batch_size=said.batch_size, optimizer=said.optimizer, momentum=said.momentum,
        betas=said.betas, eps=said.eps, schedule=schedule_of(said), weight_decay_as=said.weight_decay_as,
        clip_norm=said.clip_norm, average=said.average, mixup=said.mixup, class_weights=class_weights(plan),
        precision=precision(plan.study), augmentation=check(said.augmentation),
    )  # fmt: skip
