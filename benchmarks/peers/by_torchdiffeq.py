"""torchdiffeq: dopri5, all seeds as one system with a common step."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from benchmarks.case import ATOL_PER_RTOL, FlowCase
from benchmarks.contestant import Contestant, Factors, Prepared
from benchmarks.formula import velocity


def prepare(case: FlowCase, seeds: Sequence[int], rtol: float) -> Prepared:
    """Build the batched right-hand side."""
    torchdiffeq: Any = import_module("torchdiffeq")

    target, start = torch.as_tensor(case.target), case.starts(seeds)
    times = torch.as_tensor(case.times)

    def rhs(_: Tensor, y: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        B, A = y
        return velocity(B, A, target, case.beta, torch.linalg.eigh, torch.stack)

    def run() -> Factors:
        with torch.no_grad():
            B, A = torchdiffeq.odeint(
                rhs, start, times, method="dopri5", rtol=rtol, atol=ATOL_PER_RTOL * rtol
            )
        return B.transpose(0, 1).numpy(), A.transpose(0, 1).numpy()

    return Prepared(run)


CONTESTANT = Contestant("torchdiffeq", "torchdiffeq", "dopri5, batched, one step", prepare)
