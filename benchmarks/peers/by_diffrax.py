"""diffrax: Tsit5, vmapped over seeds and compiled ahead of time, float64."""

from __future__ import annotations

import time
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import numpy as np

from benchmarks.case import ATOL_PER_RTOL, FlowCase
from benchmarks.contestant import Contestant, Factors, Prepared
from benchmarks.formula import velocity


def prepare(case: FlowCase, seeds: Sequence[int], rtol: float) -> Prepared:
    """Compile for these seeds and this tolerance."""
    diffrax: Any = import_module("diffrax")
    jax: Any = import_module("jax")
    jnp: Any = import_module("jax.numpy")

    jax.config.update("jax_enable_x64", True)
    target = jnp.asarray(case.target)

    def rhs(_: Any, y: Any, __: Any) -> Any:
        B, A = y
        return velocity(B, A, target, case.beta, jnp.linalg.eigh, jnp.stack)

    def solve(B: Any, A: Any) -> Any:
        return diffrax.diffeqsolve(
            diffrax.ODETerm(rhs),
            diffrax.Tsit5(),
            0.0,
            case.end,
            None,
            (B, A),
            saveat=diffrax.SaveAt(ts=jnp.asarray(case.times)),
            stepsize_controller=diffrax.PIDController(rtol=rtol, atol=ATOL_PER_RTOL * rtol),
            adjoint=diffrax.ForwardMode(),
            max_steps=None,
        ).ys

    start = tuple(jnp.asarray(factor.numpy()) for factor in case.starts(seeds))
    began = time.perf_counter()
    compiled = jax.jit(jax.vmap(solve)).lower(*start).compile()
    compile_seconds = time.perf_counter() - began

    def run() -> Factors:
        B, A = jax.block_until_ready(compiled(*start))
        return np.asarray(B), np.asarray(A)

    return Prepared(run, compile_seconds)


CONTESTANT = Contestant("diffrax", "diffrax", "Tsit5, vmap and jit", prepare)
