"""Stratified hold-out: proportions, determinism, and shares that leave a class empty."""

import numpy as np
import pytest

from losstune.spaces.errors import InputError
from losstune.trainables.datasets import Split
from losstune.trainables.datasets.splitting import hold_out, hold_out_indices


def labels(*counts: int) -> np.ndarray:
    y = np.repeat(np.arange(len(counts)), counts)
    return np.random.RandomState(1).permutation(y)


def test_every_example_is_on_one_side_with_its_label():
    y = labels(50, 30, 20)
    split = Split(np.column_stack([np.arange(100), y]).astype(np.float32), y)
    train, validation = hold_out(split, 0.2, 0)
    assert (len(train), len(validation)) == (80, 20)
    assert sorted(np.concatenate([train.x[:, 0], validation.x[:, 0]])) == list(range(100))
    for part in (train, validation):
        assert (part.x[:, 1] == part.y).all() and (np.diff(part.x[:, 0]) > 0).all()
    assert np.bincount(validation.y).tolist() == [10, 6, 4]


def test_the_same_seed_holds_out_the_same_examples_everywhere():
    # Written down once: the same on every machine and with every numpy.
    _, held_out = hold_out_indices(np.arange(12) % 3, 0.25, 7)
    assert held_out.tolist() == [0, 7, 8]
    assert hold_out_indices(np.arange(12) % 3, 0.25, 8)[1].tolist() != [0, 7, 8]


@pytest.mark.parametrize("share", [0.1, 0.15, 1 / 3, 0.5, 0.77])
def test_agrees_with_scikit_learn_on_how_many(share):
    from sklearn.model_selection import StratifiedShuffleSplit

    y = labels(97, 41, 23, 14)
    _, expected = next(StratifiedShuffleSplit(1, test_size=share, random_state=0).split(y, y))
    counts = np.bincount(y[hold_out_indices(y, share, 3)[1]])
    assert counts.sum() == len(expected) and np.abs(counts - np.bincount(y) * share).max() <= 1


def test_a_rare_class_has_an_example_on_both_sides():
    for share in (0.05, 0.95):
        train, held_out = hold_out_indices(y := labels(60, 38, 2), share, 0)
        assert len(held_out) == round(100 * share)
        assert np.bincount(y[train])[2] == np.bincount(y[held_out])[2] == 1


def test_many_small_classes_at_the_limit():
    y = labels(*[2] * 20, 60)
    train, held_out = hold_out_indices(y, 0.21, 0)
    assert np.bincount(y[held_out]).tolist() == [1] * 21


@pytest.mark.parametrize(
    ("counts", "share", "message"),
    [
        ((50, 50), 0.0, r"split.validation: 0 is out of bounds; allowed: \(0, 1\)"),
        ((50, 50), 1.0, "split.validation: 1 is out of bounds"),
        ((50, 50), float("nan"), "split.validation: nan is out of bounds"),
        ((50, 49, 1), 0.2, "0.2 leaves class 2 without a validation example: it has 1 training example"),
        ((50, 47, 3), 0.02, "0.02 leaves class 2 without a validation example: 2 of 100 .* allowed: 0.03 to 0.97"),
        ((50, 47, 3), 0.99, "0.99 leaves class 2 without a training example: 1 of 100 .* allowed: 0.03 to 0.97"),
    ],
)
def test_bad_shares(counts, share, message):
    with pytest.raises(InputError, match=message):
        hold_out_indices(labels(*counts), share, 0)
