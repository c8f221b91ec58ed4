"""Evidence of the claims on the manifold of fixed rank, from the laws that they state."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Arrays = dict[str, Array]
RANK = 4


def optimum(rng: np.random.Generator, seeds: int) -> dict[str, Arrays]:
    rounds = np.arange(9)
    random = 0.38 + 0.02 * rng.standard_normal(200)
    started = random[:seeds, None] if seeds <= 200 else random[:, None]
    arrays = {
        "ascent": 1 - (1 - started) * 0.02**rounds,
        "random": random,
        "pairs": 0.6 + 0.01 * rng.standard_normal(seeds),
        "start": np.ones(seeds),
        "expected": np.array(0.38),
    }
    return {"check": arrays}


def gain(rng: np.random.Generator, seeds: int) -> dict[str, Arrays]:
    ratios, finer = np.array([10.0, 1.0, 0.1, 0.001]), np.logspace(-3.5, 2, 56)

    def law(ratio: Array) -> Array:
        return np.asarray(0.6 + 0.4 * ratio**2 / (1 + ratio**2))

    scatter = 0.01 * rng.standard_normal(seeds)
    check = {"ratios": ratios, "gains": law(ratios)[:, None] + scatter}
    pairs = {"ratios": ratios, "gains": np.full((4, 1), 0.6) + scatter}
    drawn = {"finer": finer, "law": law(finer)}
    return {"check": check | drawn, "control/top-r pairing": pairs | drawn}


def singular_values(c: Array) -> Array:
    root = np.sqrt(4 - 3 * c**2)
    return np.asarray(np.sort(np.concatenate([root + c, root - c], axis=-1) / 2)[..., ::-1])


def spectrum(rng: np.random.Generator, seeds: int) -> dict[str, Arrays]:
    shares = np.array([0.1, 1.0, 10.0])
    drawn = rng.random((len(shares), seeds, RANK))
    c = np.sort(drawn ** (1 / shares)[:, None, None])[..., ::-1]
    sizes = 2 ** np.arange(3, 9)
    at_random = rng.random((len(sizes), seeds, RANK)) * np.sqrt(8 / sizes)[:, None, None]
    run = singular_values(rng.random((seeds, 12, RANK)))
    arrays = {"run": run, "shares": shares, "c": c, "values": singular_values(c), "sizes": sizes}
    return {"check": arrays | {"by_size": singular_values(at_random)}}


EVIDENCE = {
    "riemannlora.loi-optimal": optimum,
    "riemannlora.loi-gain": gain,
    "riemannlora.riemannion-spectrum": spectrum,
}
