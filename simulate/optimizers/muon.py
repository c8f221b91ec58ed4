"""Muon: descent along the orthogonalised momentum, with any orthogonaliser and rate adjustment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.optim.optimizer import ParamsT

from geometry.bfloat16_newton_schulz import COEFFICIENTS, EPS
from geometry.errors import require_nonnegative
from simulate.optimizers.descent import Rate, descend
from simulate.optimizers.matrix_optimizer import MatrixOptimizer
from simulate.optimizers.momentum import averaged, require_momentum
from simulate.optimizers.orthogonalizer_options import (
    OF_TORCH,
    orthogonalized,
    require_orthogonalizer,
)
from simulate.optimizers.rate_adjustment import rate_adjustment_named


class Muon(MatrixOptimizer):
    """M <- M + (1 - momentum) (G - M), then W <- (1 - lr weight_decay) W - lr ratio(m, n) O(D).

    The direction D is G + momentum (M - G) with Nesterov's momentum and M without, O an
    orthogonaliser, and the ratio adjusts the rate to the shape of W. Names, order and defaults are
    those of torch.optim.Muon, and with ``orthogonalizer="torch"`` so are the bits of every
    weight, for 2-D parameters on the CPU: also with groups, stacks, schedulers and any shape.

    One case differs on purpose. With bfloat16 parameters and ``nesterov=False``, torch 2.13
    normalises the momentum buffer itself, in place (mended in pytorch pull request 194664); here
    orthogonalising never touches the buffer.

    Args:
        params: parameters (..., m, n), or groups of them with options of their own.
        lr: as in `MatrixOptimizer`.
        weight_decay: decoupled decay; its rate is lr, not adjusted.
        momentum: in [0, 1), 0 is none; or a tensor that broadcasts to the leading dimensions, one a
            member.
        nesterov: whether the direction looks ahead.
        ns_coefficients, eps: coefficients (a, b, c) and smallest divisor of the Newton-Schulz
            iteration of ``orthogonalizer="torch"``; the others have their own.
        ns_steps: number of polynomials; None is the orthogonaliser's own default, 5 for "torch".
        adjust_lr_fn: a name in `simulate.optimizers.rate_adjustment.RATE_ADJUSTMENTS`. "original",
            also None: sqrt(max(1, m / n)); "match_rms_adamw": 0.2 sqrt(max(m, n)); "spectral":
            sqrt(m / n); "unadjusted": 1.
        orthogonalizer: "torch", torch's iteration in bfloat16, whatever the dtype of the
            parameters; or a name in `geometry.orthogonalizers.ORTHOGONALIZERS`, in their own dtype.
        orthogonalizer_parameters: what such a method has besides its steps, for example
            ``{"lower_bound": 1e-4}`` for "polar_express".

    Raises:
        ValueError: as in `MatrixOptimizer`; options out of their ranges; unknown names;
            ns_coefficients or eps set for another orthogonaliser than "torch".

    References:
        Jordan et al., Muon, 2024, https://kellerjordan.github.io/posts/muon; torch.optim.Muon.
    """

    buffer_names = ("momentum_buffer",)
    member_options = ("momentum",)

    def __init__(
        self,
        params: ParamsT,
        lr: Rate = 1e-3,
        weight_decay: float = 0.1,
        momentum: Rate = 0.95,
        nesterov: bool = True,
        ns_coefficients: tuple[float, float, float] = COEFFICIENTS,
        eps: float = EPS,
        ns_steps: int | None = None,
        adjust_lr_fn: str | None = None,
        *,
        orthogonalizer: str = OF_TORCH,
        orthogonalizer_parameters: Mapping[str, float] | None = None,
    ) -> None:
        defaults = {
            "lr": lr,
            "weight_decay": weight_decay,
            "momentum": momentum,
            "nesterov": nesterov,
            "ns_coefficients": ns_coefficients,
            "eps": eps,
            "ns_steps": ns_steps,
            "adjust_lr_fn": adjust_lr_fn,
            "orthogonalizer": orthogonalizer,
            "orthogonalizer_parameters": dict(orthogonalizer_parameters or {}),
        }
        super().__init__(params, defaults)

    def require_options(self, options: Mapping[str, Any]) -> None:
        """Raise ValueError for an option out of its range."""
        require_nonnegative("weight_decay", options["weight_decay"])
        require_momentum(options)
        rate_adjustment_named(options["adjust_lr_fn"])
        require_orthogonalizer(options)

    def updated(
        self, W: Tensor, G: Tensor, buffers: Mapping[str, Tensor], options: Mapping[str, Any]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """One step of a stack (k, ..., m, n)."""
        M, D = averaged(buffers["momentum_buffer"], G, options)
        D = orthogonalized(D, options)
        ratio = rate_adjustment_named(options["adjust_lr_fn"]).ratio(*W.shape[-2:])
        W = descend(W, D, options["lr"], ratio, options["weight_decay"])
        return W, {"momentum_buffer": M}
