"""diffrax: Tsit5, vmapped over seeds and compiled ahead of time, float64."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np

from benchmarks.case import ATOL_PER_RTOL, FlowCase
from benchmarks.contestant import Answer, Contestant, Prepared
from benchmarks.formula import velocity
from benchmarks.formulation import Formulation, full, reduced

# Seven stages, of which the last is the first of the next step.
EVALUATIONS_PER_STEP = 6


def prepare(
    formulation: Formulation, case: FlowCase, seeds: Sequence[int], rtol: float
) -> Prepared:
    """Compile for these seeds and this tolerance; the bases of a reduction are part of the run."""
    diffrax: Any = import_module("diffrax")
    jax: Any = import_module("jax")
    jnp: Any = import_module("jax.numpy")

    jax.config.update("jax_enable_x64", True)

    def rhs(_: Any, y: Any, target: Any) -> Any:
        B, A = y
        return velocity(B, A, target, case.beta, jnp.linalg.eigh, jnp.stack)

    def solve(B: Any, A: Any, target: Any) -> Any:
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(rhs),
            diffrax.Tsit5(),
            0.0,
            case.end,
            None,
            (B, A),
            args=target,
            saveat=diffrax.SaveAt(ts=jnp.asarray(case.times)),
            stepsize_controller=diffrax.PIDController(rtol=rtol, atol=ATOL_PER_RTOL * rtol),
            adjoint=diffrax.ForwardMode(),
            max_steps=None,
        )
        return *solution.ys, solution.stats["num_steps"]

    start = case.starts(seeds)
    system = formulation(case, start)
    axes = (0, 0, None if system.target.ndim == 2 else 0)
    began = time.perf_counter()
    compiled = jax.jit(jax.vmap(solve, axes)).lower(*system.start, system.target).compile()
    compile_seconds = time.perf_counter() - began

    def run() -> Answer:
        system = formulation(case, start)
        B, A, steps = jax.block_until_ready(compiled(*system.start, system.target))
        evaluations = EVALUATIONS_PER_STEP * float(np.mean(np.asarray(steps)))
        return Answer(system.lift(np.asarray(B), np.asarray(A)), evaluations)

    return Prepared(run, compile_seconds)


METHOD = "Tsit5, vmap and jit"
FULL = Contestant("diffrax", "diffrax", METHOD, "peer", partial(prepare, full))
REDUCED = Contestant(
    "diffrax, reduced", "diffrax", METHOD, "peer, reduced", partial(prepare, reduced)
)
