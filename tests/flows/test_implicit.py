"""Implicit integration: the error asked for at requested times, hardly dearer for a small beta."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
import torch

from flows import Field, IntegrationError, MatrixFactorization, Trajectory, integrate, spectral_flow
from flows.closed_forms import smoothed_arrival, smoothed_state
from tests.flows.independent import Array, Flow, as_arrays, dense_target, sqrt_sign, tanh_sign

SIGMA = [2.0, 1.5, 1.0]
PROBLEM = MatrixFactorization.planted(m=8, n=9, singular_values=SIGMA, rank=3)
LORA = PROBLEM.lora_init(1e-2, seed=0)
GAUSSIAN = PROBLEM.gaussian_init(0.1, seed=range(3))
SIGNS = {"sqrt": sqrt_sign, "tanh": tanh_sign}
# The last modes arrive at about 1.4.
TIMES = np.linspace(0.0, 1.6, 17)
# Smoothing, decay, and the betas of the lanes, which have the same start.
CASES: dict[str, tuple[str, float, list[float]]] = {
    "sqrt": ("sqrt", 0.0, [0.1, 0.02, 1e-3]),
    "tanh": ("tanh", 0.0, [0.1, 1e-3]),
    "decay": ("sqrt", 0.3, [0.1, 0.02]),
}


def field_with(betas: list[float], smoothing: str = "sqrt", decay: float = 0.0) -> Field:
    scales = torch.tensor(betas, dtype=torch.float64)
    return spectral_flow(PROBLEM, scales, smoothing=smoothing, weight_decay=decay)


def implicit(
    field: Field, start: tuple[torch.Tensor, torch.Tensor], times: Array, rtol: float
) -> Trajectory:
    return integrate(field, start, torch.as_tensor(times), method="radau", rtol=rtol)


def apart(one: Trajectory, other: Trajectory) -> float:
    return float((one.products - other.products).abs().max())


@cache
def reference(name: str) -> Array:
    smoothing, decay, betas = CASES[name]
    flows = [Flow(dense_target(PROBLEM), SIGNS[smoothing](beta), decay=decay) for beta in betas]
    return np.stack([flow.products(*as_arrays(LORA), TIMES) for flow in flows])


@cache
def errors(name: str, rtol: float) -> list[float]:
    """The largest error of each lane at the requested times."""
    smoothing, decay, betas = CASES[name]
    B, A = (x.expand(len(betas), *x.shape) for x in LORA)
    path = implicit(field_with(betas, smoothing, decay), (B, A), TIMES, rtol)
    off: Array = np.abs(path.products.numpy() - reference(name)).max(axis=(1, 2, 3))
    return [float(x) for x in off]


@pytest.mark.parametrize("rtol", [1e-6, 1e-8])
@pytest.mark.parametrize("name", CASES)
def test_error_at_requested_times(name: str, rtol: float) -> None:
    # The largest entry of a product is about one; 5 is what local errors add up to.
    assert max(errors(name, rtol)) <= 5 * rtol


def test_the_error_falls_with_the_tolerance() -> None:
    # A local error of order 6 where the estimate, of order 4, is asked for rtol^(2/3): by rtol.
    found = [max(errors("sqrt", rtol)) for rtol in (1e-4, 1e-6, 1e-8)]
    assert found[1] <= 0.1 * found[0]
    assert found[2] <= 0.1 * found[1]


def aligned(beta: float, times: Array, rtol: float) -> tuple[Trajectory, float]:
    """The run from a balanced aligned start, and its distance from the closed form."""
    root = torch.full((3,), 0.05, dtype=torch.float64)
    path = implicit(spectral_flow(PROBLEM, beta), PROBLEM.aligned_init(root, root), times, rtol)
    strengths = smoothed_state(times[:, None], np.array(SIGMA), beta, 0.05) ** 2
    left, right = PROBLEM.left.numpy(), PROBLEM.right.numpy()
    expected = np.einsum("mk,tk,nk->tmn", left, strengths, right)
    return path, float(np.abs(path.products.numpy() - expected).max())


# Times on the arrivals and beside them, and none before the end.
GRIDS = {"on": np.linspace(0, 2, 41), "beside": np.linspace(0, 2, 38), "end": np.array([0.0, 2.0])}


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("beta", [1e-5, 1e-6])
def test_the_closed_form_where_it_is_very_stiff(beta: float, grid: str) -> None:
    path, error = aligned(beta, GRIDS[grid], 1e-8)
    assert error <= 5e-8
    # Measured: 436 to 613; an explicit method would need about 1e6 at beta = 1e-6.
    assert int(path.work.evaluations) <= 900
    expected = smoothed_arrival(0.9 * np.array(SIGMA), np.array(SIGMA), beta, 0.05)
    assert path.arrival_times(0.9).tolist() == pytest.approx(expected.tolist(), abs=1e-6)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("beta", [1e-4, 1e-5])
def test_no_step_leaps_over_an_arrival(beta: float, grid: str) -> None:
    # At an arrival the velocity of a mode goes from 1 to 0 within beta. A step whose error is
    # filtered by the stiffness at its end takes the mode h too far and never hears of it.
    _, error = aligned(beta, GRIDS[grid], 1e-6)
    assert error <= 5e-6


def test_both_methods_find_the_same_trajectory() -> None:
    field, times = field_with([0.1, 0.02]), torch.as_tensor(TIMES)
    start = GAUSSIAN[0][:2], GAUSSIAN[1][:2]
    runs = {
        (method, rtol): integrate(
            field, start, times, method=method, rtol=rtol, arrivals=(0.5, 0.9)
        )
        for method, rtol in (("dormand_prince", 1e-9), ("radau", 1e-9), ("radau", 1e-6))
    }
    explicit = runs["dormand_prince", 1e-9]
    assert apart(runs["radau", 1e-9], explicit) <= 1e-7
    assert apart(runs["radau", 1e-6], explicit) <= 1e-5
    # Between the times the polynomial is good to about .1 rtol^(2/3) = 1e-5.
    for fraction in (0.5, 0.9):
        one, other = (
            runs[key].arrival_times(fraction) for key in (("radau", 1e-6), ("dormand_prince", 1e-9))
        )
        met = torch.isfinite(other)
        assert bool(met[:, :2].all())
        assert torch.equal(torch.isfinite(one), met)
        assert float((one - other)[met].abs().max()) <= 1e-5


def test_lanes_are_independent_and_calls_repeat() -> None:
    betas = [0.02, 1e-3, 0.1]
    together, again = (implicit(field_with(betas), GAUSSIAN, TIMES, 1e-6) for _ in range(2))
    assert torch.equal(together.states, again.states)
    assert torch.equal(together.work.evaluations, again.work.evaluations)
    assert torch.equal(together.arrival_times(), again.arrival_times())
    assert len(set(together.work.accepted.tolist())) > 1
    # Alone, and behind a neighbour with another start.
    B, A = GAUSSIAN
    far_B, far_A = PROBLEM.gaussian_init(1.0, seed=[9])
    beside = implicit(
        field_with([0.05, *betas[:2]]),
        (torch.cat([far_B, B[:2]]), torch.cat([far_A, A[:2]])),
        TIMES,
        1e-6,
    )
    alone = implicit(field_with(betas[1:2]), (B[1:2], A[1:2]), TIMES, 1e-6)
    for other, lane, seat in ((beside, 0, 1), (beside, 1, 2), (alone, 1, 0)):
        off = (together.products[lane] - other.products[seat]).abs().amax((-2, -1))
        before = torch.as_tensor(TIMES) < together.work.stop_times[lane] - 0.1
        assert bool(before[:2].all())
        assert float(off[before].max()) <= 1e-9
        assert float(off.max()) <= 1e-6


@pytest.mark.parametrize("smoothing", SIGNS)
def test_both_kernels_find_the_same_trajectory(smoothing: str) -> None:
    pytest.importorskip("numba", reason="the compiled kernel needs numba")
    field, times = field_with([0.1, 0.02, 1e-3], smoothing), torch.as_tensor(TIMES[:13:2])
    plain, compiled = (
        integrate(field, GAUSSIAN, times, method="radau", rtol=1e-6, kernel=kernel)
        for kernel in ("plain", "compiled")
    )
    assert (plain.work.kernel, compiled.work.kernel) == ("plain", "compiled")
    assert apart(plain, compiled) <= 1e-9


def test_a_converged_lane_holds_its_state() -> None:
    rtol, betas = 1e-6, [0.02, 1e-3, 1e-4]
    held = implicit(field_with(betas), GAUSSIAN, np.linspace(0, 4, 9), rtol)
    stops = held.work.stop_times
    assert bool((stops < 3.0).all())
    residual = (held.products - PROBLEM.dense_target()).flatten(2).norm(dim=-1)
    assert float(residual[:, -1].max()) <= 1.02 * rtol
    for lane, stop in enumerate(stops.tolist()):
        after = held.states[lane, held.times >= stop]
        assert len(after) >= 2
        assert torch.equal(after, after[-1:].expand_as(after))
    through = integrate(
        field_with(betas), GAUSSIAN, held.times, method="radau", rtol=rtol,
        stop_when_converged=False,
    )  # fmt: skip
    assert bool(torch.isinf(through.work.stop_times).all())
    assert apart(held, through) <= 5 * rtol


def evaluations(method: str, beta: float) -> int:
    path = integrate(
        spectral_flow(PROBLEM, beta), LORA, [1.6], method=method, rtol=1e-6,
        stop_when_converged=False,
    )  # fmt: skip
    return int(path.work.evaluations)


def test_work_barely_depends_on_beta() -> None:
    # Explicit steps after an arrival are about beta / sigma long.
    implicit_growth = evaluations("radau", 1e-5) / evaluations("radau", 1e-2)
    explicit_growth = evaluations("dormand_prince", 1e-3) / evaluations("dormand_prince", 1e-2)
    assert implicit_growth <= 1.5
    assert explicit_growth > 3


def test_a_velocity_that_is_not_finite() -> None:
    B, A = (x.clone() for x in GAUSSIAN)
    B[1], A[1] = 1e120 * B[1], 1e120 * A[1]
    with pytest.raises(IntegrationError, match=r"not finite.*\(time 0, lane 1; see .factors\)"):
        integrate(spectral_flow(PROBLEM, 0.02), (B, A), [1.0], method="radau", max_steps=500)
    B[1] = math.nan
    with pytest.raises(ValueError, match="B must be finite"):
        integrate(spectral_flow(PROBLEM, 0.02), (B, A), [1.0], method="radau")


def test_too_many_steps() -> None:
    field = spectral_flow(PROBLEM, 0.02)
    with pytest.raises(IntegrationError, match=r"12 steps were not enough \(time") as caught:
        integrate(field, GAUSSIAN, [2.0], method="radau", rtol=1e-6, max_steps=12)
    error = caught.value
    assert 0 < error.time < 2
    assert f"lane {error.lane};" in str(error)
    assert error.lane in range(3)
    # The factors are those of the lane at the time.
    start = GAUSSIAN[0][error.lane], GAUSSIAN[1][error.lane]
    there = integrate(field, start, [error.time], method="dormand_prince", rtol=1e-8)
    B, A = error.factors
    assert float((there.products[0] - B @ A).abs().max()) <= 1e-5
