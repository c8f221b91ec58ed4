"""One seed's flow by SciPy's solve_ivp: for the peers and for the references."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.integrate import solve_ivp

from benchmarks.case import ATOL_PER_RTOL, Array
from benchmarks.formula import velocity


@dataclass(frozen=True)
class Path:
    """B (T, p, r) and A (T, r, q) at the requested times; the right-hand sides it took."""

    B: Array
    A: Array
    evaluations: int


def scipy_path(
    method: str, B: Array, A: Array, target: Array, beta: float, times: Array, rtol: float
) -> Path:
    """From B (p, r), A (r, q) at times[0], at SciPy's own dense output."""
    split, rank = B.size, B.shape[1]

    def rhs(_: float, y: Array) -> Array:
        B, A = y[:split].reshape(-1, rank), y[split:].reshape(rank, -1)
        moved = velocity(B, A, target, beta, np.linalg.eigh, np.stack)
        return np.concatenate([part.ravel() for part in moved])

    solved = solve_ivp(
        rhs,
        (float(times[0]), float(times[-1])),
        np.concatenate([B.ravel(), A.ravel()]),
        method=method,
        t_eval=times,
        rtol=rtol,
        atol=ATOL_PER_RTOL * rtol,
    )
    if not solved.success:
        raise RuntimeError(f"{method}: {solved.message}")
    states = solved.y.T
    return Path(
        states[:, :split].reshape(-1, *B.shape),
        states[:, split:].reshape(-1, *A.shape),
        int(solved.nfev),
    )
