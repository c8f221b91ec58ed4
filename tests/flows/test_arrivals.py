"""Arrival times: against SciPy's events, closed forms, and re-integration."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.optimize import brentq

from flows import MatrixFactorization, gradient_flow, integrate, spectral_flow
from flows.arrivals import locate
from tests.flows.independent import Flow, as_arrays, dense_target, identity, sqrt_sign

SIGMA = [2.0, 1.5, 1.0]
PROBLEM = MatrixFactorization.planted(m=8, n=7, singular_values=SIGMA, rank=3, seed=1)


@pytest.mark.parametrize("beta", [None, 0.1, 0.02])
def test_arrivals_are_scipys_events(beta: float | None) -> None:
    B, A = PROBLEM.lora_init(1e-2, seed=0)
    end = 12.0 if beta is None else 3.0
    flow = Flow(dense_target(PROBLEM), identity if beta is None else sqrt_sign(beta))
    left, right, m = PROBLEM.left.numpy(), PROBLEM.right.numpy(), 8
    fractions = (0.1, 0.5, 0.9)

    def event(fraction: float, mode: int):  # type: ignore[no-untyped-def]
        def excess(_: float, y: np.ndarray) -> float:
            product = y[: m * 3].reshape(m, 3) @ y[m * 3 :].reshape(3, -1)
            return float(left[:, mode] @ product @ right[:, mode] - fraction * SIGMA[mode])

        return excess

    solution = flow.solve(
        *as_arrays((B, A)),
        [end],
        max_step=0.02,
        events=[event(fraction, mode) for fraction in fractions for mode in range(3)],
    )
    expected = np.array([times[0] for times in solution.t_events]).reshape(3, 3)
    field = gradient_flow(PROBLEM) if beta is None else spectral_flow(PROBLEM, beta)
    trajectory = integrate(field, (B, A), [end], rtol=1e-9, atol=1e-11, arrivals=fractions)
    for row, fraction in zip(expected, fractions, strict=True):
        # A state is right to 5e-9; near .9 sigma a mode grows at about .2 a time, or faster.
        apart = np.abs(trajectory.arrival_times(fraction).numpy() - row).max()
        assert apart <= 5e-9 / 0.1


def test_arrivals_of_balanced_gradient_flow_are_logistic() -> None:
    # s = sigma / (1 + (sigma / s0 - 1) exp(-2 sigma t)) reaches f sigma where
    # t = ln((sigma / s0 - 1) f / (1 - f)) / (2 sigma).
    s0 = 1e-4
    root = torch.full((3,), s0**0.5, dtype=torch.float64)
    start = PROBLEM.aligned_init(root, root, seed=range(2))
    trajectory = integrate(
        gradient_flow(PROBLEM), start, [20.0], rtol=1e-10, atol=1e-14, arrivals=(0.25, 0.9)
    )
    for fraction in (0.25, 0.9):
        expected = [
            math.log((sigma / s0 - 1) * fraction / (1 - fraction)) / (2 * sigma) for sigma in SIGMA
        ]
        for lane in range(2):
            found = trajectory.arrival_times(fraction)[lane].tolist()
            assert found == pytest.approx(expected, abs=1e-8)


def test_arrivals_of_balanced_spectral_flow_are_the_quadrature() -> None:
    # t(x) is the integral of sqrt(1 + beta^2 / g^2), g = x (sigma - x^2), s = x^2.
    beta, x0 = 0.05, 1e-2
    root = torch.full((3,), x0, dtype=torch.float64)
    trajectory = integrate(
        spectral_flow(PROBLEM, beta), PROBLEM.aligned_init(root, root), [3.0], rtol=1e-9
    )
    for sigma, found in zip(SIGMA, trajectory.arrival_times(0.9).tolist(), strict=True):
        expected, _ = quad(
            lambda x, sigma=sigma: math.hypot(1.0, beta / (x * (sigma - x**2))),
            x0,
            (0.9 * sigma) ** 0.5,
            epsabs=1e-12,
            epsrel=1e-12,
        )
        assert found == pytest.approx(expected, abs=5e-8)


def test_the_first_passage_counts_where_a_mode_comes_and_goes() -> None:
    # Large unaligned starts: modes pass their level, fall below it and pass it again.
    problem = MatrixFactorization.planted(m=4, n=4, singular_values=[2.0, 1.0], rank=2, seed=1)
    times = torch.linspace(0, 3, 3001, dtype=torch.float64)
    start = problem.gaussian_init(1.0, seed=range(40))
    trajectory = integrate(gradient_flow(problem), start, times, rtol=1e-6, atol=1e-8)
    above = trajectory.mode_values >= 0.9 * problem.singular_values
    upward = (above[:, 1:] & ~above[:, :-1]).sum(1) + above[:, 0].long()
    assert int((upward >= 2).sum()) >= 3
    first = times[above.to(torch.int8).argmax(1)]
    arrivals = trajectory.arrival_times(0.9)
    met = above.any(1)
    late = (first - arrivals)[met]
    assert float(late.min()) >= -1e-9
    assert float(late.max()) <= float(times[1])


def test_a_mode_that_never_arrives_says_so() -> None:
    poor = MatrixFactorization.planted(m=8, n=7, singular_values=SIGMA, rank=2, seed=1)
    start = poor.gaussian_init(0.1, seed=range(2))
    arrivals = integrate(gradient_flow(poor), start, [60.0], rtol=1e-7).arrival_times(0.9)
    assert bool(torch.isfinite(arrivals[:, :2]).all())
    assert bool(torch.isinf(arrivals[:, 2]).all())
    too_soon = integrate(gradient_flow(poor), start, [0.1], rtol=1e-7).arrival_times(0.9)
    assert bool(torch.isinf(too_soon).all())


def test_a_mode_that_starts_above_its_level_arrived_at_zero() -> None:
    strengths = torch.tensor([1.4, 0.1, 0.1], dtype=torch.float64)
    start = PROBLEM.aligned_init(strengths, strengths)
    arrivals = integrate(gradient_flow(PROBLEM), start, [10.0]).arrival_times(0.9)
    assert float(arrivals[0]) == 0.0
    assert bool((arrivals[1:] > 0.1).all())


@pytest.mark.parametrize("step", [None, 0.05])
def test_a_fraction_asked_for_later_is_the_same(step: float | None) -> None:
    start = PROBLEM.gaussian_init(0.1, seed=range(2))
    field = spectral_flow(PROBLEM, 0.1)
    method = "dormand_prince" if step is None else "runge_kutta_4"
    told, untold = (
        integrate(field, start, [1.0, 3.0], arrivals=fractions, method=method, step=step)
        for fractions in ((0.3, 0.9), ())
    )
    for fraction in (0.3, 0.9):
        asked = untold.arrival_times(fraction)
        assert bool(torch.isfinite(asked).all())
        assert float((told.arrival_times(fraction) - asked).abs().max()) <= 1e-14


def test_arrivals_do_not_change_the_trajectory() -> None:
    start = PROBLEM.gaussian_init(0.1, seed=range(2))
    field = spectral_flow(PROBLEM, 0.1)
    many, none = (
        integrate(field, start, [1.0, 3.0], arrivals=fractions) for fractions in ((0.2, 0.9), ())
    )
    assert torch.equal(many.states, none.states)
    assert torch.equal(many.work.evaluations, none.work.evaluations)


def test_arrivals_on_a_fixed_step_are_the_first_iterates_above() -> None:
    start = PROBLEM.gaussian_init(0.1, seed=range(2))
    times = torch.linspace(0, 3, 61, dtype=torch.float64)
    trajectory = integrate(spectral_flow(PROBLEM, 0.0), start, times, method="euler", step=0.05)
    above = trajectory.mode_values >= 0.9 * PROBLEM.singular_values
    first = times[above.to(torch.int8).argmax(1)]
    assert bool(above.any(1).all())
    assert float((trajectory.arrival_times(0.9) - first).abs().max()) <= 1e-12


@pytest.mark.parametrize("fraction", [0.0, -0.5, math.nan, math.inf])
def test_a_fraction_has_to_be_positive(fraction: float) -> None:
    start = PROBLEM.gaussian_init(0.1)
    with pytest.raises(ValueError, match="arrivals must be finite and > 0"):
        integrate(gradient_flow(PROBLEM), start, [1.0], arrivals=(fraction,))


@settings(deadline=None, max_examples=50)
@given(
    events=st.lists(
        st.tuples(st.floats(1e-6, 1 - 1e-6), st.integers(1, 9), st.floats(1e-12, 1e6)),
        min_size=1,
        max_size=6,
    )
)
def test_roots_are_located_to_round_off(events: list[tuple[float, int, float]]) -> None:
    # Steep, flat and very differently scaled crossings side by side.
    root, power, scale = (
        torch.tensor(column, dtype=torch.float64) for column in zip(*events, strict=True)
    )

    def height(theta: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        return scale[index] * (theta ** power[index] - root[index])

    ends = torch.zeros_like(root), torch.ones_like(root)
    index = torch.arange(len(root))
    found = locate(height, height(ends[0], index), height(ends[1], index))
    for theta, (level, exponent, _) in zip(found.tolist(), events, strict=True):
        expected = brentq(lambda x, p=exponent, c=level: x**p - c, 0.0, 1.0, xtol=1e-15)
        assert theta == pytest.approx(expected, abs=1e-13)
