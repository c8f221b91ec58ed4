"""This package: all seeds in one batch, in the exact reduction; the factors are lifted back."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from benchmarks.case import ATOL_PER_RTOL, FlowCase
from benchmarks.contestant import Contestant, Factors, Prepared
from flows import integrate, spectral_flow


def prepare(case: FlowCase, seeds: Sequence[int], rtol: float) -> Prepared:
    """Draw the starts and build the field."""
    field, start = spectral_flow(case.problem, case.beta), case.starts(seeds)
    times = torch.as_tensor(case.times)

    def run() -> Factors:
        B, A = integrate(
            field, start, times, rtol=rtol, atol=ATOL_PER_RTOL * rtol, arrivals=()
        ).factors
        return B.numpy(), A.numpy()

    return Prepared(run)


CONTESTANT = Contestant("flows", "torch", "Dormand–Prince, batched, reduced", prepare)
