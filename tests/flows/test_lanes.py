"""Lanes are independent: each has its own step, stop and arrivals, whatever runs beside it."""

from __future__ import annotations

import pytest
import torch

from flows import (
    Field,
    MatrixFactorization,
    Trajectory,
    gradient_flow,
    integrate,
    spectral_flow,
)

PROBLEM = MatrixFactorization.planted(m=7, n=8, singular_values=[2.0, 1.5, 1.0], rank=3)
FIELDS = {
    "gradient flow": gradient_flow(PROBLEM),
    "gram": spectral_flow(PROBLEM, 0.05),
    "svd": spectral_flow(PROBLEM, 0.05, route="svd"),
}
TIMES = torch.linspace(0, 2.4, 13, dtype=torch.float64)
RTOL = 1e-8
# Batched kernels round in another order for another batch size (measured: 1e-17 to 6e-15). A step's
# length follows from an error estimate and a stability limit near round-off themselves, so another
# rounding moves the steps a little: far below the tolerance, but above round-off once the residual
# that fixes the stability limit is as small as the tolerance.
ROUND_OFF = 1e-12
CONVERGED = 1e-2 * RTOL


def assert_same(
    one: torch.Tensor, other: torch.Tensor, stops: torch.Tensor, bound: float = ROUND_OFF
) -> None:
    """States (lanes, T, ...) agree: to ``bound`` before a lane converges, then to CONVERGED."""
    apart = (one - other).abs().flatten(2).amax(-1)
    before = stops[:, None] - 0.1 > TIMES
    assert bool(before[:, 1].all())
    assert float(apart[before].max()) <= bound
    assert float(apart.max()) <= CONVERGED


def run(field: Field, B: torch.Tensor, A: torch.Tensor) -> Trajectory:
    return integrate(field, (B, A), TIMES, rtol=RTOL, atol=1e-2 * RTOL, arrivals=(0.5, 0.9))


@pytest.mark.parametrize("name", FIELDS)
def test_a_lane_equals_its_solo_run(name: str) -> None:
    # Very different lanes: their steps and the times at which they converge differ widely.
    scales = torch.tensor([1e-3, 0.3, 1e-1, 1.0], dtype=torch.float64)[:, None, None]
    B, A = PROBLEM.gaussian_init(1.0, seed=range(4))
    B, A = scales * B, scales * A
    together = run(FIELDS[name], B, A)
    for lane in range(4):
        alone = run(FIELDS[name], B[lane], A[lane])
        stop = together.work.stop_times[lane : lane + 1]
        assert_same(together.states[lane : lane + 1], alone.states, stop)
        for fraction in (0.5, 0.9):
            apart = together.arrival_times(fraction)[lane] - alone.arrival_times(fraction)
            assert float(apart.abs().nan_to_num(0.0).max()) <= ROUND_OFF
        steps = int(together.work.accepted[lane]), int(alone.work.accepted[0])
        assert steps[0] == pytest.approx(steps[1], abs=1)
    assert len(set(together.work.accepted.tolist())) > 1


@pytest.mark.parametrize("name", ["gradient flow", "gram"])
def test_a_lane_does_not_depend_on_its_neighbours(name: str) -> None:
    B, A = PROBLEM.gaussian_init(0.2, seed=range(3))
    neighbours = PROBLEM.gaussian_init(3.0, seed=[7, 8])
    first = run(FIELDS[name], B, A)
    other = run(
        FIELDS[name], torch.cat([neighbours[0], B.flip(0)]), torch.cat([neighbours[1], A.flip(0)])
    )
    assert_same(first.states, other.states[2:].flip(0), first.work.stop_times)


def test_copies_of_a_lane_agree() -> None:
    trajectory = run(FIELDS["gram"], *PROBLEM.gaussian_init(0.2, seed=[1] * 4))
    first = trajectory.states[:1].expand_as(trajectory.states)
    assert_same(trajectory.states, first, trajectory.work.stop_times)


@pytest.mark.parametrize("name", FIELDS)
def test_two_identical_calls_are_bitwise_equal(name: str, device: torch.device) -> None:
    if device.type != "cpu":
        pytest.skip("kernels of a GPU may add up in any order")
    start = PROBLEM.gaussian_init(0.2, seed=range(3))
    one, two = (run(FIELDS[name], *start) for _ in range(2))
    assert torch.equal(one.states, two.states)
    assert torch.equal(one.arrival_times(0.5), two.arrival_times(0.5))
    assert torch.equal(one.work.evaluations, two.work.evaluations)


def test_batch_dimensions_are_kept() -> None:
    B, A = PROBLEM.gaussian_init(0.2, seed=range(6))
    flat = run(FIELDS["gram"], B, A)
    nested = run(FIELDS["gram"], B.reshape(2, 3, 7, 3), A.reshape(2, 3, 3, 8))
    single = run(FIELDS["gram"], B[0], A[0])
    assert nested.singular_values.shape == (2, 3, 13, 3)
    assert nested.mode_values.shape == (2, 3, 13, 3)
    assert nested.loss.shape == nested.energy.shape == nested.gradient_norms.shape == (2, 3, 13)
    assert nested.imbalance.shape == (2, 3, 13, 3, 3)
    assert nested.factors[0].shape == (2, 3, 13, 7, 3)
    assert nested.products.shape == (2, 3, 13, 7, 8)
    assert nested.arrival_times().shape == (2, 3, 3)
    assert torch.equal(nested.states, flat.states)
    assert torch.equal(nested.products.flatten(0, 1), flat.products)
    assert single.singular_values.shape == (13, 3)
    assert single.arrival_times().shape == (3,)


def test_observables_are_those_of_the_ambient_factors() -> None:
    trajectory = run(FIELDS["gram"], *PROBLEM.gaussian_init(0.2, seed=range(2)))
    B, A = trajectory.factors
    spectrum = torch.linalg.svdvals(B @ A)[..., :3]
    assert float((trajectory.singular_values - spectrum).abs().max()) <= 1e-13
    assert float((trajectory.mode_values - PROBLEM.mode_values(B, A)).abs().max()) <= 1e-13
    assert float((trajectory.loss - PROBLEM.loss(B, A)).abs().max()) <= 1e-13
    assert float((trajectory.imbalance - (B.mT @ B - A @ A.mT)).abs().max()) <= 1e-13
    G_B, G_A = PROBLEM.gradients(B, A)
    norms = (G_B.square().sum((-2, -1)) + G_A.square().sum((-2, -1))).sqrt()
    assert float((trajectory.gradient_norms - norms).abs().max()) <= 1e-13
    velocity_B, velocity_A = FIELDS["gram"](B.flatten(0, 1), A.flatten(0, 1))
    energy = -(G_B.flatten(0, 1) * velocity_B).sum((-2, -1))
    energy = energy - (G_A.flatten(0, 1) * velocity_A).sum((-2, -1))
    assert float((trajectory.energy.flatten() - energy).abs().max()) <= 1e-13
