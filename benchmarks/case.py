"""The flow that everybody integrates: target, starts and the times at which it is compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from flows import MatrixFactorization
from flows.starts import haar_columns

Array = NDArray[np.float64]
Factors = tuple[Array, Array]
Tensors = tuple[torch.Tensor, torch.Tensor]
ATOL_PER_RTOL = 1e-2


@dataclass(frozen=True)
class FlowCase:
    """SpecGF on a planted target. The defaults are the benchmark; a test runs a smaller one.

    Attributes:
        start: "gaussian", both factors ``scale`` times a Gaussian; or "aligned", every mode of
            both factors at the strength ``scale``, turned by a random rotation of each seed.
        grid: how many times from 0 to ``end`` the answers are compared at.
        error_bound: of any entry of any product; an answer beyond it fails.
        embedded_in: the same flow in larger matrices, this many rows and columns: target and starts
            are carried over by random orthonormal columns. None for m x n itself.
    """

    m: int = 64
    n: int = 64
    rank: int = 8
    largest: float = 3.0
    smallest: float = 0.5
    scale: float = 0.1
    beta: float = 1e-2
    end: float = 4.0
    grid: int = 41
    error_bound: float = 3e-8
    start: Literal["gaussian", "aligned"] = "gaussian"
    embedded_in: int | None = None

    @property
    def core(self) -> FlowCase:
        """The m x n case that is embedded."""
        return replace(self, embedded_in=None)

    @property
    def times(self) -> Array:
        """(grid,)."""
        return np.linspace(0.0, self.end, self.grid)

    @cached_property
    def problem(self) -> MatrixFactorization:
        """Singular values evenly spaced, singular vectors Haar-random."""
        sigma = np.linspace(self.largest, self.smallest, self.rank).tolist()
        core = MatrixFactorization.planted(
            m=self.m, n=self.n, singular_values=sigma, rank=self.rank, seed=0
        )
        if self.embedded_in is None:
            return core
        P, Q = self.embedding
        return MatrixFactorization.from_factors(
            P @ core.left, core.singular_values, Q @ core.right, self.rank
        )

    @cached_property
    def embedding(self) -> Tensors:
        """P (embedded_in, m) and Q (embedded_in, n), orthonormal columns."""
        if self.embedded_in is None:
            raise ValueError("embedding: a case with embedded_in is expected; it is None")
        generator = torch.Generator().manual_seed(1)
        P, Q = (haar_columns(self.embedded_in, size, generator) for size in (self.m, self.n))
        return P, Q

    def starts(self, seeds: Sequence[int]) -> Tensors:
        """B (S, m, r) and A (S, r, n), or their embeddings."""
        if self.embedded_in is not None:
            (P, Q), (B, A) = self.embedding, self.core.starts(seeds)
            return P @ B, A @ Q.mT
        if self.start == "gaussian":
            return self.problem.gaussian_init(self.scale, seed=seeds)
        strength = torch.full((self.rank,), self.scale, dtype=torch.float64)
        return self.problem.aligned_init(strength, strength, seed=seeds)
