"""The work a trajectory reports is the work that was done."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from flows import Field, MatrixFactorization, integrate, spectral_flow
from flows.explicit import SPAN
from flows.tableaux import TABLEAUX
from geometry.polar import smoothed_msign

PROBLEM = MatrixFactorization.planted(m=8, n=7, singular_values=[2.0, 1.0], rank=2)


class Instrumented:
    """T_beta, counting how many lanes it was evaluated on."""

    def __init__(self) -> None:
        self.lanes: list[int] = []

    def __call__(self, G: Tensor, _: Tensor | None) -> Tensor:
        self.lanes.append(G.shape[0])
        return smoothed_msign(G, 0.1, route="gram")


@pytest.mark.parametrize("reduce", [True, False])
def test_adaptive_evaluations_are_counted_lane_by_lane(reduce: bool) -> None:
    direction = Instrumented()
    field = Field(PROBLEM, direction, "instrumented")
    start = PROBLEM.gaussian_init(0.1, seed=range(3))
    # Lanes stop between 3 and 4.4: when exactly depends on round-off, for the residual wavers.
    work = integrate(field, start, [8.0], reduce=reduce).work
    factors_at_once = 1 if reduce else 2
    assert int(work.evaluations.sum()) == sum(direction.lanes) // factors_at_once
    stages = TABLEAUX["dormand_prince"].stages
    # Two to start with: the velocity, and the trial that fixes the first step.
    tried = (work.evaluations - 2) / stages
    # A lane that has stopped goes on with the others to the end of the span.
    assert torch.equal(tried, SPAN * (tried / SPAN).round())
    beyond = tried - (work.accepted + work.rejected)
    assert bool(((beyond >= 0) & (beyond < SPAN)).all())
    assert bool((work.stop_times < 8.0).all())
    # Lanes that stopped are no longer evaluated.
    assert direction.lanes[-1] < direction.lanes[0]


@pytest.mark.parametrize("method", sorted(TABLEAUX))
def test_fixed_step_evaluations_are_counted(method: str) -> None:
    direction = Instrumented()
    field = Field(PROBLEM, direction, "instrumented")
    start = PROBLEM.gaussian_init(0.1, seed=range(3))
    work = integrate(field, start, [0.5], method=method, step=0.05).work
    assert work.accepted.tolist() == [10] * 3
    assert work.rejected.tolist() == [0] * 3
    assert int(work.evaluations.sum()) == sum(direction.lanes)


def test_rejected_steps_are_reported() -> None:
    direction = Instrumented()
    start = PROBLEM.gaussian_init(0.1, seed=0)
    work = integrate(Field(PROBLEM, direction, "instrumented"), start, [4.0], rtol=1e-5).work
    assert int(work.rejected.sum()) > 0


def test_error_control_does_not_depend_on_the_ambient_size() -> None:
    # The same flow in a larger space, all new entries zero: a mean over entries would dilute the
    # error of the few that move.
    def padded(x: Tensor, rows: int) -> Tensor:
        return torch.nn.functional.pad(x, (0, 0, 0, rows))

    start = PROBLEM.gaussian_init(0.1, seed=0)
    large = MatrixFactorization.from_factors(
        padded(PROBLEM.left, 300), PROBLEM.singular_values, padded(PROBLEM.right, 300), 2
    )
    B, A = padded(start[0], 300), padded(start[1].mT, 300).mT
    small_run = integrate(spectral_flow(PROBLEM, 0.1), start, [1.0], rtol=1e-6, reduce=False)
    large_run = integrate(spectral_flow(large, 0.1), (B, A), [1.0], rtol=1e-6, reduce=False)
    steps = int(small_run.work.accepted[0])
    assert int(large_run.work.accepted[0]) == pytest.approx(steps, rel=0.05)
    apart = large_run.products[..., :8, :7] - small_run.products
    assert float(apart.abs().max()) <= 1e-6
