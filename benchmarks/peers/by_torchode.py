"""torchode: all seeds in one batch, a step size for each."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from benchmarks.case import ATOL_PER_RTOL, FlowCase
from benchmarks.contestant import Answer, Contestant, Prepared
from benchmarks.formula import velocity
from benchmarks.formulation import Formulation, full, reduced


def prepare(
    method: str, formulation: Formulation, case: FlowCase, seeds: Sequence[int], rtol: float
) -> Prepared:
    """Draw the starts; the bases of a reduction are part of the run."""
    torchode: Any = import_module("torchode")
    start = case.starts(seeds)
    times = torch.as_tensor(case.times).expand(len(seeds), -1).contiguous()

    def run() -> Answer:
        system = formulation(case, start)
        target = torch.as_tensor(system.target)
        (rows, rank), columns = system.start[0].shape[1:], system.start[1].shape[2]
        split = rows * rank

        def factors(flat: Tensor) -> tuple[Tensor, Tensor]:
            B, A = flat[..., :split], flat[..., split:]
            return B.unflatten(-1, (rows, rank)), A.unflatten(-1, (rank, columns))

        def rhs(_: Tensor, y: Tensor) -> Tensor:
            B, A = factors(y)
            moved = velocity(B, A, target, case.beta, torch.linalg.eigh, torch.stack)
            return torch.cat([part.flatten(1) for part in moved], dim=1)

        term = torchode.ODETerm(rhs)
        stepper = getattr(torchode, method)(term=term)
        controller = torchode.IntegralController(atol=ATOL_PER_RTOL * rtol, rtol=rtol, term=term)
        # AutoDiffAdjoint is its plain solver; without a graph to keep, nothing is differentiated.
        solver = torchode.AutoDiffAdjoint(stepper, controller)
        flat = torch.cat([torch.as_tensor(part).flatten(1) for part in system.start], dim=1)
        with torch.no_grad():
            solution = solver.solve(torchode.InitialValueProblem(y0=flat, t_eval=times))
        B, A = factors(solution.ys)
        evaluations = float(solution.stats["n_f_evals"].double().mean())
        return Answer(system.lift(B.numpy(), A.numpy()), evaluations)

    return Prepared(run)


DOPRI5 = Contestant(
    "torchode dopri5", "torchode", "batched", "peer", partial(prepare, "Dopri5", full)
)
TSIT5 = Contestant("torchode tsit5", "torchode", "batched", "peer", partial(prepare, "Tsit5", full))
REDUCED = Contestant(
    "torchode tsit5, reduced",
    "torchode",
    "batched",
    "peer, reduced",
    partial(prepare, "Tsit5", reduced),
)
