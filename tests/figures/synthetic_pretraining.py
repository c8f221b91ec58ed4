"""Evidence of the claim on pretraining by low-rank Muon as it is recorded: parabolas, decays."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]
# Best rate, and loss at it.
CONTESTANTS = {
    "Muon": (0.09, 0.98),
    "AdamW": (0.015, 1.27),
    "m/8": (0.05, 1.37),
    "m/4": (0.065, 1.27),
    "m/2": (0.075, 1.10),
    "m/4, Gaussian, h = 1": (0.07, 1.20),
    "m/2, Gaussian, h = 1": (0.08, 1.05),
}
WIDTH, LAYERS = 64, 3


def pretraining(rng: np.random.Generator, seeds: int) -> dict[str, Arrays]:
    rates = 10.0 ** np.arange(-2, 0.5, 0.5)
    best = np.array([[rate, 0.9 * rate, 1.12 * rate] for rate, _ in CONTESTANTS.values()])
    least = np.array([loss for _, loss in CONTESTANTS.values()])
    away = np.log10(rates / best[:, :1]) ** 2
    noise = 0.01 * rng.standard_normal((len(least), len(rates), seeds))
    losses = (least[:, None] + 0.2 * away)[..., None] + noise
    # AdamW has tried fewer rates.
    tried = np.tile(rates, (len(least), 1))
    tried[1, -1] = losses[1, -1] = np.nan
    steps, index = np.array([1, 10, 50, 100, 200]), np.arange(WIDTH)
    decay = np.linspace(0.02, 0.08, len(steps))[:, None, None, None]
    spread = np.exp(0.05 * rng.standard_normal((len(steps), seeds, LAYERS, 1)))
    excess = (least[1:] - least[0])[:, None] + np.array([0.0, -0.02, 0.02])
    return {
        "check": {
            "names": np.array(list(CONTESTANTS)),
            "shares": np.array([1 / 8, 1 / 4, 1 / 2]),
            "rates": tried,
            "losses": losses,
            "best": best,
            "excess": excess,
            "spectrum_steps": steps,
            "gradient_spectra": spread * np.exp(-decay * index),
        }
    }


EVIDENCE = {"low-rank.pretraining": pretraining}
