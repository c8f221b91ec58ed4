"""Scaled gradient descent: each factor's gradient behind the other's inverse Gram matrix."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from geometry.errors import require_nonnegative
from geometry.gauge import Pair
from geometry.inverse_root import inverse_root
from simulate.optimizers.pair_optimizer import Batch, PairOptimizer, Pairs, State, rate


class ScaledGD(PairOptimizer):
    """B <- B - lr G_B (A A^T)^-1, A <- A - lr (B^T B)^-1 G_A.

    Covariant, and its step W the gradient projected on the factors' spans, whatever their
    condition. Null directions of a Gram matrix are dropped, as in a pseudo-inverse.

    Args:
        pairs: [(B, A), ...] or groups; see :class:`PairOptimizer`.
        lr: the step, a number or one a member.
        damping: relative to the Frobenius norm of the Gram matrix.

    Reference: Tong, Ma, Chi 2021, Accelerating Ill-Conditioned Low-Rank Matrix Estimation via
    Scaled Gradient Descent, JMLR 22, equation (3).
    """

    def __init__(self, pairs: Pairs, lr: float | Tensor = 0.1, damping: float = 0.0) -> None:
        super().__init__(pairs, {"lr": lr, "damping": damping})

    def require_options(self, options: Mapping[str, Any]) -> None:
        super().require_options(options)
        require_nonnegative("damping", options["damping"])

    def initial_state(self, factors: Pair) -> State:
        return {}

    def updated(self, batch: Batch, state: State) -> tuple[Pair, State]:
        (B, A), (G_B, G_A), lr = batch.factors, batch.gradients, rate(batch)
        R_A, R_B = (inverse_root(X, damping=batch.group["damping"]) for X in (A, B.mT))
        return (B - lr * (G_B @ R_A @ R_A), A - lr * (R_B @ R_B @ G_A)), state
