"""P(A>B): counts by hand, the interval against statsmodels and exact enumeration, and the readings."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from losstune.analysis.improvement import clopper_pearson, probability_of_improvement
from losstune.spaces import InputError


def row(table, first, second):
    return table[(table["loss_a"] == first) & (table["loss_b"] == second)].iloc[0]


def wins_of(wins, losses):
    return pd.DataFrame({"a": [1.0] * wins + [0.0] * losses, "b": [0.0] * wins + [1.0] * losses})


def test_paired_by_hand():
    # a - b: +1, 0, +1, -1, +1, +1. c is below both in every seed.
    scores = pd.DataFrame({"a": [2, 1, 3, 1, 2, 3], "b": [1, 1, 2, 2, 1, 2], "c": [0] * 6})
    table = probability_of_improvement(scores)
    assert table[["loss_a", "loss_b"]].to_numpy().tolist() == [["a", "c"], ["b", "c"], ["a", "b"]]
    first = row(table, "a", "b")
    assert first[["wins", "ties", "losses", "pairs"]].tolist() == [4, 1, 1, 6]
    assert first["probability"] == 4.5 / 6
    # All of 6 pairs won: the interval starts at (alpha / 2)^(1/6), with a third of alpha for each of three pairs.
    clear = row(table, "a", "c")
    assert (clear["alone_low"], clear["alone_high"]) == (pytest.approx(0.025 ** (1 / 6)), 1.0)
    assert clear["ci_low"] == pytest.approx((0.025 / 3) ** (1 / 6))


def test_unpaired_by_hand():
    # Of the 3 x 4 pairs of runs a wins 1 + 2 + 3 and ties once; the smaller sample has 3 runs.
    scores = pd.DataFrame({"a": [1.0, 2.0, 3.0, np.nan], "b": [1.5, 2.0, 5.0, 0.5]}).assign(c=-9.0)
    table = probability_of_improvement(scores)
    found = row(table, "a", "b")
    assert found[["wins", "ties", "losses", "pairs"]].tolist() == [6, 1, 5, 3]
    assert found["probability"] == 6.5 / 12
    assert row(table, "b", "c")[["wins", "ties", "losses", "pairs"]].tolist() == [4, 0, 0, 4]  # the same seeds
    paired = probability_of_improvement(scores.dropna())
    assert pd.api.types.is_integer_dtype(paired["wins"])
    assert row(paired, "b", "a")[["wins", "ties", "losses", "pairs"]].tolist() == [2, 1, 0, 3]


def test_unpaired_is_the_mann_whitney_statistic():
    rng = np.random.default_rng(0)
    ours, theirs = rng.integers(0, 9, 12).astype(float), rng.integers(1, 9, 17).astype(float)
    scores = pd.DataFrame({"a": np.append(ours, [np.nan] * 5), "b": theirs})
    found = probability_of_improvement(scores).iloc[0]
    u = stats.mannwhitneyu(*(theirs, ours) if found["loss_a"] == "b" else (ours, theirs)).statistic
    assert found["probability"] == pytest.approx(u / (12 * 17)) and found["pairs"] == 12


def test_the_one_that_wins_more_often_comes_first_whatever_the_means():
    scores = pd.DataFrame({"rarely_much": [9.0, 0.0, 0.0, 0.0], "often_little": [0.0, 1.0, 1.0, 1.0]})
    found = probability_of_improvement(scores).iloc[0]
    assert (found["loss_a"], found["wins"], found["losses"]) == ("often_little", 3, 1)


def test_rounding_is_a_tie():
    scores = pd.DataFrame({"a": [0.1 + 0.2] * 4, "b": [0.3] * 4})
    for table in (scores, scores.assign(c=[np.nan, 1, 1, 1])):
        found = probability_of_improvement(table).set_index(["loss_a", "loss_b"]).loc[("a", "b")]
        assert found["wins"] == found["losses"] == 0 and found["probability"] == 0.5


def test_without_ties_the_interval_is_statsmodels():
    for pairs, wins in itertools.product((1, 5, 29), range(30)):
        if wins <= pairs:
            expected = proportion_confint(wins, pairs, 0.05, method="beta")
            assert clopper_pearson(wins / pairs, pairs, 0.05) == pytest.approx(expected)


@pytest.mark.parametrize("pairs", [2, 3, 5, 6, 8, 10, 16, 25])
def test_coverage_with_ties_is_never_below_its_level(pairs):
    """Exactly: every outcome of so many pairs, over a grid of chances to win and to tie; also each tail alone."""
    outcomes = np.array([(w, t) for w in range(pairs + 1) for t in range(pairs + 1 - w)])
    wins, ties = outcomes.T
    losses = pairs - wins - ties
    ways = np.array([math.comb(pairs, w) * math.comb(pairs - w, t) for w, t in outcomes], dtype=float)
    low, high = clopper_pearson((wins + ties / 2) / pairs, pairs, 0.05)
    for tie in np.linspace(0, 1, 21):
        for win in np.linspace(0, 1 - tie, 41):
            chance = ways * win**wins * tie**ties * max(0.0, 1 - tie - win) ** losses
            true = win + tie / 2
            assert chance[low > true + 1e-12].sum() <= 0.025 and chance[high < true - 1e-12].sum() <= 0.025


@pytest.mark.parametrize(
    ("seeds", "spread", "shift"),
    [((6, 6), 1, 0), ((5, 12), 3, 0), ((12, 5), 3, 1), ((10, 10), 0.3, 2), ((8, 30), 1, 1)],
)
def test_coverage_without_common_seeds(seeds, spread, shift):
    """Simulated, normal losses with unequal spreads: at least 95%, within the 99.9% quantile of 4,000 runs."""
    rng, runs = np.random.default_rng(3), 4000
    a, b = rng.normal(shift, 1, (runs, seeds[0], 1)), rng.normal(0, spread, (runs, 1, seeds[1]))
    true = stats.norm.cdf(shift / np.hypot(1, spread))
    low, high = clopper_pearson((a > b).mean(axis=(1, 2)), min(seeds), 0.05)
    missed = ((true < low) | (true > high)).sum()
    assert missed <= stats.binom.isf(0.001, runs, 0.05)


def test_five_pairs_call_nothing_at_95_percent_and_one_outcome_in_32_at_90():
    won = np.array(list(itertools.product([0, 1], repeat=5))).mean(axis=1)
    assert (clopper_pearson(won, 5, 0.05)[0] > 0.5).sum() == 0
    assert (clopper_pearson(won, 5, 0.1)[0] > 0.5).sum() == 1


@pytest.mark.parametrize(
    ("wins", "losses", "reading"),
    [
        (5, 0, "too few pairs to call"),
        (6, 0, "significant and meaningful"),
        (5, 1, "not significant"),
        (20, 9, "not significant"),
        (21, 8, "significant and meaningful"),
        (590, 410, "significant but not meaningful"),
    ],
)
def test_readings(wins, losses, reading):
    assert probability_of_improvement(wins_of(wins, losses))["reading"].tolist() == [reading]


def test_readings_are_adjusted_over_all_pairs():
    scores = wins_of(10, 0).assign(**{f"l{k}": np.random.default_rng(k).normal(0.5, 1e-3, 10) for k in range(7)})
    table = probability_of_improvement(scores)
    # 36 pairs: 36 x 2^(1 - n) <= 0.05 takes 11 seeds.
    assert set(table["pairs_needed"]) == {11} and set(table["reading"]) == {"too few pairs to call"}
    clear = row(table, "a", "b")
    assert clear["alone_low"] > 0.5 > clear["ci_low"]


def test_meaningful_is_the_users():
    scores = wins_of(59, 21)
    assert probability_of_improvement(scores)["reading"][0] == "significant and meaningful"
    assert probability_of_improvement(scores, meaningful=0.9)["reading"][0] == "significant but not meaningful"
    for value in (0.5, 1, "0.75", True):
        with pytest.raises(InputError, match="meaningful: .* out of bounds"):
            probability_of_improvement(scores, meaningful=value)
    with pytest.raises(InputError, match="needed: at least 2 columns"):
        probability_of_improvement(scores[["a"]])
