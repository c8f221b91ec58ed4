"""Riemannion: Muon on the manifold of rank r, along a momentum orthogonalised and projected."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from geometry.fixed_rank import FixedRank, Tangent
from geometry.fixed_rank_steps import orthogonalized, product_projected
from geometry.names import unknown_name
from simulate.optimizers.pair_optimizer import Batch, Pairs, State
from simulate.optimizers.riemannian import RiemannianPairOptimizer, added, scaled

STORED = ("before", "after")


class Riemannion(RiemannianPairOptimizer):
    """M <- momentum T(M) + grad, X <- R(X - lr P(Ortho(M))), for X = B A of rank r.

    grad, T and R are those of :class:`RiemannLoRA`; M is tangent, of rank 2 r at most, and Ortho
    sets its singular values to 1, exactly, by two thin QRs and a core of 2 r x 2 r. P, which makes
    the step tangent again, moves them: they lie in [0, 2 / sqrt(3)]. Nothing depends on the gauge,
    and nothing on the scale of the loss. The paper's printed algorithm goes uphill; its equations
    are followed.

    ``stored="after"`` keeps P(Ortho(M)) in M's place, as the paper can be read as well. Gradients
    are then weighed against directions of norm 1, so that a run does depend on the loss's scale.

    X has to have rank r: LoRA's usual start, B = 0, is refused. Start from a locally optimal
    initialisation, :mod:`geometry.locally_optimal`.

    Args:
        pairs: [(B, A), ...] or groups; see :class:`PairOptimizer`.
        lr: about the spectral norm of a step of W, a number or one a member.
        momentum: in [0, 1). No Nesterov.
        weight_decay, scale: as in :class:`RiemannLoRA`.
        stored: the momentum that is kept, "before" orthogonalising (Eq. 10) or "after".

    Memory: the momentum, 2 (m + n) r numbers a pair; no tensor exceeds (m + n) 2 r.

    Reference: Bogachev et al., arXiv 2507.12142, Eq. 10.
    """

    def __init__(
        self,
        pairs: Pairs,
        lr: float | Tensor = 0.02,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        *,
        stored: str = "before",
        scale: float = 1.0,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "stored": stored,
            "scale": scale,
        }
        super().__init__(pairs, defaults)

    def require_options(self, options: Mapping[str, Any]) -> None:
        super().require_options(options)
        if options["stored"] not in STORED:
            raise unknown_name("stored", options["stored"], STORED)

    def direction(
        self, batch: Batch, X: FixedRank, gradient: Tangent, past: Tangent, state: State
    ) -> tuple[Tangent, Tangent, State]:
        M = added(scaled(past, batch.group["momentum"]), gradient)
        step = product_projected(X, *orthogonalized(X, M))
        return step, M if batch.group["stored"] == "before" else step, {}
