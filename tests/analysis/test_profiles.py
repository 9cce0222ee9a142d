"""Performance profiles, score distributions and interquartile means, by hand and against other ways to get them."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from losstune.analysis.profiles import block_means, interquartile_means, performance_profile, score_distribution
from losstune.spaces import InputError


def long(cells):
    """{(block, loss): scores} -> long scores."""
    return pd.DataFrame([
        {"block": block, "loss": loss, "seed": seed, "score": score}
        for (block, loss), scores in cells.items() for seed, score in enumerate(scores)
    ])  # fmt: skip


def test_block_means_keep_order_and_gaps():
    means = block_means(long({("z", "b"): [1, 3], ("z", "a"): [4], ("y", "b"): [5, 6, 7]}))
    assert list(means.index) == ["z", "y"] and list(means.columns) == ["b", "a"]
    assert means.loc["z"].to_list() == [2, 4] and means.loc["y", "b"] == 6 and np.isnan(means.loc["y", "a"])


def test_performance_profile_by_hand():
    errors = pd.DataFrame(
        {"a": [1.0, 2.0, 0.0, 3.0, 1.0], "b": [2.0, 2.0, 0.5, 1.0, np.nan]}, index=["p", "q", "r", "s", "t"]
    )
    found = performance_profile(errors)
    assert found.ratios["a"].to_list() == [1, 1, 1, 3] and found.ratios["b"].to_list() == [2, 1, np.inf, 1]
    assert found.curves.index.to_list() == [1, 2, 3] and found.left_out == ["t"]
    assert found.curves["a"].to_list() == [0.75, 0.75, 1.0] and found.curves["b"].to_list() == [0.5, 0.75, 0.75]


def test_profile_of_scores_and_zero_against_zero():
    found = performance_profile(pd.DataFrame({"a": [0.8, 0.5], "b": [0.4, 0.5]}), greater_is_better=True)
    assert found.ratios["b"].to_list() == [2, 1] and found.curves["a"].to_list() == [1, 1]
    assert performance_profile(pd.DataFrame({"a": [0.0], "b": [0.0]})).curves.to_numpy().tolist() == [[1, 1]]


def test_profile_of_values_that_differ_by_rounding():
    found = performance_profile(pd.DataFrame({"a": [0.1 + 0.2], "b": [0.3]}))
    assert found.curves.index.to_list() == [1]


@pytest.mark.parametrize(("value", "greater"), [(-0.1, False), (0.0, True)])
def test_ratios_need_positive_numbers(value, greater):
    with pytest.raises(InputError, match="ratios need numbers"):
        performance_profile(pd.DataFrame({"a": [value], "b": [1.0]}), greater)


def test_score_distribution_by_hand():
    cells = {("p", "a"): [1, 2, 3, 4], ("q", "a"): [3, 3], ("p", "b"): [0, 0], ("q", "b"): [5, 0], ("r", "a"): [9]}
    scores = long(cells)
    found = score_distribution(scores, taus=np.array([0, 2, 3, 5]))
    # Blocks weigh the same, however many seeds they have; above is strict.
    assert found.shares["a"].to_list() == [1, (0.5 + 1) / 2, 0.25 / 2, 0]
    assert found.shares["b"].to_list() == [0.25, 0.25, 0.25, 0] and found.left_out == ["r"]
    assert found.low.loc[0, "a"] == found.high.loc[0, "a"] == 1


def test_score_distribution_interval_is_binomial_for_one_block():
    scores = long({("p", "a"): [0] * 12 + [1] * 8, ("p", "b"): [0] * 20})
    found = score_distribution(scores, taus=np.array([0.5]), draws=20_000)
    ends = stats.binom.ppf([0.025, 0.975], 20, 0.4) / 20
    assert [found.low["a"].iloc[0], found.high["a"].iloc[0]] == pytest.approx(ends)


def test_interquartile_mean_by_hand():
    # All runs of a: 1..8; the middle half is 3, 4, 5, 6.
    scores = long({("p", "a"): [1, 8, 3, 6], ("q", "a"): [2, 4, 5, 7], ("p", "b"): [100, 1], ("q", "b"): [2, 3]})
    table = interquartile_means(scores)
    assert table.loc["a", ["iqm", "n_runs", "n_blocks"]].to_list() == [4.5, 8, 2]
    assert table.loc["b", "iqm"] == 2.5 and list(table.index) == ["a", "b"]


def test_interval_resamples_seeds_within_blocks_only():
    # Blocks far apart, no spread within: an unstratified bootstrap would give a wide interval.
    scores = long({(block, loss): [level] * 4 for block, level in (("p", 0.0), ("q", 10.0)) for loss in "ab"})
    row = interquartile_means(scores).loc["a"]
    assert row["ci_low"] == row["iqm"] == row["ci_high"] == 5


def test_interval_against_plain_loops():
    rng = np.random.default_rng(5)
    cells = {("p", "a"): rng.normal(0, 1, 12), ("q", "a"): rng.normal(1, 2, 7)}
    scores = long({**cells, ("p", "b"): [0, 1], ("q", "b"): [0, 1]})
    drawn = []
    for _ in range(3000):
        runs = sorted(value for cell in cells.values() for value in rng.choice(cell, len(cell)))
        drawn.append(np.mean(runs[4:-4]))  # a quarter of 19 is cut to 4
    row = interquartile_means(scores).loc["a"]
    width = np.subtract(*np.quantile(drawn, [0.975, 0.025]))
    assert row["ci_low"] == pytest.approx(np.quantile(drawn, 0.025), abs=0.06 * width)
    assert row["ci_high"] == pytest.approx(np.quantile(drawn, 0.975), abs=0.06 * width)
    pd.testing.assert_frame_equal(interquartile_means(scores), interquartile_means(scores))
    assert interquartile_means(scores, seed=1).loc["a", "ci_low"] != row["ci_low"]


def test_one_seed_gives_no_interval():
    scores = long({("p", "a"): [1.0, 2.0], ("q", "a"): [3.0], ("p", "b"): [1, 2], ("q", "b"): [1, 3]})
    table, shares = interquartile_means(scores), score_distribution(scores)
    assert table.loc["a", ["ci_low", "ci_high"]].isna().all() and table.loc["b", ["ci_low", "ci_high"]].notna().all()
    assert shares.low["a"].isna().all() and shares.low["b"].notna().all()


GOOD = long({("p", "a"): [1.0, 2.0], ("p", "b"): [1.0, 2.0]})


@pytest.mark.parametrize(
    ("scores", "words"),
    [
        (GOOD.drop(columns="seed"), "needed: a DataFrame with the columns block, loss, seed and score"),
        (GOOD.iloc[:0], "there is no run"),
        (GOOD.assign(score="x"), "'score' is not numeric"),
        (GOOD.assign(score=[1, 2, np.nan, 3]), "b in p, seed 0: not a finite number"),
        (pd.concat([GOOD, GOOD]), "a in p has seed 0 twice"),
        (GOOD.assign(block=["p", "p", "q", "q"]), "no block has every loss"),
    ],
)
def test_what_is_no_table_of_runs(scores, words):
    with pytest.raises(InputError, match=words):
        interquartile_means(scores)
