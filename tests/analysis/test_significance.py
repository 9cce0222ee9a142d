"""The default procedure: numbers worked out by hand, scipy and statsmodels on the parts they know, edge cases."""

import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower

from losstune.analysis.power import seeds_to_decide
from losstune.analysis.signflips import critical_value, sign_patterns, step_down
from losstune.analysis.significance import analyse, compare
from losstune.spaces import InputError


def frame(seeds, losses, seed=0, shift=0.0):
    x = np.random.default_rng(seed).normal(size=(seeds, losses)) + shift * np.arange(losses)
    return pd.DataFrame(x, columns=[f"l{place}" for place in range(losses)])


def pair(comparison, first, second):
    pairs = comparison.pairs
    return pairs[pairs["loss_a"].isin([first, second]) & pairs["loss_b"].isin([first, second])].iloc[0]


def test_step_down_by_hand():
    # D1 = (1, 2, 3): |sum| over the 4 patterns +++, +-+, ++-, +-- is 6, 2, 0, 4. D2 = (1, -1, 1): 1, 3, 1, 1.
    # r = |sum| / sqrt(3 sum of squares): D1 6, 2, 0, 4 over sqrt(42); D2 1, 3, 1, 1 over 3.
    # D1 first: the larger r per pattern is .93, 1, .33, .62, of which 2 of 4 reach .93. D2: all 4 reach .33.
    differences = np.array([[1.0, 1.0], [2.0, -1.0], [3.0, 1.0]])
    assert step_down(differences, sign_patterns(3)).tolist() == [0.5, 1.0]


def test_critical_value_by_hand():
    # Centred (1, 2, 3) is (-1, 0, 1): |sum| 0, 0, 2, 2, so T is 0 or 2 / sqrt(3) / sqrt((2 - 4/3) / 2) = 2.
    differences = np.array([[1.0], [2.0], [3.0]])
    assert critical_value(differences, sign_patterns(3), 0.05) == pytest.approx(2.0)
    assert critical_value(differences, sign_patterns(3), 0.5) == 0.0


def test_two_losses_agree_with_scipys_permutation_test():
    scores = frame(10, 2, shift=0.8)

    def statistic(x, y, axis):
        d = x - y
        return np.abs(d.mean(axis)) / (d.std(axis, ddof=1) / np.sqrt(d.shape[axis]))

    expected = stats.permutation_test(
        (scores["l0"].to_numpy(), scores["l1"].to_numpy()), statistic, permutation_type="samples",
        alternative="greater", n_resamples=np.inf, vectorized=True,
    )  # fmt: skip
    row = analyse(scores).pairs.iloc[0]
    assert row["p"] == pytest.approx(expected.pvalue)
    assert abs(row["t"]) == pytest.approx(abs(stats.ttest_rel(scores["l0"], scores["l1"]).statistic))


def test_step_down_agrees_with_a_plain_loop():
    scores = frame(8, 4, seed=3, shift=0.5)
    pairs = [(i, j) for i in range(4) for j in range(i + 1, 4)]
    x = scores.to_numpy()
    d = np.stack([x[:, i] - x[:, j] for i, j in pairs], axis=1)

    def t(values):
        return np.abs(values.mean(0) / (values.std(0, ddof=1) / np.sqrt(len(values))))

    observed = t(d)
    order = np.argsort(-observed)
    flipped = np.array([t(d * signs[:, None]) for signs in sign_patterns(8)])
    raw = [(flipped[:, order[k:]].max(axis=1) >= observed[order[k]] - 1e-9).mean() for k in range(len(pairs))]
    expected = dict(zip([pairs[k] for k in order], np.maximum.accumulate(raw), strict=True))
    found = analyse(scores)
    for (i, j), p in expected.items():
        assert pair(found, f"l{i}", f"l{j}")["p"] == pytest.approx(p)


def test_few_seeds_are_paired_t_tests_with_holm():
    scores = frame(5, 3, shift=1.5)
    names = [("l0", "l1"), ("l0", "l2"), ("l1", "l2")]
    raw = [stats.ttest_rel(scores[a], scores[b]).pvalue for a, b in names]
    found = analyse(scores)
    assert "paired t-tests with Holm" in found.method
    for (a, b), p in zip(names, multipletests(raw, method="holm")[1], strict=True):
        assert pair(found, a, b)["p"] == pytest.approx(p)
    row = pair(found, "l0", "l2")
    d = scores["l2"] - scores["l0"]
    half = stats.t.isf(0.05 / 3 / 2, 4) * d.std() / np.sqrt(5)
    assert (row["loss_a"], row["ci_low"], row["ci_high"]) == ("l2", pytest.approx(d.mean() - half),
                                                             pytest.approx(d.mean() + half))  # fmt: skip


def test_missing_seeds_are_welch_with_holm():
    scores = frame(9, 3, shift=0.7)
    scores.iloc[0, 0] = scores.iloc[5, 2] = np.nan
    names = [("l0", "l1"), ("l0", "l2"), ("l1", "l2")]
    raw = [stats.ttest_ind(scores[a].dropna(), scores[b].dropna(), equal_var=False) for a, b in names]
    found = analyse(scores)
    assert "Welch" in found.method and not found.paired and found.seeds == 8
    for (a, b), p in zip(names, multipletests([one.pvalue for one in raw], method="holm")[1], strict=True):
        assert pair(found, a, b)["p"] == pytest.approx(p)
    row = pair(found, "l0", "l2")
    expected = raw[1].confidence_interval(1 - 0.05 / 3)
    assert sorted(np.abs([row["ci_low"], row["ci_high"]])) == pytest.approx(sorted(np.abs([*expected])))


def test_losses_that_have_the_same_seeds_stay_paired_where_another_lacks_one():
    """b - a = 1, 1, 1, 2, so that T = 5 on 3 degrees of freedom; c lacks the first seed and has a variance of 1, a and
    b of 5/3 and 35/12. Holm multiplies the smallest of 3 by 3."""
    scores = pd.DataFrame({"a": [1.0, 2.0, 3.0, 4.0], "b": [2.0, 3.0, 4.0, 6.0], "c": [np.nan, 3.0, 4.0, 5.0]})
    found = analyse(scores)
    row = pair(found, "a", "b")
    assert (row["difference"], row["sd"], row["t"], row["paired"]) == (1.25, 0.5, 5.0, True)
    assert row["p"] == pytest.approx(3 * 2 * stats.t.sf(5, 3)) and np.isfinite(row["correlation"])
    half = stats.t.isf(0.05 / 3 / 2, 3) * 0.25
    assert (row["ci_low"], row["ci_high"]) == (pytest.approx(1.25 - half), pytest.approx(1.25 + half))
    other = pair(found, "a", "c")
    assert other["t"] == pytest.approx(1.5 / np.sqrt(5 / 12 + 1 / 3)) and not other["paired"]
    assert np.isnan(other["correlation"]) and np.isnan(other["skew"]) and row["skew"] == pytest.approx(2)
    # With 4 pairs less is needed than with 3 and 4 runs.
    assert row["detectable"] / row["sd"] < other["detectable"] / other["sd"]
    assert "paired t-tests of the losses that have the same seeds, Welch" in found.method and not found.paired


def test_a_correlation_over_three_seeds_is_none():
    scores = frame(4, 3)
    assert np.isfinite(analyse(scores).correlation) and np.isnan(analyse(scores[:3]).correlation)


def test_compare_by_hand():
    scores = pd.DataFrame({"a": [1.0, 2.0, 3.0, 4.0], "b": [2.0, 3.0, 4.0, 6.0]})
    table = compare(scores, baseline="a")
    assert list(table.index) == ["b", "a"]
    # b - a = 1, 1, 1, 2: mean 1.25, sd 0.5, error 0.25, T = 5 on 3 degrees of freedom.
    assert table.loc["a", "difference"] == -1.25 and table.loc["b", "difference"] == 0.0
    assert table.loc["a", "p"] == pytest.approx(2 * stats.t.sf(5, 3))
    half = stats.t.isf(0.025, 3) * 0.25
    assert table.loc["a", ["ci_low", "ci_high"]].tolist() == pytest.approx([-1.25 - half, -1.25 + half])
    assert table.loc["b", ["baseline_ci_low", "baseline_ci_high"]].tolist() == pytest.approx([1.25 - half, 1.25 + half])
    assert table["in_best_set"].tolist() == [True, False]
    # Unpaired the two overlap, so that the papers' rule prints both in bold.
    assert table["paper_rule"].tolist() == [True, True]
    assert table["standard_error"].tolist() == pytest.approx([scores["b"].std() / 2, scores["a"].std() / 2])
    assert table["n_seeds"].tolist() == [4, 4] and table.index.name == "loss"


def test_baseline_is_adjusted_over_its_own_pairs_only():
    scores = frame(5, 4, shift=1.0)
    raw = [stats.ttest_rel(scores[name], scores["l1"]).pvalue for name in ("l0", "l2", "l3")]
    table = compare(scores, baseline="l1")
    assert table.loc[["l0", "l2", "l3"], "baseline_p"].tolist() == pytest.approx(multipletests(raw, method="holm")[1])


def test_equal_scores_are_not_separated():
    scores = pd.DataFrame(np.full((10, 3), 0.97), columns=list("abc"))
    table = compare(scores, baseline="a")
    assert (table["p"] == 1).all() and table["in_best_set"].all() and table["paper_rule"].all()
    assert (table[["difference", "ci_low", "ci_high"]] == 0).all(axis=None)


def test_rounding_noise_is_no_difference():
    scores = pd.DataFrame({"a": np.full(10, 0.1 + 0.2), "b": np.full(10, 0.3)})
    assert analyse(scores).pairs.loc[0, "p"] == 1.0


@pytest.mark.parametrize(("seeds", "p"), [(10, 1 / 512), (4, 0.0)])
def test_a_constant_difference_is_infinitely_clear(seeds, p):
    a = np.random.default_rng(0).normal(size=seeds)
    found = analyse(pd.DataFrame({"a": a, "b": a + 1.0}))
    row = found.pairs.iloc[0]
    assert np.isinf(row["t"]) and row["p"] == p and row["a_beats_b"] and row["ci_low"] == row["ci_high"] == 1.0
    assert any("exactly the same in every seed" in text for text in found.warnings)


def test_one_loss_failed_everywhere_counts_and_loses():
    scores = frame(10, 3) * 0.002 + 0.97
    scores["failed"] = 0.1
    found = analyse(scores)
    assert "failed" not in found.best_set and len(found.best_set) == 3
    assert np.isfinite(found.correlation)


def test_order_of_columns_and_seeds_does_not_matter():
    scores = frame(9, 4, shift=0.4)
    shuffled = scores[["l2", "l0", "l3", "l1"]].iloc[::-1]
    pd.testing.assert_frame_equal(compare(scores), compare(shuffled))


def test_many_seeds_use_seeded_draws():
    scores = frame(20, 3, shift=0.5)
    assert sign_patterns(20).shape == (10_000, 20) and (sign_patterns(20)[0] == 1).all()
    pd.testing.assert_frame_equal(compare(scores), compare(scores.copy()))


def test_practical_equivalence_needs_the_whole_interval():
    scores = frame(12, 2) * 0.001 + 0.97
    row = analyse(scores, rope=0.01).pairs.iloc[0]
    assert row["practically_equivalent"] and not row["separated"]
    assert not analyse(scores, rope=1e-4).pairs.iloc[0]["practically_equivalent"]
    assert not analyse(scores).pairs.iloc[0]["practically_equivalent"]


def test_seeds_to_decide():
    low, high = seeds_to_decide([0.5, 0.1, 0.0], [0.3, 0.3, 0.0], [0.01, 0.01, 0.01], tested=10)
    for needed, effect in ((low[0], 0.8), (high[0], 0.2)):
        exact = TTestPower().solve_power(effect_size=effect, alpha=0.01, power=0.8)
        assert needed == pytest.approx(np.ceil(exact), abs=1)
    assert high[1] is None and (low[2], high[2]) == (None, None)
    assert seeds_to_decide([5.0], [0.1], [0.05], tested=10) == ([11], [11])


def test_warnings():
    assert any("cannot separate anything" in text for text in analyse(frame(8, 3), alpha=0.005).warnings)
    assert any("too few for a sign-flip test" in text for text in analyse(frame(5, 3)).warnings)
    skewed = frame(12, 3)
    skewed.iloc[0, 0] += 60
    assert any("strongly skewed" in text for text in analyse(skewed).warnings)
    assert any("7% to 8%" in text and "far more often" in text for text in analyse(skewed).warnings)
    assert analyse(frame(12, 3)).warnings == []
    constant = pd.DataFrame({"a": [0.5, 0.6, 0.7], "b": [0.4, 0.5, 0.6]})
    assert any("chance alone" in text for text in analyse(constant).warnings)
    assert not any("chance alone" in text for text in analyse(constant, resolution=0.1).warnings)


@pytest.mark.parametrize(
    ("scores", "options", "part"),
    [
        ([1, 2], {}, "needed: a DataFrame"),
        (pd.DataFrame({"a": [1.0, 2]}), {}, "at least 2 columns"),
        (pd.DataFrame({"a": [1.0], "b": [2.0]}), {}, "1 seed"),
        (pd.DataFrame({"a": [1.0, 2], "b": [np.nan] * 2}), {}, "'b' has 0 seed"),
        (pd.DataFrame({"a": [1.0, 2], "b": [np.inf, 1]}), {}, "'b' holds an infinite value"),
        (pd.DataFrame({"a": [1.0, 2], "b": [1e101, 1]}), {}, "'b' holds a value whose size is out of bounds"),
        (pd.DataFrame({"a": [1.0, 2], "b": [-1e-101, 1]}), {}, "'b' holds a value whose size is out of bounds"),
        (pd.DataFrame({"a": [1.0, 2], "b": ["x", "y"]}), {}, "'b' is not numeric"),
        (pd.DataFrame([[1.0, 2], [2, 3]], columns=["a", "a"]), {}, "'a' occurs twice"),
        (frame(4, 2), {"baseline": "c"}, "allowed: l0, l1"),
        (frame(4, 2), {"alpha": 1.5}, "allowed: (0, 1)"),
        (frame(4, 2), {"rope": -1}, "rope"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(scores, options, part):
    with pytest.raises(InputError) as problem:
        compare(scores, **options)
    assert part in str(problem.value) and "\n" not in str(problem.value)


def test_false_separations_stay_near_alpha():
    """10 equal losses, 10 seeds, correlated over seeds: at least one false separation in about 5% of the studies."""
    rng, repeats, false = np.random.default_rng(0), 600, 0
    for _ in range(repeats):
        x = rng.normal(size=(10, 1)) + rng.normal(size=(10, 10))
        differences = np.stack([x[:, i] - x[:, j] for i in range(10) for j in range(i)], axis=1)
        false += step_down(differences, sign_patterns(10)).min() <= 0.05
    # Three Monte-Carlo standard errors above 5%.
    assert false / repeats <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / repeats)


def test_27_losses_with_14_seeds_take_under_2_seconds():
    scores = frame(14, 27)
    start = time.perf_counter()
    compare(scores, baseline="l0")
    assert time.perf_counter() - start < 2


def test_needs_neither_torch_nor_matplotlib():
    code = "import losstune.analysis.significance, sys; print(sorted({'torch', 'matplotlib'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
