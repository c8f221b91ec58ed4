"""This package: all seeds in one batch, in the exact reduction; the factors are lifted back."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import cache, partial

import torch

from benchmarks.case import ATOL_PER_RTOL, FlowCase, Tensors
from benchmarks.contestant import Answer, Contestant, Prepared
from flows import Kernel, Trajectory, integrate, spectral_flow


def trajectory(
    case: FlowCase, start: Tensors, rtol: float, kernel: Kernel = "auto", max_steps: int = 1_000_000
) -> Trajectory:
    """The flow of ``case`` from ``start``, with no arrivals located."""
    return integrate(
        spectral_flow(case.problem, case.beta),
        start,
        torch.as_tensor(case.times),
        rtol=rtol,
        atol=ATOL_PER_RTOL * rtol,
        arrivals=(),
        max_steps=max_steps,
        kernel=kernel,
    )


def prepare(kernel: Kernel, case: FlowCase, seeds: Sequence[int], rtol: float) -> Prepared:
    """Draw the starts and build the problem; compile what the kernel compiles."""
    start, compile_seconds = case.starts(seeds), _compile_seconds(kernel)

    def run() -> Answer:
        found = trajectory(case, start, rtol, kernel)
        B, A = found.factors
        return Answer((B.numpy(), A.numpy()), float(found.work.evaluations.double().mean()))

    return Prepared(run, compile_seconds)


@cache
def _compile_seconds(kernel: Kernel) -> float:
    """By how much the first run of this process is slower than the second."""
    small = FlowCase(m=4, n=4, rank=2, beta=0.1, end=2.0, grid=3)
    start, seconds = small.starts([0]), []
    for _ in range(2):
        began = time.perf_counter()
        trajectory(small, start, 1e-6, kernel)
        seconds.append(time.perf_counter() - began)
    first, second = seconds
    return max(0.0, first - second)


METHOD = "batched, reduced"
CONTESTANT = Contestant("flows", "torch", METHOD, "ours", partial(prepare, "auto"))
PLAIN = Contestant("flows, plain", "torch", METHOD, "ours, plain", partial(prepare, "plain"))
