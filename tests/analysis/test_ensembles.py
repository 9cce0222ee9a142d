"""Ensembles: by hand on four examples, against averages of everything at once, and fast enough for 225 members."""

import itertools
import math
import time

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import log_loss

from losstune.analysis.agreement import agreement
from losstune.analysis.ensembles import Ensembles
from losstune.spaces import InputError
from losstune.trainables.metrics import ece, to_probabilities


def votes_for(classes, num_classes=3):
    """Logits (N, K) whose argmax is the class: probabilities 0.5, 0.25, 0.25."""
    return np.log(np.where(np.eye(num_classes)[classes] > 0, 2.0, 1.0)).astype(np.float32)


def drawn(losses, seeds, n, classes, seed=0):
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, classes, n)
    signal = 2.0 * np.eye(classes)[targets]
    logits = {(f"loss{k}", s): (signal + rng.normal(0, 1.5, (n, classes))).astype(np.float32)
              for k, s in itertools.product(range(losses), range(seeds))}
    return logits, targets  # fmt: skip


def filled(logits, targets, seeds, family="softmax"):
    ensembles = Ensembles(targets, next(iter(logits.values())).shape[1], seeds)
    for (loss, seed), z in logits.items():
        ensembles.add(loss, seed, z, family)
    return ensembles


def test_three_members_by_hand():
    """Votes: 0 0 1 -> 0, right; 1 1 2 -> 1, wrong; 0 1 2 -> tie of three; 2 2 2 -> 2, right."""
    targets = np.array([0, 2, 1, 2])
    members = [[0, 1, 0, 2], [0, 1, 1, 2], [1, 2, 2, 2]]
    ensembles = filled({("a", s): votes_for(np.array(c)) for s, c in enumerate(members)}, targets, range(3))
    row = ensembles.within().iloc[0]
    assert row.loss == "a" and row["size"] == 3
    assert row.vote_accuracy == pytest.approx((1 + 0 + 1 / 3 + 1) / 4) and row.vote_ties == 0.25
    # Members: right on 0 and 3; on 0, 2 and 3; on 1 and 3.
    assert row.member_accuracy == pytest.approx((2 + 3 + 2) / 12)
    assert row.vote_gain == pytest.approx((7 / 3 - 7 / 3) / 4)
    # Mean probabilities of the true class: (.5+.5+.25)/3, (.25+.25+.5)/3, 1/3, .5.
    assert row.nll == pytest.approx(-(math.log(5 / 12) + 2 * math.log(1 / 3) + math.log(1 / 2)) / 4)
    assert row.member_nll == pytest.approx(-(7 * math.log(1 / 2) + 5 * math.log(1 / 4)) / 12)
    assert row.nll_gain == pytest.approx(row.member_nll - row.nll) and row.nll_gain > 0
    assert ensembles.voted_classes()[1].tolist() == [[0, 1, 0, 2]]


@pytest.mark.parametrize("family", ["softmax", "sigmoid"])
def test_within_equals_the_mean_of_everything(family):
    logits, targets = drawn(2, 5, 300, 6)
    table = filled(logits, targets, range(5), family).within()
    assert table["loss"].tolist() == ["loss0", "loss1"]
    for row in table.itertuples():
        p = np.array([to_probabilities(z, family) for (loss, _), z in logits.items() if loss == row.loss])
        mean = p.mean(0)
        assert row.nll == pytest.approx(log_loss(targets, mean)) and row.ece == pytest.approx(ece(mean, targets))
        assert row.accuracy == pytest.approx((mean.argmax(1) == targets).mean())
        assert row.brier == pytest.approx(((mean - np.eye(6)[targets]) ** 2).sum(1).mean())
        assert row.member_ece == pytest.approx(np.mean([ece(q, targets) for q in p]))
        assert row.member_accuracy == pytest.approx((p.argmax(2) == targets).mean())
        assert row.accuracy_gain == pytest.approx(row.accuracy - row.member_accuracy) and row.accuracy_gain > 0.02
        assert row.ece_gain == pytest.approx(row.member_ece - row.ece)
        assert row.nll_gain > 0 and row.brier_gain > 0


def test_across_takes_half_of_each_loss_and_no_seed_twice():
    """Of seeds 10 to 14 the first half is 10, 11, the second 12, 13; 14 is left over."""
    logits, targets = drawn(2, 5, 300, 4, seed=1)
    logits = {(loss, 10 + s): z for (loss, s), z in logits.items()}
    p = {key: softmax(z.astype(float), axis=1) for key, z in logits.items()}
    table = filled(dict(reversed(logits.items())), targets, range(10, 15)).across().set_index(["loss_a", "loss_b"])
    assert list(table.index) == [("loss1", "loss1"), ("loss1", "loss0"), ("loss0", "loss0")]
    assert table["size"].tolist() == [4, 4, 4]

    def of(first, second):
        return np.mean([p[first, 10], p[first, 11], p[second, 12], p[second, 13]], axis=0)

    mixed = [of("loss0", "loss1"), of("loss1", "loss0")]
    row, own = table.loc["loss1", "loss0"], table.loc["loss0", "loss0"]
    assert row.nll == pytest.approx(np.mean([log_loss(targets, q) for q in mixed]))
    assert row.accuracy == pytest.approx(np.mean([(q.argmax(1) == targets).mean() for q in mixed]))
    assert own.nll == pytest.approx(log_loss(targets, of("loss0", "loss0")))
    assert row.member_accuracy == pytest.approx(
        np.mean([(p[loss, s].argmax(1) == targets).mean() for loss in ("loss0", "loss1") for s in range(10, 14)]))
    assert row.better_accuracy == max(own.accuracy, table.loc[("loss1", "loss1"), "accuracy"])
    votes = np.array([p[key].argmax(1) for key in itertools.product(["loss0"], range(10, 14))])
    counts = (votes[:, :, None] == np.arange(4)).sum(0)
    best = counts == counts.max(1, keepdims=True)
    assert own.vote_accuracy == pytest.approx((best[np.arange(300), targets] / best.sum(1)).mean())
    assert own.vote_ties == pytest.approx((best.sum(1) > 1).mean()) and own.vote_ties > 0


def test_a_loss_without_probabilities_has_votes_only():
    logits, targets = drawn(2, 4, 200, 5)
    ensembles = Ensembles(targets, 5, range(4))
    for (loss, seed), z in logits.items():
        ensembles.add(loss, seed, z, None if loss == "loss0" else "softmax")
    within, across = ensembles.within().set_index("loss"), ensembles.across().set_index(["loss_a", "loss_b"])
    undefined = ["accuracy", "nll", "brier", "ece", "member_nll", "member_ece", "accuracy_gain", "nll_gain", "ece_gain"]
    assert within.loc["loss0", undefined].isna().all() and within.loc["loss1", undefined].notna().all()
    assert across.loc[("loss0", "loss1"), [*undefined, "better_accuracy"]].isna().all()
    assert within.vote_gain.gt(0).all() and across.better_vote_accuracy.notna().all()


def test_missing_members_are_no_part_of_ensembles_across():
    logits, targets = drawn(3, 4, 50, 3)
    del logits["loss1", 2]
    ensembles = filled(logits, targets, range(4))
    assert ensembles.within()["size"].tolist() == [4, 3, 4]
    assert set(ensembles.across().loss_a) == {"loss0", "loss2"}


def test_one_seed_and_none():
    logits, targets = drawn(2, 1, 50, 3)
    ensembles = filled(logits, targets, [0])
    within = ensembles.within()
    assert within["size"].tolist() == [1, 1] and ensembles.across().empty
    assert within.accuracy_gain.abs().max() == within.vote_gain.abs().max() == 0
    none = Ensembles(targets, 3, [0])
    assert none.within().empty and none.across().empty


def test_voted_classes_can_be_compared_as_models_are():
    logits, targets = drawn(2, 8, 400, 4)
    losses, classes = filled(logits, targets, range(8)).voted_classes()
    voted = agreement([(loss, None) for loss in losses], classes, targets).same_class[0, 1]
    single = agreement(list(logits), np.array([z.argmax(1) for z in logits.values()]), targets).same_class[:8, 8:]
    assert voted > single.max()


def test_225_members_of_10000_examples_take_seconds():
    logits, targets = drawn(1, 1, 10_000, 10)
    (z,) = logits.values()
    ensembles, start = Ensembles(targets, 10, range(25)), time.process_time()
    for loss, seed in itertools.product(range(9), range(25)):
        ensembles.add(f"loss{loss}", seed, z, "softmax")
    assert len(ensembles.within()) == 9 and len(ensembles.across()) == 45
    assert time.process_time() - start < 10


def test_bad_input_is_one_line():
    logits, targets = drawn(1, 2, 20, 3)
    ensembles, z = Ensembles(targets, 3, [0, 1]), logits["loss0", 0]
    ensembles.add("a", 0, z, "softmax")
    for arguments, message in (
        (("a", 0, z, "softmax"), "ensembles: seed 0 of a was taken in before"),
        (("a", 7, z, "softmax"), "ensembles: seed 7 of a is none of the study's seeds"),
        (("a", 1, z[:9], "softmax"), r"targets: int64 of shape \(20,\); needed: whole numbers \(9,\)"),
        (("a", 1, np.hstack([z, z]), "softmax"), "logits: 6 classes; needed: 3"),
        (("a", 1, np.full_like(z, np.nan), "softmax"), "logits: 60 values are NaN"),
    ):
        with pytest.raises(InputError, match=message):
            ensembles.add(*arguments)
    assert ensembles.within()["size"].tolist() == [1]
    with pytest.raises(InputError, match="targets: classes 0 to 2; allowed: 0 to 1"):
        Ensembles(targets, 2, [0])
