"""Evidence of the claims on sketches and orthogonalisers, from the laws that they state."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Arrays = dict[str, Array]
RATES = {
    "cubic": 1.5,
    "quintic 15/8": 15 / 8,
    "quintic (2, -3/2, 1/2)": 2.0,
    "Keller Jordan's quintic": 3.4445,
    "Polar Express": 8.0,
    "CANS cubic": 2.6,
    "Polar Express with cushion and safety": 7.8,
}


def orthogonaliser_table(rng: np.random.Generator, seeds: int) -> dict[str, Arrays]:
    steps = np.arange(1, 15)
    rise = np.minimum(1e-3 * np.array([*RATES.values()])[:, None] ** steps, 60)
    worst = np.maximum(np.exp(-rise), 4e-15)
    limit = np.array([0.6818, 1.1344])
    worst[3] = np.maximum(worst[3], 1 - limit[0])
    most = np.where(np.arange(15) < 7, 1.2024, limit[1])
    most[0] = 1
    ends = np.stack([np.minimum(1e-3 * 3.4445 ** np.arange(15), limit[0]), most], axis=1)
    arrays = {"methods": np.array([*RATES]), "steps": steps, "worst": worst, "range": ends}
    return {"check": arrays | {"limit": limit}}


def alignment(rng: np.random.Generator, seeds: int) -> dict[str, Arrays]:
    ranks, powers, extra = np.array([16, 32, 64, 128]), np.array([0, 1, 2, 5]), np.array([0, 10])
    sketches = np.array(["uniform columns", "norm-weighted columns", "Gaussian", "Gaussian, h = 1"])
    kept = np.array([0.94, 0.91, 0.943, 0.99])
    grown = 1 - 0.06 * 0.2**powers
    best = {"check": np.log(ranks) / np.log(256), "control/white noise": (ranks / 256) ** 0.7}

    def recorded(by_rank: Array) -> Arrays:
        at_64 = by_rank[2] * np.array([1, 1.03])
        scatter = np.exp(2e-3 * rng.standard_normal(seeds))
        return {
            "sketches": sketches,
            "ranks": ranks,
            "by_rank": by_rank[:, None, None] * kept[:, None] * scatter,
            "best_by_rank": by_rank,
            "powers": powers,
            "oversampling": extra,
            "by_power": grown[:, None, None] * at_64[:, None] * scatter,
            "best_by_power": at_64,
        }

    return {name: recorded(by_rank) for name, by_rank in best.items()}


EVIDENCE = {
    "low-rank.orthogonaliser-table": orthogonaliser_table,
    "low-rank.alignment": alignment,
}
