"""Critical points of the factorization: a set of modes kept, the other columns zero."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from claims.uniform_spectral_growth.toy import SINGULAR_VALUES
from flows import MatrixFactorization
from flows.starts import Factors, haar_columns

RANK = 3


@dataclass(frozen=True)
class CriticalPoint:
    """B = U_I diag(sqrt(sigma_I)) Q, A = Q^T diag(sqrt(sigma_I)) V_I^T; columns beyond I are zero.

    ``kept`` is I, modes counted from 0.
    """

    name: str
    kept: tuple[int, ...]

    def factors(
        self, problem: MatrixFactorization, seed: int, offset: float = 0.0, mode: int = 0
    ) -> Factors:
        """The point with a random Q, moved by ``offset`` along the exchange for ``mode``.

        The exchange gives the last column, kept or free, a share of ``mode`` in both factors: the
        unit eigenvector of the Hessian with the curvature that :meth:`exchange` returns. A mode
        beyond the last one is a direction outside the target.
        """
        generator = torch.Generator().manual_seed(seed)
        rotation = haar_columns(problem.rank, problem.rank, generator).to(problem.left)
        b, a = (
            vectors.new_zeros(vectors.shape[0], problem.rank)
            for vectors in (problem.left, problem.right)
        )
        for factor, vectors in ((b, problem.left), (a, problem.right)):
            for column, kept in enumerate(self.kept):
                factor[:, column] = problem.singular_values[kept].sqrt() * vectors[:, kept]
            basis = torch.linalg.qr(vectors, mode="complete").Q
            direction = vectors[:, mode] if mode < vectors.shape[1] else basis[:, mode]
            factor[:, -1] += offset / math.sqrt(2) * direction
        return b @ rotation, rotation.mT @ a.mT

    def exchange(self, sigma: Sequence[float], rank: int, mode: int) -> float:
        """The curvature of giving the last column to ``mode``: sigma_i - sigma_j, or -sigma_j."""
        return (sigma[self.kept[-1]] if len(self.kept) == rank else 0.0) - sigma[mode]

    def descents(self, sigma: Sequence[float], rank: int) -> list[float]:
        """Every negative curvature of the loss, ascending."""
        left = [mode for mode in range(len(sigma)) if mode not in self.kept]
        free = [-sigma[j] for j in left for _ in range(rank - len(self.kept))]
        swaps = [sigma[i] - sigma[j] for i in self.kept for j in left if sigma[j] > sigma[i]]
        return sorted(free + swaps)


OPTIMUM = CriticalPoint("optimum", (0, 1, 2))
SWAP = CriticalPoint("swap saddle", (0, 1, 3))
RANK_TWO = CriticalPoint("rank-2 saddle", (0, 1))
ZERO = CriticalPoint("zero saddle", ())


def planted(m: int, n: int, seed: int) -> MatrixFactorization:
    """Singular values 5, 4, 3, 2, 1 and factors of rank 3."""
    return MatrixFactorization.planted(
        m=m, n=n, singular_values=SINGULAR_VALUES, rank=RANK, seed=seed
    )
