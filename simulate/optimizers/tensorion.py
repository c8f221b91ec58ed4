"""Tensorion: Muon on tensors, by the unfolding that the momentum or the shape chooses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from geometry.bfloat16_newton_schulz import COEFFICIENTS, EPS
from geometry.errors import require_nonnegative
from geometry.names import unknown_name
from geometry.tensor import by_unfolding, offline_unfolding, online_unfolding
from geometry.unfolding import Modes, canonical, fold, require_tensors, unfold, unfolded_shape
from simulate.optimizers.descent import Rate, descend
from simulate.optimizers.matrix_optimizer import MatrixOptimizer
from simulate.optimizers.momentum import averaged, require_momentum
from simulate.optimizers.orthogonalizer_options import orthogonalized, require_orthogonalizer
from simulate.optimizers.rate_adjustment import rate_adjustment_named

ONLINE, OFFLINE = "online", "offline"


class Tensorion(MatrixOptimizer):
    """M <- mu M + G, then W <- (1 - lr weight_decay) W - lr ratio(m_tau, n_tau) fold(O(M_tau)).

    M_tau is the m_tau x n_tau unfolding of the momentum with the modes tau as rows, O an
    orthogonaliser, and the ratio .2 sqrt(max(m_tau, n_tau)), so that entries move by .2 lr in the
    root mean square. ``unfolding="online"`` takes the tau of the largest ||M_tau||_* anew in every
    step, and with the exact O is the step along the LMO of `geometry.tensor.tensor_lmo`;
    "offline" the tau of the largest min(m_tau, n_tau), which is a matter of the shape.

    On matrices it is Muon: weights have the bits of ``Muon(nesterov=False,
    adjust_lr_fn="match_rms_adamw", orthogonalizer=...)``, and with ``orthogonalizer="torch"`` of
    torch.optim.Muon with the first two. For that M is kept as Muon keeps it, (1 - mu) times the
    heavy ball above, a factor that neither an orthogonaliser nor the choice of tau sees.

    Reconstructed: Algorithm 1 and Eq. 24 are known to us by second-hand descriptions.

    Args:
        params: parameters (..., n_1, ..., n_d), d >= 2, or groups of them with options of their
            own.
        lr: as in `MatrixOptimizer`: a number, or one a member.
        weight_decay: decoupled decay; its rate is lr, not adjusted.
        momentum: mu in [0, 1), or a tensor that broadcasts to the leading dimensions.
        nesterov: whether the direction is G + mu (M - G), M as it is kept, in M's place.
        unfolding: "online", "offline", or the modes of the rows (or of the columns), numbers from
            0 to d - 1.
        order: d, the number of last dimensions that are modes; those before them are members of an
            ensemble. None: all dimensions are modes.
        ns_coefficients, eps, ns_steps, adjust_lr_fn, orthogonalizer, orthogonalizer_parameters: as
            in `Muon`, of the unfolded matrices; the default is the exact polar factor.

    Raises:
        ValueError: as in `MatrixOptimizer` and `Muon`; parameters of another order, a number of
            modes below 2; modes that a parameter does not have.

    Reference:
        Tensorion: A Tensor-Aware Generalization of the Muon Optimizer, arXiv 2606.25975.
    """

    buffer_names = ("momentum_buffer",)
    member_options = ("momentum",)

    def __init__(
        self,
        params: ParamsT,
        lr: Rate = 1e-3,
        weight_decay: float = 0.1,
        momentum: Rate = 0.95,
        nesterov: bool = False,
        ns_coefficients: tuple[float, float, float] = COEFFICIENTS,
        eps: float = EPS,
        ns_steps: int | None = None,
        adjust_lr_fn: str | None = "match_rms_adamw",
        *,
        unfolding: str | Sequence[int] = ONLINE,
        order: int | None = None,
        orthogonalizer: str = "svd",
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
            "unfolding": unfolding,
            "order": order,
            "orthogonalizer": orthogonalizer,
            "orthogonalizer_parameters": dict(orthogonalizer_parameters or {}),
        }
        super().__init__(params, defaults)

    def order_of(self, p: Tensor, name: str, options: Mapping[str, Any]) -> int:
        """How many last dimensions are modes; ValueError where a parameter has too few."""
        order = require_tensors(name, p, options["order"])
        if not isinstance(options["unfolding"], str):
            canonical(options["unfolding"], order)
        return order

    def require_options(self, options: Mapping[str, Any]) -> None:
        """Raise ValueError for an option out of its range."""
        require_nonnegative("weight_decay", options["weight_decay"])
        require_momentum(options)
        rate_adjustment_named(options["adjust_lr_fn"])
        require_orthogonalizer(options)
        unfolding = options["unfolding"]
        if isinstance(unfolding, str) and unfolding not in (ONLINE, OFFLINE):
            raise unknown_name("unfolding", unfolding, (ONLINE, OFFLINE))

    def updated(
        self, W: Tensor, G: Tensor, buffers: Mapping[str, Tensor], options: Mapping[str, Any]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """One step of a stack (k, ..., n_1, ..., n_d)."""
        order = W.ndim - 1 if options["order"] is None else options["order"]
        shape, batch = W.shape[-order:], W.shape[:-order]
        # But for the orthogonaliser all goes entry by entry: tensors as (n_1, the others).
        as_matrices = (*batch, shape[0], shape[1:].numel())
        M = buffers["momentum_buffer"].reshape(as_matrices)
        M, D = averaged(M, G.reshape(as_matrices), options)
        lr = options["lr"].to(W.device) if isinstance(options["lr"], Tensor) else options["lr"]
        W_, D = W.reshape(-1, *as_matrices[-2:]), D.reshape(-1, *shape)
        moved = torch.empty_like(W_)
        for modes, members in _chosen(D, order, options["unfolding"]):
            own = D[members]
            O = fold(orthogonalized(unfold(own, modes, order), options), modes, shape)  # noqa: E741
            moved[members] = descend(
                W_[members],
                O.reshape(-1, *as_matrices[-2:]),
                _rates(lr, batch, members),
                rate_adjustment_named(options["adjust_lr_fn"]).ratio(*unfolded_shape(shape, modes)),
                options["weight_decay"],
            )
        return moved.reshape(W.shape), {"momentum_buffer": M.reshape(W.shape)}


def _chosen(
    D: Tensor, order: int, unfolding: str | Sequence[int]
) -> Iterator[tuple[Modes, Tensor | slice]]:
    """Unfoldings, and the members of D (k, n_1, ..., n_d) that have them; a slice for all."""
    if unfolding == OFFLINE:
        yield offline_unfolding(D.shape[-order:]), slice(None)
    elif not isinstance(unfolding, str):
        yield canonical(unfolding, order), slice(None)
    else:
        for modes, members in by_unfolding(online_unfolding(D, order), order):
            yield modes, slice(None) if len(members) == len(D) else members


def _rates(lr: Rate, batch: torch.Size, members: Tensor | slice) -> Rate:
    """The rates of some members of a flattened batch."""
    if not isinstance(lr, Tensor) or lr.ndim == 0:
        return lr
    return lr.expand(batch).reshape(-1)[members]
