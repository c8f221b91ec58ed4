"""RiemannLoRA: gradient descent with momentum on the manifold of rank r, plain or normalised."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from geometry.errors import require_nonnegative, require_share
from geometry.fixed_rank import FixedRank, Tangent
from geometry.gauge import Pair
from simulate.optimizers.pair_optimizer import Batch, Pairs, State
from simulate.optimizers.riemannian import RiemannianPairOptimizer, added, scaled


class RiemannLoRA(RiemannianPairOptimizer):
    """M <- momentum T(M) + (1 - momentum) grad, X <- R(X - lr M), for X = B A of rank r.

    grad is the projection of the gradient of X on the tangent space, T that of the former M, R the
    truncated SVD. Nothing depends on the gauge: the run is one of X. The paper's printed
    algorithms for it drop the former X from the retraction; its equations are followed.

    ``adaptive``, the paper's "Adam", divides the halves D_U and D_V of M by the roots of running
    averages of ||D_U||_F^2 and ||D_V||_F^2 of the gradient, two numbers a pair, both corrected for
    their bias as in Adam. The part of the gradient in both spans is counted with D_V, so that
    transposing the problem gives another run.

    X has to have rank r: LoRA's usual start, B = 0, is refused. Start from a locally optimal
    initialisation, :mod:`geometry.locally_optimal`.

    Args:
        pairs: [(B, A), ...] or groups; see :class:`PairOptimizer`.
        lr: a number or one a member; adaptive, about the Frobenius norm of each half of a step.
        momentum: in [0, 1).
        weight_decay: decoupled, of X: by 1 - lr weight_decay, which has to be above 0. It pulls
            B A to 0, which after a locally optimal initialisation are not the former weights.
        adaptive: see above. beta: of the running averages. eps: added to their roots.
        scale: of the adapter, alpha / r.

    Memory: the momentum, 2 (m + n) r numbers a pair; no tensor exceeds (m + n) 2 r.

    Reference: Bogachev et al., arXiv 2507.12142.
    """

    def __init__(
        self,
        pairs: Pairs,
        lr: float | Tensor = 0.1,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        *,
        adaptive: bool = False,
        beta: float = 0.999,
        eps: float = 1e-8,
        scale: float = 1.0,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "adaptive": adaptive,
            "beta": beta,
            "eps": eps,
            "scale": scale,
        }
        super().__init__(pairs, defaults)

    def require_options(self, options: Mapping[str, Any]) -> None:
        super().require_options(options)
        require_share("beta", options["beta"])
        require_nonnegative("eps", options["eps"])

    def initial_state(self, factors: Pair) -> State:
        none = factors[0].new_zeros(factors[0].shape[:-2])
        return {**super().initial_state(factors), "mean_square": (none, none)}

    def direction(
        self, batch: Batch, X: FixedRank, gradient: Tangent, past: Tangent, state: State
    ) -> tuple[Tangent, Tangent, State]:
        group = batch.group
        momentum, beta, count = group["momentum"], group["beta"], batch.step + 1
        M = added(scaled(past, momentum), scaled(gradient, 1 - momentum))
        squares = [
            v.lerp(torch.linalg.matrix_norm(D).square(), 1 - beta)
            for v, D in zip(state["mean_square"], gradient, strict=True)
        ]
        step = M
        if group["adaptive"]:
            step = Tangent(
                *(
                    D
                    / (1 - momentum**count)
                    / ((v / (1 - beta**count)).sqrt() + group["eps"])[..., None, None]
                    for D, v in zip(M, squares, strict=True)
                )
            )
        return step, M, {"mean_square": (squares[0], squares[1])}
