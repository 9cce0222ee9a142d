"""Tests from published means, errors and counts, and what the papers' tables say of themselves."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.power import TTestIndPower, TTestPower

from losstune.analysis.significance import paper_rule
from losstune.analysis.summaries import compare_summaries, friedman_from_ranks, lost_pairing, paper_bold, summary
from losstune.spaces import InputError

# Kornblith et al. 2021, Table 1: mean, standard error and whether it is printed in bold; n, last digit of the means.
LOSSES = [
    "softmax", "squared_error", "dropout", "label_smoothing", "final_layer_l2", "logit_penalty", "logit_norm",
    "cosine_softmax", "sigmoid",
]  # fmt: skip
TABLE_1 = {
    "ImageNet top-1": (
        [77.0, 77.2, 77.5, 77.6, 77.7, 77.7, 77.8, 77.9, 77.9], [6, 4, 4, 3, 3, 2, 2, 2, 5],
        {"logit_norm", "cosine_softmax", "sigmoid"}, 8, 0.1,
    ),
    "ImageNet top-5": (
        [93.40, 92.79, 93.62, 93.78, 93.79, 93.83, 93.71, 93.86, 93.50], [2, 2, 2, 1, 2, 2, 2, 1, 2],
        {"logit_penalty", "cosine_softmax"}, 8, 0.01,
    ),
    "CIFAR-10": (
        [93.49, 93.31, 93.74, 93.79, 93.63, 93.84, 93.55, 93.64, 93.79], [3, 2, 3, 3, 3, 4, 3, 3, 4],
        {"label_smoothing", "logit_penalty", "sigmoid"}, 25, 0.01,
    ),
    "CIFAR-100": (
        [79.7, 79.4, 79.5, 80.0, 80.2, 80.2, 78.9, 80.1, 80.0], [4, 5, 6, 5, 5, 5, 5, 6, 5],
        {"final_layer_l2", "logit_penalty", "cosine_softmax"}, 25, 0.1,
    ),
}  # fmt: skip
# Where the bold print does not follow from the numbers as printed.
DIFFERENT = {"ImageNet top-1": {"logit_norm"}, "ImageNet top-5": set(), "CIFAR-10": {"dropout"}, "CIFAR-100": set()}


@pytest.mark.parametrize("column", TABLE_1)
@pytest.mark.parametrize("equal_variances", [False, True])
def test_kornblith_table_1(column, equal_variances):
    means, hundredths, printed, n, step = TABLE_1[column]
    errors = dict(zip(LOSSES, np.array(hundredths) / 100, strict=True))
    table = summary(dict(zip(LOSSES, means, strict=True)), n, standard_errors=errors)
    found = paper_bold(table, step, 0.01, equal_variances)
    assert set(found.index[found["bold"]]) ^ printed == DIFFERENT[column]
    # The numbers behind the printed ones can bear out every printed decision.
    settled = found[found["settled"]]
    assert set(settled.index[settled["bold"]]) == printed & set(settled.index)


def test_rounding_alone_decides_the_two_that_differ():
    means, hundredths, _, n, step = TABLE_1["ImageNet top-1"]
    errors = dict(zip(LOSSES, np.array(hundredths) / 100, strict=True))
    row = paper_bold(summary(dict(zip(LOSSES, means, strict=True)), n, standard_errors=errors), step, 0.01)
    # 77.8 against 77.9, both +- 0.02: t = 0.1 / 0.0283, 14 degrees of freedom.
    assert row.loc["logit_norm", "p"] == pytest.approx(2 * stats.t.sf(0.1 / np.hypot(0.02, 0.02), 14))
    assert row.loc["logit_norm", "p_high"] == pytest.approx(1) and row.loc["logit_norm", "p_low"] < 1e-4
    assert not row.loc["logit_norm", "settled"]


def test_bounds_hold_all_numbers_that_round_to_the_table():
    errors = {"a": 0.05, "b": 0.04, "c": 0.1, "d": 0.05}
    table = summary({"a": 1.3, "b": 1.2, "c": 1.2, "d": 1.0}, 6, standard_errors=errors)
    found, rng = paper_bold(table, 0.1, 0.01), np.random.default_rng(0)
    seen = []
    for _ in range(80):
        # Corners are where the bounds are met; both errors of a pair move together there.
        means = table["mean"] + rng.choice([-0.05, 0.05, *rng.uniform(-0.05, 0.05, 2)], 4)
        errors = table["sd"] / np.sqrt(6) + rng.choice([-0.005, 0.005])
        seen.append(paper_bold(summary(means, 6, standard_errors=errors))["p"])
    seen = pd.concat(seen, axis=1)
    assert (seen.min(axis=1) >= found["p_low"] - 1e-12).all() and (seen.max(axis=1) <= found["p_high"] + 1e-12).all()
    assert np.allclose(seen.loc["d"].min(), found.loc["d", "p_low"], rtol=0.5)
    assert found.loc["d", "p_high"] < 0.2 and found.loc["b", "p_high"] == 1


def test_summaries_give_what_the_runs_give():
    runs = pd.DataFrame(np.random.default_rng(1).normal([0, 0.5, 1.4], [1, 2, 0.5], (9, 3)), columns=list("abc"))
    table = summary(runs.mean(), 9, standard_deviations=runs.std())
    same = summary(runs.mean(), dict.fromkeys("abc", 9), standard_errors=runs.std() / 3)
    pd.testing.assert_frame_equal(table, same)
    pairs = compare_summaries(table)
    for row in pairs.to_dict("records"):
        test = stats.ttest_ind(runs[row["loss_a"]], runs[row["loss_b"]], equal_var=False)
        assert row["p"] == pytest.approx(test.pvalue) and row["t"] == pytest.approx(test.statistic)
        assert row["difference"] == pytest.approx(runs[row["loss_a"]].mean() - runs[row["loss_b"]].mean())
    assert pairs["p_holm"].to_list() == pytest.approx(
        [3 * pairs["p"][0], max(3 * pairs["p"][0], 2 * pairs["p"][1]), max(2 * pairs["p"][1], pairs["p"][2])]
    )
    assert list(paper_bold(table)["bold"]) == list(paper_rule(runs.to_numpy()))


def test_pairs_with_the_baseline_alone_are_adjusted_over_these():
    table = summary({"a": 3.0, "b": 2.0, "c": 1.0}, 4, standard_errors={"a": 0.3, "b": 0.3, "c": 0.3})
    pairs, every = compare_summaries(table, baseline="b"), compare_summaries(table)
    assert [(row.loss_a, row.loss_b) for row in pairs.itertuples()] == [("a", "b"), ("b", "c")]
    # t = 1 / (0.3 sqrt 2) for both, 6 degrees of freedom, times two; of all three pairs times two and the running max.
    p = 2 * stats.t.sf(1 / (0.3 * np.sqrt(2)), 6)
    assert pairs["p_holm"].to_list() == pytest.approx([2 * p, 2 * p])
    assert every["p_holm"][1:].to_list() == pytest.approx([2 * p, 2 * p]) and len(every) == 3


def test_what_lost_pairing_costs_by_statsmodels():
    """Standard deviations of 1 each: unpaired over 20 runs, and in pairs of differences with sd 1 and sqrt 0.4."""
    table = summary({"a": 3.0, "b": 2.0}, 20, standard_deviations={"a": 1, "b": 1})
    unpaired = TTestIndPower().solve_power(nobs1=20, alpha=0.025, power=0.8, alternative="larger")
    paired = TTestPower().solve_power(nobs=20, alpha=0.025, power=0.8, alternative="larger")
    found = lost_pairing(table, 0.05, (0.5, 0.8))
    assert found == pytest.approx([unpaired, paired, np.sqrt(0.4) * paired], rel=1e-5)
    # The middle one of three pairs, each at a third of alpha.
    three = summary(dict.fromkeys("abc", 0.0), 20, standard_deviations={"a": 1, "b": 1, "c": 9})
    wide = TTestIndPower().solve_power(nobs1=20, alpha=0.025 / 3, power=0.8, alternative="larger")
    assert lost_pairing(three, 0.05, ()) == pytest.approx([np.sqrt(41) * wide], rel=1e-5)


def test_errors_printed_as_zero():
    table = summary({"a": 1.0, "b": 1.0, "c": 0.5}, 3, standard_errors={"a": 0, "b": 0, "c": 0})
    pairs = compare_summaries(table).set_index(["loss_a", "loss_b"])
    assert pairs.loc[("a", "b"), ["t", "p"]].to_list() == [0, 1]
    assert pairs.loc[("a", "c"), ["t", "p"]].to_list() == [np.inf, 0]


def test_friedman_from_demsars_average_ranks():
    found = friedman_from_ranks({"C4.5": 3.143, "C4.5+m": 2.0, "C4.5+cf": 2.893, "C4.5+m+cf": 1.964}, 14)
    assert round(found["chi2"], 2) == 9.28 and round(found["f"], 2) == 3.69
    assert found["critical_difference"] == pytest.approx(1.25, abs=0.005)
    assert found["p_f"] == pytest.approx(stats.f.sf(found["f"], 3, 39))


# Battash et al. 2021, Table 4: mean ranks of six methods on 121 data sets, two architectures.
@pytest.mark.parametrize(
    ("ranks", "total"), [([2.59, 2.39, 2.30, 2.12, 3.25, 3.13], 15.78), ([2.70, 2.62, 2.40, 2.37, 3.52, 3.03], 16.64)]
)
def test_the_mean_ranks_of_battash_table_4_did_not_average_ties(ranks, total):
    with pytest.raises(InputError, match=f"they sum to {total}; with ties averaged, ranks of 6 losses sum to 21"):
        friedman_from_ranks(ranks, 121)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (({"a": 1, "b": 2}, 3), "either standard_errors or standard_deviations"),
        (({"a": 1, "b": 2}, 1, {"a": 1, "b": 1}), "a: needed: a finite mean"),
        (({"a": 1, "b": 2}, 3, {"a": 1, "b": -1}), "b: needed: a finite mean"),
        (({"a": 1, "b": 2}, 3, {"a": 1}), "b: needed: a finite mean"),
        (({"a": 1}, 3, {"a": 1}), "at least two losses"),
    ],
)
def test_what_is_no_summary(arguments, words):
    with pytest.raises(InputError, match=words):
        summary(*arguments)


def test_rounding_that_may_decide_a_separation():
    """77.8 and 77.9 with s.e. 0.02 (n = 8): t = 0.1 / (0.02 sqrt 2) = 3.54; rounded, the means may be the same. 77.0 is
    far from both however it is rounded."""
    table = summary({"a": 77.9, "b": 77.8, "c": 77.0}, 8, standard_errors={"a": 0.02, "b": 0.02, "c": 0.02})
    printed, exact = compare_summaries(table, 0.05, None, 0.1, 0.01), compare_summaries(table)
    assert exact["settled"].all() and exact["separated"].all()
    open_ = printed[~printed["settled"]]
    assert [set(pair) for pair in open_[["loss_a", "loss_b"]].to_numpy()] == [{"a", "b"}]
    assert printed.drop(columns="settled").equals(exact.drop(columns="settled"))


def test_rounding_may_have_hidden_a_separation():
    """Means of 1 and 1 may be 1.4 and 0.6, which errors of 0.01 tell apart."""
    table = summary({"a": 1, "b": 1}, 8, standard_errors={"a": 0.01, "b": 0.01})
    found = compare_summaries(table, 0.05, None, 1.0, 0.01).iloc[0]
    assert not found["separated"] and not found["settled"]
