"""Evidence of the claims on low-rank orthogonalisation as it is recorded: from their formulas."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]


def cost(rng: np.random.Generator, seeds: int) -> dict[str, Arrays]:
    """Times by flops and a part that every call takes; at 1024 the large ranks were not run."""
    sizes, shares = np.array([256, 512, 1024]), np.array([1 / 16, 1 / 4, 1 / 2, 3 / 4, 1])
    m, rank = sizes[:, None, None], (sizes[:, None] * shares)[..., None]
    products, orthonormal = np.array([4, 6, 10]), np.array([1, 1, 3])
    flops = products * m**2 * rank + orthonormal * (4 * m - 4 / 3 * rank) * rank**2
    flops = flops + 5 * (4 * rank**2 * m + 2 * rank**3)
    full = 30.0 * sizes**3
    seconds = 5e-4 + flops / 6e10 * np.exp(0.03 * rng.random(flops.shape))
    seconds[2, 2:] = np.nan
    speedup = full[:, None, None] / 6e10 / seconds
    crossover = np.array([[0.8, 0.7, 0.55], [0.88, 0.84, 0.7], [np.nan] * 3])
    return {
        "check": {
            "sizes": sizes,
            "shares": shares,
            "sketches": np.array(["columns", "Gaussian", "Gaussian, h = 1"]),
            "seconds": seconds,
            "speedup": speedup,
            "speedup_interval": speedup[..., None] * np.array([0.96, 1.05]),
            "flops": flops,
            "full_seconds": full / 6e10,
            "full_flops": full,
            "exact_seconds": full / 5e10,
            "crossover": crossover,
            "crossover_by_flops": np.tile([0.906, 0.88, 0.78], (3, 1)),
        }
    }


EVIDENCE = {"low-rank.cost": cost}
