"""Optimisers of LoRA pairs that step on the manifold of rank r: what they share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from geometry.errors import RankError, require_positive
from geometry.fixed_rank import FixedRank, Tangent, as_pair, retract
from geometry.fixed_rank_steps import nearest_factors, point_and_gradient, product_projected
from geometry.gauge import Pair
from geometry.scaling import widest_dtype
from simulate.optimizers.failed_step import NOT_FINITE, NotFiniteError
from simulate.optimizers.pair_optimizer import Batch, PairOptimizer, State, rate

BUFFER = "momentum_buffer"


class RiemannianPairOptimizer(PairOptimizer):
    """Base of those that move X = B A by X <- R((1 - lr weight_decay) X - lr D), D tangent at X.

    R is the truncated SVD. The momentum is kept as the m x n matrix of rank 2 r that it is, in
    factors (m, 2 r) and (2 r, n): it belongs to no gauge, and is carried to where a step starts by
    projection. The factors go out balanced, B^T B = A A^T, and of those as near as can be to what
    they were; a pair whose rate is 0 keeps its own, to the bit.

    ``scale`` is that of the adapter, alpha / r: gradient, step and lr are those of W = scale B A.

    Below float64 a step is computed in float64, where the device has it, and rounded once.
    """

    def require_options(self, options: Mapping[str, Any]) -> None:
        super().require_options(options)
        require_positive("scale", options["scale"])

    def initial_state(self, factors: Pair) -> State:
        B, A = factors
        twice = 2 * B.shape[-1]
        left = B.new_zeros(*B.shape[:-1], twice)
        return {BUFFER: (left, A.new_zeros(*A.shape[:-2], twice, A.shape[-1]))}

    @abstractmethod
    def direction(
        self, batch: Batch, X: FixedRank, gradient: Tangent, past: Tangent, state: State
    ) -> tuple[Tangent, Tangent, State]:
        """D, the momentum to keep, and what else is kept.

        Args:
            past: the momentum kept, at X.
        """

    def updated(self, batch: Batch, state: State) -> tuple[Pair, State]:
        given = batch.factors
        batch = batch._replace(factors=_wide(given), gradients=_wide(batch.gradients))
        state = {name: _wide(both) for name, both in state.items()}
        X, gradient = self._at(batch)
        scale, lr = batch.group["scale"], rate(batch)
        left = 1 - lr * batch.group["weight_decay"]
        if not bool((left > 0).all()):
            raise ValueError(
                "weight_decay * lr in [0, 1) is expected, for 0 is not on the manifold; given "
                f"weight_decay = {batch.group['weight_decay']:g} and lr up to {float(lr.max()):g}"
            )
        past = product_projected(X, *state[BUFFER])
        step, kept, others = self.direction(batch, X, scaled(gradient, 1 / scale), past, state)
        move = scaled(step, -lr / scale)
        try:
            moved = retract(X._replace(S=left * X.S), move)
            factors = nearest_factors(moved, *batch.factors)
        except torch.linalg.LinAlgError:  # type: ignore[attr-defined]
            _require_squares(batch, X, move)
            raise
        return _chosen(lr, factors, given), _like(given, {BUFFER: as_pair(X, kept), **others})

    def _at(self, batch: Batch) -> tuple[FixedRank, Tangent]:
        try:
            return point_and_gradient(*batch.factors, *batch.gradients)
        except RankError as error:
            raise RankError(
                f"pairs {list(batch.numbers)} of {type(self).__name__} at step {batch.step}: "
                f"{error}; nothing was updated"
            ) from None


def scaled(xi: Tangent, by: float | Tensor) -> Tangent:
    """Both halves times a number, or times one a member that broadcasts to them."""
    return Tangent(xi.D_U * by, xi.D_V * by)


def added(xi: Tangent, eta: Tangent) -> Tangent:
    """The sum of two tangent vectors at one point."""
    return Tangent(xi.D_U + eta.D_U, xi.D_V + eta.D_V)


def _require_squares(batch: Batch, X: FixedRank, move: Tangent) -> None:
    """Raise NotFiniteError for members that overflow within a step, where LAPACK only says so."""
    sizes = torch.stack([x.square().sum((-2, -1)) for x in (*batch.factors, X.S, *move)])
    gone = ~torch.isfinite(sizes).all(0)
    for number, members in zip(batch.numbers, gone, strict=True):
        if bool(members.any()):
            which = members.nonzero().tolist()
            raise NotFiniteError(
                f"pair {number}: a step whose squares are finite is expected; given one that is "
                f"not at step {batch.step}{f', members {which}' if members.ndim else ''}; nothing "
                "was updated",
                dict.fromkeys([member[0] for member in which if member], NOT_FINITE["new value"]),
            )


def _wide(both: Pair) -> Pair:
    first, second = (x.to(widest_dtype(x.dtype, x.device)) for x in both)
    return first, second


def _chosen(lr: Tensor, factors: Pair, given: Pair) -> Pair:
    B, A = (
        torch.where(lr > 0, new.to(old.dtype), old) for new, old in zip(factors, given, strict=True)
    )
    return B, A


def _like(given: Pair, state: State) -> State:
    return {name: (B.to(given[0].dtype), A.to(given[1].dtype)) for name, (B, A) in state.items()}
