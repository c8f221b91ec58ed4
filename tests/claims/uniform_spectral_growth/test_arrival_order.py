"""The order of arrivals."""

from __future__ import annotations

import numpy as np
import pytest

from claims.uniform_spectral_growth.arrival_order import increases_with


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([3.0, 2.0, 1.0], True),
        ([3.0, 2.0, 2.0], False),
        ([1.0, 2.0, 3.0], False),
        ([np.inf, 2.0, 1.0], False),
    ],
)
def test_order(values: list[float], expected: bool) -> None:
    assert increases_with(np.array([5.0, 4.0, 3.0]), np.array(values)) == expected


def test_order_is_per_seed() -> None:
    values = np.array([[2.0, 1.0], [1.0, 2.0]])
    assert increases_with(np.array([9.0, 4.0]), values).tolist() == [True, False]
