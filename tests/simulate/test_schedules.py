"""Schedules: where they begin, peak and end."""

from __future__ import annotations

import pytest

from simulate.schedules import (
    Schedule,
    constant,
    cosine_decay,
    linear_decay,
    tail_index_rates,
)


def values(schedule: Schedule, steps: int) -> list[float]:
    return [schedule(step) for step in range(steps + 1)]


def test_shapes() -> None:
    assert values(constant, 3) == [1, 1, 1, 1]
    assert values(linear_decay(4), 4) == [1, 0.75, 0.5, 0.25, 0]
    assert values(linear_decay(6, warmup=2, final=0.5), 6) == pytest.approx(
        [1 / 3, 2 / 3, 1, 0.875, 0.75, 0.625, 0.5]
    )
    assert values(cosine_decay(4), 4) == pytest.approx([1, (2 + 2**0.5) / 4, 0.5, 0.1464466, 0])
    assert values(cosine_decay(5, warmup=1, final=0.1), 5) == pytest.approx(
        [0.5, 1, 0.9 * (2 + 2**0.5) / 4 + 0.1, 0.55, 0.9 * (2 - 2**0.5) / 4 + 0.1, 0.1]
    )


@pytest.mark.parametrize("make", [linear_decay, cosine_decay])
def test_bad_numbers_are_named(make: type) -> None:
    with pytest.raises(ValueError, match="steps must be a positive int, got 0"):
        make(0)
    with pytest.raises(ValueError, match=r"warmup must lie in \[0, 4\], got 5"):
        make(5, warmup=5)
    with pytest.raises(ValueError, match=r"final must lie in \[0, 1\], got 2"):
        make(5, final=2)
    with pytest.raises(ValueError, match=r"step must lie in \[0, 5\], got 6"):
        make(5)(6)


@pytest.mark.parametrize(
    ("index", "rate", "lack"),
    [(2.0, 3 / 4, 1 / 2), (1.5, 4 / 5, 3 / 5), (1.2, 7 / 8, 3 / 4), (None, 3 / 4, 1 / 2)],
)
def test_rates_of_a_tail_index(index: float | None, rate: float, lack: float) -> None:
    lr, momentum = tail_index_rates(4096, index)
    assert lr == pytest.approx(4096**-rate)
    assert 1 - momentum == pytest.approx(4096**-lack)


@pytest.mark.parametrize("index", [1.0, 2.1, float("nan")])
def test_a_tail_index_without_a_rate_is_refused(index: float) -> None:
    with pytest.raises(ValueError, match=r"tail_index must lie in \(1, 2\], got"):
        tail_index_rates(10, index)
