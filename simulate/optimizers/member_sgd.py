"""SGD with one learning rate a member: the formula of torch.optim.SGD, which takes one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.optim.optimizer import ParamsT

from geometry.errors import require_nonnegative, require_share
from simulate.optimizers.descent import Rate, descend
from simulate.optimizers.matrix_optimizer import MatrixOptimizer


class MemberSGD(MatrixOptimizer):
    """M <- momentum M + G, then W <- (1 - lr weight_decay) W - lr M, for matrices (..., m, n).

    Without decay that is torch.optim.SGD without dampening, and on the CPU in float32 and float64
    so are the bits, of every member as of one trained alone at its rate. Decay is decoupled.

    Args:
        params: parameters (..., m, n), or groups of them with options of their own.
        lr: as in `MatrixOptimizer`.
        momentum: in [0, 1); 0 is none. weight_decay: >= 0.

    Raises:
        ValueError: as in `MatrixOptimizer`; options out of their ranges.

    Reference: Sutskever et al., On the Importance of Initialization and Momentum, ICML 2013.
    """

    buffer_names = ("momentum_buffer",)

    def __init__(
        self,
        params: ParamsT,
        lr: Rate = 1e-3,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    def require_options(self, options: Mapping[str, Any]) -> None:
        """Raise ValueError for an option out of its range."""
        require_nonnegative("weight_decay", options["weight_decay"])
        require_share("momentum", options["momentum"])

    def updated(
        self, W: Tensor, G: Tensor, buffers: Mapping[str, Tensor], options: Mapping[str, Any]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """One step of a stack (k, ..., m, n)."""
        M = buffers["momentum_buffer"] * options["momentum"] + G
        return descend(W, M, options["lr"], 1.0, options["weight_decay"]), {"momentum_buffer": M}
