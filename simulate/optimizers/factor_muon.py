"""Muon on each factor of a LoRA pair by itself: what gauge-covariant optimisers are compared to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from geometry.gauge import Pair
from geometry.orthogonalizers import orthogonalizer_named
from geometry.polar import orthogonalize
from simulate.optimizers.pair_optimizer import (
    Batch,
    PairOptimizer,
    Pairs,
    State,
    averaged,
    rate,
)


class FactorMuon(PairOptimizer):
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

    def require_options(self, options: Mapping[str, Any]) -> None:
        super().require_options(options)
        orthogonalizer_named(options["orthogonalizer"]).polynomials(options["ns_steps"])

    def updated(self, batch: Batch, state: State) -> tuple[Pair, State]:
        group, moments, lr = batch.group, averaged(batch, state), rate(batch)
        left = 1 - lr * group["weight_decay"]
        B, A = (
            left * x - lr * orthogonalize(m, group["orthogonalizer"], group["ns_steps"])
            for x, m in zip(batch.factors, moments, strict=True)
        )
        return (B, A), {"momentum_buffer": moments}
