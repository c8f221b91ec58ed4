"""SciPy's solve_ivp, seed by seed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from benchmarks.case import FlowCase
from benchmarks.contestant import Answer, Contestant, Prepared
from benchmarks.formulation import Formulation, full, reduced
from benchmarks.scipy_path import scipy_path


def prepare(
    method: str, formulation: Formulation, case: FlowCase, seeds: Sequence[int], rtol: float
) -> Prepared:
    """Draw the starts; the bases of a reduction are part of the run."""
    start = case.starts(seeds)

    def run() -> Answer:
        system = formulation(case, start)
        paths = [
            scipy_path(method, B, A, target, case.beta, case.times, rtol)
            for B, A, target in system.one_by_one()
        ]
        B, A = np.stack([path.B for path in paths]), np.stack([path.A for path in paths])
        evaluations = float(np.mean([path.evaluations for path in paths]))
        return Answer(system.lift(B, A), evaluations)

    return Prepared(run)


LOOP = "a loop over seeds"
DOP853 = Contestant("scipy DOP853", "scipy", LOOP, "peer", partial(prepare, "DOP853", full))
RK45 = Contestant("scipy RK45", "scipy", LOOP, "peer", partial(prepare, "RK45", full))
REDUCED = Contestant(
    "scipy RK45, reduced", "scipy", LOOP, "peer, reduced", partial(prepare, "RK45", reduced)
)
