"""Evidence of the claim on LoRA adapters as it is recorded: spectra that grow and stay apart."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]
# The ratio of the ends at the first step and at the last, and the tuned rate.
CONTESTANTS = {
    "Muon": (2.7, 4.0, 0.3),
    "AdamW": (8.0, 29.0, 0.1),
    "SGD": (37.0, 34.0, 1.0),
    "Muon, exact": (2.3, 3.5, 0.3),
    "LoRA-Muon": (1.0, 2.6, 0.3),
}
LAYERS, RANK = 2, 8


def lora_finetune_spectrum(rng: np.random.Generator, seeds: int) -> dict[str, Arrays]:
    steps = np.array([1, 5, 10, 20, 40, 60])
    spectra, intervals = [], []
    for first, last, _ in CONTESTANTS.values():
        ratio = np.geomspace(first, last, len(steps))
        size = (5 * steps / steps[-1])[:, None, None, None]
        modes = -np.linspace(0, 1, RANK)
        spread = np.exp(0.1 * rng.standard_normal((len(steps), seeds, LAYERS, 1)))
        spectra.append(size * spread * ratio[:, None, None, None] ** modes)
        intervals.append(ratio[:, None] * np.array([1, 0.8, 1.25]))
    return {
        "check": {
            "contestants": np.array(list(CONTESTANTS)),
            "steps": steps,
            "spectra": np.stack(spectra),
            "ratio_intervals": np.stack(intervals),
            "tuned_rates": np.array([rate for *_, rate in CONTESTANTS.values()]),
        }
    }


EVIDENCE = {"usg.lora-finetune-spectrum": lora_finetune_spectrum}
