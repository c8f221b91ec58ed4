"""Exponents of planted power laws, and what their intervals cover."""

from __future__ import annotations

import numpy as np
import pytest

from claims.measuring.exponents import exponent

LENGTHS = np.array([32.0, 64.0, 128.0, 256.0, 512.0, 1024.0])


def test_a_power_law_without_noise_has_its_exponent() -> None:
    found = exponent(LENGTHS, 3 * LENGTHS[:, None] ** -0.5 * np.array([[1.0, 2.0, 5.0]]), seed=0)
    assert found == pytest.approx((-0.5, -0.5, -0.5), abs=1e-12)
    assert str(found) == "-0.500 [-0.500, -0.500]"


def test_the_interval_covers_as_often_as_it_says() -> None:
    random = np.random.default_rng(1)
    covered = 0
    for case in range(200):
        values = LENGTHS[:, None] ** -0.25 * random.lognormal(sigma=0.3, size=(len(LENGTHS), 24))
        found = exponent(LENGTHS, values, seed=case)
        covered += found.low <= -0.25 <= found.high
    # A percentile interval of 24 seeds is somewhat too narrow; four standard deviations below.
    assert covered >= 200 * 0.92 - 4 * (200 * 0.92 * 0.08) ** 0.5


def test_seeds_that_differ_in_level_alone_do_not_widen_it() -> None:
    levels = np.random.default_rng(2).lognormal(size=(1, 12))
    found = exponent(LENGTHS, LENGTHS[:, None] ** -0.5 * levels, seed=0)
    assert found.high - found.low < 1e-12
