"""Muon on each factor of a LoRA pair by itself: what gauge-covariant optimisers are compared to."""

from __future__ import annotations

from torch import Tensor

from geometry.gauge import Pair
from simulate.optimizers.orthogonalizing import OrthogonalizingPairOptimizer, factors_moved
from simulate.optimizers.pair_optimizer import (
    Batch,
    Pairs,
    State,
    averaged,
    rate,
)


class FactorMuon(OrthogonalizingPairOptimizer):
    """B <- (1 - lr weight_decay) B - lr msign(m_B) with m <- momentum m + (1 - momentum) g.

    Not covariant: the product's step depends on the gauge, and its size on rank and factors.

    Args:
        pairs: [(B, A), ...] or groups; see :class:`PairOptimizer`.
        lr: the spectral norm of each factor's step, a number or one a member.
        momentum, weight_decay: as in Muon, for each factor.
        orthogonalizer: a name in ``geometry.orthogonalizers.ORTHOGONALIZERS``. ns_steps: of it.

    Reference: Jordan et al., Muon, 2024, applied to LoRA's factors.
    """

    def __init__(
        self,
        pairs: Pairs,
        lr: float | Tensor = 0.02,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        *,
        orthogonalizer: str = "svd",
        ns_steps: int | None = None,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "orthogonalizer": orthogonalizer,
            "ns_steps": ns_steps,
        }
        super().__init__(pairs, defaults)

    def updated(self, batch: Batch, state: State) -> tuple[Pair, State]:
        moments = averaged(batch, state)
        return factors_moved(batch, moments, rate(batch)), {"momentum_buffer": moments}
