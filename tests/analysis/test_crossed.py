"""The crossed bootstrap: by hand, by enumeration of every draw, against a two-way ANOVA, and its coverage."""

import itertools
import time
import tracemalloc

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import stats
from statsmodels.formula.api import ols

from losstune.analysis.crossed import crossed_bootstrap, interval_of_test_set, variance_components
from losstune.spaces import InputError


def effects(rng, seeds, examples, losses=2, of_seed=0.0, of_example=0.0, of_both=1.0):
    """Equal losses (L, S, N) with given standard deviations, on examples of unequal difficulty."""
    shapes = ((losses, seeds, 1), of_seed), ((losses, 1, examples), of_example), ((losses, seeds, examples), of_both)
    return rng.normal(size=(1, 1, examples)) + sum(size * rng.normal(size=shape) for shape, size in shapes)


def test_by_hand():
    # Rows 1, 1, 4 and 3, 1, 2: both means 2, columns 2, 1, 3. SS of seeds 0, of examples 2 x (0 + 1 + 1) = 4;
    # the residuals -1, 0, 1 and 1, 0, -1 have squares of 4. MS: 0 / 1, 4 / 2 = 2, 4 / 2 = 2; nothing is left for seeds
    # (below the residual) nor for examples, so that var = 2 / 6. Naive: 4 / (2 x 9) + 4 / (4 x 9) = 1/3.
    found = variance_components(np.array([[1.0, 1.0, 4.0], [3.0, 1.0, 2.0]]))
    assert found["standard_error"] == pytest.approx(np.sqrt(1 / 3))
    assert [found[f"{name}_share"] for name in ("seeds", "examples", "interaction")] == pytest.approx([0, 0, 1])
    assert found["bootstrap_error"] == pytest.approx(np.sqrt(1 / 3))
    # Squares 2, 2, 2 on 1, 2 and 2 degrees of freedom: df = 2^2 / (4/1 + 4/2 + 4/2).
    assert found["df"] == pytest.approx(0.5)


def test_each_source_alone():
    seeds = np.array([[0.0], [2.0]]) * np.ones((2, 4))
    found = variance_components(seeds)
    assert found["seeds_share"] == 1 and found["standard_error"] == 1.0 and found["df"] == 1
    found = variance_components(np.array([0.0, 0.0, 3.0]) * np.ones((5, 1)))
    # Examples 0, 0, 3: variance 3, so that the mean of three has a standard error of 1.
    assert found["examples_share"] == 1 and found["standard_error"] == pytest.approx(1.0) and found["df"] == 2


def test_the_naive_error_is_that_of_every_possible_draw():
    d = np.array([[1.0, 0.0, -1.0], [0.0, 2.0, 1.0]])
    means = [
        d[np.ix_(rows, columns)].mean()
        for rows in itertools.product(range(2), repeat=2) for columns in itertools.product(range(3), repeat=3)
    ]  # fmt: skip
    assert variance_components(d)["bootstrap_error"] == pytest.approx(np.std(means))


def test_mean_squares_are_those_of_statsmodels():
    d = effects(np.random.default_rng(0), 4, 6, 2, of_seed=2, of_example=2)[0]
    long = pd.DataFrame(d).stack().rename_axis(["seed", "example"]).rename("d").reset_index()
    table = sm.stats.anova_lm(ols("d ~ C(seed) + C(example)", long).fit())
    of_seed, of_example, residual = table["sum_sq"] / table["df"]
    total = of_seed + of_example - residual
    found = variance_components(d)
    assert found["standard_error"] == pytest.approx(np.sqrt(total / 24))
    assert found["seeds_share"] == pytest.approx((of_seed - residual) / total)
    assert found["examples_share"] == pytest.approx((of_example - residual) / total)


def test_draws_agree_with_the_closed_form():
    """With one pair and df large the simultaneous interval is normal: the draws have the closed form's variance."""
    x = effects(np.random.default_rng(1), 60, 300, of_seed=0.1, of_example=0.3)
    found = crossed_bootstrap(x, ["a", "b"], draws=20_000).iloc[0]
    half = (found["ci_high"] - found["ci_low"]) / 2
    assert half == pytest.approx(stats.t.isf(0.025, found["df"]) * found["standard_error"], rel=0.02)
    assert (found["alone_low"], found["alone_high"]) == pytest.approx((found["ci_low"], found["ci_high"]))


def test_variance_is_unbiased_where_the_naive_one_is_three_times_too_large():
    rng, runs = np.random.default_rng(2), 400
    found = [variance_components(np.subtract(*effects(rng, 20, 40, of_both=1.0))) for _ in range(runs)]
    true = 2 / (20 * 40)
    assert np.mean([one["bootstrap_error"] ** 2 for one in found]) / true == pytest.approx(3, rel=0.1)
    assert np.mean([one["standard_error"] ** 2 for one in found]) / true == pytest.approx(1.2, abs=0.15)
    mixed = [variance_components(np.subtract(*effects(rng, 20, 40, 2, 0.5, 0.5, 1.0))) for _ in range(runs)]
    true = 2 * (0.25 / 20 + 0.25 / 40 + 1 / 800)
    assert np.mean([one["standard_error"] ** 2 for one in mixed]) / true == pytest.approx(1, abs=0.06)
    assert np.mean([one["seeds_share"] for one in mixed]) == pytest.approx(2 * 0.25 / 20 / true, abs=0.05)


@pytest.mark.parametrize(
    ("seeds", "examples", "parts"),
    [(3, 40, (0, 0, 1)), (5, 40, (1, 0.3, 1)), (5, 40, (0.1, 1, 0.5))],
)
def test_coverage(seeds, examples, parts):
    """Three equal losses: all three intervals hold zero in 95% of runs, within the 99.9% quantile of 250 runs."""
    rng, runs = np.random.default_rng(4), 250
    missed = 0
    for run in range(runs):
        found = crossed_bootstrap(effects(rng, seeds, examples, 3, *parts), list("abc"), draws=300, seed=run)
        missed += (found["ci_low"] > 0).any()
    assert missed <= stats.binom.isf(0.001, runs, 0.05)


def test_coverage_for_right_answers():
    """Two equally accurate networks; seeds alone, as in the paired t-test, say nothing about other examples."""
    rng, runs, missed, seeds_only = np.random.default_rng(5), 250, 0, 0
    for run in range(runs):
        x = 2 * effects(rng, 8, 200, of_seed=0.1, of_example=0.7, of_both=0.4) + 2.5 > 0
        found = crossed_bootstrap(x, ["a", "b"], draws=200, seed=run).iloc[0]
        missed += found["ci_low"] > 0
        seeds_only += stats.ttest_rel(*x.mean(axis=2)).pvalue <= 0.05
    assert missed <= stats.binom.isf(0.001, runs, 0.05)
    assert seeds_only > 0.15 * runs


def test_all_pairs_in_order_of_means_and_alike_for_any_order_of_losses():
    x = np.random.default_rng(6).random((3, 6, 50)) < np.array([0.5, 0.9, 0.7])[:, None, None]
    table = crossed_bootstrap(x, ["low", "high", "middle"])
    assert table["loss_a"].tolist() == ["high", "high", "middle"]
    assert table["loss_b"].tolist() == ["middle", "low", "low"]
    assert table["difference"].tolist() == pytest.approx(
        [x[i].mean() - x[j].mean() for i, j in ((1, 2), (1, 0), (2, 0))]
    )
    assert (table["ci_low"] < table["alone_low"]).all() and (table["ci_high"] > table["alone_high"]).all()
    pd.testing.assert_frame_equal(table, crossed_bootstrap(x[[1, 2, 0]], ["high", "middle", "low"]))
    shares = table[["seeds_share", "examples_share", "interaction_share"]]
    assert shares.sum(axis=1).tolist() == pytest.approx([1] * 3)


def test_losses_that_agree_everywhere():
    x = np.random.default_rng(7).random((1, 4, 30)) < 0.8
    found = crossed_bootstrap(np.vstack([x, x]), ["a", "b"]).iloc[0]
    assert found[["difference", "standard_error", "ci_low", "ci_high"]].tolist() == [0, 0, 0, 0]
    assert np.isnan(found["seeds_share"])


def test_what_a_test_set_says_of_one_accuracy():
    """Wilson: center (p + z^2 / 2n) / (1 + z^2 / n); of 12 of 12, z = 1.96: 1 / (1 + 3.8415 / 12) to 1."""
    assert interval_of_test_set(1.0, 12) == pytest.approx((0.75751, 1.0), abs=1e-5)
    low, high = interval_of_test_set(0.97, 360)
    assert (low + high) / 2 == pytest.approx((0.97 + 3.8415 / 720) / (1 + 3.8415 / 360), abs=1e-5)
    drawn = (np.random.default_rng(8).random((2000, 360)) < 0.97).mean(axis=1)
    covered = np.mean([low <= 0.97 <= high for low, high in (interval_of_test_set(x, 360) for x in drawn)])
    assert 0.93 < covered < 0.975
    for wrong in ((1.01, 10), (np.nan, 10), (0.5, 0)):
        with pytest.raises(InputError, match="out of bounds"):
            interval_of_test_set(*wrong)


@pytest.mark.parametrize(
    ("scores", "options", "part"),
    [
        (np.zeros((2, 3)), {}, "needed: numbers per loss, seed and example"),
        (np.full((2, 3, 4), "x"), {}, "needed: numbers per loss, seed and example"),
        (np.zeros((2, 1, 4)), {}, "at least 2 losses, 2 seeds"),
        (np.zeros((3, 2, 4)), {}, "2 names for 3 losses"),
        (np.zeros((2, 2, 4)), {"losses": ["a", "a"]}, "a different one for each"),
        (np.full((2, 2, 4), np.nan), {}, "not finite"),
        (np.zeros((2, 2, 4)), {"alpha": 1.0}, "alpha: 1.0 is out of bounds"),
        (np.zeros((2, 2, 4)), {"draws": 10}, "draws: 10 is out of bounds"),
    ],
)
def test_bad_input(scores, options, part):
    with pytest.raises(InputError, match=part) as raised:
        crossed_bootstrap(scores, **{"losses": ["a", "b"], **options})
    assert "\n" not in str(raised.value)


def test_nine_losses_of_25_seeds_on_10_000_examples_are_quick_and_small():
    x = np.random.default_rng(9).random((9, 25, 10_000)) < 0.9
    started = time.perf_counter()
    crossed_bootstrap(x, list("abcdefghi"))
    assert time.perf_counter() - started < 10
    tracemalloc.start()
    crossed_bootstrap(x, list("abcdefghi"), draws=200)
    assert tracemalloc.get_traced_memory()[1] < 100 * 2**20
    tracemalloc.stop()
