"""The interval of calibration errors: by hand, against drawn examples, and its coverage where the truth is known."""

import math

import numpy as np
import pytest
from scipy import stats

from losstune.analysis.calibration import _gaps, _noise, adaptive_ece, calibration_interval, reliability

# Two bins: 0.6 (8th, closed) and 0.9; of four examples in each 2 and 3 are right.
CONFIDENCE = np.repeat([0.6, 0.9], 4)
CORRECT = np.array([1, 1, 0, 0, 1, 1, 1, 0], dtype=bool)


def members(rng, seeds, examples, exponent, spread=0.0, shared=0.5):
    """Confidence and correctness: right with probability sigma(k logit), k = exp(exponent + spread z) of the seed.

    The seeds share a part of what makes an example hard, and of what they get wrong by chance.
    """
    hard, luck, found = rng.normal(2, 1.5, examples), rng.normal(size=examples), []
    for _ in range(seeds):
        logit = np.abs(hard + rng.normal(0, 0.5, examples)) + 0.05
        own = math.sqrt(shared) * luck + math.sqrt(1 - shared) * rng.normal(size=examples)
        right = stats.norm.cdf(own) < 1 / (1 + np.exp(-logit * np.exp(exponent + spread * rng.normal())))
        found.append((1 / (1 + np.exp(-logit)), right))
    return found


def true_error(exponent, spread):
    """ECE of such seeds on endlessly many examples, mean over seeds, by 300,000 examples without chance."""
    rng = np.random.default_rng(0)
    logit = np.abs(rng.normal(2, 1.5, 300_000) + rng.normal(0, 0.5, 300_000)) + 0.05
    confidence, of_seeds = 1 / (1 + np.exp(-logit)), []
    bins = np.ceil(confidence * 15).astype(int) - 1
    for z in stats.norm.ppf((np.arange(20) + 0.5) / 20):
        chance = 1 / (1 + np.exp(-logit * np.exp(exponent + spread * z)))
        of_seeds.append(np.abs(np.bincount(bins, weights=chance - confidence)).sum() / len(logit))
    return np.mean(of_seeds)


def test_gaps_and_their_noise_by_hand():
    """g: (2 - 4 x 0.6) / 8 = -0.05 and (3 - 4 x 0.9) / 8 = -0.075. With d of each example over 8, the variance is
    sum d^2 - g^2 / 8: of 0.6 (2 x 0.16 + 2 x 0.36) / 64 - 0.0025 / 8, of 0.9 (3 x 0.01 + 0.81) / 64 - 0.005625 / 8; the
    covariance is -g g' / 8."""
    gaps, covariance = _gaps([(CONFIDENCE, CORRECT)], False)
    assert gaps[0, [8, 13]] == pytest.approx([-0.05, -0.075]) and np.count_nonzero(np.abs(gaps) > 1e-15) == 2
    assert covariance[8, 8] == pytest.approx(1.04 / 64 - 0.0003125)
    assert covariance[13, 13] == pytest.approx(0.84 / 64 - 0.000703125)
    assert covariance[8, 13] == pytest.approx(-0.00046875)
    drawn = _noise(covariance, 100_000, np.random.default_rng(0))
    assert drawn.sum(axis=0) == pytest.approx(0, abs=1e-9)
    assert drawn.T @ drawn / len(drawn) == pytest.approx(covariance, abs=2e-4)


@pytest.mark.parametrize("adaptive", [False, True])
def test_noise_is_that_of_examples_drawn_with_replacement(adaptive):
    """Seeds share the examples; ties are shared out, so that the bins of a sample with many stay as they are."""
    rng = np.random.default_rng(1)
    both = [(np.round(confidence, 2), right) for confidence, right in members(rng, 2, 300, -0.4)]
    gaps, covariance = _gaps(both, adaptive)
    for (confidence, right), own in zip(both, gaps, strict=True):
        bins = reliability(confidence, right, adaptive)
        expected = (bins["count"] * (bins["accuracy"] - bins["confidence"])).fillna(0) / 300
        assert own == pytest.approx(expected.to_numpy(), abs=1e-12)
        if adaptive:
            assert np.abs(own).sum() == pytest.approx(adaptive_ece(confidence, right))
    if adaptive:
        return
    counts = rng.multinomial(300, np.full(300, 1 / 300), size=4000)
    edges = np.arange(1, 15) / 15
    drawn = [np.array([np.bincount(np.digitize(c, edges, right=True), weights=w * (r - c), minlength=15)
                       for w in counts]) / 300 for c, r in both]  # fmt: skip
    variance = max(own.var(axis=0).max() for own in drawn)
    wanted = np.cov(np.hstack(drawn), rowvar=False)
    assert np.abs(covariance - wanted).max() < 0.08 * variance


COVERED = {
    "calibrated": (5, 400, 0.0, 0.0),
    "a little over-confident": (5, 1000, -0.2, 0.0),
    "seeds that differ": (5, 1000, -0.4, 0.3),
    "ten seeds": (10, 400, -0.3, 0.1),
}


def shifted(rng, seeds, examples, shift):
    """Confidence that is too large by the same amount everywhere, also in bins that hold few examples."""
    sure, luck, found = np.clip(0.25 + 0.7 * rng.beta(4, 1.5, examples), 0.26, 0.95), rng.random(examples), []
    for _ in range(seeds):
        confidence = np.clip(sure + 0.02 * rng.standard_normal(examples), 0.2, 0.97)
        found.append((confidence, luck < confidence - shift))
    return found


def covered(draw, true, runs):
    """How often the interval holds the truth."""
    found = [calibration_interval(draw(), draws=200, seed=run) for run in range(runs)]
    return np.mean([low <= true + 1e-4 and true <= high for low, high in found])


@pytest.mark.parametrize("case", COVERED)
def test_the_interval_covers_the_true_error(case):
    """100 test sets each; 0.88 is what a coverage of 0.95 falls below in one of 500 such runs."""
    seeds, examples, exponent, spread = COVERED[case]
    rng = np.random.default_rng(2)
    assert covered(lambda: members(rng, seeds, examples, exponent, spread), true_error(exponent, spread), 100) >= 0.88


@pytest.mark.parametrize(("seeds", "examples", "shift"), [(8, 2000, 0.05), (2, 2000, 0.05), (8, 1000, 0.02)])
def test_it_covers_an_error_that_few_examples_show_unevenly(seeds, examples, shift):
    """Where errors of bins with few examples drown in noise, while others do not."""
    rng = np.random.default_rng(5)
    assert covered(lambda: shifted(rng, seeds, examples, shift), shift, 100) >= 0.88


def test_a_bootstrap_around_the_plain_error_would_not_cover_a_calibrated_model():
    rng, missed = np.random.default_rng(3), 0
    for _ in range(40):
        gaps, covariance = _gaps(members(rng, 5, 400, 0.0), False)
        noise = _noise(covariance, 200, rng).reshape(-1, *gaps.shape)
        plain, drawn = np.abs(gaps).sum(1).mean(), np.abs(gaps + noise).sum(2).mean(1)
        missed += 2 * plain - np.quantile(drawn, 0.975) > 0
    assert missed > 20


def test_large_samples_and_edges():
    rng = np.random.default_rng(4)
    own = members(rng, 3, 20_000, -0.6)
    low, high = calibration_interval(own)
    plain = np.abs(_gaps(own, False)[0]).sum(1).mean()
    assert low < plain < high and high - low < 0.2 * plain
    narrow = calibration_interval(own, alpha=0.5)
    assert low < narrow.low < narrow.high < high
    assert calibration_interval([(np.ones(5), np.ones(5, bool))] * 3) == (0, 0)
    for few in (own[:1], [(np.ones(1), np.ones(1, bool))] * 3):
        assert all(math.isnan(value) for value in calibration_interval(few))
