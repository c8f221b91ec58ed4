"""Lanes stop when they have converged, hold their last value, and never stop at a saddle."""

from __future__ import annotations

import math

import pytest
import torch

from flows import Field, MatrixFactorization, Trajectory, gradient_flow, integrate, spectral_flow

SIGMA = [2.0, 1.5, 1.0]


def problem_of(rank: int, l2: float = 0.0) -> MatrixFactorization:
    return MatrixFactorization.planted(m=8, n=7, singular_values=SIGMA, rank=rank, l2=l2, seed=5)


def best_product(problem: MatrixFactorization) -> torch.Tensor:
    shrunk = problem.shrunk_singular_values
    kept = len(shrunk)
    return (problem.left[:, :kept] * shrunk) @ problem.right[:, :kept].mT


def assert_stopped_and_held(trajectory: Trajectory, tolerance: float) -> None:
    problem, stops = trajectory.field.problem, trajectory.work.stop_times
    assert bool(torch.isfinite(stops).all())
    assert float(stops.max()) < float(trajectory.times[-1])
    for lane, stop in enumerate(stops.tolist()):
        held = trajectory.states[lane, trajectory.times > stop]
        assert len(held) > 1
        assert torch.equal(held, held[:1].expand_as(held))
    off = trajectory.products[:, -1] - best_product(problem)
    assert float(torch.linalg.matrix_norm(off).max()) <= tolerance
    excess = trajectory.loss[:, -1] - problem.optimal_loss
    assert float(excess.abs().max()) <= 1e-12 * (1 + problem.optimal_loss)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("l2", [0.0, 0.25])
@pytest.mark.parametrize("spectral", [False, True])
def test_a_converged_lane_stops_and_holds_the_optimum(rank: int, l2: float, spectral: bool) -> None:
    problem = problem_of(rank, l2)
    field = spectral_flow(problem, 0.1) if spectral else gradient_flow(problem)
    start = problem.gaussian_init(0.3, seed=range(3))
    times = torch.linspace(0, 120, 61, dtype=torch.float64)
    rtol = 1e-7
    trajectory = integrate(field, start, times, rtol=rtol, atol=1e-2 * rtol)
    # The gradient is within the tolerance of the factors times the curvature; a product moves by
    # ||B|| + ||A|| times what the factors do.
    assert_stopped_and_held(trajectory, 2 * 2**0.5 * 2 * rtol)


def test_spare_columns_with_a_regulariser_converge_too() -> None:
    problem = problem_of(4, 0.25)
    start = problem.gaussian_init(0.3, seed=range(2))
    times = torch.linspace(0, 150, 61, dtype=torch.float64)
    trajectory = integrate(gradient_flow(problem), start, times, rtol=1e-7, atol=1e-9)
    assert_stopped_and_held(trajectory, 1e-6)


def test_a_regulariser_that_leaves_nothing_converges_to_zero() -> None:
    problem = problem_of(2, 3.0)
    start = problem.gaussian_init(0.5, seed=range(2))
    times = torch.linspace(0, 60, 31, dtype=torch.float64)
    trajectory = integrate(gradient_flow(problem), start, times, rtol=1e-7, atol=1e-9)
    assert_stopped_and_held(trajectory, 1e-6)


def test_unbalanced_minima_are_met_as_closely_as_their_curvature_allows() -> None:
    # Gradient flow keeps B^T B - A A^T, so this start ends far from the balanced minima that
    # optimal_curvature speaks of. Across an exchange of modes the Hessian at factors of squared
    # norms b2 and a2 is [[a2, -sigma_2], [-sigma_2, b2]].
    problem = problem_of(1)
    B, A = problem.gaussian_init(1.0, seed=0)
    rtol, field = 1e-6, gradient_flow(problem)
    trajectory = integrate(field, (B, 0.01 * A), [300.0], rtol=rtol, atol=1e-2 * rtol)
    assert bool(torch.isfinite(trajectory.work.stop_times).all())
    b2, a2 = (float(factor.square().sum()) for factor in trajectory.factors)
    curvature = (b2 + a2) / 2 - (((b2 - a2) / 2) ** 2 + SIGMA[1] ** 2) ** 0.5
    assert 0 < curvature < problem.optimal_curvature / 2
    off = torch.linalg.matrix_norm(trajectory.products[-1] - best_product(problem))
    amplified = 1.01 * rtol * problem.optimal_curvature / curvature
    assert 1e-9 < float(off) <= amplified * (a2**0.5 + b2**0.5)


def saddle_start(problem: MatrixFactorization, off: float) -> tuple[torch.Tensor, torch.Tensor]:
    """``off`` away from the saddle that keeps the last modes instead of the first."""
    modes = list(range(len(SIGMA) - problem.rank, len(SIGMA)))
    root = (problem.singular_values[modes] - problem.l2).sqrt()
    B, A = problem.aligned_init(root, root, modes, seed=0)
    noise_B, noise_A = problem.gaussian_init(off, seed=1)
    return B + noise_B, A + noise_A


@pytest.mark.parametrize("rank", [1, 2])
@pytest.mark.parametrize("l2", [0.0, 0.25])
@pytest.mark.parametrize("spectral", [False, True])
@pytest.mark.parametrize("off", [1e-9, 1e-12])
def test_no_lane_stops_at_a_saddle(rank: int, l2: float, spectral: bool, off: float) -> None:
    problem = problem_of(rank, l2)
    field: Field = spectral_flow(problem, 0.1) if spectral else gradient_flow(problem)
    times = torch.linspace(0, 200, 5, dtype=torch.float64)
    start = saddle_start(problem, off)
    trajectory = integrate(field, start, times, rtol=1e-6, atol=1e-15)
    assert float(trajectory.gradient_norms[0]) < 1e-6
    assert float(trajectory.loss[-1]) == pytest.approx(problem.optimal_loss, abs=1e-9)


def test_a_tiny_lora_start_leaves_the_saddle_at_zero() -> None:
    problem = problem_of(3)
    start = problem.lora_init(1e-9, seed=range(2))
    trajectory = integrate(gradient_flow(problem), start, [5.0, 60.0], rtol=1e-7, atol=1e-15)
    assert float(trajectory.loss[:, -1].max()) <= 1e-12
    assert bool((trajectory.work.stop_times > 15).all())


def test_exactly_on_a_saddle_nothing_moves_and_nothing_stops() -> None:
    problem = problem_of(2)
    start = saddle_start(problem, 0.0)
    trajectory = integrate(spectral_flow(problem, 0.1), start, [0.5, 1.0], rtol=1e-7, atol=1e-9)
    assert math.isinf(float(trajectory.work.stop_times))
    assert float((trajectory.products[-1] - start[0] @ start[1]).abs().max()) <= 1e-12


def test_decoupled_decay_has_its_own_rest_point_and_no_stop() -> None:
    problem = problem_of(3)
    # Decay this slight leaves the residual below a loose tolerance, and yet moves the rest point.
    field = gradient_flow(problem, weight_decay=1e-6)
    trajectory = integrate(field, problem.gaussian_init(0.3, seed=0), [20.0, 40.0], rtol=1e-4)
    assert math.isinf(float(trajectory.work.stop_times))


def test_stopping_changes_no_state_before_it() -> None:
    problem = problem_of(3)
    start = problem.lora_init(1e-2, seed=range(2))
    times = torch.linspace(0, 4, 41, dtype=torch.float64)
    field = spectral_flow(problem, 0.05)
    stopped = integrate(field, start, times)
    through = integrate(field, start, times, stop_when_converged=False)
    for lane, stop in enumerate(stopped.work.stop_times.tolist()):
        before = times <= stop
        assert 0 < int(before.sum()) < len(times)
        apart = stopped.states[lane, before] - through.states[lane, before]
        assert float(apart.abs().max()) <= 1e-13
    assert int(stopped.work.evaluations.sum()) < int(through.work.evaluations.sum())


def test_a_decaying_flow_never_counts_as_converged() -> None:
    # Decoupled decay ends elsewhere than at the objective's minimum.
    problem = problem_of(3)
    start = problem.gaussian_init(0.3, seed=range(2))
    field = gradient_flow(problem, weight_decay=0.05)
    # Imbalance decays with the rate 2 x .05: to e^-20 of the start's.
    trajectory = integrate(field, start, [200.0], rtol=1e-7, atol=1e-9)
    assert bool(torch.isinf(trajectory.work.stop_times).all())
    shrunk = torch.tensor([1.95, 1.45, 0.95], dtype=torch.float64)
    assert float((trajectory.singular_values[:, -1] - shrunk).abs().max()) <= 1e-6
