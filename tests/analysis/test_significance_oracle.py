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

from losstune.analysis.significance import analyse, compare

INFINITE = float("inf")


# --- The oracle ---------------------------------------------------------------------------------------------


def squared_t(differences):
    """T squared of step 1: mean over standard error, with 0/0 = 0 and x/0 = infinity."""
    count = len(differences)
    total = sum(differences)
    spread = sum((count * d - total) ** 2 for d in differences)  # count^2 times the sum of squared deviations
    if total == 0:
        return Fraction(0)
    if spread == 0:
        return INFINITE
    variance = Fraction(spread, count * count * (count - 1))
    return Fraction(total, count) ** 2 / (variance / count)


def patterns(count):
    """Step 2, all sign patterns up to the common sign that leaves every |T| alone; the identity comes first."""
    return [(1, *rest) for rest in itertools.product((1, -1), repeat=count - 1)]


def flipped(signs, differences):
    return [s * d for s, d in zip(signs, differences, strict=True)]


def step_down(columns, pairs):
    """Adjusted p per pair (steps 1 to 3). columns: whole-number scores per loss."""
    difference = {(i, j): [a - b for a, b in zip(columns[i], columns[j], strict=True)] for i, j in pairs}
    observed = {pair: squared_t(d) for pair, d in difference.items()}
    order = sorted(pairs, key=lambda pair: observed[pair], reverse=True)
    reached = [0] * len(order)
    signs = patterns(len(columns[0]))
    for pattern in signs:
        largest = Fraction(0)
        for k in range(len(order) - 1, -1, -1):
            largest = max(largest, squared_t(flipped(pattern, difference[order[k]])))
            reached[k] += largest >= observed[order[k]]
    p, running = {}, 0.0
    for pair, count in zip(order, reached, strict=True):
        running = max(running, count / len(signs))
        p[pair] = running
    return p


def critical_value(columns, pairs):
    """c of step 6: the smallest value that at least 95% of the largest |T*| do not exceed, each loss's mean removed."""
    centred = [[len(c) * x - sum(c) for x in c] for c in columns]
    difference = [[a - b for a, b in zip(centred[i], centred[j], strict=True)] for i, j in pairs]
    largest = sorted(max(squared_t(flipped(s, d)) for d in difference) for s in patterns(len(columns[0])))
    return math.sqrt(largest[math.ceil(Fraction(95, 100) * len(largest)) - 1])


def holm(p_values):
    order = sorted(range(len(p_values)), key=lambda k: p_values[k])
    adjusted, running = [0.0] * len(order), 0.0
    for rank, k in enumerate(order):
        running = max(running, min(1.0, (len(order) - rank) * p_values[k]))
        adjusted[k] = running
    return adjusted


def best_set(names, means, p, alpha):
    """Step 4. p: per pair of positions."""
    beaten = set()
    for (i, j), value in p.items():
        if value <= alpha and means[i] != means[j]:
            beaten.add(i if means[i] < means[j] else j)
    return {names[k] for k in range(len(names)) if k not in beaten}


def every_pair(count):
    return list(itertools.combinations(range(count), 2))


# --- Data ---------------------------------------------------------------------------------------------------


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


def columns_of(whole):
    return [[int(v) for v in whole[:, k]] for k in range(whole.shape[1])]


KINDS = ["continuous", "tied", "duplicated", "constant", "dominating", "shifted", "mirrored", "binary"]
CASES = [(kind, seeds, losses) for kind in KINDS for seeds, losses in ((8, 5), (9, 4), (10, 4))]


# --- Steps 1 to 4, 6, 7 with every sign pattern -------------------------------------------------------------


@pytest.mark.parametrize(("kind", "seeds", "losses"), CASES)
def test_equals_the_oracle_with_every_pattern(kind, seeds, losses):
    rng = np.random.default_rng([KINDS.index(kind), seeds])
    whole, scale = whole_scores(kind, seeds, losses, rng)
    scores, columns, pairs = frame(whole, scale), columns_of(whole), every_pair(losses)
    names, sums = list(scores), [sum(c) for c in columns]
    expected = step_down(columns, pairs)
    comparison = analyse(scores)
    found = found_p(comparison, names)
    assert found == pytest.approx(expected, abs=1e-12)
    for alpha in (0.01, 0.05, 0.2, 0.5):
        table = compare(scores, alpha=alpha)
        assert set(table.index[table.in_best_set]) == best_set(names, sums, expected, alpha)

    c = critical_value(columns, pairs)
    for row in comparison.pairs.itertuples():
        d = (whole[:, names.index(row.loss_a)] - whole[:, names.index(row.loss_b)]) / scale
        half = c * d.std(ddof=1) / math.sqrt(seeds) if np.ptp(d) > 1e-9 else 0.0
        assert (row.ci_low, row.ci_high) == pytest.approx((d.mean() - half, d.mean() + half), rel=1e-7, abs=1e-9)
        assert row.difference == pytest.approx(d.mean(), abs=1e-12) and row.difference >= 0

    base = losses - 1
    own = [(k, base) for k in range(base)]
    table, own_p, own_c = compare(scores, baseline=names[base]), step_down(columns, own), critical_value(columns, own)
    best = names.index(table.index[0])
    assert sums[best] == max(sums)
    for k, name in enumerate(names):
        row = table.loc[name]
        d = (whole[:, k] - whole[:, base]) / scale
        half = own_c * d.std(ddof=1) / math.sqrt(seeds) if np.ptp(d) > 1e-9 else 0.0
        assert row.baseline_p == pytest.approx(own_p.get((k, base), 1.0), abs=1e-12)
        assert row.baseline_difference == pytest.approx(d.mean(), abs=1e-12)
        assert (row.baseline_ci_low, row.baseline_ci_high) == pytest.approx(
            (d.mean() - half, d.mean() + half), rel=1e-7, abs=1e-9
        )
        assert row.p == pytest.approx(expected.get(tuple(sorted((k, best))), 1.0), abs=1e-12)
        assert row["mean"] == pytest.approx(whole[:, k].mean() / scale)
        assert row.standard_error == pytest.approx(whole[:, k].std(ddof=1) / scale / math.sqrt(seeds), abs=1e-12)
        assert row.difference == pytest.approx((sums[k] - sums[best]) / seeds / scale, abs=1e-12)
        assert row.n_seeds == seeds and row.ci_low <= row.difference <= row.ci_high


def test_fourteen_seeds_are_still_enumerated():
    whole, scale = whole_scores("tied", 14, 3, np.random.default_rng(14))
    expected = step_down(columns_of(whole), every_pair(3))
    assert found_p(analyse(frame(whole, scale)), ["loss0", "loss1", "loss2"]) == pytest.approx(expected, abs=1e-12)


def test_sixteen_seeds_are_drawn():
    rng = np.random.default_rng(16)
    whole, scale = whole_scores("tied", 16, 2, rng)
    scores = frame(whole, scale)
    p = analyse(scores).pairs.p.to_numpy()
    assert np.allclose(p * 10_000, np.round(p * 10_000), rtol=0, atol=1e-8) and (p >= 1 / 10_000).all()
    assert (p == analyse(scores).pairs.p.to_numpy()).all()
    # One pair: |T*| orders the patterns as the |sum of the flipped differences| does.
    d = whole[:, 0] - whole[:, 1]
    signs = np.array(list(itertools.product((1, -1), repeat=16)))
    exact = (abs(signs @ d) >= abs(d.sum())).mean()
    assert abs(p[0] - exact) <= 5 * math.sqrt(exact * (1 - exact) / 10_000) + 1e-4
    clear = scores.assign(loss1=scores.loss1 + 1)
    assert analyse(clear).pairs.p[0] <= 4 / 10_000


def test_nobody_beats_need_not_be_transitive():
    """a beats c, b beats nobody and is beaten by nobody: the best set is more than the ties with the best mean."""
    seen = set()
    for seed in range(400):
        rng = np.random.default_rng(seed)
        noise = rng.normal(size=(8, 1)) * 4
        x = rng.normal(size=(8, 4)) + noise * [1, 1, 0, 0] + [1.2, 0, 0.8, 0]
        scores = pd.DataFrame(x, columns=list("abcd"))
        comparison = analyse(scores)
        means, p = x.mean(0), found_p(comparison, list("abcd"))
        best = best_set("abcd", means, p, 0.05)
        assert set(comparison.best_set) == best
        assert comparison.best_set == sorted(best, key=lambda n: -scores[n].mean())
        top = int(means.argmax())
        assert "abcd"[top] in best
        tied = {"abcd"[k] for k in range(4) if k == top or p[tuple(sorted((k, top)))] > 0.05}
        seen.add("beaten by another than the best" if tied != best else "plain")
    assert seen == {"plain", "beaten by another than the best"}


# --- Step 5 and the papers' rule ----------------------------------------------------------------------------


@pytest.mark.parametrize("seeds", [2, 3, 5, 7, "unequal"])
def test_few_seeds_and_missing_seeds_take_t_tests_with_holm(seeds):
    rng = np.random.default_rng(5)
    for _ in range(5):
        paired = seeds != "unequal"
        x = rng.normal(size=(seeds if paired else 10, 5)) + rng.normal(size=5) * 1.5
        if not paired:
            x[7:, 0] = x[:2, 3] = np.nan
        columns = [c[~np.isnan(c)] for c in x.T]
        test = stats.ttest_rel if paired else lambda a, b: stats.ttest_ind(a, b, equal_var=False)
        pairs = every_pair(5)
        expected = dict(zip(pairs, holm([test(columns[i], columns[j]).pvalue for i, j in pairs]), strict=True))
        scores = pd.DataFrame(x, columns=list("abcde"))
        comparison = analyse(scores)
        assert found_p(comparison, list("abcde")) == pytest.approx(expected, abs=1e-10)
        assert set(comparison.best_set) == best_set("abcde", [c.mean() for c in columns], expected, 0.05)
        own = holm([test(columns[k], columns[0]).pvalue for k in range(1, 5)])
        assert compare(scores, baseline="a").baseline_p[list("bcde")].tolist() == pytest.approx(own, abs=1e-10)


def test_papers_rule_is_an_unadjusted_welch_test_against_the_best_mean():
    rng = np.random.default_rng(6)
    for seeds in (3, 8, 16):
        x = rng.normal(size=(seeds, 6)) * [1, 3, 1, 3, 1, 3] + rng.normal(size=6)
        best = x.mean(0).argmax()
        expected = stats.ttest_ind(x, x[:, [best]], equal_var=False).pvalue > 0.05
        assert compare(pd.DataFrame(x)).sort_index().paper_rule.tolist() == expected.tolist()


# --- What must not matter -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seeds", [6, 9])
def test_order_of_losses_and_seeds_level_of_seeds_and_scale_do_not_matter(kind, seeds):
    rng = np.random.default_rng(7)
    scores = frame(*whole_scores(kind, seeds, 5, rng))
    plain = compare(scores, baseline="loss0").sort_index()
    exact = ["in_best_set", "n_seeds", "baseline_p"]
    shift = rng.normal(size=(seeds, 1))
    unique_best = (plain["mean"] > plain["mean"].max() - 1e-9).sum() == 1  # otherwise "the best mean" is a tie
    for other, factor in (
        (scores.iloc[rng.permutation(seeds)], 1), (scores[scores.columns[::-1]], 1), (scores + shift, 1),
        (scores * 1e-9, 1e-9), (scores * 1e9, 1e9), (scores + 1000 * shift, 1),
    ):  # fmt: skip
        table = compare(other, baseline="loss0").sort_index()
        for column in exact + ["p"] * int(unique_best):
            assert table[column].tolist() == pytest.approx(plain[column].tolist(), rel=1e-6), column
        for column in ["baseline_ci_low", "baseline_ci_high"] + ["difference", "ci_low", "ci_high"] * int(unique_best):
            np.testing.assert_allclose(table[column], plain[column] * factor, rtol=1e-6, atol=1e-9 * factor)


def test_a_smaller_alpha_never_separates_more():
    rng = np.random.default_rng(8)
    for seeds in (5, 8, 12):
        scores = frame(*whole_scores("tied", seeds, 5, rng))
        sizes = [compare(scores, alpha=alpha).in_best_set.sum() for alpha in (0.001, 0.01, 0.05, 0.2, 0.9)]
        assert sizes == sorted(sizes, reverse=True)


# --- Error rates --------------------------------------------------------------------------------------------


def test_false_separation_is_held_and_power_is_not_lost():
    rng, runs = np.random.default_rng(9), 130
    spread, pairs = np.array([1, 3] * 5), every_pair(10)
    first, second = np.array(pairs).T
    false, ours, theirs, chances = 0, 0, 0, 0
    for correlation, gap in itertools.product((0, 0.8), (0, 2.5)):
        worse = np.arange(10) >= 5
        for _ in range(runs):
            noise = math.sqrt(correlation) * rng.normal(size=(10, 1)) + math.sqrt(1 - correlation) * rng.normal(
                size=(10, 10)
            )
            x = noise * spread - gap * worse
            p = found_p(analyse(pd.DataFrame(x, columns=list("abcdefghij"))), "abcdefghij")
            false += any(p[i, j] <= 0.05 for i, j in pairs if gap == 0 or worse[i] == worse[j])
            if gap:
                rival = holm(stats.ttest_rel(x[:, first], x[:, second]).pvalue.tolist())
                unequal = [k for k, (i, j) in enumerate(pairs) if worse[i] != worse[j]]
                ours += sum(p[pairs[k]] <= 0.05 for k in unequal)
                theirs += sum(rival[k] <= 0.05 for k in unequal)
                chances += len(unequal)
    total = 4 * runs
    assert false / total <= 0.05 + 3.5 * math.sqrt(0.05 * 0.95 / total)
    assert ours / chances >= theirs / chances - 0.03

