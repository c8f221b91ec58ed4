"""What a peer is handed: the factors themselves, or the exact reduction that ours uses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from benchmarks.case import Array, Factors, FlowCase, Tensors


@dataclass(frozen=True)
class System:
    """Matrix factorizations to integrate, one a seed.

    Attributes:
        start: B (S, p, r) and A (S, r, q).
        target: (p, q), the same for all seeds, or (S, p, q).
        bases: (S, m, p) and (S, n, q), orthonormal, where the start is given in bases.
    """

    start: Factors
    target: Array
    bases: Factors | None = None

    def one_by_one(self) -> Iterator[tuple[Array, Array, Array]]:
        """B (p, r), A (r, q) and target (p, q) of every seed."""
        B, A = self.start
        targets = np.broadcast_to(self.target, (len(B), *self.target.shape[-2:]))
        yield from zip(B, A, targets, strict=True)

    def lift(self, B: Array, A: Array) -> Factors:
        """B (S, T, p, r) and A (S, T, r, q) to (S, T, m, r) and (S, T, r, n)."""
        if self.bases is None:
            return B, A
        left, right = (basis[:, None] for basis in self.bases)
        return left @ B, A @ right.mT


Formulation = Callable[[FlowCase, Tensors], System]


def full(case: FlowCase, start: Tensors) -> System:
    """The factors as they are, the target multiplied out."""
    B, A = (factor.numpy() for factor in start)
    return System((B, A), np.asarray(case.problem.dense_target().numpy()))


def reduced(case: FlowCase, start: Tensors) -> System:
    """In orthonormal bases of span[U, B0] and span[V, A0^T], which the flow never leaves."""
    B, A = (factor.numpy() for factor in start)
    problem = case.problem
    U, sigma, V = (x.numpy() for x in (problem.left, problem.singular_values, problem.right))
    left, right = _basis(U, B), _basis(V, A.mT)
    target = ((left.mT @ U) * sigma) @ (right.mT @ V).mT
    return System((left.mT @ B, A @ right), target, (left, right))


def _basis(target: Array, start: Array) -> Array:
    """(S, m, min(m, k + r)) orthonormal columns that hold the target's and the start's."""
    lead = (*start.shape[:-1], target.shape[1])
    return np.linalg.qr(np.concatenate([np.broadcast_to(target, lead), start], axis=-1)).Q
