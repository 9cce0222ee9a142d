"""Recorded outputs of the confirmed members of synthetic results."""

from dataclasses import replace
from functools import partial

import numpy as np
import torch

from losstune.spaces import InputError
from losstune.trainables.feature_statistics import feature_statistics
from losstune.trainables.features import Examples, Features, Layers
from losstune.trainables.predictions import Predictions

CLASSES = 10


def logits_of(targets, rng, margin):
    """Logits (N, K) that favor the targets by a margin, with noise of its own for each model."""
    logits = rng.normal(0, 1, (len(targets), CLASSES))
    logits[np.arange(len(targets)), targets] += margin
    return logits.astype(np.float32)


def predictions(loss, seed, test=120, validation=90, margin=3.0, shift=0):
    """shift: another one makes another test set."""
    order = np.random.default_rng(shift)
    rng = np.random.default_rng([seed, *loss.encode()])
    own, held_out = (order.integers(0, CLASSES, size) for size in (test, validation))
    family = None if loss == "squared_error" else "sigmoid" if loss == "sigmoid" else "softmax"
    return Predictions(logits_of(held_out, rng, margin), held_out, logits_of(own, rng, margin), own, family)


def gram(x):
    x = x - x.mean(0)
    return (x @ x.T)[np.triu_indices(len(x))].astype(np.float32)


def features(loss, seed, count=60, width=8):
    order, rng = np.random.default_rng(7), np.random.default_rng([seed, *loss.encode()])
    targets = order.permutation(np.arange(count) % CLASSES)
    x = rng.normal(0, 1, (CLASSES, width))[targets] + rng.normal(0, 0.5, (count, width))
    weight = torch.as_tensor(rng.normal(0, 1, (CLASSES, width)))
    batch = [(torch.as_tensor(x), torch.as_tensor(targets))]
    statistics = feature_statistics(lambda: batch, CLASSES, weight, torch.zeros(CLASSES, dtype=weight.dtype))
    first = np.maximum(x, 0)
    layers = Layers(np.array(["0 Linear", "features"]), np.array([gram(first), gram(x)]),
                    np.array([(first == 0).mean(), 0.0], dtype=np.float32), np.arange(count))  # fmt: skip
    kept = Examples(x.astype(np.float16), targets, np.arange(count))
    return Features({"train": statistics, "test": statistics}, {"test": kept}, layers)


def damaged():
    raise InputError("predictions/one.npz: not a confirmed member's predictions (File is not a zip file)")


def with_outputs(results, **changed):
    """The results with predictions and features of every confirmed member; changed: {(loss, seed): what reads it}."""
    members = [(row["loss"], row["seed"]) for row in results.members.to_dict("records") if row["state"] == "complete"]
    read = {member: partial(predictions, *member) for member in members} | changed.get("predictions", {})
    seen = {member: partial(features, *member) for member in members} | changed.get("features", {})
    return replace(results, predictions=read, features=seen)
