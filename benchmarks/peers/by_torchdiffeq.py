"""torchdiffeq: dopri5, all seeds as one system with a common step."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from benchmarks.case import ATOL_PER_RTOL, FlowCase
from benchmarks.contestant import Answer, Contestant, Prepared
from benchmarks.formula import velocity


def prepare(case: FlowCase, seeds: Sequence[int], rtol: float) -> Prepared:
    """Build the batched right-hand side."""
    torchdiffeq: Any = import_module("torchdiffeq")
    start, times = case.starts(seeds), torch.as_tensor(case.times)

    def run() -> Answer:
        target, calls = case.problem.dense_target(), 0

        def rhs(_: Tensor, y: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
            nonlocal calls
            calls += 1
            B, A = y
            return velocity(B, A, target, case.beta, torch.linalg.eigh, torch.stack)

        with torch.no_grad():
            B, A = torchdiffeq.odeint(
                rhs, start, times, method="dopri5", rtol=rtol, atol=ATOL_PER_RTOL * rtol
            )
        return Answer((B.transpose(0, 1).numpy(), A.transpose(0, 1).numpy()), float(calls))

    return Prepared(run)


CONTESTANT = Contestant("torchdiffeq", "torchdiffeq", "dopri5, batched, one step", "peer", prepare)
