"""Low-rank matrix-signed gradient descent: the polar factor of a sketch of the gradient."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.optim.optimizer import ParamsT

from simulate.optimizers.descent import Rate
from simulate.optimizers.sketching import Seed, SketchingOptimizer, sketched_step


class LowRankMSGD(SketchingOptimizer):
    """W <- (1 - lr weight_decay) W - lr ratio(m, n) Q msign(Q^T G), Q a basis of a sketch of G.

    The defaults are the paper's: columns of G drawn uniformly, exact polar factors, rates that are
    not adjusted to the shape. So all non-zero singular values of an update are lr, and l = rank +
    oversampling of them at most are not zero.

    Args:
        params: parameters (..., m, n), or groups of them with options of their own.
        lr: as in `MatrixOptimizer`.
        rank, sketch, oversampling, power_iterations, orthogonalizer, ns_steps, adjust_lr_fn, seed:
            as in `SketchingOptimizer`.
        weight_decay: decoupled decay; its rate is lr, not adjusted.

    Dtypes: half precisions compute the direction in float32.

    Raises:
        ValueError: as in `MatrixOptimizer`; options out of their ranges, a rank that a matrix does
            not have, unknown names.

    Reference:
        He, Deng, Lu, Low-rank Orthogonalization for Large-scale Matrix Optimization,
        arXiv 2509.11983.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: Rate,
        rank: int,
        sketch: str = "columns",
        oversampling: int = 0,
        power_iterations: int = 0,
        weight_decay: float = 0.0,
        seed: Seed = 0,
        adjust_lr_fn: str | None = "unadjusted",
        *,
        orthogonalizer: str = "svd",
        ns_steps: int | None = None,
    ) -> None:
        defaults = {
            "lr": lr,
            "rank": rank,
            "sketch": sketch,
            "oversampling": oversampling,
            "power_iterations": power_iterations,
            "weight_decay": weight_decay,
            "seed": seed,
            "adjust_lr_fn": adjust_lr_fn,
            "orthogonalizer": orthogonalizer,
            "ns_steps": ns_steps,
        }
        super().__init__(params, defaults)

    def updated(
        self, W: Tensor, G: Tensor, buffers: Mapping[str, Tensor], options: Mapping[str, Any]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """One step of a stack (k, ..., m, n)."""
        return sketched_step(W, G, options), {}
