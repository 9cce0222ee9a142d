"""Fewer training examples, and wrong labels: how many, which, and the same everywhere (Kobayashi, Table 3)."""

import numpy as np
import pytest

from losstune.spaces import InputError
from losstune.trainables.datasets import Split
from losstune.trainables.datasets.degrading import degraded, number_of, subsample, with_label_noise


def numbered(*counts: int) -> Split:
    """Counts of each class in mixed order; the first feature of an example is its number, the second its label."""
    y = np.random.RandomState(1).permutation(np.repeat(np.arange(len(counts)), counts))
    return Split(np.column_stack([np.arange(len(y)), y]).astype(np.float32), y)


def numbers(split: Split) -> list[int]:
    return split.x[:, 0].astype(int).tolist()


# --- fewer examples ---


def test_kobayashis_shares_of_cifar100():
    """45,000 of 50,000 examples are 450 of each of 100 classes, and so on down to 25,000."""
    train = numbered(*[500] * 100)
    for share, number in ((0.9, 45_000), (0.7, 35_000), (0.5, 25_000)):
        assert number_of(share, len(train), 100) == number
        assert (np.bincount(subsample(train, number, 0).y) == number // 100).all()


@pytest.mark.parametrize("number", [5, 6, 17, 100, 174, 175])
def test_every_class_is_there_in_proportion(number):
    """Within one example of its share, one at the least; in the split's order, with their own labels."""
    train = numbered(97, 41, 23, 13, 1)
    few = subsample(train, number, 3)
    counts = np.bincount(few.y, minlength=5)
    assert len(few) == number == len(set(numbers(few))) and numbers(few) == sorted(numbers(few))
    assert (few.x[:, 1] == few.y).all() and few.y.dtype == np.int64
    assert (np.abs(counts - np.maximum(1, np.bincount(train.y) * number / 175)) <= 2).all() and counts.min() == 1


def test_fewer_examples_are_among_more():
    """With one seed, so that a curve over their number is not one over different draws as well."""
    train = numbered(97, 41, 23, 14)
    drawn = [set(numbers(subsample(train, number, 5))) for number in (4, 20, 50, 51, 120, 175)]
    assert all(fewer < more for fewer, more in zip(drawn, drawn[1:], strict=False))


def test_another_seed_draws_other_examples_each_as_likely():
    """Over 400 seeds every example of a class comes up about equally often."""
    train = numbered(20, 10)
    drawn = np.bincount(np.concatenate([numbers(subsample(train, 15, seed)) for seed in range(400)]), minlength=30)
    assert drawn.sum() == 400 * 15 and (np.abs(drawn - 200) < 5 * np.sqrt(400 / 4)).all()


def test_the_same_seed_draws_the_same_examples_everywhere():
    """Written down once: the same on every machine and with every numpy."""
    train = Split(np.arange(12, dtype=np.float32)[:, None], np.arange(12) % 3)
    assert numbers(subsample(train, 6, 7)) == [0, 1, 6, 7, 8, 11]
    assert with_label_noise(train, 0.5, 3, 7).y.tolist() == [0, 2, 2, 0, 2, 1, 2, 1, 0, 2, 1, 2]


@pytest.mark.parametrize(
    ("examples", "line"),
    [
        (101, "recipe.train_examples: 101 is more than the 100 there are; allowed: 10 to 100, or a share of these"),
        (9, "recipe.train_examples: 9 is fewer than the 10 classes; allowed: 10 to 100"),
        (0.09, "recipe.train_examples: 0.09, which is 9, is fewer than the 10 classes; allowed: 10 to 100"),
        (1, "recipe.train_examples: 1 is fewer than the 10 classes"),
    ],
)
def test_what_is_too_many_or_too_few(examples, line):
    """Whole numbers are examples, fractions shares: 1 is one example, 1.0 all of them."""
    with pytest.raises(InputError) as error:
        number_of(examples, 100, 10)
    assert line in str(error.value)
    assert [number_of(fine, 100, 10) for fine in (10, 0.1, 0.5, 100, 1.0)] == [10, 10, 50, 100, 100]


# --- wrong labels ---


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5, 0.9])
def test_so_many_labels_are_wrong_exactly(share):
    """Kobayashi switches to other classes: none of the drawn labels stays what it was."""
    train = numbered(*[50] * 7)
    noisy = with_label_noise(train, share, 7, 0)
    assert (noisy.y != train.y).sum() == round(share * 350)
    assert 0 <= noisy.y.min() and noisy.y.max() < 7 and noisy.y.dtype == np.int64
    assert noisy.x is train.x and (train.x[:, 1] == train.y).all()


def test_wrong_labels_are_spread_evenly():
    """Over classes in proportion, and from each to each of the others: symmetric noise."""
    train = numbered(*[6000] * 5)
    noisy = with_label_noise(train, 0.4, 5, 2)
    confusion = np.zeros((5, 5))
    np.add.at(confusion, (train.y, noisy.y), 1)
    off = confusion[~np.eye(5, dtype=bool)]
    # 12,000 wrong labels over 20 pairs: 600 each, with a standard deviation of about 24.
    assert off.sum() == 12_000 and (np.abs(off - 600) < 5 * 24).all()


def test_a_smaller_share_is_wrong_in_the_same_way():
    """With one seed more noise adds to what there is."""
    train = numbered(*[40] * 5)
    less, more = (with_label_noise(train, share, 5, 1).y for share in (0.2, 0.6))
    wrong = less != train.y
    assert (less[wrong] == more[wrong]).all() and (more != train.y).sum() == 3 * wrong.sum()
    assert (with_label_noise(train, 0.2, 5, 2).y != less).any()


def test_two_classes_are_swapped():
    """There is one other class only."""
    train = numbered(30, 30)
    noisy = with_label_noise(train, 0.5, 2, 0)
    assert (noisy.y == np.where(noisy.y != train.y, 1 - train.y, train.y)).all() and (noisy.y != train.y).sum() == 30


def test_no_class_may_vanish():
    """A class that no label names any more cannot be learned."""
    with pytest.raises(InputError, match="recipe.label_noise: 0.9 leaves class . without an example; allowed: less"):
        for seed in range(20):
            with_label_noise(numbered(1, 1, 1, 1), 0.9, 4, seed)


# --- both ---


def test_labels_are_replaced_among_the_examples_that_are_left():
    """The share of wrong labels is that of the smaller set."""
    train = numbered(*[50] * 4)
    small = degraded(train, 0.5, 0.2, 4, 0)
    assert len(small) == 100 and (small.x[:, 1] != small.y).sum() == 20
    assert degraded(train, None, 0.0, 4, 0) is train
    assert numbers(degraded(train, 100, 0.0, 4, 0)) == numbers(small)


def test_wrong_labels_do_not_gather_where_examples_were_drawn_first():
    """Each kind of draw has its own stream: half of the first half are wrong, half of the second."""
    train = numbered(2000, 2000)
    half = set(numbers(subsample(train, 2000, 0)))
    noisy = with_label_noise(train, 0.5, 2, 0)
    wrong = np.flatnonzero(noisy.y != train.y)
    assert abs(sum(number in half for number in wrong) - 1000) < 5 * np.sqrt(2000 / 4)
