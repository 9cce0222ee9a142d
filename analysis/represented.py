"""What the recorded features of the confirmed members say: every measure of them, members read one after the other."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from losstune.analysis.collapse import neural_collapse
from losstune.analysis.results import Results
from losstune.analysis.separation import (
    MOST_PAIRED,
    angular_visual_hardness,
    class_separation,
    cosine_distances,
    distance_counts,
    hardness_values,
)
from losstune.analysis.similarity import cka_matrix, loss_similarity, seed_averages
from losstune.analysis.spectra import effective_ranks, singular_values
from losstune.trainables.features import Features

PENULTIMATE = "features"  # the last of the recorded layers
MOST_BYTES = 2**29  # of Gram matrices
TOO_MANY = "layers are not compared, for there are too many large ones (record: layers)"
LAYER_SEEDS = 5  # of each loss, whose layers are compared: all of many seeds would take gigabytes
PAIRED_SEEDS = 5  # of each loss, whose kept examples are compared with each other: all would take seconds more


@dataclass
class Distribution:
    """Something of the examples whose features are kept: by_loss, an array for each seed that is looked at; split,
    "train" or "test", and examples: how many of each seed."""

    split: str
    examples: int
    by_loss: dict[str, list[np.ndarray]] = field(default_factory=dict)


@dataclass(frozen=True)
class Represented:
    """members: a row per member and split ("train", "test"): loss, seed, split, and the values of `class_separation`,
    `cosine_distances`, `angular_visual_hardness`, `neural_collapse` and `effective_ranks`; NaN where one is not
    defined. distances, hardness: what `distance_counts` and `hardness_values` give of each of the first seeds of a
    loss, of training examples the one and of test examples the other, as in Kornblith et al. 2020, Figures E.3 and E.1
    (of the other split where only that is kept); None where no features are kept. spectra: per loss the mean over seeds
    of the singular values of the centered training activations (of the test ones where training ones are not recorded)
    over the largest one. sparsity: loss, seed, layer, sparsity, in the layers' order. similarity: `loss_similarity` of
    the penultimate features of all members and of the layers of the first seeds of each loss; by_layer: per loss,
    layers x layers between its seeds. left_out: which members are not in it and why.
    """

    members: pd.DataFrame
    distances: Distribution | None
    hardness: Distribution | None
    spectra: dict[str, np.ndarray]
    sparsity: pd.DataFrame
    similarity: pd.DataFrame
    by_layer: dict[str, pd.DataFrame]
    left_out: list[str]


@dataclass
class _Gathered:
    rows: list[dict] = field(default_factory=list)
    distances: Distribution | None = None
    hardness: Distribution | None = None
    spectra: dict[str, list[np.ndarray]] = field(default_factory=dict)
    sparsity: list[dict] = field(default_factory=list)
    models: list[dict] = field(default_factory=list)  # loss, seed, layer of each Gram matrix
    grams: list[np.ndarray] = field(default_factory=list)
    indices: np.ndarray | None = None  # of the test examples that the Gram matrices are of
    left_out: list[str] = field(default_factory=list)


def measure_features(results: Results) -> Represented | None:
    """Every measure of the recorded features; None where there are none that can be read."""
    found, layered = _Gathered(), {}
    if not results.predictions:  # of which the same is said
        found.left_out += results.failed_members()
    for (loss, seed), one in results.readable(results.features, found.left_out):
        _take_in(found, loss, seed, one)
        _take_in_examples(found, loss, one)
        _take_in_layers(found, loss, seed, one, layered)
    if not found.rows:
        return None
    similarity, by_layer = _compared(found)
    return Represented(
        members=pd.DataFrame(found.rows), distances=found.distances, hardness=found.hardness,
        spectra={loss: _mean_spectrum(own) for loss, own in found.spectra.items()},
        sparsity=pd.DataFrame(found.sparsity, columns=["loss", "seed", "layer", "sparsity"]),
        similarity=similarity, by_layer=by_layer, left_out=found.left_out,
    )  # fmt: skip


def _take_in(found: _Gathered, loss: str, seed: int, one: Features) -> None:
    for split, statistics in one.statistics.items():
        parts = (class_separation(statistics), cosine_distances(statistics), angular_visual_hardness(statistics),
                 neural_collapse(statistics), effective_ranks(statistics))  # fmt: skip
        values = {name: value for part in parts for name, value in part.values.items()}
        found.rows.append({"loss": loss, "seed": seed, "split": split, **values})
    statistics = one.statistics.get("train", one.statistics["test"])
    values = singular_values(statistics, "activations", centered=True)
    if values is not None and len(values) and values[0] > 0:
        found.spectra.setdefault(loss, []).append(values / values[0])


def _take_in_examples(found: _Gathered, loss: str, one: Features) -> None:
    """All of the same split, and as many, as the first member's."""
    weight = one.statistics["test"].weight
    for name, splits in (("distances", ("train", "test")), ("hardness", ("test", "train"))):
        kept = [(split, one.examples[split]) for split in splits if split in one.examples]
        if not kept or (name == "hardness" and weight is None):
            continue
        split, own = kept[0]
        count = min(len(own.targets), MOST_PAIRED)
        so_far = getattr(found, name) or Distribution(split, count)
        values = so_far.by_loss.get(loss, [])
        if (split, count) != (so_far.split, so_far.examples) or len(values) == PAIRED_SEEDS:
            continue
        x, y = own.features[:count], own.targets[:count]
        values.append(distance_counts(x, y) if name == "distances" else hardness_values(x, y, weight))
        so_far.by_loss[loss] = values
        setattr(found, name, so_far)


def _take_in_layers(found: _Gathered, loss: str, seed: int, one: Features, layered: dict[str, int]) -> None:
    layers = one.layers
    if layers is None:
        return
    if found.indices is None:
        found.indices = layers.indices
    if not np.array_equal(layers.indices, found.indices):
        found.left_out.append(f"{loss}, seed {seed}: its layers were recorded on other test examples")
        return
    layered[loss] = layered.get(loss, 0) + 1
    for name, gram, sparsity in zip(layers.names, layers.grams, layers.sparsity, strict=True):
        found.sparsity.append({"loss": loss, "seed": seed, "layer": str(name), "sparsity": float(sparsity)})
        room = sum(one.nbytes for one in found.grams) + gram.nbytes <= MOST_BYTES
        if not room and not any(TOO_MANY in text for text in found.left_out):
            found.left_out.append(f"{loss}, from seed {seed} on: {TOO_MANY}")
        if room and (name == PENULTIMATE or layered[loss] <= LAYER_SEEDS):
            found.models.append({"loss": loss, "seed": seed, "layer": str(name)})
            found.grams.append(gram)


def _mean_spectrum(spectra: list[np.ndarray]) -> np.ndarray:
    return np.mean([one[: min(map(len, spectra))] for one in spectra], axis=0)


def _compared(found: _Gathered) -> tuple[pd.DataFrame, dict[str, pd.DataFrame]]:
    """CKA, debiased, over losses layer by layer, and over layers within each loss; empty where nothing is recorded."""
    columns = ["layer", "loss_a", "loss_b", "cka", "ceiling", "same_seed"]
    models = pd.DataFrame(found.models, columns=["loss", "seed", "layer"])
    if len(models) < 2 or len(found.indices) < 4:  # what debiased CKA takes
        return pd.DataFrame(columns=columns), {}
    alike = cka_matrix(np.array(found.grams))
    averages = seed_averages(alike, models)
    by_layer = {loss: averages.loc[loss][loss] for loss in models["loss"].unique()}
    return loss_similarity(alike, models), {loss: own for loss, own in by_layer.items() if own.notna().all(axis=None)}
