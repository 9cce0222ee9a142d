"""Agreement of predictions: by hand on six examples, against plain loops, and fast enough for 225 models."""

import itertools
import math
import time

import numpy as np
import pytest
from scipy.cluster import hierarchy

from losstune.analysis.agreement import agreement, agreement_of_losses, linkage
from losstune.spaces import InputError

FORMS = ("same_class", "same_outcome", "same_error")


def drawn(losses, seeds, n, classes, seed=0, shared=0.1):
    """Models of one loss share errors; so do models of one seed, on a share of the examples."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, classes, n)
    of_loss, of_seed = rng.integers(0, classes, (losses, n)), rng.integers(0, classes, (seeds, n))
    rows = []
    for k, s in itertools.product(range(losses), range(seeds)):
        kind = rng.random(n)
        own = rng.integers(0, classes, n)
        wrong = np.where(kind < 0.8, of_loss[k], np.where(kind < 0.8 + shared, of_seed[s], own))
        rows.append(np.where(kind < 0.7, targets, wrong))
    models = [(f"loss{k}", s) for k, s in itertools.product(range(losses), range(seeds))]
    return models, np.array(rows), targets


def test_six_examples_by_hand():
    targets = np.array([0, 0, 0, 1, 1, 2])
    classes = np.array([[0, 0, 1, 1, 2, 0], [0, 1, 1, 1, 0, 1], [0, 0, 0, 1, 1, 2]])
    found = agreement([("a", 0), ("a", 1), ("b", 0)], classes, targets)
    # a0, a1: same class on examples 0, 2, 3; right 0, 1, 3 and 0, 3; both wrong on 2, 4, 5, alike on 2.
    assert found.same_class[0, 1] == pytest.approx(3 / 6)
    assert found.same_outcome[0, 1] == pytest.approx(5 / 6)
    assert found.same_error[0, 1] == pytest.approx(1 / 3)
    # b0 is always right, so that it shares no error with any model, nor with itself.
    assert found.same_class[0, 2] == found.same_outcome[0, 2] == pytest.approx(3 / 6)
    assert math.isnan(found.same_error[0, 2]) and math.isnan(found.same_error[2, 2])
    assert [found.same_class[k, k] for k in range(3)] == [1, 1, 1]


@pytest.mark.parametrize("dtype", [np.int64, np.uint8])
def test_equals_plain_loops(dtype, monkeypatch):
    monkeypatch.setattr("losstune.analysis.agreement.BLOCK", 64)  # the last block is not full
    models, classes, targets = drawn(2, 3, 200, 4)
    found = agreement(models, classes.astype(dtype), targets)
    for i, j in itertools.product(range(6), range(6)):
        same = both = wrong = alike = 0
        for a, b, y in zip(classes[i].tolist(), classes[j].tolist(), targets.tolist(), strict=True):
            same += a == b
            both += (a == y) == (b == y)
            wrong += a != y and b != y
            alike += a != y and a == b
        expected = same / 200, both / 200, alike / wrong
        assert [getattr(found, form)[i, j] for form in FORMS] == pytest.approx(expected, rel=1e-12)


def test_means_of_losses_keep_pairs_of_the_same_seed_apart():
    models, classes, targets = drawn(3, 4, 2000, 10)
    found = agreement(models, classes, targets)
    table = agreement_of_losses(found).set_index(["loss_a", "loss_b"])
    assert list(table.index) == list(itertools.combinations_with_replacement(["loss0", "loss1", "loss2"], 2))
    own, other = table.loc["loss0", "loss0"], table.loc["loss0", "loss1"]
    assert own.pairs == 6 and other.pairs == 12 and math.isnan(own.same_class_same_seed)
    for form in FORMS:
        m = getattr(found, form)
        assert own[form] == pytest.approx(np.mean([m[i, j] for i in range(4) for j in range(i)]))
        assert other[form] == pytest.approx(np.mean([m[i, 4 + j] for i in range(4) for j in range(4) if i != j]))
        assert other[f"{form}_same_seed"] == pytest.approx(np.mean([m[i, 4 + i] for i in range(4)]))
    assert own.same_error > other.same_error + 0.02 and other.same_error_same_seed > other.same_error + 0.02


def test_means_leave_out_pairs_without_a_common_error():
    targets = np.zeros(4, int)
    classes = np.array([[1, 0, 0, 0], [1, 0, 0, 0], [0, 2, 0, 0]])
    row = agreement_of_losses(agreement([("a", s) for s in range(3)], classes, targets)).iloc[0]
    assert row.pairs == 3 and row.same_error == 1 and row.same_class == pytest.approx((1 + 0.5 + 0.5) / 3)
    alone = agreement_of_losses(agreement([("a", 0), ("b", 0)], classes[:2], targets)).set_index(["loss_a", "loss_b"])
    assert alone.pairs.tolist() == [0, 0, 0] and alone.same_class.isna().all()
    assert alone.loc[("a", "b"), "same_class_same_seed"] == 1


def test_the_dendrogram_links_by_averages():
    """Distances 0.1 (0, 1), 0.2 (2, 3); between: 0.4, 0.6, 0.4, 0.6."""
    distance = np.array([[0, 0.1, 0.4, 0.6], [0.1, 0, 0.4, 0.6], [0.4, 0.4, 0, 0.2], [0.6, 0.6, 0.2, 0]])
    found = linkage(1 - distance)
    assert found[:, 2].tolist() == pytest.approx([0.1, 0.2, 0.5]) and found[:, 3].tolist() == [2, 2, 4]
    assert {frozenset(row[:2]) for row in found.tolist()} == {frozenset({0, 1}), frozenset({2, 3}), frozenset({4, 5})}


def test_models_cluster_by_loss():
    models, classes, targets = drawn(3, 5, 30_000, 10, seed=1, shared=0)
    tree = linkage(agreement(models, classes, targets).same_class)
    groups = hierarchy.fcluster(tree, 3, "maxclust")
    assert len({(loss, group) for (loss, _), group in zip(models, groups, strict=True)}) == 3


def test_225_models_on_10000_examples_take_seconds():
    models, classes, targets = drawn(9, 25, 10_000, 10)
    start = time.process_time()
    found = agreement(models, classes, targets)
    assert len(linkage(found.same_class)) == 224 and len(agreement_of_losses(found)) == 45
    assert time.process_time() - start < 5


def test_bad_input_is_one_line():
    models, classes, targets = drawn(1, 2, 10, 3)
    for arguments, message in (
        ((models, classes.astype(float), targets), r"classes: float64 of shape \(2, 10\)"),
        ((models, classes[:, :0], targets[:0]), r"classes: int64 of shape \(2, 0\)"),
        ((models, classes, targets[:9]), r"targets: int64 of shape \(9,\); needed: whole numbers \(10,\)"),
        ((models, classes, targets.astype(float)), "targets: float64"),
        ((models[:1], classes, targets), "models: 1 different names for 2 models"),
        ((models[:1] * 2, classes, targets), "models: 1 different names for 2 models"),
    ):
        with pytest.raises(InputError, match=message):
            agreement(*arguments)
    with pytest.raises(InputError, match="1 model; needed for a dendrogram: at least 2"):
        linkage(np.ones((1, 1)))
    with pytest.raises(InputError, match="share no error"):
        linkage(np.array([[1, np.nan], [np.nan, 1]]))
