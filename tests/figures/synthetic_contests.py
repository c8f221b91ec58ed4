"""Evidence of the contests of optimisers on tensors and on the manifold: curves that fall apart."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]
TASKS = ("tensor regression", "tensor completion", "convolutions")
# The loss at the end.
ON_TENSORS = {"Tensorion": 0.1, "Tensorion, offline": 0.12, "Muon, flattened": 0.06, "AdamW": 0.04}
ON_ADAPTERS = {
    "Riemannion": 1.4,
    "RiemannLoRA, Adam": 1.6,
    "RiemannLoRA, SGD": 1.9,
    "AdamW": 1.5,
    "RSLoRA": 1.55,
    "Muon": 1.45,
    "LoRA-Muon": 1.42,
    "AdamW, optimal start": 1.48,
}


def _band(curves: NDArray[Any]) -> NDArray[Any]:
    """(T, 3) of curves (S, T)."""
    mean, half = curves.mean(0), 2 * curves.std(0) / len(curves) ** 0.5
    return np.stack([mean, mean - half, mean + half], -1)


def convergence(rng: np.random.Generator, seeds: int) -> dict[str, Arrays]:
    steps = np.arange(0, 121, 5)
    arrays = {"contestants": np.array(list(ON_TENSORS)), "tasks": np.array(TASKS)}
    for task in TASKS:
        curves = [
            np.exp(np.log(end) * (steps / 120) ** 0.7 + 0.05 * rng.standard_normal((seeds, 1)))
            for end in ON_TENSORS.values()
        ]
        arrays[f"steps, {task}"] = steps
        arrays[f"bands, {task}"] = np.array([_band(each) for each in curves])
        arrays[f"best rates, {task}"] = np.array([0.03, 0.03, 0.02, 0.05])
    return {"check": arrays}


def finetune(rng: np.random.Generator, seeds: int) -> dict[str, Arrays]:
    steps, start = np.linspace(1, 100, 13).round(), 3.3
    curves = np.stack([
        start + (end - start) * (steps / 100) ** 0.4 + 0.02 * rng.standard_normal((seeds, 1))
        for end in ON_ADAPTERS.values()
    ])  # fmt: skip
    excess = curves[:, :, -1] - curves[0, :, -1]
    return {
        "check": {
            "contestants": np.array(list(ON_ADAPTERS)),
            "steps": steps,
            "start": np.array(start),
            "bands": np.array([_band(each) for each in curves]),
            "excess": _band(excess.T),
        }
    }


EVIDENCE = {"tensorion.convergence": convergence, "riemannlora.finetune": finetune}
