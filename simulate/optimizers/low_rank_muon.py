"""Low-rank Muon: the polar factor of a sketch of the momentum."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.optim.optimizer import ParamsT

from simulate.optimizers.descent import Rate
from simulate.optimizers.momentum import averaged, require_momentum
from simulate.optimizers.sketching import Seed, SketchingOptimizer, sketched_step


class LowRankMuon(SketchingOptimizer):
    """M <- M + (1 - momentum) (G - M); W <- (1 - lr weight_decay) W - lr ratio(m, n) Q O(Q^T D).

    Q is a basis of a sketch of the direction D, which is M, or G + momentum (M - G) with
    ``nesterov``. The defaults are those of He, Deng, Lu, whose g is 1 - momentum: columns of M
    drawn uniformly, exact polar factors O, no look-ahead. With ``sketch="gaussian"``,
    ``nesterov=True`` and a polynomial ``orthogonalizer`` it is Muon with Nesterov momentum and
    randomised inexact polar decomposition.

    Args:
        params: parameters (..., m, n), or groups of them with options of their own.
        lr: as in `MatrixOptimizer`.
        momentum: in [0, 1), or a tensor that broadcasts to the leading dimensions, one a member.
        nesterov: whether the direction looks ahead.
        rank, sketch, oversampling, power_iterations, orthogonalizer, ns_steps, adjust_lr_fn, seed:
            as in `SketchingOptimizer`.
        weight_decay: decoupled decay; its rate is lr, not adjusted.

    Dtypes: half precisions compute the direction in float32.

    Raises:
        ValueError: as in `LowRankMSGD`; momentum outside of [0, 1).

    References:
        He, Deng, Lu, arXiv 2509.11983; Choudhury et al., Muon with Nesterov Momentum: Heavy-Tailed
        Noise and (Randomized) Inexact Polar Decomposition, arXiv 2605.06884.
    """

    buffer_names = ("momentum_buffer",)
    member_options = ("momentum", "seed")

    def __init__(
        self,
        params: ParamsT,
        lr: Rate,
        rank: int,
        momentum: Rate = 0.95,
        nesterov: bool = False,
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
            "momentum": momentum,
            "nesterov": nesterov,
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

    def require_options(self, options: Mapping[str, Any]) -> None:
        """Raise ValueError for an option out of its range."""
        super().require_options(options)
        require_momentum(options)

    def updated(
        self, W: Tensor, G: Tensor, buffers: Mapping[str, Tensor], options: Mapping[str, Any]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """One step of a stack (k, ..., m, n)."""
        M, D = averaged(buffers["momentum_buffer"], G, options)
        return sketched_step(W, D, options), {"momentum_buffer": M}
