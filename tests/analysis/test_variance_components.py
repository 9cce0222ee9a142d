"""Variance between searches and between seeds: by hand, against REML of statsmodels, and the interval by simulation."""

import numpy as np
import pytest
import statsmodels.api as sm

from losstune.analysis.variance_components import components


def test_by_hand():
    """Two searches of two seeds: means 2 and 6, MSB = 2 * 8 = 16, MSW = (2 + 2) / 2 = 2, between^2 = (16 - 2) / 2."""
    found = components(np.array([[1.0, 3.0], [5.0, 7.0]]))
    assert (found.searches, found.seeds, found.mean) == (2, 2, 4.0)
    assert found.standard_error == pytest.approx(2.0)  # sqrt(8 / 2)
    assert found.between == pytest.approx(np.sqrt(7)) and found.within == pytest.approx(np.sqrt(2))
    assert found.share == pytest.approx(7 / 8)


def test_the_interval_by_hand():
    """F of 1 and 2 degrees of freedom: quantiles 38.506 and 1 / 799.5; MSW / MSB is 1 / 8."""
    found = components(np.array([[1.0, 3.0], [5.0, 7.0]]))
    assert found.share_low == 0.0  # 1 - 38.506 / 8 is negative
    assert found.share_high == pytest.approx(1 - 1 / (8 * 799.5), abs=1e-6)


def test_more_searches_and_more_seeds_by_hand():
    """between^2 = 7, within^2 = 2: (7 + 2 / 2) / 4 with four searches, (7 + 2 / 4) / 2 with four seeds."""
    found = components(np.array([[1.0, 3.0], [5.0, 7.0]]))
    assert found.error_with() == pytest.approx(2.0)
    assert found.error_with(searches=4) == pytest.approx(np.sqrt(2.0))
    assert found.error_with(seeds=4) == pytest.approx(np.sqrt(7.5 / 2))


def test_searches_that_differ_less_than_seeds_do():
    """A negative estimate is no variance; twice the seeds then halve the variance that was observed."""
    found = components(np.array([[1.0, 3.0], [1.5, 3.5]]))  # MSB = 0.25, MSW = 2
    assert found.between == 0 and found.share == 0 == found.share_low
    assert found.error_with(seeds=4) == pytest.approx(found.standard_error / np.sqrt(2))


def test_what_one_seed_or_no_variance_cannot_tell():
    """Not measured is not zero."""
    one = components(np.array([[1.0], [3.0]]))
    assert one.standard_error == pytest.approx(1.0)
    assert one.between is one.within is one.share is one.error_with() is None
    same = components(np.full((3, 4), 0.5))
    assert same.between == same.within == 0 and same.share is None
    assert components(np.array([[1.0, 1.0], [2.0, 2.0]])).share == 1.0
    rounded = components(np.array([[0.1 + 0.2, 0.3], [0.3, 0.3]]))  # which differ in the last bit
    assert rounded.between == rounded.within == 0 and rounded.share is None


def test_equals_restricted_maximum_likelihood():
    """Of balanced data, where the estimate is positive, the two are the same."""
    rng = np.random.default_rng(0)
    y = rng.normal(0, 1, (6, 1)) + rng.normal(0, 0.7, (6, 5))
    group = np.repeat(np.arange(6), 5)
    fitted = sm.MixedLM(y.ravel(), np.ones((30, 1)), group).fit(reml=True)
    found = components(y)
    assert found.between**2 == pytest.approx(fitted.cov_re[0, 0], rel=1e-3)
    assert found.within**2 == pytest.approx(fitted.scale, rel=1e-3)
    assert found.standard_error == pytest.approx(fitted.bse_fe[0], rel=1e-3)


@pytest.mark.parametrize("between", [0.3, 2.0])
def test_the_interval_holds_the_share_in_95_of_100(between):
    """4 searches of 5 seeds, 2,000 times; the true share is between^2 / (between^2 + 1 / 5)."""
    rng, runs = np.random.default_rng(1), 2000
    y = rng.normal(0, between, (runs, 4, 1)) + rng.normal(0, 1, (runs, 4, 5))
    true = between**2 / (between**2 + 1 / 5)
    held = sum(found.share_low <= true <= found.share_high for found in map(components, y))
    assert 0.935 < held / runs < 0.965
