"""Adaptive integration against SciPy's DOP853 at 1e-12: the error asked for, at a bounded cost."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch

from flows import Field, MatrixFactorization, gradient_flow, integrate, spectral_flow
from tests.flows.independent import (
    Array,
    Flow,
    as_arrays,
    dense_target,
    identity,
    sqrt_sign,
    tanh_sign,
)

TOLERANCES = [1e-6, 1e-7, 1e-8, 1e-9, 1e-10]
PROBLEM = MatrixFactorization.planted(m=8, n=9, singular_values=[2.0, 1.5, 1.0], rank=3)
LORA = PROBLEM.lora_init(1e-2, seed=[0, 1])
POOR = MatrixFactorization.planted(m=8, n=9, singular_values=[2.0, 1.5, 1.0], rank=2)
SHRUNK = MatrixFactorization.planted(m=8, n=9, singular_values=[2.0, 1.0], rank=2, l2=0.2)
TARGET = dense_target(PROBLEM)

# field, start, end, the independent flow, and evaluations at rtol 1e-6 that no run may exceed:
# twice what was measured. A fifth-order method needs 10^(1/5) = 1.58 times more a decade.
CASES: dict[str, tuple[Field, tuple[torch.Tensor, torch.Tensor], float, Flow, int]] = {
    "gradient flow": (gradient_flow(PROBLEM), LORA, 10.0, Flow(TARGET, identity), 700),
    "gradient flow, rank too small": (
        gradient_flow(POOR),
        POOR.gaussian_init(0.1, seed=[0, 1]),
        10.0,
        Flow(TARGET, identity),
        700,
    ),
    "sqrt, .1": (spectral_flow(PROBLEM, 0.1), LORA, 3.0, Flow(TARGET, sqrt_sign(0.1)), 1000),
    "sqrt, .02": (spectral_flow(PROBLEM, 0.02), LORA, 3.0, Flow(TARGET, sqrt_sign(0.02)), 1400),
    "tanh, .1": (
        spectral_flow(PROBLEM, 0.1, smoothing="tanh"),
        LORA,
        3.0,
        Flow(TARGET, tanh_sign(0.1)),
        1000,
    ),
    "sqrt, l2": (
        spectral_flow(SHRUNK, 0.1),
        SHRUNK.lora_init(1e-2, seed=[0, 1]),
        3.0,
        Flow(dense_target(SHRUNK), sqrt_sign(0.1), l2=0.2),
        1000,
    ),
    "sqrt, decay": (
        spectral_flow(PROBLEM, 0.1, weight_decay=0.3),
        LORA,
        3.0,
        Flow(TARGET, sqrt_sign(0.1), decay=0.3),
        1000,
    ),
}


def times_of(name: str) -> Array:
    return np.linspace(0.0, CASES[name][2], 31)


@cache
def reference(name: str) -> Array:
    _, (B, A), _, flow, _ = CASES[name]
    return np.stack(
        [
            flow.products(*as_arrays((B[lane], A[lane])), times_of(name))
            for lane in range(B.shape[0])
        ]
    )


@pytest.mark.parametrize(
    ("name", "rtol"),
    [
        (name, rtol)
        for name in CASES
        for rtol in (TOLERANCES if name in ("gradient flow", "sqrt, .02") else TOLERANCES[::2])
    ],
)
def test_error_and_work(name: str, rtol: float) -> None:
    field, start, _, _, evaluations = CASES[name]
    trajectory = integrate(
        field, start, torch.as_tensor(times_of(name)), rtol=rtol, atol=1e-2 * rtol
    )
    error = np.abs(trajectory.products.numpy() - reference(name)).max()
    # The largest entry of a product is about one; 5 is what local errors add up to.
    assert error <= 5 * rtol
    decades = round(np.log10(TOLERANCES[0] / rtol))
    assert int(trajectory.work.evaluations.max()) <= evaluations * 10 ** (decades / 5)
    rejected = trajectory.work.rejected / (trajectory.work.accepted + trajectory.work.rejected)
    assert float(rejected.max()) <= 0.35


@pytest.mark.parametrize("name", ["gradient flow", "sqrt, .02"])
def test_a_run_to_the_end_is_as_accurate_as_one_that_stops(name: str) -> None:
    field, start, _, _, _ = CASES[name]
    times = torch.as_tensor(times_of(name))
    for rtol in (1e-6, 1e-9):
        through = integrate(
            field, start, times, rtol=rtol, atol=1e-2 * rtol, stop_when_converged=False
        )
        assert bool(torch.isinf(through.work.stop_times).all())
        assert np.abs(through.products.numpy() - reference(name)).max() <= 5 * rtol


@pytest.mark.parametrize("name", ["sqrt, .1"])
def test_without_the_reduction(name: str) -> None:
    field, start, _, _, _ = CASES[name]
    full = integrate(
        field, start, torch.as_tensor(times_of(name)), rtol=1e-8, atol=1e-10, reduce=False
    )
    assert np.abs(full.products.numpy() - reference(name)).max() <= 5e-8


def test_absolute_tolerance_alone_governs_a_state_near_zero() -> None:
    # A state of 1e-6 may be wrong by an atol of 1e-7, and no more is promised; with atol far
    # below it the growth is right to a relative rtol, amplified by the 2 e-foldings.
    B, A = PROBLEM.lora_init(1e-6, seed=0)
    times = np.array([1.0])
    exact = Flow(TARGET, identity).solve(*as_arrays((B, A)), times)
    assert exact.success
    expected = exact.y[:24, 0].reshape(8, 3)
    errors = {}
    for atol in (1e-7, 1e-16):
        found = integrate(gradient_flow(PROBLEM), (B, A), [1.0], rtol=1e-8, atol=atol).factors[0]
        errors[atol] = np.abs(found[0].numpy() - expected).max() / np.abs(expected).max()
    assert errors[1e-16] <= 1e-6 < errors[1e-7]


def test_progress_rises_to_the_end() -> None:
    shares: list[float] = []
    field, start, _, _, _ = CASES["gradient flow"]
    integrate(field, start, [5.0], progress=shares.append)
    assert shares == sorted(shares)
    assert 0 < shares[0] < shares[-1] <= 1.0
