"""Fixed steps: Euler's iterates are the optimiser, step by step."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from flows import (
    Field,
    MatrixFactorization,
    gradient_flow,
    integrate,
    orthogonalized_flow,
    spectral_flow,
)
from geometry.polar import msign, orthogonalize
from tests.flows.independent import Flow, Spectral, as_arrays, dense_target, identity, sqrt_sign

PROBLEM = MatrixFactorization.planted(m=8, n=7, singular_values=[2.0, 1.0], rank=3, l2=0.05)
START = PROBLEM.gaussian_init(0.3, seed=range(2))
STEP, COUNT = 0.05, 40
TIMES = STEP * torch.arange(COUNT + 1, dtype=torch.float64)


def by_hand(flow: Flow, lane: int) -> tuple[np.ndarray, np.ndarray]:
    """GD or SpecGD as a loop: B <- B - eta D(G_B), A <- A - eta D(G_A), both from the old pair."""
    B, A = as_arrays((START[0][lane], START[1][lane]))
    iterates = [(B, A)]
    for _ in range(COUNT):
        velocity_B, velocity_A = flow.velocity(B, A)
        B, A = B + STEP * velocity_B, A + STEP * velocity_A
        iterates.append((B, A))
    left, right = zip(*iterates, strict=True)
    return np.stack(left), np.stack(right)


@pytest.mark.parametrize("reduce", [True, False])
@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("beta", [None, 0.5])
def test_euler_iterates_are_the_optimisers(beta: float | None, decay: float, reduce: bool) -> None:
    phi: Spectral = identity if beta is None else sqrt_sign(beta)
    field = gradient_flow(PROBLEM, weight_decay=decay)
    if beta is not None:
        field = spectral_flow(PROBLEM, beta, weight_decay=decay)
    trajectory = integrate(field, START, TIMES, method="euler", step=STEP, reduce=reduce)
    flow = Flow(dense_target(PROBLEM), phi, l2=0.05, decay=decay)
    for lane in range(2):
        for found, expected in zip(trajectory.factors, by_hand(flow, lane), strict=True):
            assert np.abs(found[lane].numpy() - expected).max() <= 1e-13


@pytest.mark.parametrize("method", ["exact", "muon"])
def test_euler_on_a_field_that_jumps(method: str) -> None:
    # The exact polar factor and Muon's polynomials, against a loop over the package's own
    # orthogonalisers (which geometry's tests check) on the full factors.
    if method == "exact":
        field: Field = spectral_flow(PROBLEM, 0.0)
    else:
        field = orthogonalized_flow(PROBLEM, "muon", 5)

    def direction(G: torch.Tensor) -> torch.Tensor:
        return msign(G) if method == "exact" else orthogonalize(G, method="muon", steps=5)

    trajectory = integrate(field, START, TIMES[:11], method="euler", step=STEP)
    B, A = START
    for index in range(11):
        found = trajectory.products[:, index]
        assert float((found - B @ A).abs().max()) <= 1e-11
        G_B, G_A = PROBLEM.gradients(B, A)
        B, A = B - STEP * direction(G_B), A - STEP * direction(G_A)


def test_one_over_eta_steps_are_a_unit_of_time() -> None:
    # All singular values of an update of SpecGD are eta: the path runs at the flow's speed.
    field = spectral_flow(PROBLEM, 0.0)
    for step in (0.02, 0.01):
        trajectory = integrate(field, START, [0.2, 0.4], method="euler", step=step)
        steps = round(0.4 / step)
        assert trajectory.work.accepted.tolist() == [steps, steps]
    smooth = spectral_flow(PROBLEM, 0.5)
    flow = integrate(smooth, START, [0.5, 1.0]).products
    gaps = []
    for step in (0.02, 0.01, 0.005):
        iterates = integrate(smooth, START, [0.5, 1.0], method="euler", step=step).products
        gaps.append(float((iterates - flow).abs().max()))
    ratios = [a / b for a, b in pairwise(gaps)]
    assert ratios == pytest.approx([2.0, 2.0], abs=0.1)


def test_times_between_the_iterates_are_refused() -> None:
    with pytest.raises(ValueError, match=r"multiples of step = 0.05.*given 0.12"):
        integrate(gradient_flow(PROBLEM), START, [0.05, 0.12], method="euler", step=STEP)


@pytest.mark.parametrize("count", [3, 7, 49, 101])
def test_rounded_multiples_are_multiples(count: int) -> None:
    times = torch.linspace(0, count / 10, count + 1, dtype=torch.float64)
    trajectory = integrate(gradient_flow(PROBLEM), START, times, method="euler", step=0.1)
    assert bool(torch.isfinite(trajectory.states).all())


@pytest.mark.parametrize("step", [0.0, -0.1, float("nan")])
def test_a_step_is_a_positive_number(step: float) -> None:
    with pytest.raises(ValueError, match="step must be finite and > 0"):
        integrate(gradient_flow(PROBLEM), START, [1.0], method="euler", step=step)


def test_the_adaptive_pair_takes_fixed_steps_too() -> None:
    field = spectral_flow(PROBLEM, 0.5)
    fixed = integrate(field, START, [1.0], step=0.02)
    adaptive = integrate(field, START, [1.0], rtol=1e-10, atol=1e-12)
    assert fixed.work.accepted.tolist() == [50, 50]
    assert fixed.work.rejected.tolist() == [0, 0]
    assert float((fixed.products - adaptive.products).abs().max()) <= 1e-8


def test_lanes_march_in_lockstep_and_never_stop() -> None:
    simple = MatrixFactorization.planted(m=8, n=7, singular_values=[2.0, 1.0], rank=2)
    field = gradient_flow(simple)
    B, A = simple.gaussian_init(0.3, seed=range(3))
    trajectory = integrate(field, (B, A), [10.0, 40.0], method="euler", step=0.1)
    assert bool(torch.isinf(trajectory.work.stop_times).all())
    alone = integrate(field, (B[1], A[1]), [10.0, 40.0], method="euler", step=0.1)
    assert float((alone.products - trajectory.products[1]).abs().max()) <= 1e-14


def test_a_time_that_rounds_to_the_start_has_the_start_s_state() -> None:
    problem = MatrixFactorization.planted(m=4, n=5, singular_values=[2.0, 1.0], rank=2)
    B, A = problem.gaussian_init(0.3, seed=0)
    path = integrate(gradient_flow(problem), (B, A), [1e-6, 0.1], method="euler", step=0.05)
    assert float((path.products[0] - B @ A).abs().max()) <= 1e-15
    assert bool(torch.isfinite(path.products).all())
