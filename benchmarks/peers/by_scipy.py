"""SciPy's solve_ivp, seed by seed on the full factors."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from benchmarks.case import FlowCase
from benchmarks.contestant import Contestant, Factors, Prepared


def prepare(method: str, case: FlowCase, seeds: Sequence[int], rtol: float) -> Prepared:
    """Draw the starts."""
    starts = [factor.numpy() for factor in case.starts(seeds)]

    def run() -> Factors:
        solved = [
            case.solve_with_scipy(method, (B, A), case.target, rtol)
            for B, A in zip(*starts, strict=True)
        ]
        left, right = zip(*solved, strict=True)
        return np.stack(left), np.stack(right)

    return Prepared(run)


DOP853 = Contestant("scipy DOP853", "scipy", "a loop over seeds", partial(prepare, "DOP853"))
RK45 = Contestant("scipy RK45", "scipy", "a loop over seeds", partial(prepare, "RK45"))
