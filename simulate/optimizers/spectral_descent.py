"""SpecGD: descent along the polar factor of the gradient, exact or smoothed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.optim.optimizer import ParamsT

from geometry.errors import require_nonnegative
from geometry.polar import smoothed_msign
from geometry.smoothing import smoothing_named
from simulate.optimizers.descent import Rate, descend
from simulate.optimizers.matrix_optimizer import MatrixOptimizer


class SpectralDescent(MatrixOptimizer):
    """W <- (1 - lr weight_decay) W - lr T_beta(G).

    T_beta(G) = G (G^T G + beta^2 I)^(-1/2) with ``smoothing="sqrt"``; at beta = 0 it is the polar
    factor U V^T of G = U S V^T, and all singular values of an update are lr. It is *not* scaled by
    the nuclear norm of G: that is steepest descent in the spectral norm, another method. lr is not
    adjusted to the shape either.

    Euler's method with step lr on `flows.spectral_flow` has the same iterates.

    Args:
        params: parameters (..., m, n), or groups of them with options of their own.
        lr: as in `MatrixOptimizer`.
        beta: smoothing scale >= 0, or a tensor of scales > 0 that broadcasts to the leading
            dimensions of every parameter, one a member.
        smoothing: a name in `geometry.smoothing.SMOOTHINGS`, "sqrt" or "tanh".
        weight_decay: decoupled decay.

    Dtypes: the direction has the dtype of the gradient; half precisions compute it in float32.

    Raises:
        ValueError: as in `MatrixOptimizer`; negative beta or weight decay; unknown smoothing.

    Reference:
        SpecGD of Kang et al. 2026, arXiv 2602.06385.
    """

    member_options = ("beta",)

    def __init__(
        self,
        params: ParamsT,
        lr: Rate,
        beta: float | Tensor = 0.0,
        smoothing: str = "sqrt",
        weight_decay: float = 0.0,
    ) -> None:
        defaults = {"lr": lr, "beta": beta, "smoothing": smoothing, "weight_decay": weight_decay}
        super().__init__(params, defaults)

    def require_options(self, options: Mapping[str, Any]) -> None:
        """Raise ValueError for an option out of its range."""
        beta = options["beta"]
        if not isinstance(beta, Tensor):
            require_nonnegative("beta", beta)
        elif not bool(((beta > 0) & (beta < math.inf)).all()):
            raise ValueError(f"every beta must be finite and > 0, got {beta.tolist()}")
        smoothing_named(options["smoothing"])
        require_nonnegative("weight_decay", options["weight_decay"])

    def updated(
        self, W: Tensor, G: Tensor, buffers: Mapping[str, Tensor], options: Mapping[str, Any]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """One step of a stack (k, ..., m, n)."""
        direction = smoothed_msign(G, options["beta"], smoothing=options["smoothing"])
        return descend(W, direction, options["lr"], 1.0, options["weight_decay"]), {}
