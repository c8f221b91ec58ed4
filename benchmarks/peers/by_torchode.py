"""torchode: all seeds in one batch, a step size for each."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from benchmarks.case import ATOL_PER_RTOL, FlowCase
from benchmarks.contestant import Contestant, Factors, Prepared
from benchmarks.formula import velocity


def prepare(method: str, case: FlowCase, seeds: Sequence[int], rtol: float) -> Prepared:
    """Build the solver around the batched right-hand side."""
    torchode: Any = import_module("torchode")

    target, split = torch.as_tensor(case.target), case.m * case.rank

    def rhs(_: Tensor, y: Tensor) -> Tensor:
        B = y[:, :split].unflatten(1, (case.m, case.rank))
        A = y[:, split:].unflatten(1, (case.rank, case.n))
        moved = velocity(B, A, target, case.beta, torch.linalg.eigh, torch.stack)
        return torch.cat([part.flatten(1) for part in moved], dim=1)

    term = torchode.ODETerm(rhs)
    stepper = getattr(torchode, method)(term=term)
    controller = torchode.IntegralController(atol=ATOL_PER_RTOL * rtol, rtol=rtol, term=term)
    # AutoDiffAdjoint is its plain solver; without a graph to keep, nothing is differentiated.
    solver = torchode.AutoDiffAdjoint(stepper, controller)
    start = torch.cat([factor.flatten(1) for factor in case.starts(seeds)], dim=1)
    times = torch.as_tensor(case.times).expand(len(seeds), -1).contiguous()

    def run() -> Factors:
        with torch.no_grad():
            problem = torchode.InitialValueProblem(y0=start, t_eval=times)
            return case.unpack(solver.solve(problem).ys.numpy())

    return Prepared(run)


DOPRI5 = Contestant("torchode dopri5", "torchode", "batched", partial(prepare, "Dopri5"))
TSIT5 = Contestant("torchode tsit5", "torchode", "batched", partial(prepare, "Tsit5"))
