"""A degraded training set, with fewer examples or with wrong labels (Kobayashi 4.2, Table 3), the same everywhere."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from losstune.spaces.errors import InputError
from losstune.trainables.datasets.dataset import Split

# Each kind of draw has a stream of its own beside that of the split into training and validation.
_EXAMPLES, _LABELS = 1, 2


def degraded(split: Split, examples: float | None, noise: float, num_classes: int, seed: int) -> Split:
    """A training split with so many of its examples and that share of wrong labels.

    examples: as number_of takes it. Fewer examples are drawn first, then labels are replaced among them. Whatever is
    held out for validation is to be taken from the result: somebody with few examples, or with careless annotators,
    has no others to tune on. The test split stays as it is, as in the paper.
    Raises InputError as number_of and with_label_noise do.
    """
    if examples is not None:
        split = subsample(split, number_of(examples, len(split), num_classes), seed)
    return with_label_noise(split, noise, num_classes, seed) if noise else split


def number_of(examples: float, available: int, num_classes: int) -> int:
    """How many examples are meant: a whole number of them, or as a float a share of those available.

    InputError when there are not so many, or fewer than one per class.
    """
    number = round(examples * available) if isinstance(examples, float) else examples
    if not num_classes <= number <= available:
        asked = f"{examples}, which is {number}," if isinstance(examples, float) else f"{examples}"
        fewer, more = f"fewer than the {num_classes} classes", f"more than the {available} there are"
        problem = fewer if number < num_classes else more
        raise InputError(f"recipe.train_examples: {asked} is {problem}; allowed: {num_classes} to {available}, or a "
                         f"share of these in (0, 1]")  # fmt: skip
    return number


def subsample(split: Split, number: int, seed: int) -> Split:
    """`number` examples, every class in proportion and with one example at least, in the split's order.

    number: from the number of classes to len(split). With one seed fewer examples are among the more.
    """
    keys = _draws(seed, _EXAMPLES, len(split))
    place = np.empty(len(split))
    for label in np.unique(split.y):
        members = np.flatnonzero(split.y == label)
        # A class's examples, in random order, stand at even distances in [0, 1): of all classes together the first
        # ones have every class in proportion (Webster's method). The first of each class is among them in any case.
        even = np.r_[0, np.arange(1, len(members)) + 0.5] / len(members)
        place[members[np.argsort(keys[members], kind="stable")]] = even
    return split.take(np.sort(np.lexsort((keys, place))[:number]))


def with_label_noise(split: Split, share: float, num_classes: int, seed: int) -> Split:
    """round(share N) labels, drawn evenly from all examples, replaced by another class, drawn evenly from the others.

    Symmetric noise as in Kobayashi 4.2, which switches labels "into the other incorrect ones": share is that of wrong
    labels, not of labels drawn anew. With one seed a smaller share is wrong in the same way within the larger.
    InputError when a class is left without an example.
    """
    keys, choices = _draws(seed, _LABELS, 2 * len(split)).reshape(2, -1)
    wrong = np.argsort(keys, kind="stable")[: round(share * len(split))]
    labels = split.y.copy()
    labels[wrong] += 1 + (choices[wrong] * (num_classes - 1)).astype(np.int64)
    labels %= num_classes
    missing = np.flatnonzero(np.bincount(labels, minlength=num_classes) == 0)
    if len(missing):
        raise InputError(f"recipe.label_noise: {share:g} leaves class {missing[0]} without an example; allowed: less "
                         f"noise, or more examples")  # fmt: skip
    return replace(split, y=labels)


def _draws(seed: int, purpose: int, count: int) -> np.ndarray:
    """Numbers in [0, 1), (count,), from a stream that is frozen (NEP 19), as the split's."""
    return np.random.RandomState([seed, purpose]).random_sample(count)
