"""Evidence of the claims on heavy-tailed noise, from the rates that they state."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Arrays = dict[str, Array]
ORDERS = np.array([2.0, 1.5, 1.2])
EXPONENTS = (ORDERS - 1) / (3 * ORDERS - 2)


def _recorded(
    rng: np.random.Generator, seeds: int, horizons: Array, rows: dict[str, list[float]]
) -> Arrays:
    """Means that fall a little slower than stated; NaN where a method was not run."""
    shape = len(rows), len(ORDERS), len(horizons)
    means, bounds = np.full(shape, np.nan), np.full(shape, np.nan)
    slopes = np.full((*shape[:2], 3), np.nan)
    for row, (name, orders) in enumerate(rows.items()):
        for a in orders:
            place = list(ORDERS).index(a)
            power = 0.0 if name.startswith("SGD") else EXPONENTS[place] - 0.02
            level = (4 + row) * (2 / a) ** 2 * np.exp(0.02 * rng.standard_normal(len(horizons)))
            means[row, place] = level * horizons**-power
            bounds[row, place] = 60 * (2 / a) ** 4 * horizons ** -EXPONENTS[place]
            slopes[row, place] = -power + np.array([0, -0.01, 0.01])
    half = 0.1 * means / seeds**0.5
    return {
        "methods": np.array([*rows]),
        "orders": ORDERS,
        "horizons": horizons,
        "exponents": EXPONENTS,
        "means": means,
        "intervals": np.stack([means - half, means + half], -1),
        "bounds": bounds,
        "slopes": slopes,
    }


def rate(rng: np.random.Generator, seeds: int) -> dict[str, Arrays]:
    everywhere = list(ORDERS)
    rows = {"full": [1.5], "Gaussian, r = 3": everywhere, "columns, r = 3": everywhere}
    sgd = _recorded(rng, seeds, 2.0 ** np.arange(10, 13), {"SGD at 1/L": [1.5]})
    return {"check": _recorded(rng, seeds, 2.0 ** np.arange(10, 15, 2), rows), "control/SGD": sgd}


def nesterov(rng: np.random.Generator, seeds: int) -> dict[str, Arrays]:
    rows = {"Nesterov, exact": [1.5], "Nesterov, randomised": [2.0, 1.5]}
    return {"check": _recorded(rng, seeds, 2.0 ** np.arange(10, 14), rows)}


EVIDENCE = {"low-rank.heavy-tail-rate": rate, "nesterov.rate": nesterov}
