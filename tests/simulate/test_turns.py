"""Contestants take turns, and the interval of a median is that of order statistics."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from scipy.stats import binom

from simulate.turns import median_interval, times_in_turn


def test_contestants_take_turns_forwards_and_backwards() -> None:
    seen: list[str] = []
    taken = times_in_turn({name: partial(seen.append, name) for name in "abc"}, 3)
    assert "".join(seen) == "abccbaabc"
    assert {name: len(times) for name, times in taken.items()} == {"a": 3, "b": 3, "c": 3}
    assert all(time >= 0 for times in taken.values() for time in times)


def test_another_clock_is_taken() -> None:
    ticks = iter(range(0, 100, 7))
    taken = times_in_turn({"a": lambda: None}, 2, clock=lambda: next(ticks))
    assert taken == {"a": [7, 7]}


def test_the_interval_of_a_median_is_that_of_order_statistics() -> None:
    values = np.random.default_rng(0).permutation(np.arange(41.0))
    middle, low, high = median_interval(values)
    assert middle == 20.0
    # P(at least 14 of 41 below the median): the interval holds it in 95 % of the cases or more.
    assert (low, high) == (13.0, 27.0)
    assert 1 - 2 * binom.cdf(13, 41, 0.5) >= 0.95
    assert 1 - 2 * binom.cdf(14, 41, 0.5) < 0.96


@pytest.mark.parametrize("count", [1, 2, 5])
def test_of_few_values_the_interval_is_all_of_them(count: int) -> None:
    assert median_interval(np.arange(float(count)))[1:] == (0.0, count - 1.0)


def test_a_disturbed_minority_moves_the_interval_by_no_more_than_its_neighbours() -> None:
    ratios = np.r_[np.linspace(0.7, 0.8, 30), np.full(8, 50.0)]
    _, low, high = median_interval(ratios)
    assert 0.7 < low < high < 0.81
