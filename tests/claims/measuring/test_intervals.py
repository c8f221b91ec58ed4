"""Means and slopes with intervals."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from claims.measuring.intervals import (
    geometric_mean_with_interval,
    mean_with_interval,
    percentile_interval,
    resampled_means,
    slope_with_interval,
)


def test_one_series_agrees_with_scipy() -> None:
    generator = np.random.default_rng(0)
    x = np.linspace(0, 3, 12)
    y = 2.5 * x + 1 + 0.1 * generator.standard_normal(12)
    slope, interval = slope_with_interval(x, y)
    reference = stats.linregress(x, y)
    half = stats.t.ppf(0.975, 10) * reference.stderr
    assert slope == pytest.approx(reference.slope, rel=1e-12)
    assert interval == pytest.approx([reference.slope - half, reference.slope + half], rel=1e-10)


def test_series_with_their_own_intercepts_share_one_slope() -> None:
    x = np.array([0.0, 1.0, 2.0])
    y = np.array([2 * x, 2 * x + 100])
    slope, interval = slope_with_interval(x, y)
    assert slope == pytest.approx(2.0, abs=1e-13)
    assert interval[1] - interval[0] < 1e-12


def test_the_interval_holds_the_true_slope_as_often_as_it_says() -> None:
    generator = np.random.default_rng(1)
    x = np.linspace(0, 1, 6)
    caught = 0
    for _ in range(1000):
        y = -1.5 * x + generator.standard_normal((3, 6))
        low, high = slope_with_interval(x, y)[1]
        caught += low <= -1.5 <= high
    # 950 expected; four standard deviations of a binomial count are 28.
    assert abs(caught - 950) <= 28


def test_too_few_points_are_refused() -> None:
    with pytest.raises(ValueError, match="three points or more; given"):
        slope_with_interval(np.array([0.0, 1.0]), np.array([0.0, 1.0]))


def test_the_mean_and_its_interval_are_those_of_student() -> None:
    values = np.array([1.0, 2.0, 4.0, 9.0])
    expected = stats.t.interval(0.95, 3, loc=4.0, scale=stats.sem(values))
    assert mean_with_interval(values) == pytest.approx((4.0, *expected))


def test_the_geometric_mean_lies_in_its_interval() -> None:
    values = np.exp(np.array([0.0, 1.0, 2.0, 3.0]))
    mean, low, high = geometric_mean_with_interval(values)
    half = stats.t.ppf(0.975, 3) * np.std([0, 1, 2, 3], ddof=1) / 2
    assert mean == pytest.approx(np.exp(1.5), rel=1e-13)
    assert (low, high) == pytest.approx((np.exp(1.5 - half), np.exp(1.5 + half)), rel=1e-12)


def test_resampled_means_are_of_members_drawn_together() -> None:
    values = np.arange(12.0).reshape(2, 6)
    means = resampled_means(values, seed=3, draws=500)
    assert means.shape == (500, 2)
    np.testing.assert_allclose(means[:, 1] - means[:, 0], 6)
    assert means[:, 0].mean() == pytest.approx(2.5, abs=0.15)
    low, high = percentile_interval(means)
    np.testing.assert_allclose(high - low, (high - low)[0])
