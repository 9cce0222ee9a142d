"""Features small enough for all pairs, and their statistics by way of batches."""

import numpy as np
import torch

from losstune.trainables.feature_statistics import feature_statistics

# Four examples of two classes, worked out by hand in the tests; the weights are the identity.
HAND = np.array([[2.0, 0], [0, 1], [-1, 0], [0, -1]]), np.array([0, 0, 1, 1])


def record(x, y, classes, weight=None, bias=None, batch=7):
    x, y, weight, bias = (None if a is None else torch.as_tensor(a) for a in (x, y, weight, bias))
    return feature_statistics(lambda: zip(x.split(batch), y.split(batch), strict=True), classes, weight, bias)


def examples(counts, width, seed=0):
    """Features (N, d) with a class mean each, far from 0, in mixed order, and their classes (N,)."""
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    means = rng.normal(size=(len(counts), width)) + 2
    return means[y] + rng.normal(size=(len(y), width)) * rng.uniform(0.2, 2, width), y
