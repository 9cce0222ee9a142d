"""Recalls per class and their differences: by hand, against scikit-learn and t-tests, and the rate of false ones."""

import gc
import math

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import recall_score
from statsmodels.stats.multitest import multipletests

from losstune.analysis.per_class import class_differences, class_recalls, right_answers
from losstune.spaces import InputError

LOSSES = ["softmax", "sigmoid", "focal"]


def drawn(seeds, examples, rng, lifted=0.0):
    """Right answers (S, 3, K): all losses at 80%, a seed's luck shared, the last class of the last loss lifted."""
    rates = np.full((seeds, 3, len(examples)), 0.8) + rng.normal(0, 0.02, (seeds, 1, len(examples)))
    rates[:, 2, -1] += lifted
    return rng.binomial(examples, rates).astype(float)


def test_right_answers_are_the_recall():
    rng = np.random.default_rng(0)
    targets, classes = rng.integers(0, 5, 300), rng.integers(0, 5, 300)
    found = right_answers(classes, targets, 6) / np.maximum(np.bincount(targets, minlength=6), 1)
    assert found == pytest.approx(recall_score(targets, classes, labels=range(6), average=None, zero_division=0))


def test_recalls_by_hand():
    right = np.array([[[9, 4, 0], [8, 5, 0]], [[7, 5, 0], [np.nan] * 3]])
    table = class_recalls(right, np.array([10, 5, 0]), ["a", "b"]).set_index(["loss", "class"])
    assert table["examples"].tolist() == [10, 5, 0] * 2 and table["n_seeds"].tolist() == [2, 2, 2, 1, 1, 1]
    assert table["recall"].tolist() == pytest.approx([0.8, 0.9, math.nan, 0.8, 1.0, math.nan], nan_ok=True)
    # 0.9 and 0.7: sd 0.1 sqrt(2), over sqrt(2).
    assert table["standard_error"].tolist()[:2] == pytest.approx([0.1, 0.1])
    assert table["standard_error"].isna().tolist() == [False, False, True, True, True, True]


def test_five_seeds_are_paired_t_tests_with_holm_over_classes_and_losses():
    examples = np.array([400, 0, 300])
    right = drawn(5, examples, np.random.default_rng(1), lifted=0.12)
    table = class_differences(right, examples, LOSSES, "sigmoid")
    assert table[["loss", "class"]].to_numpy().tolist() == [["softmax", 0], ["softmax", 2], ["focal", 0], ["focal", 2]]
    raw, size = [], {0: 400, 2: 300}
    for row in table.itertuples():
        recalls = [right[:, LOSSES.index(loss), row[2]] / size[row[2]] for loss in (row.loss, "sigmoid")]
        test = stats.ttest_rel(*recalls)
        raw.append(test.pvalue)
        interval = test.confidence_interval(1 - 0.05 / 4)
        assert row.difference == pytest.approx(np.mean(recalls[0] - recalls[1]))
        assert (row.ci_low, row.ci_high) == pytest.approx(interval) and row.examples == size[row[2]]
    assert table["p"].tolist() == pytest.approx(multipletests(raw, method="holm")[1])
    assert table["differs"].tolist() == (table["p"] <= 0.05).tolist() and table["differs"].tolist()[3]


def test_few_seeds_take_no_spread_below_one_example():
    """Differences of 1 example in each of 3 seeds: sd counts as 1 example of 10, T = sqrt(3), not infinity."""
    right = np.array([[[8.0], [7.0]], [[9.0], [8.0]], [[8.0], [7.0]]])
    row = class_differences(right, np.array([10]), ["a", "b"], "b").iloc[0]
    assert row.difference == pytest.approx(0.1) and row.p == pytest.approx(2 * stats.t.sf(math.sqrt(3), 2))
    # 0.1 +- 4.303 * 0.1 / sqrt(3); of a class of 2 examples five times as wide, but a recall differs by 1 at most.
    assert (row.ci_low, row.ci_high) == pytest.approx((0.1 - 0.24841, 0.1 + 0.24841), abs=1e-5)
    small = class_differences(right - 7, np.array([2]), ["a", "b"], "b").iloc[0]
    assert (small.ci_low, small.ci_high) == pytest.approx((0.5 - 1.24207, 1.0), abs=1e-4)


def test_ten_seeds_are_sign_flips_of_whole_seeds():
    """One class: p is the share of the 2^10 sign patterns with a mean at least as far from 0."""
    rng = np.random.default_rng(2)
    right = rng.integers(30, 40, (10, 2, 1)).astype(float)
    d = (right[:, 0] - right[:, 1])[:, 0]
    signs = 1 - 2 * (np.arange(1024)[:, None] >> np.arange(10) & 1)
    table = class_differences(right, np.array([50]), ["a", "b"], "b")
    assert table["p"][0] == pytest.approx((abs(signs @ d) >= abs(d.sum())).mean())
    # Of a class twice as large the same counts are half the difference, at the same p.
    half = class_differences(right, np.array([100]), ["a", "b"], "b")
    assert half["p"][0] == table["p"][0] and half["ci_low"][0] == pytest.approx(table["ci_low"][0] / 2)
    assert half["difference"][0] == pytest.approx(table["difference"][0] / 2)


@pytest.mark.parametrize("seeds", [5, 8])
def test_equal_losses_rarely_differ_in_any_class(seeds, monkeypatch):
    """5% of tables at most, within three Monte-Carlo standard errors; with unadjusted tests most tables would."""
    monkeypatch.setattr(gc, "collect", lambda: 0)  # statsmodels asks for one at every adjustment
    rng, examples, runs = np.random.default_rng(seeds), np.full(10, 100), 300
    tables = (class_differences(drawn(seeds, examples, rng), examples, LOSSES, "softmax") for _ in range(runs))
    assert sum(table["differs"].any() for table in tables) / runs <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / runs)


def test_a_missing_member_makes_it_welch():
    examples = np.array([200, 200])
    right = drawn(6, examples, np.random.default_rng(3), lifted=0.1)
    right[2, 2] = np.nan
    table = class_differences(right, examples, LOSSES, "softmax")
    raw = [stats.ttest_ind(right[:, k, c], right[:, 0, c], equal_var=False, nan_policy="omit").pvalue
           for k in (1, 2) for c in (0, 1)]  # fmt: skip
    assert table["p"].tolist() == pytest.approx(multipletests(raw, method="holm")[1])
    # A seed that no loss has is none at all: the others are still paired.
    gone = np.insert(right[[0, 1, 3]], 1, np.nan, axis=0)
    assert class_differences(gone, examples, LOSSES, "softmax").equals(
        class_differences(right[[0, 1, 3]], examples, LOSSES, "softmax"))


def test_bad_input_is_one_line():
    examples, right = np.array([10, 10]), np.full((3, 2, 2), 5.0)
    one = right.copy()
    one[1:, 1] = np.nan
    for arguments, message in (
        ((right, examples, ["a"], "a"), r"right answers: shape \(3, 2, 2\); needed: \(seeds, 1 losses, 2 classes\)"),
        ((right, examples, ["a", "b"], "c"), "reference: 'c', losses: a, b; needed: one of at least 2"),
        ((right + 6, examples, ["a", "b"], "a"), "more than the class has examples"),
        ((one, examples, ["a", "b"], "a"), "b has 1 seed"),
        ((right[:, :1], examples, ["a"], "a"), "losses: a; needed: one of at least 2"),
    ):
        with pytest.raises(InputError, match=message):
            class_differences(*arguments)
