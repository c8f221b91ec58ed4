"""The common tuning, and the steps that curves take to a target."""

from __future__ import annotations

import numpy as np
import pytest

from claims.measuring.intervals import Array
from claims.measuring.tuned import steps_to, tuned
from simulate.tuning import Protocol


def test_every_rate_keeps_what_was_seen_of_it() -> None:
    def run(rates: tuple[float, ...]) -> tuple[Array, Array]:
        offset = np.log10(np.array(rates) / 0.5)[:, None] ** 2
        return offset + np.array([1.0, 2.0]), np.array(rates)[:, None, None] * np.ones((2, 3))

    found = tuned(Protocol((0.01, 0.1, 1.0)), run)
    assert (np.diff(found.tuning.rates) > 0).all()
    assert found.observed[:, 0, 0] == pytest.approx(found.tuning.rates)
    assert found.rate == pytest.approx(0.5, rel=0.4)
    assert found.seen == pytest.approx(found.rate)
    assert found.losses == pytest.approx(np.array([1, 2]) + np.log10(found.rate / 0.5) ** 2)


def test_steps_to_a_target_lie_between_records_or_are_all() -> None:
    steps = np.array([0, 10, 20, 40])
    curves = np.array([
        [1, 0.1, 0.01, 0.01],   # the target after one recorded step and a half
        [1, 1, 1, 1],           # never there
        [0.01, 0.5, 0.01, 0.01],  # there from the start, whatever comes
        [1, 0.5, 0.1, 0.0316227766],  # there at the last step
    ])  # fmt: skip
    found = steps_to(steps, curves, np.full(4, 0.0316227766))
    assert found == pytest.approx([15, 40, 0, 40], abs=1e-6)
    # Targets of their own, and curves that rise in between.
    again = steps_to(steps, np.array([[2, 1, 2, 0.5]]), np.array([1.0]))
    assert again == pytest.approx([10])
