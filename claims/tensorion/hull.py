"""The norm N and its dual as convex programs, solved by Clarabel: independent of our formulas.

Nothing here uses that a linear function has its maximum over a hull where it has it over what it is
the hull of. Both programs are in the Y_tau and t_tau with ||Y_tau||_2 <= t_tau, which is
[[t I, Y], [Y^T, t I]] >= 0, of Y unfolded by tau. Nor are the unfoldings those of `geometry`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import clarabel
import numpy as np
import scipy.sparse as sparse
import torch
from numpy.typing import NDArray

from claims.tensorion.tensors import split, splits

Array = NDArray[np.float64]
ACCURACY = 1e-11
# An optimum over an intersection of balls lies where several end at once: further the solver's
# steps come to nothing, and now and then to no solution.
ACCURACY_OF_AN_INTERSECTION = 1e-7


@dataclass(frozen=True)
class Hull:
    """The unit ball of N on tensors of one shape."""

    shape: tuple[int, ...]

    def dual_norm(self, G: Array) -> float:
        """max <G, X> over X = sum Y_tau, ||Y_tau||_2 <= t_tau, sum t_tau <= 1."""
        count = len(self._blocks)
        cost = np.concatenate([*[-G.ravel()] * count, np.zeros(count)])
        total = sparse.csc_matrix(self._radii[None, :])
        return -self._solved(cost, total, np.ones(1), clarabel.NonnegativeConeT(1))

    def largest_where_every_unfolding_is_small(self, G: Array) -> float:
        """max <G, X> over ||X_tau||_2 <= 1 for every tau, the ball of max_tau ||X_tau||_2.

        To a relative 1e-7.
        """
        cones = [clarabel.PSDTriangleConeT(length) for length, _, _ in self._blocks]
        A = sparse.csc_matrix(sparse.vstack([of_Y for _, of_Y, _ in self._blocks]))
        b = np.concatenate([-of_t for _, _, of_t in self._blocks])
        return -_least(-G.ravel(), A, b, cones, ACCURACY_OF_AN_INTERSECTION)

    def norm(self, X: Array) -> float:
        """N(X) = min sum t_tau over sum Y_tau = X, ||Y_tau||_2 <= t_tau."""
        size, count = math.prod(self.shape), len(self._blocks)
        parts = sparse.hstack([*[sparse.eye(size)] * count, sparse.csc_matrix((size, count))])
        return self._solved(self._radii, parts, X.ravel(), clarabel.ZeroConeT(size))

    @property
    def _radii(self) -> Array:
        """1 for the t among the variables, which are the Y one by one, each in C order, and t."""
        count = len(self._blocks)
        return np.concatenate([np.zeros(math.prod(self.shape) * count), np.ones(count)])

    @cached_property
    def _blocks(self) -> list[tuple[int, sparse.coo_matrix, Array]]:
        """Of each unfolding the size m + n, and what Y and t are multiplied by in the triangle."""
        size = math.prod(self.shape)
        places, order = torch.arange(size).reshape(self.shape), len(self.shape)
        found = []
        for modes in splits(order):
            entries = split(places, modes, order).numpy()
            m, n = entries.shape
            columns = m + np.arange(n)
            # The upper triangle column by column, off the diagonal times the root of two.
            rows = columns * (columns + 1) // 2 + np.arange(m)[:, None]
            length = (m + n) * (m + n + 1) // 2
            of_Y = sparse.coo_matrix(
                (np.full(size, -math.sqrt(2)), (rows.ravel(), entries.ravel())), (length, size)
            )
            diagonal = np.arange(m + n)
            of_t = np.zeros(length)
            of_t[diagonal * (diagonal + 3) // 2] = -1.0
            found.append((m + n, of_Y, of_t))
        return found

    def _solved(self, cost: Array, first: sparse.spmatrix, right: Array, cone: object) -> float:
        """The least cost, with ``first`` x = or <= ``right`` by the cone, and the norms' cones."""
        norms = sparse.hstack(
            [
                sparse.block_diag([of_Y for _, of_Y, _ in self._blocks]),
                sparse.block_diag([of_t[:, None] for _, _, of_t in self._blocks]),
            ]
        )
        A = sparse.csc_matrix(sparse.vstack([first, norms]))
        b = np.concatenate([right, np.zeros(norms.shape[0])])
        cones = [cone, *(clarabel.PSDTriangleConeT(length) for length, _, _ in self._blocks)]
        return _least(cost, A, b, cones)


def _least(
    cost: Array,
    A: sparse.csc_matrix,
    b: Array,
    cones: Sequence[object],
    accuracy: float = ACCURACY,
) -> float:
    """min cost x over b - A x in the cones."""
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = accuracy
    quadratic = sparse.csc_matrix((len(cost), len(cost)))
    solution = clarabel.DefaultSolver(quadratic, cost, A, b, list(cones), settings).solve()
    if solution.status not in (clarabel.SolverStatus.Solved, clarabel.SolverStatus.AlmostSolved):
        raise RuntimeError(f"Clarabel found no optimum: {solution.status}")
    return float(solution.obj_val)
