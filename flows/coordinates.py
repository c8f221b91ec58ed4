"""The coordinates a flow is integrated in: ambient, or the exact reduction.

A state stacks the factors as (..., p + q, r), B above A^T. B(t) stays in span[B0, U] and A(t)^T in
span[A0^T, V]: every gradient is E A^T or B^T E with E = BA - Y, whose columns and rows lie in these
spans, and a spectral function of G is G times an r x r matrix. The same holds with momentum and
weight decay. In orthonormal bases Q_B, Q_A of the two spans the pair (b, a), B = Q_B b and
A = a Q_A^T, follows the same flow with target y = Q_B^T Y Q_A; no step pays for m or n.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from flows.bases import SpanBasis
from flows.starts import Factors

if TYPE_CHECKING:  # the problem makes its coordinates
    from flows.problem import MatrixFactorization


class Coordinates(Protocol):
    """What an integrator and a trajectory need to know of the coordinates."""

    def restrict(self, B: Tensor, A: Tensor) -> Tensor:
        """Factors (L, m, r), (L, r, n) to states (L, p + q, r)."""

    def lift(self, states: Tensor) -> Factors:
        """States (L, ..., p + q, r) to factors (L, ..., m, r), (L, ..., r, n)."""

    def select(self, lanes: Tensor) -> Coordinates:
        """The coordinates of some of the lanes."""

    def gradient(self, states: Tensor) -> Tensor:
        """The gradients G_B above G_A^T, as a state."""

    def blocks(self, states: Tensor) -> tuple[Tensor, ...]:
        """The matrices an orthogonaliser acts on, each (..., size, r), factors possibly stacked."""

    def join(self, blocks: tuple[Tensor, ...]) -> Tensor:
        """The inverse of :meth:`blocks`."""

    def factors(self, states: Tensor) -> Factors:
        """The pair (b, a) within these coordinates."""

    def loss(self, states: Tensor) -> Tensor:
        """The objective."""

    def mode_values(self, states: Tensor) -> Tensor:
        """d_i = u_i^T B A v_i, (..., k)."""

    def mode_overlaps(self, states: Tensor) -> Tensor:
        """u_j^T B A v_i, (..., k, k)."""

    def mode_rates(self, states: Tensor, velocity: Tensor) -> Tensor:
        """d/dt d_i = u_i^T (dB/dt A + B dA/dt) v_i, (..., k)."""


class AmbientCoordinates:
    """No reduction: the state is the factors themselves."""

    def __init__(self, problem: MatrixFactorization) -> None:
        self.problem = problem
        self._rows = problem.shape[0]

    def restrict(self, B: Tensor, A: Tensor) -> Tensor:
        return torch.cat([B, A.mT], dim=-2)

    def lift(self, states: Tensor) -> Factors:
        return self.factors(states)

    def select(self, lanes: Tensor) -> AmbientCoordinates:
        return self

    def gradient(self, states: Tensor) -> Tensor:
        return self.restrict(*self.problem.gradients(*self.factors(states)))

    def blocks(self, states: Tensor) -> tuple[Tensor, ...]:
        return states[..., : self._rows, :], states[..., self._rows :, :]

    def join(self, blocks: tuple[Tensor, ...]) -> Tensor:
        return torch.cat(blocks, dim=-2)

    def factors(self, states: Tensor) -> Factors:
        B, A_transposed = self.blocks(states)
        return B, A_transposed.mT

    def loss(self, states: Tensor) -> Tensor:
        return self.problem.loss(*self.factors(states))

    def mode_values(self, states: Tensor) -> Tensor:
        return self.problem.mode_values(*self.factors(states))

    def mode_overlaps(self, states: Tensor) -> Tensor:
        B, A = self.factors(states)
        return (self.problem.left.mT @ B) @ (A @ self.problem.right)

    def mode_rates(self, states: Tensor, velocity: Tensor) -> Tensor:
        (B, A), (dB, dA) = self.factors(states), self.factors(velocity)
        return self.problem.mode_values(dB, A) + self.problem.mode_values(B, dA)


@dataclass(frozen=True, eq=False)
class ReducedCoordinates:
    """Coordinates in bases of the two spans, one pair of bases a lane.

    Both factors get the same number d of rows (zero columns fill the smaller basis, and zero rows
    stay zero), so that a state is a stack of two d x r matrices and one batched product, one
    batched eigensolve, serves both factors.

    Attributes:
        bases: of the columns of B and of the rows of A.
        lanes: (L,), which of the bases' lanes these coordinates are of, None for all of them; a
            lane that leaves moves no basis.
        target_left, target_right: (L, d, k), Q_B^T U and Q_A^T V.
        target: (L, d, d), y = Q_B^T Y Q_A.
    """

    bases: tuple[SpanBasis, SpanBasis]
    lanes: Tensor | None
    target_left: Tensor
    target_right: Tensor
    target: Tensor
    l2: float

    @classmethod
    def of(cls, problem: MatrixFactorization, B: Tensor, A: Tensor) -> ReducedCoordinates:
        """The exact reduction of ``problem`` for starts B (L, m, r), A (L, r, n)."""
        left, right = SpanBasis.of(problem.left, B), SpanBasis.of(problem.right, A.mT)
        # A lane's own columns are orthogonal to U and V: they add rows of zeros.
        target_left, target_right = left.shared.mT @ problem.left, right.shared.mT @ problem.right
        lanes = len(B), -1, -1
        return cls._seen(
            problem, (left, right), target_left.expand(lanes), target_right.expand(lanes)
        )

    @classmethod
    def in_bases(
        cls, problem: MatrixFactorization, left: Tensor, right: Tensor
    ) -> ReducedCoordinates:
        """The problem seen in given bases, (L, m, p) and (L, n, q) with orthonormal columns.

        Exact only where the bases hold [B0, U] and [A0^T, V]; this is for showing that they must.
        """
        bases = SpanBasis.given(left), SpanBasis.given(right)
        return cls._seen(problem, bases, left.mT @ problem.left, right.mT @ problem.right)

    @classmethod
    def _seen(
        cls,
        problem: MatrixFactorization,
        bases: tuple[SpanBasis, SpanBasis],
        target_left: Tensor,
        target_right: Tensor,
    ) -> ReducedCoordinates:
        size = max(basis.size for basis in bases)
        target_left, target_right = (_with_rows(x, size) for x in (target_left, target_right))
        return cls(
            bases=bases,
            lanes=None,
            target_left=target_left,
            target_right=target_right,
            target=(target_left * problem.singular_values) @ target_right.mT,
            l2=problem.l2,
        )

    @property
    def left(self) -> Tensor:
        """Q_B, (L, m, d), orthonormal or zero columns, put together on demand."""
        return self._columns(0)

    @property
    def right(self) -> Tensor:
        """Q_A, (L, n, d), orthonormal or zero columns, put together on demand."""
        return self._columns(1)

    def restrict(self, B: Tensor, A: Tensor) -> Tensor:
        size = self.target.shape[-1]
        halves = [
            _with_rows(self._basis(i).coordinates(factor), size)
            for i, factor in enumerate((B, A.mT))
        ]
        return torch.cat(halves, dim=-2)

    def lift(self, states: Tensor) -> Factors:
        b, a = self.factors(states)
        return _by_lane(b.mT, self.left.mT).mT, _by_lane(a, self.right.mT)

    def select(self, lanes: Tensor) -> ReducedCoordinates:
        return replace(
            self,
            lanes=lanes if self.lanes is None else self.lanes[lanes],
            target_left=self.target_left[lanes],
            target_right=self.target_right[lanes],
            target=self.target[lanes],
        )

    def gradient(self, states: Tensor) -> Tensor:
        pair = self._pair(states)
        b, a_transposed = pair[:, 0], pair[:, 1]
        residual = torch.baddbmm(self.target, b, a_transposed.mT, beta=-1.0)
        gradient = torch.cat([residual @ a_transposed, residual.mT @ b], dim=-2)
        return gradient.add_(states, alpha=self.l2) if self.l2 else gradient

    def blocks(self, states: Tensor) -> tuple[Tensor, ...]:
        return (self._pair(states),)

    def join(self, blocks: tuple[Tensor, ...]) -> Tensor:
        (pair,) = blocks
        return pair.flatten(-3, -2)

    def factors(self, states: Tensor) -> Factors:
        pair = self._pair(states)
        return pair[..., 0, :, :], pair[..., 1, :, :].mT

    def loss(self, states: Tensor) -> Tensor:
        b, a = self.factors(states)
        loss = half_squares((b @ a).sub_(_align(self.target, states)))
        return loss.add_(half_squares(states), alpha=self.l2) if self.l2 else loss

    def mode_values(self, states: Tensor) -> Tensor:
        return self._modes(*self.factors(states))

    def mode_overlaps(self, states: Tensor) -> Tensor:
        b, a = self.factors(states)
        return _by_lane(b.mT, self.target_left).mT @ _by_lane(a, self.target_right)

    def mode_rates(self, states: Tensor, velocity: Tensor) -> Tensor:
        (b, a), (db, da) = self.factors(states), self.factors(velocity)
        return self._modes(db, a) + self._modes(b, da)

    def _modes(self, b: Tensor, a: Tensor) -> Tensor:
        return (_by_lane(b.mT, self.target_left) * _by_lane(a, self.target_right)).sum(-2)

    def _basis(self, side: int) -> SpanBasis:
        basis = self.bases[side]
        return basis if self.lanes is None else basis.select(self.lanes)

    def _columns(self, side: int) -> Tensor:
        rows = self._basis(side).columns().mT
        return _with_rows(rows, self.target.shape[-1]).mT

    def _pair(self, states: Tensor) -> Tensor:
        return states.unflatten(-2, (2, -1))


def half_squares(x: Tensor) -> Tensor:
    """1/2 ||x||_F^2 of matrices (..., p, q), or 1/2 ||x||^2 of one vector (p,)."""
    axes = (-2, -1) if x.ndim > 1 else (-1,)
    return 0.5 * (x * x).sum(axes)


def _with_rows(matrices: Tensor, count: int) -> Tensor:
    """Rows of zeros below those of (L, rows, r), so that there are ``count``."""
    if matrices.shape[-2] == count:
        return matrices
    return torch.nn.functional.pad(matrices, (0, 0, 0, count - matrices.shape[-2]))


def _by_lane(rows: Tensor, matrices: Tensor) -> Tensor:
    """rows (L, ..., r, q) times the matrix (L, q, n) of their lane.

    A product that broadcasts would copy the matrix for every one of the axes between.
    """
    return (rows.flatten(1, -2) @ matrices).unflatten(1, rows.shape[1:-1])


def _align(per_lane: Tensor, states: Tensor) -> Tensor:
    """Insert the axes (time, say) that states (L, ..., p + q, r) have beyond (L, a, b)."""
    extra = states.ndim - per_lane.ndim
    return per_lane.reshape(per_lane.shape[0], *(1,) * extra, *per_lane.shape[1:])
