"""From a study to what can be trained: data read and split, network and metric checked, before anything starts."""

from __future__ import annotations

import contextlib
import math
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import psutil

from losstune.search.other_data import check_other_data, load_other_data
from losstune.search.recipe_part import RecipePart, identity_of
from losstune.search.study import Study
from losstune.spaces import SPACES, InputError, members_of, plugin_source, space_of
from losstune.trainables.architectures import ARCHITECTURES, check_architecture
from losstune.trainables.augmentation import check, output_shape
from losstune.trainables.datasets import DATASETS, Split, load_dataset, locate
from losstune.trainables.datasets import Sizes as KnownSizes
from losstune.trainables.datasets.degrading import degraded, number_of
from losstune.trainables.datasets.splitting import hold_out
from losstune.trainables.metrics import METRICS, Metric, comparable, constant_score, resolve_metric
from losstune.trainables.other_data import OtherData


@dataclass(frozen=True)
class Plan:
    """A study with its data. test and others, what record names, are kept apart: lanes get them in confirm only."""

    study: Study
    train: Split
    validation: Split
    test: Split
    num_classes: int
    class_names: tuple[str, ...]
    digest: str
    metric: Metric
    others: OtherData = OtherData()

    @property
    def input_shape(self) -> tuple[int, ...]:
        return tuple(self.train.x.shape[1:])

    @property
    def network_shape(self) -> tuple[int, ...]:
        """The shape of what the network sees of an input: augmentation may crop or resize."""
        return output_shape(self.study.recipe.augmentation, self.input_shape)


@dataclass(frozen=True)
class Sizes:
    """What a plan is about, without its arrays."""

    n_train: int
    n_validation: int
    n_test: int
    num_classes: int
    input_shape: tuple[int, ...]


def data_root() -> str | None:
    """The folder of the data sets that are not embedded: the environment's LOSSTUNE_DATA."""
    return os.environ.get("LOSSTUNE_DATA")


@contextlib.contextmanager
def _naming(study: Study) -> Iterator[None]:
    """Errors begin with the study that they are about."""
    try:
        yield
    except InputError as error:
        message = str(error)
        raise InputError(message if message.startswith(study.where) else f"{study.where}: {message}") from None


def make_plan(study: Study) -> Plan:
    """Read the data and hold out validation; InputError for anything in them that cannot be trained on."""
    with _naming(study):
        return _make_plan(study)


def _make_plan(study: Study) -> Plan:
    dataset = load_dataset(study.data, data_root(), study.folder, study.sources.get("data"))
    recipe, seed = study.recipe, study.split.seed
    operations = check(recipe.augmentation)
    if not (operations and operations[0][0] == "random_resized_crop"):  # which is cut from the files themselves
        dataset = dataset.in_memory()
    given = degraded(dataset.train, recipe.train_examples, recipe.label_noise, dataset.num_classes, seed)
    train, validation = hold_out(given, study.split.validation, seed)
    metric = resolve_metric(study.metric, study.folder, study.sources.get("metric"), dataset.num_classes)
    plan = Plan(study, train, validation, dataset.test, dataset.num_classes, dataset.class_names, dataset.digest(),
                metric)  # fmt: skip
    check_sizes(study, sizes_of(plan))
    check_network(study, sizes_of(plan))
    plan = replace(plan, others=load_other_data(study, plan.input_shape, plan.class_names, data_root()))
    study.settle(dataset.num_classes)
    for split in (plan.validation, plan.test):
        score = constant_score(metric, plan.train.y, split.y, plan.num_classes)
        if not comparable(score):
            raise InputError(f"metric: {study.metric} is {score:g} for a constant predictor, which failed trials score "
                             f"as; allowed: a metric that is a number for any prediction")  # fmt: skip
    return plan


def sizes_of(plan: Plan) -> Sizes:
    return Sizes(len(plan.train), len(plan.validation), len(plan.test), plan.num_classes, plan.input_shape)


def quick_sizes(study: Study) -> Sizes:
    """The sizes of a study's data, from the table where it knows them, so that nothing large is read."""
    known = DATASETS.get(study.data)
    if known is None or known.sizes is None or not known.files:
        return sizes_of(make_plan(study))
    with _naming(study):
        return _known_sizes(study, known.sizes)


def _known_sizes(study: Study, known: KnownSizes) -> Sizes:
    locate(study.data, data_root(), study.folder)
    examples, n_train = study.recipe.train_examples, known.n_train
    n_train = n_train if examples is None else number_of(examples, n_train, known.num_classes)
    n_validation = math.ceil(n_train * study.split.validation - 1e-9)
    sizes = Sizes(n_train - n_validation, n_validation, known.n_test, known.num_classes, known.input_shape)
    check_sizes(study, sizes)
    check_network(study, sizes)
    return sizes


def check_sizes(study: Study, sizes: Sizes) -> None:
    """What the data's sizes rule out."""
    if study.recipe.batch_size > sizes.n_train:
        raise InputError(f"recipe.batch_size: {study.recipe.batch_size} is more than the "
                         f"{sizes.n_train} training examples; allowed: 1 to {sizes.n_train}")  # fmt: skip
    check_other_data(study, sizes.input_shape, data_root())
    weights = study.recipe.class_weights
    if not isinstance(weights, str) and len(weights) != sizes.num_classes:
        raise InputError(f"recipe.class_weights: {len(weights)} weights for {sizes.num_classes} "
                         f"classes; allowed: one per class")  # fmt: skip


def check_network(study: Study, sizes: Sizes) -> None:
    """Whether the network takes the inputs; the user's own or a library's is built, for its errors to come here.

    And whether the backend that the study fixes can compute it.
    """
    shape = output_shape(study.recipe.augmentation, sizes.input_shape)
    check_architecture(study.network, shape)
    own = [loss for loss in study.spaces if loss not in SPACES]  # combinations, and other packages'
    wide = [loss for loss in study.spaces if space_of(loss).least_features]
    fixed = study.resources.backend != "auto" or study.resources.compile
    if study.network not in ARCHITECTURES or own or wide or fixed:
        from losstune.trainables.backends import check_backend  # torch, which others need not
        from losstune.trainables.losses.combine import check_fits, loss_of
        from losstune.trainables.network import Network

        source = study.sources.get("network")
        backbone, in_features = Network(study.network, shape, sizes.num_classes, source=source).build()
        resources = study.resources
        check_backend(backbone, study.network, resources.backend, resources.compile,
                      device=None if resources.gpus else "cpu")  # fmt: skip
        for loss in own:
            loss_of(loss)
        for loss in wide:
            check_fits(loss, in_features, sizes.num_classes)


def check_machine(study: Study) -> None:
    """Whether a lane fits this machine."""
    resources, cores = study.resources, os.cpu_count() or 1
    if resources.cpus > cores:
        raise InputError(f"{study.where}: resources.cpus: {resources.cpus:g} is more than this machine's {cores} "
                         f"cores; allowed: up to {cores}")  # fmt: skip
    memory = psutil.virtual_memory().total / 2**30
    if resources.memory_gib and resources.memory_gib > memory:
        raise InputError(f"{study.where}: resources.memory_gib: {resources.memory_gib:g} is more than this machine's "
                         f"{memory:.3g}; allowed: less")  # fmt: skip
    if resources.gpus:
        import torch

        if torch.cuda.device_count() < resources.gpus:
            raise InputError(f"{study.where}: resources.gpus: {resources.gpus:g} is more than this machine's "
                             f"{torch.cuda.device_count()} GPUs; allowed: 0, or a machine that has them")  # fmt: skip


def check_address(address: str) -> None:
    """Whether something listens at a cluster's address: HOST:PORT, ray://HOST:PORT, or auto."""
    if address == "auto":
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=2).close()
    except (ValueError, OSError) as error:
        reason = getattr(error, "strerror", None) or "not an address"
        raise InputError(f"--address {address}: {reason}; allowed: HOST:PORT of a Ray cluster, or auto") from None


def check_metric_defined(study: Study) -> None:
    """A metric of probabilities cannot rank losses that define none."""
    if study.metric in METRICS and METRICS[study.metric].needs == "probabilities":
        from losstune.trainables.losses.combine import loss_of  # torch, which this check seldom needs

        without = [loss for loss in study.spaces if loss_of(loss).probabilities is None]
        if without:
            raise InputError(f"{study.where}: metric: {study.metric} is not defined for {', '.join(without)}; "
                             f"allowed: a metric of predictions, or the other losses")  # fmt: skip


def identity(plan: Plan) -> dict[str, Any]:
    """What must not change within a study, as text by field: evidence of two such studies cannot be mixed."""
    study = plan.study
    recipe = {**identity_of(study.recipe), "precision": precision(study)}
    return {
        "data": study.data, "data digest": plan.digest, "network": study.network, "metric": study.metric,
        "split": study.split.model_dump(mode="json"), "recipe": recipe, "search.method": study.search.method,
        "search.seeds": study.search.seeds,
        "search.halving": study.search.halving and study.search.halving.model_dump(mode="json"),
        "confirm.train_on": study.confirm.train_on, "sources": study.sources,
        "losses": {loss: space.describe() for loss, space in study.spaces.items()},
        "packages": {name: version for loss in study.spaces for name in members_of(loss)
                     if name not in SPACES and (version := plugin_source(name))},
    }  # fmt: skip


def differences(before: dict[str, Any], now: dict[str, Any], prefix: str = "") -> list[str]:
    """Each field that differs, "recipe.epochs: was 27, now 9"; losses that are only in one do not count."""
    if not prefix and "recipe" in before:
        # A recipe recorded before a field existed was trained as the field's default says.
        before = {**before, "recipe": {**identity_of(RecipePart()), **before["recipe"]}}
    found = []
    for key in before:
        old, new, name = before[key], now.get(key), f"{prefix}{key}"
        if isinstance(old, dict) and isinstance(new, dict):
            shared = {k: v for k, v in old.items() if key != "losses" or k in new}
            found += differences(shared, new, f"{name}.")
        elif old != new and not (prefix == "sources." or name == "sources"):
            found.append(f"{name}: was {old!r}, now {new!r}")
        elif old != new:
            found.append(f"{key}: its file has changed")
    return found


def class_weights(plan: Plan) -> tuple[float, ...] | None:
    """The recipe's class weights, one per class; None where all weigh the same."""
    chosen = plan.study.recipe.class_weights
    if chosen == "none":
        return None
    if chosen == "balanced":
        counts = np.bincount(plan.train.y, minlength=plan.num_classes)
        return tuple((len(plan.train) / (plan.num_classes * counts)).tolist())
    return tuple(chosen)


def precision(study: Study) -> str:
    """The recipe's precision, float32 or bfloat16; auto is bfloat16 on a GPU, where it is sure to be fast."""
    automatic = "bfloat16" if study.resources.gpus else "float32"
    return automatic if study.recipe.precision == "auto" else study.recipe.precision


def decay_norm(study: Study) -> bool:
    """Whether weight decay acts on norms and biases; auto is what the network's source does."""
    if study.recipe.decay_norm != "auto":
        return study.recipe.decay_norm
    return study.network in ARCHITECTURES and ARCHITECTURES[study.network].decay_norm
