"""Intervals and tests against what is known of them, and the front by its definition."""

import math

import numpy as np
import pytest
from scipy import stats

from filtersub import FiltersubError
from filtersub.intervals import difference, holm, interval, on_pareto_front, paired_difference

DRAWS = np.random.default_rng(0)


def test_t_intervals_cover_the_mean_as_often_as_they_say():
    covered = [low <= 5 <= high for low, high in (interval(DRAWS.normal(5, 2, 3)) for _ in range(4000))]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.012)  # 3.5 standard errors of 4,000 draws


def test_bootstrap_intervals_are_too_narrow_for_few_values_and_right_for_many():
    few, many = (
        np.mean([low <= 5 <= high for low, high in (interval(DRAWS.normal(5, 2, n), "bootstrap") for _ in range(300))])
        for n in (3, 40)
    )
    assert few < 0.85
    assert many == pytest.approx(0.94, abs=0.045)
    assert interval([0.1, 0.4, 0.2], "bootstrap") == interval([0.1, 0.4, 0.2], "bootstrap")


def test_an_interval_stays_within_bounds_and_one_value_has_none():
    assert interval([0.98, 0.999], bounds=(0, 1))[1] == 1
    assert all(math.isnan(end) for end in interval([0.5]))
    with pytest.raises(FiltersubError, match="unknown interval 'z'; known: t, bootstrap"):
        interval([1, 2], "z")


def test_differences_are_welchs():
    new, old = [0.91, 0.93, 0.92], [0.88, 0.9]
    found = difference(new, old)
    reference = stats.ttest_ind(new, old, equal_var=False)
    assert found.difference == pytest.approx(0.03)
    assert found.p_value == pytest.approx(reference.pvalue)
    assert found.low < 0.03 < found.high
    swapped = difference(old, new)
    assert (swapped.low, swapped.high) == (pytest.approx(-found.high), pytest.approx(-found.low))


@pytest.mark.parametrize("sizes", [(2, 2), (2, 9), (5, 3), (40, 40)])
def test_tests_and_intervals_are_those_of_scipy(sizes):
    ours, theirs = (DRAWS.normal(0.7, spread, size) for spread, size in zip((0.01, 0.2), sizes, strict=True))
    found, expected = difference(ours, theirs), stats.ttest_ind(ours, theirs, equal_var=False)
    ends = expected.confidence_interval(0.95)
    assert (found.low, found.high, found.p_value) == pytest.approx((ends.low, ends.high, expected.pvalue), rel=1e-9)
    found, expected = paired_difference(ours), stats.ttest_1samp(ours, 0.0)
    ends = expected.confidence_interval(0.95)
    assert (found.low, found.high, found.p_value) == pytest.approx((ends.low, ends.high, expected.pvalue), rel=1e-9)
    assert interval(ours) == pytest.approx((ends.low, ends.high), rel=1e-9)


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_numbers_too_small_to_square_are_compared_without_a_warning():
    assert difference([1e-200, 2e-200], [3e-200, 4e-200]).tested


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_a_side_that_repeats_exactly_is_no_warning():
    same, other = [0.974, 0.974], [0.99, 0.98]  # accuracies over few images
    found = difference(same, other)
    half = 12.706204736 * 0.005  # t of one degree of freedom times the standard error of the other side's mean
    assert found.difference == pytest.approx(-0.011)
    assert (found.low, found.high) == pytest.approx((-0.011 - half, -0.011 + half))


def test_differences_without_noise_and_without_seeds():
    assert difference([0.5, 0.5], [0.5, 0.5]).p_value == 1
    assert difference([0.6, 0.6], [0.5, 0.5]).p_value == 0
    assert not difference([0.6], [0.5, 0.5]).tested


def test_differences_that_only_the_rounding_of_float32_tells_apart_are_equal():
    """Two runs that both gain 5 of 797 images: no test, as where the numbers are exact, not p = 1e-5."""
    gains = [
        np.float64(np.float32((count + 5) / 797)) - np.float64(np.float32(count / 797)) for count in (772, 774, 401)
    ]
    assert gains[0] != gains[1]
    assert not paired_difference(gains).tested
    assert not paired_difference(gains[:2]).tested
    assert paired_difference([5 / 797, 6 / 797]).tested
    assert paired_difference([1e-7, 2e-7, 3e-7]).tested  # another measure, whose numbers are small
    assert paired_difference([1e-4 * gain for gain in (5, 6)]).tested


def test_holm_keeps_the_rate_of_false_alarms():
    corrected = np.array([holm(DRAWS.uniform(size=8).tolist()) for _ in range(4000)])
    assert (corrected.min(axis=1) < 0.05).mean() == pytest.approx(0.05, abs=0.013)
    assert (corrected <= 1).all()


def test_the_front_is_what_nothing_dominates():
    cost, merit = DRAWS.integers(0, 6, 60), DRAWS.integers(0, 6, 60)
    for n, front in enumerate(on_pareto_front(cost, merit)):
        others = [k for k in range(60) if (cost[k], merit[k]) != (cost[n], merit[n])]
        dominated = any(cost[k] <= cost[n] and merit[k] >= merit[n] for k in others)
        assert front == (not dominated)
