"""Runs in other gauges as `riemannlora.gauge` records them: from the laws that it states."""

from __future__ import annotations

import numpy as np

from tests.figures.synthetic_pairs import ROUND_OFF, Array, Arrays, spread

CONDITIONS = 10.0 ** np.arange(7)
OWN = ("RiemannLoRA", "RiemannLoRA, adaptive", "Riemannion")
INVARIANT = (*OWN, "LoRA-Muon", "LoRA-RITE", "LoRA-RITE's core")
# At a rotation, and in any other gauge.
DEPENDENT = {
    "Spectron": (2e-2, 0.8),
    "Adam": (0.6, 1.0),
    "gradient descent": (0.0, 1.0),
    "Muon on each factor": (0.0, 1.0),
}


def gauge(rng: np.random.Generator, seeds: int) -> dict[str, Arrays]:
    def level(name: str, u: float) -> Array:
        rounding = np.minimum(0.5 * u * (CONDITIONS + 8), 0.8)
        if name in DEPENDENT:
            rotated, otherwise = DEPENDENT[name]
            return np.maximum(np.where(CONDITIONS == 1, rotated, otherwise), rounding)
        if name == "ScaledGD":
            return np.minimum(0.02 * u * CONDITIONS**2 + rounding, 0.9)
        return rounding

    def recorded(names: tuple[str, ...], own: tuple[str, ...]) -> Arrays:
        arrays: Arrays = {
            "optimizers": np.array(names),
            "judged": np.array([name in own for name in names]),
            "conditions": CONDITIONS,
        }
        for dtype, u in ROUND_OFF.items():
            levels = np.stack([level(name, u) for name in names])
            arrays[f"difference, {dtype}"] = spread(rng, levels, seeds)
            arrays[f"round-off, {dtype}"] = u * CONDITIONS
            constants = 50.0 + np.arange(len(own))
            arrays[f"bound, {dtype}"] = constants[:, None] * u * (CONDITIONS + 20)
        return arrays

    controls = ("gradient descent", "Adam", "Muon on each factor")
    return {
        "check": recorded((*INVARIANT, "ScaledGD", "Spectron"), OWN),
        **{f"control/{name}": recorded((name,), (name,)) for name in controls},
    }


EVIDENCE = {"riemannlora.gauge": gauge}
