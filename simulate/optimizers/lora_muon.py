"""LoRA-Muon: steepest descent in the split spectral trust region of a low-rank product."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from geometry.errors import require_positive
from geometry.gauge import Pair
from geometry.inverse_root import INVERSE_ROOTS, damping_of, inverse_root
from geometry.lora import split_direction, split_direction_by_gram, split_step
from geometry.names import unknown_name
from simulate.optimizers.orthogonalizing import OrthogonalizingPairOptimizer, orthogonalizer_of
from simulate.optimizers.pair_optimizer import (
    Batch,
    Pairs,
    State,
    averaged,
)


class LoRAMuon(OrthogonalizingPairOptimizer):
    """m <- momentum m + (1 - momentum) g for each factor, then the split step along -(D_B, D_A).

    With s = sqrt(1 - weight_decay lr) and D as in :func:`geometry.lora.split_direction` of the
    first moments: B <- s B - lr / (2 s scale) D_B, A likewise. W = scale B A moves by at most lr in
    the spectral norm, to first order, in every gauge, and decays by exactly 1 - weight_decay lr.

    From LoRA's zero start, B = 0, the first step moves B alone: the gradient of A is zero, and so
    is the root of B's Gram matrix. The paper is silent on it; without damping the second step then
    moves A by its own size, whatever lr is.

    Args:
        pairs: [(B, A), ...] or groups; see :class:`PairOptimizer`.
        lr: the radius in W, a number or one a member. weight_decay lr has to be below 1.
        momentum: in [0, 1). No Nesterov.
        orthogonalizer: a name in ``geometry.orthogonalizers.ORTHOGONALIZERS``; "lora_muon" is the
            paper's own. ns_steps: of it; None for its default.
        root: a name in ``geometry.inverse_root.INVERSE_ROOTS``; "newton_schulz" is the paper's
            own. damping: relative; None for the root's default.
        scale: of the adapter, alpha / r. Orthogonalisation cancels it in the gradients, so the
            directions are divided by it.

    Below float64 the direction is made of Gram matrices in float64
    (:func:`geometry.lora.split_direction_by_gram`), so it carries one rounding; "svd" and "eigh"
    are one root then. float64 factors are factorised themselves.

    Memory: the first moments, (m + n) r numbers a pair; nothing of the size of W is made.

    Reference: Cesista, Crowson, Simal, Biderman, arXiv 2606.12921, Algorithm 1.
    """

    def __init__(
        self,
        pairs: Pairs,
        lr: float | Tensor = 0.1,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        *,
        orthogonalizer: str = "svd",
        ns_steps: int | None = None,
        root: str = "svd",
        damping: float | None = None,
        scale: float = 1.0,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "orthogonalizer": orthogonalizer,
            "ns_steps": ns_steps,
            "root": root,
            "damping": damping,
            "scale": scale,
        }
        super().__init__(pairs, defaults)

    def require_options(self, options: Mapping[str, Any]) -> None:
        super().require_options(options)
        if options["root"] not in INVERSE_ROOTS:
            raise unknown_name("root", options["root"], INVERSE_ROOTS)
        damping_of(options["root"], options["damping"])
        require_positive("scale", options["scale"])

    def updated(self, batch: Batch, state: State) -> tuple[Pair, State]:
        group, moments = batch.group, averaged(batch, state)
        D_B, D_A = self.direction(batch, moments)
        B, A = batch.factors
        scale = group["scale"]
        if scale != 1:
            D_B, D_A = D_B / scale, D_A / scale
        factors = split_step(B, A, D_B, D_A, group["lr"], group["weight_decay"])
        return factors, {"momentum_buffer": moments}

    def direction(self, batch: Batch, moments: Pair) -> Pair:
        """(D_B, D_A) of the first moments."""
        group, B = batch.group, batch.factors[0]
        if by_gram(B.dtype, B.device):
            return split_direction_by_gram(
                *batch.factors,
                *moments,
                orthogonalizer=group["orthogonalizer"],
                steps=group["ns_steps"],
                root=group["root"],
                damping=group["damping"],
            )
        return split_direction(
            *batch.factors,
            *moments,
            orthogonalize=orthogonalizer_of(batch),
            root=partial(inverse_root, method=group["root"], damping=group["damping"]),
        )


def by_gram(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether float64 has twice the digits, so that Gram matrices in it lose none of dtype's.

    A device without float64 (Apple's mps) takes the other form.
    """
    return dtype.itemsize < torch.float64.itemsize and device.type != "mps"
