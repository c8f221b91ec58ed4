"""Spectral optimisers as ordinary ``torch.optim.Optimizer``s."""

from simulate.optimizers.factor_muon import FactorMuon
from simulate.optimizers.lora_muon import LoRAMuon
from simulate.optimizers.lora_rite import LoRARite, LoRARiteCore
from simulate.optimizers.pair_optimizer import PairOptimizer
from simulate.optimizers.peft_pairs import lora_pairs
from simulate.optimizers.scaled_gd import ScaledGD
from simulate.optimizers.spectron import Spectron

__all__ = [
    "FactorMuon",
    "LoRAMuon",
    "LoRARite",
    "LoRARiteCore",
    "PairOptimizer",
    "ScaledGD",
    "Spectron",
    "lora_pairs",
]
