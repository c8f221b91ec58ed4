"""The states are those at the requested times, neither more nor fewer, wherever the steps fell."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flows import Field, MatrixFactorization, gradient_flow, integrate, spectral_flow
from tests.flows.independent import Array, Flow, as_arrays, dense_target, identity

PROBLEM = MatrixFactorization.planted(m=6, n=5, singular_values=[2.0, 1.0], rank=2)
START = PROBLEM.gaussian_init(0.1, seed=range(2))
RTOL = 1e-8
FIELD = gradient_flow(PROBLEM)
END = 4.0


def exact(lane: int, times: list[float]) -> Array:
    start = as_arrays((START[0][lane], START[1][lane]))
    return Flow(dense_target(PROBLEM), identity).products(*start, times)


@settings(deadline=None, max_examples=12)
@given(inner=st.lists(st.floats(1e-6, END - 1e-6), max_size=8, unique=True), zero=st.booleans())
def test_times_are_honoured_whatever_the_others(inner: list[float], zero: bool) -> None:
    times = [0.0] * zero + [*sorted(inner), END]
    trajectory = integrate(FIELD, START, times, rtol=RTOL, atol=1e-10, stop_when_converged=False)
    assert trajectory.times.tolist() == times
    assert trajectory.states.shape[1] == len(times)
    only = integrate(FIELD, START, [END], rtol=RTOL, atol=1e-10, stop_when_converged=False)
    # What is asked on the way leaves no trace on the steps.
    assert float((trajectory.states[:, -1] - only.states[:, 0]).abs().max()) <= 1e-14
    assert torch.equal(trajectory.work.evaluations, only.work.evaluations)
    if zero:
        # The start itself, up to its way into the reduction and back.
        for lifted, factor in zip(trajectory.factors, START, strict=True):
            assert float((lifted[:, 0] - factor).abs().max()) <= 1e-15
    found, asked = trajectory.products[0, zero:].numpy(), times[zero:]
    assert np.abs(found - exact(0, asked)).max() <= 5 * RTOL


def test_the_last_time_alone() -> None:
    trajectory = integrate(FIELD, START, [END], rtol=RTOL, atol=1e-10)
    assert trajectory.products.shape == (2, 1, 6, 5)
    assert np.abs(trajectory.products[1].numpy() - exact(1, [END])).max() <= 5 * RTOL


@pytest.mark.parametrize("end", [1e-9, 1e-3, 0.37])
def test_a_short_way(end: float) -> None:
    trajectory = integrate(FIELD, START, [end / 2, end], rtol=RTOL, atol=1e-10)
    expected = exact(0, [end / 2, end])
    assert np.abs(trajectory.products[0].numpy() - expected).max() <= 5 * RTOL


def test_a_dense_grid_is_free_and_smooth() -> None:
    field = spectral_flow(PROBLEM, 0.1)
    dense = torch.linspace(0, END, 4001, dtype=torch.float64)
    coarse = integrate(field, START, dense[::1000], rtol=RTOL, atol=1e-10)
    fine = integrate(field, START, dense, rtol=RTOL, atol=1e-10)
    assert float((fine.states[:, ::1000] - coarse.states).abs().max()) <= 1e-14
    assert torch.equal(fine.work.evaluations, coarse.work.evaluations)
    # No jump where one step's output ends and the next begins: the velocity is bounded by one, and
    # its change by its Lipschitz constant, 2 sigma_1 / beta at most.
    moves = torch.linalg.matrix_norm(fine.states.diff(dim=1))
    spacing = float(dense[1])
    assert float(moves.max()) <= 2 * 2**0.5 * spacing * (1 + 1e-6)
    turns = torch.linalg.matrix_norm(fine.states.diff(n=2, dim=1))
    assert float(turns.max()) <= spacing**2 * 2 * 2.0 / 0.1 * 2 + 5 * RTOL


@pytest.mark.parametrize(
    "field", [FIELD, spectral_flow(PROBLEM, 0.1)], ids=["gradient flow", "spectral flow"]
)
def test_times_may_be_a_list_or_a_tensor_of_another_precision(field: Field) -> None:
    by_list = integrate(field, START, [0.5, 1.0])
    by_tensor = integrate(field, START, torch.tensor([0.5, 1.0], dtype=torch.float32))
    assert torch.equal(by_list.states, by_tensor.states)
    assert by_tensor.times.dtype is torch.float64


def test_a_flow_goes_on_where_it_was_left() -> None:
    whole = integrate(FIELD, START, [1.0, 3.0], rtol=RTOL, atol=1e-10)
    first = integrate(FIELD, START, [1.0], rtol=RTOL, atol=1e-10)
    B, A = (factor[:, 0] for factor in first.factors)
    second = integrate(FIELD, (B, A), [2.0], rtol=RTOL, atol=1e-10)
    assert float((whole.products[:, 1] - second.products[:, 0]).abs().max()) <= 5 * RTOL
