"""Spectron: orthogonalised momentum for each factor, its length bounded in the product."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from geometry.gauge import Pair
from geometry.names import unknown_name
from simulate.optimizers.orthogonalizing import OrthogonalizingPairOptimizer, factors_moved
from simulate.optimizers.pair_optimizer import (
    Batch,
    Pairs,
    State,
    averaged,
    rate,
)

NORMS = ("power", "exact")


class Spectron(OrthogonalizingPairOptimizer):
    """B <- B - rho O(m_B), A <- A - rho O(m_A) with rho = lr / (||B||_2 + ||A||_2 + 1).

    With ||O|| <= 1 the product moves by ||dW||_2 <= rho (||B|| + ||A|| + rho) <= lr for lr <= 1;
    O of five Newton-Schulz steps and norms of one step of power iteration can exceed both. The step
    depends on the gauge.

    Args:
        pairs: [(B, A), ...] or groups; see :class:`PairOptimizer`.
        lr: the radius in W, a number or one a member.
        momentum: in [0, 1). weight_decay: decoupled, of each factor.
        orthogonalizer: a name in ``geometry.orthogonalizers.ORTHOGONALIZERS``. ns_steps: of it.
        norms: "power", one step of power iteration from the last step's vector, or "exact".

    Reference: Janson, Oyallon, Belilovsky, arXiv 2602.12429.
    """

    def __init__(
        self,
        pairs: Pairs,
        lr: float | Tensor = 0.02,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        *,
        orthogonalizer: str = "muon",
        ns_steps: int | None = None,
        norms: str = "power",
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "orthogonalizer": orthogonalizer,
            "ns_steps": ns_steps,
            "norms": norms,
        }
        super().__init__(pairs, defaults)

    def require_options(self, options: Mapping[str, Any]) -> None:
        super().require_options(options)
        if options["norms"] not in NORMS:
            raise unknown_name("norms", options["norms"], NORMS)

    def initial_state(self, factors: Pair) -> State:
        # A fixed start that no factor is made to be orthogonal to.
        r = factors[0].shape[-1]
        drawn = torch.randn(r, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        start = (drawn / drawn.norm()).to(factors[0]).expand(*factors[0].shape[:-2], r)
        return {**super().initial_state(factors), "direction": (start, start)}

    def updated(self, batch: Batch, state: State) -> tuple[Pair, State]:
        group, moments = batch.group, averaged(batch, state)
        B, A = batch.factors
        norm_B, direction_B = _norm(B, state["direction"][0], group["norms"])
        norm_A, direction_A = _norm(A.mT, state["direction"][1], group["norms"])
        rho = rate(batch) / (norm_B + norm_A + 1)[..., None, None]
        factors = factors_moved(batch, moments, rho)
        return factors, {"momentum_buffer": moments, "direction": (direction_B, direction_A)}


def _norm(X: Tensor, v: Tensor, norms: str) -> tuple[Tensor, Tensor]:
    """||X||_2 of X (..., m, r), and a right vector v (..., r) for the next step."""
    if norms == "exact":
        return torch.linalg.matrix_norm(X, 2), v
    u = torch.nn.functional.normalize((X @ v[..., None])[..., 0], dim=-1)
    w = (X.mT @ u[..., None])[..., 0]
    size = torch.linalg.vector_norm(w, dim=-1, keepdim=True)
    # The norm of X^T u is a lower bound; a zero factor keeps the vector it has.
    return size[..., 0], torch.where(size > 0, w / torch.where(size > 0, size, 1.0), v)
