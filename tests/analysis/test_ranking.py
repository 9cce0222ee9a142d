"""Ranks and tests over blocks: against brute force, hand-worked examples and published numbers."""

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from losstune.analysis.ranking import (
    MODES,
    aggregate_datasets,
    critical_difference,
    friedman,
    rank_losses,
    rank_table,
    stability,
)
from losstune.spaces import InputError

# Battash et al. 2021, Table 2 (top-1 accuracy on ImageNet) and Table 5 (comparison with COT), as printed.
TABLE_2 = pd.DataFrame(
    {
        "CE": [69.82, 73.26, 75.74, 77.59, 65.28, 77.30, 79.20],
        "F=0": [70.19, 73.65, 75.86, 77.90, 65.92, 77.63, 79.45],
        "F=0,0.5": [70.25, 73.91, 76.06, 78.37, 65.51, 78.01, 79.73],
        "F=0-0.5": [70.50, 74.07, 76.35, 78.51, 65.99, 78.25, 79.99],
    },
    index=["ResNet18", "ResNet34", "ResNet50", "ResNet101", "ShuffleNet", "ResNeXt50", "ResNeXt101"],
)
TABLE_5 = pd.DataFrame(
    {
        "CE": [70.16, 74.18, 75.88, 60.61, 61.77, 75.74],
        "Ours": [70.24, 74.57, 76.59, 61.67, 63.12, 76.35],
        "COT": [71.36, 75.43, 77.60, 60.80, 62.65, 75.60],
    },
    index=["ResNet110", "PreAct ResNet18", "ResNeXt29", "ResNet50", "ResNet101", "ResNet50 on ImageNet"],
)
TABLE_5_DATA = dict(zip(TABLE_5.index, ["CIFAR100"] * 3 + ["Tiny INet"] * 2 + ["ImageNet"], strict=True))
# Demsar 2006, Table 6: the ranks of four classifiers on 14 data sets.
DEMSAR = [
    [4, 3, 2, 1], [1, 2, 3, 4], [4, 1, 2, 3], [4, 1, 3, 2], [4, 2, 3, 1], [1, 2.5, 4, 2.5], [3, 2, 4, 1],
    [2.5, 2.5, 4, 1], [4, 3, 2, 1], [2.5, 2.5, 2.5, 2.5], [4, 2.5, 1, 2.5], [3, 2, 4, 1], [4, 1, 2, 3], [3, 1, 4, 2],
]  # fmt: skip


def pair(ranking, a, b):
    pairs = ranking.pairs
    return pairs[pairs["loss_a"].isin([a, b]) & pairs["loss_b"].isin([a, b])].iloc[0]


def test_average_ranks_wins_and_differences_by_hand():
    means = pd.DataFrame({"a": [3.0, 5.0, 1.0, 2.0], "b": [3.0, 4.0, 2.0, 2.0], "c": [1.0, 6.0, 0.0, 2.0]})
    table = rank_table(means, baseline="c")
    # Ranks: 1.5 1.5 3 | 2 3 1 | 2 1 3 | 2 2 2.
    assert table["average_rank"].to_dict() == {"a": 1.875, "b": 1.875, "c": 2.25}
    assert table["wins"].to_dict() == {"a": 2, "b": 3, "c": 2}
    assert table["ties"].to_dict() == {"a": 2, "b": 2, "c": 1}
    assert table["mean_difference"].to_dict() == {"a": 0.5, "b": 0.5, "c": 0.0}


def test_means_that_differ_by_rounding_are_ties():
    means = pd.DataFrame({"a": [0.1 + 0.2, 1.0], "b": [0.3, 0.0]})
    assert rank_table(means)["average_rank"].to_dict() == {"a": 1.25, "b": 1.75}


def test_demsars_ranks_friedman_and_critical_difference():
    means = pd.DataFrame(5 - np.array(DEMSAR), columns=["C4.5", "C4.5+m", "C4.5+cf", "C4.5+m+cf"])
    assert rank_table(means)["average_rank"].round(3).to_dict() == {
        "C4.5+m+cf": 1.964, "C4.5+m": 2.0, "C4.5+cf": 2.893, "C4.5": 3.143
    }  # fmt: skip
    # Demsar's 9.28 is not corrected for the ties: the correction divides by 1 - sum(t^3 - t) / (N (k^3 - k)), with ties
    # of two in rows 6, 8 and 11 and one of four in row 10.
    found = friedman(means)
    assert found["chi2"] * (1 - (3 * 6 + 60) / (14 * 60)) == pytest.approx(9.28, abs=0.005)
    assert critical_difference(4, 14) == pytest.approx(1.25, abs=0.005)


@pytest.mark.parametrize(("losses", "q"), [(2, 1.960), (3, 2.343), (4, 2.569), (5, 2.728), (10, 3.164)])
def test_critical_values_of_demsars_table_5(losses, q):
    # The printed q are cut or rounded to three decimals.
    assert critical_difference(losses, 6) / np.sqrt(losses * (losses + 1) / 36) == pytest.approx(q, abs=1e-3)


def test_iman_davenport_is_the_analysis_of_variance_of_the_ranks():
    x = np.random.default_rng(3).integers(0, 6, (9, 4)).astype(float)
    ranks = stats.rankdata(-x, axis=1)
    between = 9 * ((ranks.mean(axis=0) - 2.5) ** 2).sum() / 3
    rest = ((ranks - ranks.mean(axis=0) - ranks.mean(axis=1, keepdims=True) + 2.5) ** 2).sum() / 24
    assert friedman(pd.DataFrame(x))["f"] == pytest.approx(between / rest, rel=1e-10)


def wilcoxon_by_force(d):
    """Share of all sign patterns whose signed-rank sum is as far from zero; twice the ranks, as whole numbers."""
    d = [value for value in d if value]
    ranks = [sum((abs(e) < abs(v)) * 2 + (abs(e) == abs(v)) for e in d) + 1 for v in d]
    observed = abs(sum(r if v > 0 else -r for r, v in zip(ranks, d, strict=True)))
    sums = [abs(sum(r * s for r, s in zip(ranks, signs, strict=True)))
            for signs in itertools.product((1, -1), repeat=len(d))]  # fmt: skip
    return sum(s >= observed for s in sums) / len(sums)


@pytest.mark.parametrize("seed", range(6))
def test_wilcoxon_and_holm_against_all_sign_patterns(seed):
    whole = np.random.default_rng(seed).integers(0, 12, (8, 4))
    found = rank_losses(pd.DataFrame(whole / 7, columns=list("abcd")))
    raw = {}
    for i, j in itertools.combinations(range(4), 2):
        raw["abcd"[i], "abcd"[j]] = wilcoxon_by_force([int(v) for v in whole[:, i] - whole[:, j]])
    running = 0.0
    for k, (names, p) in enumerate(sorted(raw.items(), key=lambda item: item[1])):
        running = max(running, min(1.0, (6 - k) * p))
        assert pair(found, *names)["p"] == pytest.approx(p, rel=1e-9)
        assert pair(found, *names)["p_wilcoxon_holm"] == pytest.approx(running, rel=1e-9)


def test_wilcoxon_stays_exact_where_two_losses_are_equal_in_a_block():
    d = np.array([0, 1, 2, -3, 4, 5, 6, -7, 8, 9, 10, 11, 12, 13, 14])
    found = rank_losses(pd.DataFrame({"a": d / 16, "b": np.zeros(15)}))
    assert found.pairs["p"][0] == pytest.approx(wilcoxon_by_force(d.tolist()), rel=1e-9)


def test_conover_with_benjamini_hochberg_by_hand():
    found = rank_losses(TABLE_5)
    # Rank sums 17 (CE), 9 (ours), 10 (COT); b = 6, A1 = 84; Conover's t = |Ri - Rj| / sqrt(2 (b A1 - sum R^2) / 10).
    error = np.sqrt(2 * (6 * 84 - 470) / 10)
    raw = [2 * stats.t.sf(d / error, 10) for d in (8, 7, 1)]
    assert raw[0] * 3 > raw[1] * 1.5
    for names, p in ((("CE", "Ours"), raw[1] * 1.5), (("CE", "COT"), raw[1] * 1.5), (("Ours", "COT"), raw[2])):
        assert pair(found, *names)["p_conover_bh"] == pytest.approx(p, rel=1e-9)


def test_battash_table_2():
    found = rank_losses(TABLE_2, baseline="CE", datasets=dict.fromkeys(TABLE_2.index, "ImageNet"))
    assert found.table["average_rank"].to_dict() == {
        "F=0-0.5": 1, "F=0,0.5": pytest.approx(15 / 7), "F=0": pytest.approx(20 / 7), "CE": 4
    }  # fmt: skip
    assert found.table["wins"].to_dict() == {"F=0-0.5": 7, "F=0,0.5": 0, "F=0": 0, "CE": 0}
    assert found.table.loc["F=0-0.5", "mean_difference"] == pytest.approx(5.47 / 7)
    assert found.friedman["chi2"] == pytest.approx(4.2 * (17 + 625 / 49 - 25))
    # The papers' post-hoc separates all; the default cannot separate any with 7 blocks, which are one data set.
    assert found.pairs["conover_bh"].all() and found.groups["conover_bh"] == []
    assert not found.pairs["wilcoxon_holm"].any() and len(found.best_set) == 4
    assert found.groups["nemenyi"] == [["F=0-0.5", "F=0,0.5"], ["F=0,0.5", "F=0"], ["F=0", "CE"]]
    assert "7 blocks cannot separate anything at alpha = 0.05" in found.warnings[0]
    assert "0.0938 after Holm's adjustment over 6 pairs; it takes 8 blocks" in found.warnings[0]
    assert found.warnings[1].startswith("7 blocks use the data set ImageNet: they are not independent")


def test_battash_table_5_and_its_data_sets():
    found = rank_losses(TABLE_5, baseline="CE")
    assert found.table["average_rank"].to_dict() == {
        "Ours": 1.5, "COT": pytest.approx(10 / 6), "CE": pytest.approx(17 / 6)
    }  # fmt: skip
    assert found.table["mean_difference"].round(9).to_dict() == {"Ours": 0.70, "COT": 0.85, "CE": 0.0}
    assert found.friedman["chi2"] == pytest.approx(19 / 3)
    assert found.friedman["p"] == pytest.approx(np.exp(-19 / 6))
    assert pair(found, "Ours", "COT")[["a_better", "equal", "b_better"]].to_list() == [3, 0, 3]
    assert found.groups["conover_bh"] == [["Ours", "COT"]]
    sets = aggregate_datasets(TABLE_5, TABLE_5_DATA)
    assert list(sets.index) == ["CIFAR100", "Tiny INet", "ImageNet"]
    assert sets.loc["Tiny INet"].to_dict() == pytest.approx({"CE": 61.19, "Ours": 62.395, "COT": 61.725})
    assert not rank_losses(sets).pairs[list(MODES)].any(axis=None)


def test_groups_are_all_largest_sets_without_a_separated_pair():
    effects = np.array([0.0, 0.1, 0.25, 0.3, 0.9])
    for seed in range(4):
        x = np.random.default_rng(seed).normal(0, 0.3, (12, 5)) + effects
        found = rank_losses(pd.DataFrame(x, columns=list("abcde")))
        for mode in MODES:
            apart = {frozenset(names) for names in found.pairs.loc[found.pairs[mode], ["loss_a", "loss_b"]].to_numpy()}
            free = [set(group) for size in range(2, 6) for group in itertools.combinations("abcde", size)
                    if not any(frozenset(two) in apart for two in itertools.combinations(group, 2))]  # fmt: skip
            largest = [group for group in free if not any(group < other for other in free)]
            assert sorted(map(sorted, found.groups[mode])) == sorted(map(sorted, largest))


def test_the_best_set_follows_the_signed_ranks():
    # b wins few blocks by much: a has the better average rank, and the signed ranks favour b.
    means = pd.DataFrame({"a": [1.0] * 7 + [0.0] * 5, "b": [0.9] * 7 + [9.0, 8.0, 7.0, 6.0, 5.0]})
    row = rank_losses(means).pairs.iloc[0]
    assert (row["loss_a"], row["better"]) == ("a", "b")
    better = pd.DataFrame({"a": np.arange(9.0), "b": np.arange(9.0) + np.arange(1, 10) / 100})
    assert rank_losses(better).best_set == ["b"]
    assert rank_losses(better.iloc[:5]).best_set == ["b", "a"]
    assert "the smallest p that Wilcoxon's test can reach is 0.0625; it takes 6 blocks" in rank_losses(
        better.iloc[:5]
    ).warnings[0]  # fmt: skip


def test_a_third_loss_decides_what_mean_ranks_separate():
    # The same order a, x, b in all 6 blocks. With three losses one rank apart is 1 / sqrt(12 / 36) = 1.73 < 2.343.
    means = pd.DataFrame({"a": [3.0] * 6, "x": [2.0] * 6, "b": [1.0] * 6}) + np.arange(6.0)[:, None]
    found = stability(means).set_index(["mode", "loss_a", "loss_b"])
    assert found.loc[("nemenyi", "a", "b"), "separated"] and not found.loc[("nemenyi", "a", "x"), "separated"]
    # Without b, with two losses, it is 1 / sqrt(6 / 36) = 2.449 > 1.960.
    assert found.loc[("nemenyi", "a", "x"), "changes_without"] == ["b"]
    assert found.loc[("nemenyi", "a", "b"), "changes_without"] == []


def test_all_blocks_alike_and_all_losses_equal():
    alike = rank_losses(pd.DataFrame({"a": [3.0, 6.0, 9.0], "b": [2.0, 5.0, 8.0], "c": [2.0, 5.0, 8.0]}))
    assert alike.friedman["f"] == np.inf and alike.friedman["p_f"] == 0
    assert pair(alike, "a", "b")["p_conover_bh"] == 0 and pair(alike, "b", "c")["p_conover_bh"] == 1
    # Two blocks alike: Conover's p is 0, Friedman's exp(-2), so that the paper modes separate nothing.
    two = rank_losses(pd.DataFrame({"a": [3.0, 6.0], "b": [2.0, 5.0], "c": [1.0, 4.0]}))
    assert two.friedman["p"] == pytest.approx(np.exp(-2)) and (two.pairs["p_conover_bh"] == 0).all()
    assert not two.pairs["conover_bh"].any() and two.groups["conover_bh"] == [["a", "b", "c"]]
    equal = rank_losses(pd.DataFrame(np.ones((4, 3)), columns=list("abc")))
    assert equal.friedman["p"] == 1 and equal.best_set == ["a", "b", "c"] and (equal.pairs["p"] == 1).all()
    assert set(equal.pairs["better"]) == {None}


def test_incomplete_blocks_are_left_out_and_named():
    means = TABLE_5.copy()
    means.loc["ResNet110", "COT"] = np.nan
    found = rank_losses(means)
    assert found.left_out == ["ResNet110"] and len(found.means) == 5
    assert "left out, because not every loss was run there: ResNet110" in found.warnings


@pytest.mark.parametrize(
    ("means", "words"),
    [
        ([[1.0, 2.0]], "a list; needed: a DataFrame"),
        (TABLE_5[["CE"]], "1 loss; needed: at least 2"),
        (TABLE_5.iloc[:1], "1 block has every loss; needed: at least 2"),
        (TABLE_5.assign(CE=np.nan), "no block has every loss"),
        (TABLE_5.assign(CE=np.inf), "column 'CE' holds an infinite value"),
        (TABLE_5.assign(CE="x"), "column 'CE' is not numeric"),
        (pd.concat([TABLE_5, TABLE_5]), "block 'ResNet110' occurs twice"),
    ],
)
def test_what_cannot_be_ranked(means, words):
    with pytest.raises(InputError, match=words):
        rank_losses(means)


def test_bad_arguments():
    with pytest.raises(InputError, match="baseline: 'EL' is not in means"):
        rank_losses(TABLE_5, baseline="EL")
    with pytest.raises(InputError, match="alpha: 5 is out of bounds"):
        rank_losses(TABLE_5, alpha=5)
    with pytest.raises(InputError, match="block 'ResNet18' has no data set"):
        rank_losses(TABLE_2, datasets=TABLE_5_DATA)
