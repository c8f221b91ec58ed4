"""Integrations that cannot go on say when, in which lane, and what the last good factors were."""

from __future__ import annotations

import copy
import math
import pickle

import pytest
import torch
from torch import Tensor

from flows import Field, IntegrationError, MatrixFactorization, gradient_flow, integrate
from geometry.polar import msign, smoothed_msign

PROBLEM = MatrixFactorization.planted(m=6, n=5, singular_values=[2.0, 1.0], rank=2)
POISONED = 0.3


def starts() -> tuple[Tensor, Tensor]:
    """Lanes 0 and 2 near the saddle at zero; lane 1 near the optimum, its gradient soon small."""
    B, A = PROBLEM.gaussian_init(0.1, seed=range(3))
    root = (0.75 * PROBLEM.singular_values).sqrt()
    B[1], A[1] = PROBLEM.aligned_init(root, root)
    return B, A


START = starts()


def poisoned(smooth: str) -> Field:
    """A direction that turns NaN once the gradient of lane 1 is small."""

    def direction(G: Tensor, marks: Tensor | None) -> Tensor:
        assert marks is not None
        moved = {
            "plain": lambda: G.clone(),
            "spectral": lambda: smoothed_msign(G, 0.5, route="gram"),
            "svd": lambda: smoothed_msign(G, 0.5, route="svd"),
            "checked": lambda: msign(G),
        }[smooth]()
        small = (torch.linalg.matrix_norm(G) < POISONED).all(-1) & (marks > 0).flatten()
        return torch.where(small[:, None, None, None], math.nan, moved)

    return Field(PROBLEM, direction, "poisoned", scales=torch.tensor([0.0, 1.0, 0.0]))


def gradient_norm(factors: tuple[Tensor, Tensor]) -> float:
    return max(float(torch.linalg.matrix_norm(G)) for G in PROBLEM.gradients(*factors))


@pytest.mark.parametrize("smooth", ["plain", "spectral", "svd"])
def test_a_direction_that_turns_nan_adaptively(smooth: str) -> None:
    with pytest.raises(IntegrationError, match=r"\(time .*, lane 1; see .factors\)") as caught:
        integrate(poisoned(smooth), START, [20.0], rtol=1e-6)
    error = caught.value
    assert error.lane == 1
    assert 0 < error.time < 20
    good_B, good_A = error.factors
    assert good_B.shape == (6, 2)
    assert good_A.shape == (2, 5)
    # Just before the gradient gets there, but for round-off: the field saw reduced coordinates.
    assert (1 - 1e-14) * POISONED < gradient_norm(error.factors) < 1.001 * POISONED
    # They are the state of the healthy flow at that time.
    direction = (
        gradient_flow(PROBLEM)
        if smooth == "plain"
        else Field(PROBLEM, lambda G, _: smoothed_msign(G, 0.5, route="gram"), "healthy")
    )
    healthy = integrate(direction, (START[0][1], START[1][1]), [error.time], rtol=1e-6)
    assert float((healthy.products[0] - good_B @ good_A).abs().max()) <= 1e-4


@pytest.mark.parametrize("smooth", ["plain", "spectral", "svd", "checked"])
@pytest.mark.parametrize("method", ["euler", "runge_kutta_4"])
def test_a_direction_that_turns_nan_on_a_fixed_step(smooth: str, method: str) -> None:
    with pytest.raises(IntegrationError, match="not finite") as caught:
        integrate(poisoned(smooth), START, [20.0], method=method, step=0.1)
    error = caught.value
    assert error.lane == 1
    steps = error.time / 0.1
    assert steps == pytest.approx(round(steps))
    assert all(bool(torch.isfinite(factor).all()) for factor in error.factors)
    assert error.factors[0].shape == (6, 2)
    # The state was good there, and the next step reaches the poisoned size.
    assert gradient_norm(error.factors) < 3 * POISONED


def test_a_direction_that_is_nan_from_the_start() -> None:
    field = Field(PROBLEM, lambda G, _: G * math.nan, "nan")
    for options in ({}, {"method": "euler", "step": 0.1}):
        with pytest.raises(IntegrationError, match="not finite") as caught:
            integrate(field, START, [1.0], **options)  # type: ignore[arg-type]
        assert caught.value.time == 0.0
        assert caught.value.lane == 0
        assert float((caught.value.factors[0] - START[0][0]).abs().max()) <= 1e-15


def test_gradient_descent_that_diverges() -> None:
    # A step far beyond 2 / curvature.
    with pytest.raises(IntegrationError, match="not finite after step") as caught:
        integrate(gradient_flow(PROBLEM), START, [100.0], method="euler", step=2.0)
    assert 0 < caught.value.time < 100
    assert all(bool(torch.isfinite(factor).all()) for factor in caught.value.factors)


def test_too_many_steps() -> None:
    with pytest.raises(IntegrationError, match="12 steps were not enough") as caught:
        integrate(gradient_flow(PROBLEM), START, [20.0], max_steps=12)
    assert 0 < caught.value.time < 20
    assert 0 <= caught.value.lane < 3
    assert all(bool(torch.isfinite(factor).all()) for factor in caught.value.factors)


def test_a_field_that_jumps_is_found_out() -> None:
    # Declared continuous, it is not: the step falls below round-off at the jump.
    field = Field(PROBLEM, lambda G, _: msign(G, rank_cutoff=0.3), "jumps")
    with pytest.raises(IntegrationError, match=r"fell below round-off|not enough"):
        integrate(field, START, [20.0], max_steps=400)


def test_an_integration_error_comes_out_of_a_process_whole() -> None:
    """A pool that could not unpickle it would break, with all that it had under way."""
    with pytest.raises(IntegrationError) as caught:
        integrate(gradient_flow(PROBLEM), starts(), [1.0], max_steps=1)
    error = caught.value
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert str(again) == str(error)
        assert (again.time, again.lane) == (error.time, error.lane)
        assert all(torch.equal(x, y) for x, y in zip(again.factors, error.factors, strict=True))
