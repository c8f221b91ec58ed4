"""Evidence of the claims on tensors: what a healthy run looks like."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Arrays = dict[str, Array]


def lmo_values(rng: np.random.Generator, seeds: int) -> dict[str, Arrays]:
    edges = np.linspace(-1, 1, 61)
    shares = 0.7 + 0.3 * rng.random((3, 7, seeds))
    shares[:, 0] = 1.0
    shares[:2, 3:] = np.nan  # of order 3 there are three
    draws = np.clip(0.2 * rng.standard_normal((3, 400)), -1, 1)
    check = {
        "shapes": np.array(["2 x 3 x 4", "3 x 3 x 3", "3 x 2 x 2 x 2"]),
        "unfoldings": shares,
        "max_norm": 0.7 + 0.2 * rng.random((3, seeds)),
        "best_extremes": 0.6 + 0.15 * rng.random((3, seeds)),
        "edges": edges,
        "extremes": np.stack([np.histogram(row, edges)[0] for row in draws]),
    }
    return {"check": check}


def norm_bounds(rng: np.random.Generator, seeds: int) -> dict[str, Arrays]:
    sigma = 3 + rng.random((2, seeds))
    norm = sigma * (1 + 0.05 * rng.random((2, seeds)))
    least = norm * (1.01 + 0.1 * rng.random((2, seeds)))
    check = {
        "shapes": np.array(["3 x 3 x 3", "4 x 4 x 4"]),
        "sigma": sigma,
        "norm": norm,
        "least": least,
        "largest": least * (1.05 + 0.1 * rng.random((2, seeds))),
    }
    return {"check": check}


def unfolding_choice(rng: np.random.Generator, seeds: int) -> dict[str, Arrays]:
    walk = np.cumsum(rng.standard_normal((90, 3, seeds)), axis=0)
    norms = 1 - 5e-4 * (walk.max(1, keepdims=True) - walk)
    return {"check": {"places": norms.argmax(1), "ratios": norms}}


EVIDENCE = {
    "tensorion.lmo-optimal": lmo_values,
    "tensorion.norm-bounds": norm_bounds,
    "tensorion.online-vs-offline": unfolding_choice,
}
