"""The optimisers that train language models in the claims on LoRA-Muon, with their options.

Momentum .9 without Nesterov's step and no weight decay for all that have them: Algorithm 1 of the
paper. Polar factors by its eight polynomial steps, of the dense matrix too, whose learning rate is
then the spectral norm of a step as LoRA-Muon's is.
"""

from __future__ import annotations

from simulate.cells import Contestant
from simulate.optimizers import FactorMuon, LoRAMuon, Muon, Spectron

EIGHT_STEPS = {"orthogonalizer": "lora_muon"}
LORA_MUON = Contestant("LoRA-Muon", LoRAMuon, {**EIGHT_STEPS, "root": "newton_schulz"})
EXACT_LORA_MUON = Contestant("LoRA-Muon, exact", LoRAMuon)
MUON = Contestant(
    "Muon",
    Muon,
    {
        **EIGHT_STEPS,
        "momentum": 0.9,
        "nesterov": False,
        "weight_decay": 0.0,
        "adjust_lr_fn": "unadjusted",
    },
)
FACTOR_MUON = Contestant("Muon on each factor", FactorMuon, EIGHT_STEPS)
SPECTRON = Contestant("Spectron", Spectron)
