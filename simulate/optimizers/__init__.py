"""Spectral optimisers as ordinary ``torch.optim.Optimizer``s. None of them knows a task."""

from simulate.optimizers.factor_muon import FactorMuon
from simulate.optimizers.failed_step import FactorizationError, FailedStepError, NotFiniteError
from simulate.optimizers.lora_muon import LoRAMuon
from simulate.optimizers.lora_rite import LoRARite, LoRARiteCore
from simulate.optimizers.low_rank_msgd import LowRankMSGD
from simulate.optimizers.low_rank_muon import LowRankMuon
from simulate.optimizers.matrix_optimizer import MatrixOptimizer
from simulate.optimizers.member_adamw import MemberAdamW
from simulate.optimizers.member_sgd import MemberSGD
from simulate.optimizers.members import keep_members, let_go, step_or_leave
from simulate.optimizers.muon import Muon
from simulate.optimizers.one_by_one import OneByOne
from simulate.optimizers.pair_optimizer import PairOptimizer
from simulate.optimizers.peft_pairs import lora_pairs
from simulate.optimizers.riemann_lora import RiemannLoRA
from simulate.optimizers.riemannion import Riemannion
from simulate.optimizers.scaled_gd import ScaledGD
from simulate.optimizers.spectral_descent import SpectralDescent
from simulate.optimizers.spectron import Spectron
from simulate.optimizers.tensor_parameters import tensor_parameters
from simulate.optimizers.tensorion import Tensorion

__all__ = [
    "FactorMuon",
    "FactorizationError",
    "FailedStepError",
    "LoRAMuon",
    "LoRARite",
    "LoRARiteCore",
    "LowRankMSGD",
    "LowRankMuon",
    "MatrixOptimizer",
    "MemberAdamW",
    "MemberSGD",
    "Muon",
    "NotFiniteError",
    "OneByOne",
    "PairOptimizer",
    "RiemannLoRA",
    "Riemannion",
    "ScaledGD",
    "SpectralDescent",
    "Spectron",
    "Tensorion",
    "keep_members",
    "let_go",
    "lora_pairs",
    "step_or_leave",
    "tensor_parameters",
]
