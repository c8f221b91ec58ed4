"""Every contestant's rate is tuned alike: one grid, refined around the best, extended at edges."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from simulate.tuning import Protocol, Tuning

GRID = (0.01, 0.03, 0.1, 0.3, 1.0)


def losses(rates: tuple[float, ...], best: float) -> NDArray[np.float64]:
    """Two seeds' parabolas in log rate."""
    curve = np.log10(np.array(rates) / best) ** 2
    return np.stack([1 + curve, 2 + curve], 1)


def tuned(best: float, **options: int) -> tuple[Tuning, list[tuple[float, ...]]]:
    tuning, rounds = Tuning(Protocol(GRID, **options)), []
    while rates := tuning.next_rates():
        tuning.add(rates, losses(rates, best))
        rounds.append(rates)
    return tuning, rounds


def test_the_grid_is_refined_once_around_the_best() -> None:
    tuning, rounds = tuned(0.11)
    assert rounds[0] == GRID
    assert rounds[1] == pytest.approx((math.sqrt(0.003), math.sqrt(0.03)), rel=1e-5)
    assert tuning.rates.tolist() == sorted(rate for rates in rounds for rate in rates)
    assert tuning.rates[tuning.best] == 0.1
    assert not tuning.at_edge
    # Losses stay with their rates.
    assert np.array_equal(tuning.losses, losses(tuple(tuning.rates), 0.11))


def test_refinements_halve_the_neighbourhood() -> None:
    tuning, rounds = tuned(0.11, refinements=3)
    assert len(rounds) == 4
    spacing = np.diff(np.log10(tuning.rates)).min()
    assert spacing == pytest.approx(0.5 / 8, rel=0.1)
    assert tuned(0.11, refinements=0)[1] == [GRID]


def test_a_best_rate_at_an_edge_extends_the_grid_step_by_step() -> None:
    tuning, rounds = tuned(4.0)
    assert rounds[1] == pytest.approx((10**0.5,), rel=1e-5)
    assert rounds[2] == pytest.approx((10.0,), rel=1e-5)
    assert len(rounds) == 4  # then it is refined
    assert not tuning.at_edge
    assert tuning.refined == 1
    low, rounds = tuned(0.002)
    assert [len(rates) for rates in rounds] == [5, 1, 1, 2]
    assert low.rates[0] == pytest.approx(0.001, rel=1e-5)


def test_a_grid_goes_on_no_further_than_it_may() -> None:
    tuning, rounds = tuned(1e9, extensions=2)
    assert len(rounds) == 3
    assert tuning.at_edge
    assert tuning.refined == 0
    assert tuned(1e9, extensions=0)[1] == [GRID]


def test_a_rate_at_which_one_seed_diverged_is_not_the_best() -> None:
    tuning = Tuning(Protocol(GRID))
    table = losses(GRID, 0.3)
    table[3, 1] = math.nan
    tuning.add(tuning.next_rates(), table)
    assert tuning.rates[tuning.best] == 0.1
    # Where all diverged smaller rates are tried.
    tuning = Tuning(Protocol(GRID))
    tuning.add(tuning.next_rates(), np.full((5, 2), math.nan))
    assert tuning.next_rates() == pytest.approx((10**-2.5,), rel=1e-5)


@pytest.mark.parametrize(
    ("rates", "message"),
    [
        ((0.1, 1.0), "three or more positive ones are expected"),
        ((0.1, 0.0, 1.0), "three or more positive ones are expected"),
        ((0.1, 0.2, 1.0), "an ascending geometric grid is expected"),
        ((1.0, 0.1, 0.01), "an ascending geometric grid is expected"),
    ],
)
def test_other_grids_are_refused(rates: tuple[float, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Protocol(rates)


def test_a_grid_may_be_any_sequence() -> None:
    for rates in (list(GRID), np.array(GRID)):
        protocol = Protocol(rates)  # type: ignore[arg-type]
        assert protocol == Protocol(GRID)
        assert Tuning(protocol).next_rates() == GRID


def test_counts_that_are_not_whole_are_refused() -> None:
    # Half a refinement is never reached: tuning would go on for ever.
    with pytest.raises(ValueError, match=r"refinements must be an int >= 0, got 0\.5"):
        Protocol(GRID, refinements=0.5)  # type: ignore[arg-type]


def test_negative_counts_are_refused() -> None:
    with pytest.raises(ValueError, match="extensions"):
        Protocol(GRID, extensions=-1)
    with pytest.raises(ValueError, match="refinements"):
        Protocol(GRID, refinements=-1)
