"""What a number of seeds can find and what it never can: published values, statsmodels, scipy, simulation."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestIndPower, TTestPower

from losstune.analysis.pairtests import family_of_pairs
from losstune.analysis.power import cannot_reach, detectable_difference, pairs_to_reach, smallest_p
from losstune.spaces import InputError


@pytest.mark.parametrize(
    ("seeds", "one", "of_eight"), [(3, 3.3, 9.2), (5, 1.7, 3.0), (8, 1.2, 1.7), (16, 0.75, 1.0), (29, 0.54, 0.71)]
)
def test_detectable_differences_in_standard_deviations(seeds, one, of_eight):
    found = detectable_difference([1.0, 1.0], [0.05, 0.05 / 8], seeds)
    assert found == pytest.approx([one, of_eight], rel=0.04)


def test_detectable_differences_have_power_80_percent_by_statsmodels():
    for seeds, level in ((3, 0.05), (10, 0.05 / 36), (25, 0.001)):
        exact = TTestPower().solve_power(nobs=seeds, alpha=level / 2, power=0.8, alternative="larger")
        assert detectable_difference(0.004, level, seeds) == pytest.approx(0.004 * exact, rel=1e-6)
        exact = TTestIndPower().solve_power(nobs1=seeds, alpha=level / 2, power=0.8, alternative="larger")
        assert detectable_difference(0.004, level, seeds, paired=False) == pytest.approx(0.004 * exact, rel=1e-5)


def test_two_seeds_by_hand():
    # T > t with one degree of freedom, far out: |N(0, 1)| below the effect times sqrt(2) / t, which has to be 80%.
    t, level = stats.t.isf(0.005 / 2, 1), 0.005
    assert detectable_difference(1.0, level, 2) == pytest.approx(stats.norm.isf(0.1) * t / np.sqrt(2), rel=1e-3)


def test_detectable_difference_is_found_in_80_percent_of_studies():
    rng, runs = np.random.default_rng(0), 4000
    for seeds in (5, 12):
        shift = detectable_difference(2.0, 0.05, seeds)
        found = stats.ttest_1samp(rng.normal(shift, 2.0, (runs, seeds)), 0, axis=1)
        assert (found.pvalue <= 0.05).mean() == pytest.approx(0.8, abs=0.02)


def test_detectable_difference_at_the_edges():
    assert detectable_difference([1.0, 0.0, 0.0], [0.0, 0.05, 0.0], 8).tolist() == [np.inf, 0.0, 0.0]
    x = np.random.default_rng(1).normal(size=(10, 4))
    family = family_of_pairs(x, *np.triu_indices(4, 1), 0.05)
    alone, within = (detectable_difference(family.sd, level, 10) for level in (0.05, family.level))
    assert (within > alone).all() and np.allclose(within / alone, (within / alone)[0])


def test_smallest_p_is_that_of_the_clearest_scores():
    for pairs in (2, 5, 6, 9, 12):
        clear = np.arange(1.0, pairs + 1)
        assert smallest_p("wilcoxon", pairs) == stats.wilcoxon(clear, method="exact").pvalue
        assert smallest_p("sign", pairs) == pytest.approx(stats.binomtest(pairs, pairs).pvalue)
        three = multipletests([smallest_p("wilcoxon", pairs)] * 3, method="holm")[1].min()
        assert smallest_p("wilcoxon", pairs, 3) == pytest.approx(three)
    for seeds in (8, 11, 15):
        # Differences of almost one size, the two losses far apart from each other and from the third.
        noise = np.random.default_rng(seeds).normal(size=(seeds, 3)) * 1e-3
        p = family_of_pairs(noise + [0.0, 1.0, 3.0], *np.triu_indices(3, 1), 0.05).p
        assert p.min() == smallest_p("sign_flips", seeds, 3)


@pytest.mark.parametrize(
    ("test", "comparisons", "needed"),
    [("sign_flips", 1, 6), ("sign_flips", 36, 6), ("wilcoxon", 1, 6), ("wilcoxon", 8, 9), ("wilcoxon", 36, 11)],
)
def test_a_level_that_cannot_be_reached(test, comparisons, needed):
    assert pairs_to_reach(test, 0.05, comparisons) == needed
    assert cannot_reach(test, needed, 0.05, comparisons) is None
    text = cannot_reach(test, needed - 1, 0.05, comparisons)
    assert text.startswith(f"{needed - 1} seeds cannot separate anything") and text.endswith(f"it takes {needed} seeds")


def test_five_pairs_and_wilcoxon():
    assert cannot_reach("wilcoxon", 5, 0.05, rows="blocks") == (
        "5 blocks cannot separate anything at alpha = 0.05, however clear the differences: the smallest p that "
        "Wilcoxon's test can reach is 0.0625; it takes 6 blocks"
    )


def test_where_several_comparisons_are_the_reason():
    """Seven pairs: 1/64, times 6; eight: 1/128, times 6, is 0.047."""
    text = cannot_reach("wilcoxon", 7, 0.05, 6)
    assert text.endswith("can reach is 0.0156, 0.0938 after Holm's adjustment over 6 pairs; it takes 8 seeds")
    assert cannot_reach("wilcoxon", 8, 0.05, 6) is None
    assert "adjustment" not in cannot_reach("sign_flips", 5, 0.05, 6)


def test_no_number_of_drawn_patterns_is_enough():
    assert pairs_to_reach("sign_flips", 2.0**-13) == 14
    assert pairs_to_reach("sign_flips", 1e-5) is None
    assert "no number of seeds is enough" in cannot_reach("sign_flips", 40, 1e-5)


def test_bad_input():
    with pytest.raises(InputError, match="allowed: sign_flips, wilcoxon, sign"):
        smallest_p("t", 5)
    for counts in ((0, 1), (5, 0)):
        with pytest.raises(InputError, match="at least 1"):
            smallest_p("wilcoxon", *counts)
