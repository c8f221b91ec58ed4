"""The flow that everybody integrates, and the reference for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.integrate import solve_ivp

from benchmarks.formula import velocity
from flows import MatrixFactorization

Array = NDArray[np.float64]
ATOL_PER_RTOL = 1e-2


@dataclass(frozen=True)
class FlowCase:
    """SpecGF on a planted target from small Gaussian starts.

    The defaults are the benchmark; a test runs a smaller one.
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

    @cached_property
    def problem(self) -> MatrixFactorization:
        sigma = np.linspace(self.largest, self.smallest, self.rank).tolist()
        return MatrixFactorization.planted(
            m=self.m, n=self.n, singular_values=sigma, rank=self.rank, seed=0
        )

    @cached_property
    def target(self) -> Array:
        return np.asarray(self.problem.dense_target().numpy())

    @property
    def times(self) -> Array:
        return np.linspace(0.0, self.end, self.grid)

    def starts(self, seeds: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        return self.problem.gaussian_init(self.scale, seed=seeds)

    def unpack(self, states: Array) -> tuple[Array, Array]:
        """B (..., m, r) and A (..., r, n) of flat states (..., m r + r n)."""
        split = self.m * self.rank
        B, A = states[..., :split], states[..., split:]
        lead = states.shape[:-1]
        return B.reshape(*lead, self.m, self.rank), A.reshape(*lead, self.rank, self.n)

    def solve_with_scipy(
        self,
        method: str,
        start: tuple[Array, Array],
        target: Array,
        rtol: float,
        times: Array | None = None,
    ) -> tuple[Array, Array]:
        """B (T, ., r) and A (T, r, .) of one start by SciPy, at its own dense output."""
        B, A = start
        times, split, rank = self.times if times is None else times, B.size, self.rank

        def rhs(_: float, y: Array) -> Array:
            B, A = y[:split].reshape(-1, rank), y[split:].reshape(rank, -1)
            moved = velocity(B, A, target, self.beta, np.linalg.eigh, np.stack)
            return np.concatenate([part.ravel() for part in moved])

        states = solve_ivp(
            rhs,
            (float(times[0]), float(times[-1])),
            np.concatenate([B.ravel(), A.ravel()]),
            method=method,
            t_eval=times,
            rtol=rtol,
            atol=ATOL_PER_RTOL * rtol,
        ).y.T
        return states[:, :split].reshape(-1, *B.shape), states[:, split:].reshape(-1, *A.shape)

    def reference(self, seeds: Sequence[int]) -> Array:
        """Products (S, T, m, n) by SciPy's DOP853 at 1e-12.

        From one time of the grid to the next, for DOP853's dense output is far less accurate than
        its steps where modes arrive.
        """
        products = []
        for B, A in zip(*(factor.numpy() for factor in self.starts(seeds)), strict=True):
            path = [B @ A]
            for leg in zip(self.times[:-1], self.times[1:], strict=True):
                solved = self.solve_with_scipy("DOP853", (B, A), self.target, 1e-12, np.array(leg))
                B, A = (factor[-1] for factor in solved)
                path.append(B @ A)
            products.append(np.stack(path))
        return np.stack(products)
