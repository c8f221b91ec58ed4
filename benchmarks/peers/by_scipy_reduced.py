"""SciPy's solve_ivp, RK45, seed by seed, given the exact reduction as well."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.case import FlowCase
from benchmarks.contestant import Contestant, Factors, Prepared


def prepare(case: FlowCase, seeds: Sequence[int], rtol: float) -> Prepared:
    """Draw the starts; the bases are part of the run."""
    starts = [factor.numpy() for factor in case.starts(seeds)]
    left, right = case.problem.left.numpy(), case.problem.right.numpy()

    def run() -> Factors:
        lifted = []
        for B, A in zip(*starts, strict=True):
            Q_B, Q_A = (np.linalg.qr(np.hstack(pair))[0] for pair in ((left, B), (right, A.T)))
            start = Q_B.T @ B, A @ Q_A
            b, a = case.solve_with_scipy("RK45", start, Q_B.T @ case.target @ Q_A, rtol)
            lifted.append((Q_B @ b, a @ Q_A.T))
        B_all, A_all = zip(*lifted, strict=True)
        return np.stack(B_all), np.stack(A_all)

    return Prepared(run)


CONTESTANT = Contestant("scipy RK45, reduced", "scipy", "a loop over seeds, our reduction", prepare)
