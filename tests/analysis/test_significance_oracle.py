"""The default verdict against a second statement of its seven steps, in exact arithmetic and plain loops.

The oracle takes whole-number scores, so that every difference, T and tie is exact; `significance` gets the same numbers
divided by a scale, as floats, and has to reach the same p-values: ties that floats blur have to be recognized.
"""

import itertools
import math
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from losstune.analysis.pairtests import family_of_pairs
from losstune.analysis.significance import analyse, compare


def every_pair(count):
    return list(itertools.combinations(range(count), 2))


def squared_t(differences):
    """T squared of step 1: mean over standard error, with 0/0 = 0 and x/0 = infinity."""
    count = len(differences)
    total = sum(differences)
    spread = sum((count * d - total) ** 2 for d in differences)  # count^2 times the sum of squared deviations
    if total == 0 or spread == 0:
        return Fraction(0) if total == 0 else math.inf
    variance = Fraction(spread, count * count * (count - 1))
    return Fraction(total, count) ** 2 / (variance / count)


def patterns(count):
    """Step 2, all sign patterns up to the common sign that leaves every |T| alone; the identity comes first."""
    return [(1, *rest) for rest in itertools.product((1, -1), repeat=count - 1)]


def every_difference(columns, pairs):
    return {(i, j): [a - b for a, b in zip(columns[i], columns[j], strict=True)] for i, j in pairs}


def flipped(signs, differences):
    return [s * d for s, d in zip(signs, differences, strict=True)]


def step_down(columns, pairs):
    """Adjusted p per pair (steps 1 to 3). columns: whole-number scores per loss."""
    difference = every_difference(columns, pairs)
    observed = {pair: squared_t(d) for pair, d in difference.items()}
    order = sorted(pairs, key=lambda pair: observed[pair], reverse=True)
    reached = [0] * len(order)
    signs = patterns(len(columns[0]))
    for pattern in signs:
        largest = Fraction(0)
        for k in range(len(order) - 1, -1, -1):
            largest = max(largest, squared_t(flipped(pattern, difference[order[k]])))
            reached[k] += largest >= observed[order[k]]
    return {pair: max(reached[: k + 1]) / len(signs) for k, pair in enumerate(order)}


def critical_value(columns, pairs):
    """c of step 6: the smallest value that at least 95% of the largest |T*| do not exceed, each loss's mean removed."""
    centred = [[len(c) * x - sum(c) for x in c] for c in columns]
    difference = every_difference(centred, pairs).values()
    largest = sorted(max(squared_t(flipped(s, d)) for d in difference) for s in patterns(len(columns[0])))
    return math.sqrt(largest[math.ceil(Fraction(95, 100) * len(largest)) - 1])


def interval(d, c, scale):
    half = c * d.std(ddof=1) / math.sqrt(len(d)) if np.ptp(d) else 0.0  # 0 also where c is infinite
    return (d.mean() - half) / scale, (d.mean() + half) / scale


def holm(p_values):
    order = sorted(range(len(p_values)), key=lambda k: p_values[k])
    adjusted, running = [0.0] * len(order), 0.0
    for rank, k in enumerate(order):
        running = max(running, min(1.0, (len(order) - rank) * p_values[k]))
        adjusted[k] = running
    return adjusted


def best_set(names, means, p, alpha):
    """Step 4. p: per pair of positions."""
    beaten = {min(k, key=lambda i: means[i]) for k in p if p[k] <= alpha and means[k[0]] != means[k[1]]}
    return {names[k] for k in range(len(names)) if k not in beaten}


def whole_scores(kind, seeds, losses, rng):
    """Whole numbers (seeds x losses) and the scale that divides them."""
    if kind == "continuous":
        common = rng.normal(size=(seeds, 1))
        x = common + rng.normal(size=(seeds, losses)) * rng.uniform(0.3, 2, losses) + rng.normal(size=losses)
        return np.round(x * 1e6).astype(int), 1_000_000
    x = 340 + rng.integers(-3, 4, (seeds, 1)) + rng.integers(-2, 3, (seeds, losses)) + rng.integers(0, 4, losses)
    match kind:
        case "duplicated":
            x[:, 1] = x[:, 0]
        case "constant":
            x[:, 1], x[:, 2] = 341, 343
        case "dominating":
            x[:, 1] = x.max() + rng.integers(1, 9, seeds)
        case "shifted":  # exactly the same difference in every seed: x/0
            x[:, 1], x[:, 2] = x[:, 0] + 1, x[:, 0] + 2
        case "mirrored":  # equal sizes, so that some flip makes the difference constant: T* is infinite
            x[:, 1] = x[:, 0] + rng.choice([-2, 2], seeds)
        case "binary":
            x = 340 + rng.integers(0, 2, (seeds, losses))
    return x, 360


def frame(whole, scale):
    return pd.DataFrame(whole / scale, columns=[f"loss{k}" for k in range(whole.shape[1])])


def found_p(comparison, names):
    """p per pair of positions, lower position first."""
    at = {name: k for k, name in enumerate(names)}
    return {tuple(sorted((at[r.loss_a], at[r.loss_b]))): r.p for r in comparison.pairs.itertuples()}


def assert_p_values(whole, scale):
    scores, expected = frame(whole, scale), step_down(whole.T.tolist(), every_pair(whole.shape[1]))
    assert found_p(analyse(scores), list(scores)) == pytest.approx(expected, abs=1e-12)


KINDS = ["continuous", "tied", "duplicated", "constant", "dominating", "shifted", "mirrored", "binary"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("seeds", "losses"), [(8, 5), (9, 4), (10, 4)])
def test_equals_the_oracle_with_every_pattern(kind, seeds, losses):
    whole, scale = whole_scores(kind, seeds, losses, np.random.default_rng([KINDS.index(kind), seeds]))
    scores, columns, pairs = frame(whole, scale), whole.T.tolist(), every_pair(losses)
    names, sums, expected = list(scores), [sum(c) for c in columns], step_down(columns, pairs)
    comparison = analyse(scores)
    assert found_p(comparison, names) == pytest.approx(expected, abs=1e-12)
    for alpha in (0.01, 0.05, 0.2, 0.5):
        assert set(analyse(scores, alpha).best_set) == best_set(names, sums, expected, alpha)

    c = critical_value(columns, pairs)
    for row in comparison.pairs.itertuples():
        d = whole[:, names.index(row.loss_a)] - whole[:, names.index(row.loss_b)]
        assert (row.ci_low, row.ci_high) == pytest.approx(interval(d, c, scale), rel=1e-7, abs=1e-9)
        assert row.difference == pytest.approx(d.mean() / scale, abs=1e-12) and row.difference >= -1e-12

    base = losses - 1
    own = [(k, base) for k in range(base)]
    table, own_p, own_c = compare(scores, baseline=names[base]), step_down(columns, own), critical_value(columns, own)
    best = names.index(table.index[0])
    assert sums[best] == max(sums)
    for k, name in enumerate(names):
        row = table.loc[name]
        d, ends = whole[:, k] - whole[:, base], (row.baseline_ci_low, row.baseline_ci_high)
        assert row.baseline_p == pytest.approx(own_p.get((k, base), 1.0), abs=1e-12)
        assert row.baseline_difference == pytest.approx(d.mean() / scale, abs=1e-12)
        assert ends == pytest.approx(interval(d, own_c, scale), rel=1e-7, abs=1e-9)
        assert row.p == pytest.approx(expected.get(tuple(sorted((k, best))), 1.0), abs=1e-12)
        assert row["mean"] == pytest.approx(whole[:, k].mean() / scale)
        assert row.standard_error == pytest.approx(whole[:, k].std(ddof=1) / scale / math.sqrt(seeds), abs=1e-12)
        assert row.difference == pytest.approx((sums[k] - sums[best]) / seeds / scale, abs=1e-12)
        assert row.n_seeds == seeds and row.ci_low <= row.difference <= row.ci_high


def test_fourteen_seeds_are_enumerated_and_sixteen_are_drawn():
    assert_p_values(*whole_scores("tied", 14, 3, np.random.default_rng(14)))
    whole, scale = whole_scores("tied", 16, 2, np.random.default_rng(16))
    scores = frame(whole, scale)
    p = analyse(scores).pairs.p.to_numpy()
    assert np.allclose(p * 10_000, np.round(p * 10_000), rtol=0, atol=1e-8) and (p >= 1 / 10_000).all()
    assert (p == analyse(scores).pairs.p.to_numpy()).all()
    # One pair: |T*| orders the patterns as the |sum of the flipped differences| does.
    d = whole[:, 0] - whole[:, 1]
    signs = np.array(list(itertools.product((1, -1), repeat=16)))
    exact = (abs(signs @ d) >= abs(d.sum())).mean()
    assert abs(p[0] - exact) <= 5 * math.sqrt(exact * (1 - exact) / 10_000) + 1e-4
    assert analyse(scores.assign(loss1=scores.loss1 + 1)).pairs.p[0] <= 4 / 10_000


def test_nobody_beats_need_not_be_transitive():
    """A loss can be out although the best mean does not beat it: another one does."""
    seen = set()
    for seed in range(60):
        rng = np.random.default_rng(seed)
        x = rng.normal(size=(8, 4)) + rng.normal(size=(8, 1)) * [4, 4, 0, 0] + [1.2, 0, 0.8, 0]
        scores = pd.DataFrame(x, columns=list("abcd"))
        comparison = analyse(scores)
        p, top = found_p(comparison, "abcd"), int(x.mean(0).argmax())
        best = best_set("abcd", x.mean(0), p, 0.05)
        assert comparison.best_set == sorted(best, key=lambda n: -scores[n].mean())
        tied = {"abcd"[k] for k in range(4) if k == top or p[tuple(sorted((k, top)))] > 0.05}
        assert "abcd"[top] in best <= tied
        seen.add(best == tied)
    assert seen == {True, False}


@pytest.mark.parametrize("seeds", [2, 5, 7, "unequal"])
def test_few_seeds_and_missing_seeds_take_t_tests_with_holm(seeds):
    rng = np.random.default_rng(5)
    for _ in range(2):
        paired = seeds != "unequal"
        x = rng.normal(size=(seeds if paired else 10, 5)) + rng.normal(size=5) * 1.5
        if not paired:
            x[7:, 0] = x[:2, 3] = x[:2, 4] = np.nan
        columns = [c[~np.isnan(c)] for c in x.T]

        def raw(i, j, x=x, columns=columns):
            if (np.isnan(x[:, i]) == np.isnan(x[:, j])).all():
                return stats.ttest_rel(columns[i], columns[j]).pvalue
            return stats.ttest_ind(columns[i], columns[j], equal_var=False).pvalue

        pairs = every_pair(5)
        expected = dict(zip(pairs, holm([raw(i, j) for i, j in pairs]), strict=True))
        scores = pd.DataFrame(x, columns=list("abcde"))
        comparison = analyse(scores)
        assert found_p(comparison, "abcde") == pytest.approx(expected, abs=1e-10)
        assert set(comparison.best_set) == best_set("abcde", [c.mean() for c in columns], expected, 0.05)
        own = holm([raw(k, 0) for k in range(1, 5)])
        assert compare(scores, baseline="a").baseline_p[list("bcde")].tolist() == pytest.approx(own, abs=1e-10)


def test_few_seeds_take_zero_over_zero_as_zero_and_x_over_zero_as_infinity():
    scores = pd.DataFrame({"a": [0.5] * 5, "b": [0.5] * 5, "c": [0.6] * 5})
    for table in (scores, scores.assign(c=[0.6] * 4 + [np.nan])):
        assert found_p(analyse(table), "abc") == {(0, 1): 1, (0, 2): 0, (1, 2): 0}


def test_papers_rule_is_an_unadjusted_welch_test_against_the_best_mean():
    rng = np.random.default_rng(6)
    for seeds in (3, 8, 16):
        x = rng.normal(size=(seeds, 6)) * [1, 3, 1, 3, 1, 3] + rng.normal(size=6)
        best = x.mean(0).argmax()
        expected = stats.ttest_ind(x, x[:, [best]], equal_var=False).pvalue > 0.05
        assert compare(pd.DataFrame(x)).sort_index().paper_rule.tolist() == expected.tolist()


@pytest.mark.parametrize(("kind", "seeds"), [(kind, 9) for kind in KINDS] + [("continuous", 6), ("tied", 6)])
def test_order_of_losses_and_seeds_level_of_seeds_and_scale_do_not_matter(kind, seeds):
    rng = np.random.default_rng(7)
    scores = frame(*whole_scores(kind, seeds, 5, rng))
    plain = compare(scores, baseline="loss0").sort_index()
    exact = ["in_best_set", "n_seeds", "baseline_p"]
    shift = rng.normal(size=(seeds, 1))
    unique_best = (plain["mean"] > plain["mean"].max() - 1e-9).sum() == 1  # otherwise "the best mean" is a tie
    for other, factor in (
        (scores.iloc[rng.permutation(seeds)], 1), (scores[scores.columns[::-1]], 1), (scores + shift, 1),
        (scores * 1e-9, 1e-9), (scores * 1e9, 1e9),
    ):  # fmt: skip
        table = compare(other, baseline="loss0").sort_index()
        for column in exact + ["p"] * int(unique_best):
            assert table[column].tolist() == pytest.approx(plain[column].tolist(), rel=1e-6), column
        for column in ["baseline_ci_low", "baseline_ci_high"] + ["difference", "ci_low", "ci_high"] * int(unique_best):
            np.testing.assert_allclose(table[column], plain[column] * factor, rtol=1e-6, atol=1e-9 * factor)


@pytest.mark.parametrize(("level", "scale"), [(97_000, 100_000), (360_000, 360)])
def test_ties_survive_a_level_far_above_the_differences(level, scale):
    rng = np.random.default_rng(0)
    for _ in range(20):
        assert_p_values(level + rng.integers(-2, 3, (9, 3)) + rng.integers(-6, 7, (9, 1)), scale)


@pytest.mark.parametrize("seeds", [5, 9])
def test_a_loss_that_diverged_does_not_hide_the_others(seeds):
    scores = frame(*whole_scores("dominating", seeds, 2, np.random.default_rng(4)))
    together = analyse(scores.assign(diverged=-1e13)).pairs
    pair = together[together.loss_b != "diverged"].iloc[0]
    assert pair.t == pytest.approx(analyse(scores).pairs.t[0], rel=1e-9)


def test_a_smaller_alpha_never_separates_more():
    rng = np.random.default_rng(8)
    for seeds in (5, 8, 12):
        scores = frame(*whole_scores("tied", seeds, 5, rng))
        sizes = [len(analyse(scores, alpha).best_set) for alpha in (0.001, 0.01, 0.05, 0.2, 0.9)]
        assert sizes == sorted(sizes, reverse=True)


def test_false_separation_is_held_and_power_is_not_lost():
    rng, runs = np.random.default_rng(9), 60
    spread, pairs = np.array([1, 3] * 5), every_pair(10)
    first, second = np.array(pairs).T
    false, ours, theirs, chances = 0, 0, 0, 0
    worse = np.arange(10) >= 5
    unequal = [k for k, (i, j) in enumerate(pairs) if worse[i] != worse[j]]
    for correlation, gap in itertools.product((0, 0.8), (0, 2.5)):
        for _ in range(runs):
            own, common = rng.normal(size=(10, 10)), rng.normal(size=(10, 1))
            x = (math.sqrt(1 - correlation) * own + math.sqrt(correlation) * common) * spread - gap * worse
            p = dict(zip(pairs, family_of_pairs(x, first, second, 0.05).p, strict=True))
            false += any(p[i, j] <= 0.05 for i, j in pairs if gap == 0 or worse[i] == worse[j])
            if gap:
                rival = holm(stats.ttest_rel(x[:, first], x[:, second]).pvalue.tolist())
                ours += sum(p[pairs[k]] <= 0.05 for k in unequal)
                theirs += sum(rival[k] <= 0.05 for k in unequal)
                chances += len(unequal)
    total = 4 * runs
    assert false / total <= 0.05 + 3.5 * math.sqrt(0.05 * 0.95 / total)
    assert ours / chances >= theirs / chances - 0.03
