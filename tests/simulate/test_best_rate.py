"""The best rate of a sweep: planted optima are found, intervals hold them, edges are told."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from simulate.best_rate import best_rate, exponent

RATES = 10.0 ** np.arange(-3.0, 0.5, 0.5)
Array = NDArray[np.float64]


def losses(best: float, noise: float, seeds: int, draw: int) -> Array:
    """A parabola in log10 rate, with an offset of each seed's own and noise of each run's."""
    generator = np.random.default_rng(draw)
    curve = 2.0 + 0.3 * (np.log10(RATES) - math.log10(best)) ** 2
    own = 0.5 * generator.standard_normal(seeds)
    return curve[:, None] + own + noise * generator.standard_normal((len(RATES), seeds))


def test_the_vertex_of_a_parabola_is_found() -> None:
    for best in (0.004, 0.0123, 0.2):
        table = losses(best, 0.0, 3, 0)
        found = best_rate(RATES, table)
        assert found.rate == pytest.approx(best, rel=1e-10)
        assert (found.low, found.high) == pytest.approx((best, best), rel=1e-10)
        above = 0.3 * (np.log10(RATES) - math.log10(best)) ** 2
        assert found.loss == pytest.approx(float((table.mean(1) - above).mean()))
        assert not found.at_edge
        assert found.edge_share == 0.0


def test_uneven_grids_have_the_same_vertex() -> None:
    rates = np.array([0.001, 0.004, 0.03, 0.05, 0.4])
    curve = 1.0 + (np.log(rates) - math.log(0.02)) ** 2
    found = best_rate(rates, curve[:, None])
    assert found.rate == pytest.approx(0.02, rel=1e-10)
    assert found.loss == pytest.approx(1.0, abs=1e-10)


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    tables = [losses(0.02, 0.03, 8, draw) for draw in range(300)]
    found = [best_rate(RATES, table, resamples=2000) for table in tables]
    held = [each.low <= 0.02 <= each.high for each in found]
    # 95% is what it says, within three standard errors of 300 draws.
    assert 0.91 <= np.mean(held) <= 0.988
    # The control: another rate, two thirds of a grid step away.
    missed = best_rate(RATES, losses(0.02, 0.03, 8, 0))
    assert not missed.low <= 0.06 <= missed.high


def test_a_seeds_offset_widens_nothing() -> None:
    # Seeds are resampled whole: what they add to every rate alike drops out.
    found = best_rate(RATES, losses(0.02, 0.0, 5, 1))
    assert found.high / found.low == pytest.approx(1.0, rel=1e-9)


def test_a_best_rate_at_the_edge_is_said_to_be() -> None:
    found = best_rate(RATES, losses(30.0, 0.01, 4, 2))
    assert found.at_edge
    assert found.edge_share == 1.0
    assert found.rate == pytest.approx(RATES[-1], rel=1e-12)


def test_rates_at_which_a_run_diverged_are_never_the_best() -> None:
    table = losses(0.1, 0.01, 4, 3)
    table[-2:, 0] = math.nan
    table[RATES > 0.5, 1] = math.inf
    found = best_rate(RATES, table)
    assert found.rate <= 0.32
    assert math.isfinite(found.loss)
    # Beside a rate that diverged there is no parabola.
    table[4, :] = math.nan
    assert best_rate(RATES, table).rate == pytest.approx(RATES[3], rel=1e-12)
    with pytest.raises(ValueError, match="a rate at which no run diverged is expected"):
        best_rate(RATES, np.full_like(table, math.nan))


def test_intervals_overlap_or_not() -> None:
    one, near, far = (best_rate(RATES, losses(best, 0.03, 8, 4)) for best in (0.02, 0.022, 0.2))
    assert one.overlaps(near)
    assert near.overlaps(one)
    assert not one.overlaps(far)


def test_the_same_seed_draws_the_same() -> None:
    table = losses(0.02, 0.1, 6, 5)
    one, same, other = (best_rate(RATES, table, seed=seed) for seed in (3, 3, 4))
    assert np.array_equal(one.resamples, same.resamples)
    assert (one.low, one.high) == (same.low, same.high)
    assert not np.array_equal(one.resamples, other.resamples)


def test_the_ratio_of_two_best_rates_has_an_interval_of_its_own() -> None:
    # Noise that both share drops out of the ratio, and stays in each rate.
    draws = np.random.default_rng(6).standard_normal(8)
    moved = [
        2.0 + 0.3 * (np.log10(RATES)[:, None] - math.log10(best) - 0.1 * draws) ** 2
        for best in (0.02, 0.06)
    ]
    one, other = (best_rate(RATES, table) for table in moved)
    assert other.ratio_to(one) == pytest.approx((3.0, 3.0), rel=1e-6)
    assert one.high / one.low > 1.2
    # Independent noise: the truth is inside, and 1 is not.
    noisy = [best_rate(RATES, losses(best, 0.02, 8, draw)) for best, draw in ((0.02, 7), (0.06, 8))]
    low, high = noisy[1].ratio_to(noisy[0])
    assert 1 < low < 3 < high
    with pytest.raises(ValueError, match="given 10000 of 6 and 10000 of 8"):
        one.ratio_to(best_rate(RATES, losses(0.02, 0.1, 6, 5)))


def test_the_exponent_of_a_power_law_is_found_with_its_interval() -> None:
    sizes = [32, 64, 128]
    exact = [best_rate(RATES, losses(0.64 / size, 0.0, 3, 0)) for size in sizes]
    assert exponent(exact, sizes) == pytest.approx((-1.0, -1.0, -1.0), abs=1e-9)
    noisy = [
        best_rate(RATES, losses(0.64 / size, 0.02, 8, draw)) for draw, size in enumerate(sizes)
    ]
    slope, low, high = exponent(noisy, sizes)
    assert -1.3 < low < -1.0 < high < -0.7
    assert low < slope < high
    with pytest.raises(
        ValueError, match=r"two best rates or more is expected; given \[32, 32, 32\]"
    ):
        exponent(noisy, [32, 32, 32])
    with pytest.raises(ValueError, match="given 10000 of 3 and 10000 of 8"):
        exponent([exact[0], noisy[1]], [32, 64])


def test_wrong_input_is_told() -> None:
    with pytest.raises(ValueError, match="three or more, positive and ascending"):
        best_rate(RATES[::-1], losses(0.02, 0.1, 6, 5))
    with pytest.raises(ValueError, match=r"shape \(7, seeds\) is expected; given \(6, 7\)"):
        best_rate(RATES, losses(0.02, 0.1, 6, 5).T)
    with pytest.raises(ValueError, match="confidence must lie in"):
        best_rate(RATES, losses(0.02, 0.1, 6, 5), confidence=95)
