"""Where the stages of an implicit step begin: on the polynomial of the last, or on a parabola."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from flows import MatrixFactorization, spectral_flow
from flows.coordinates import ReducedCoordinates
from flows.implicit import ImplicitStepper
from flows.tolerance import Tolerance

LANES, LAST = 5, 0.2
NODES = torch.tensor([[[(4 - 6**0.5) / 10]], [[(4 + 6**0.5) / 10]], [[1.0]]], dtype=torch.float64)
TIMES = torch.tensor([100.0], dtype=torch.float64)
Path = Callable[[Tensor], Tensor]


def predicted(path: Path, slope: Path, h: float, has_last: bool = True) -> tuple[Tensor, Tensor]:
    """The stages of a step of length h, and the path there, both less its value at 0.

    The last step, from -LAST to 0, went along ``path``, a function of times (S,) to (S, N).
    """
    problem = MatrixFactorization.planted(m=6, n=5, singular_values=[2.0, 0.7], rank=2, seed=1)
    B, A = problem.gaussian_init(0.3, seed=range(LANES))
    coordinates = ReducedCoordinates.of(problem, B, A)
    start, field = coordinates.restrict(B, A), spectral_flow(problem, 1e-2)
    stepper = ImplicitStepper(field, coordinates, start, Tolerance(1e-6, 1e-8), TIMES)
    now, nodes, zero = stepper.now, stepper.method.nodes, torch.zeros(1, dtype=torch.float64)
    size = now.y.shape[1]
    begun = path(zero - LAST)
    now.last_Z = (path(LAST * (nodes - 1)) - begun)[:, None].expand(-1, LANES, size).clone()
    now.f = slope(zero).expand(LANES, size).clone()
    now.last_h, now.planned = torch.full_like(now.t, LAST), torch.full_like(now.t, h)
    now.has_last = torch.full_like(now.has_last, has_last)
    stepper._begin(torch.arange(LANES))
    assert bool((now.h == h).all())
    return now.Z, (path(nodes * h) - path(zero))[:, None].expand(-1, LANES, size)


def polynomial(*coefficients: float) -> tuple[Path, Path]:
    """Every component sum over k of coefficients_k t^k, and its derivative."""
    terms = list(enumerate(coefficients))

    def path(t: Tensor) -> Tensor:
        return sum((c * t[:, None] ** k for k, c in terms), torch.zeros_like(t)[:, None])

    def slope(t: Tensor) -> Tensor:
        return sum((k * c * t[:, None] ** max(k - 1, 0) for k, c in terms), 0 * t[:, None])

    return path, slope


@pytest.mark.parametrize("h", [0.3 * LAST, LAST, 4 * LAST])
def test_where_the_last_step_was_smooth_its_polynomial_goes_on(h: float) -> None:
    # At 4 LAST the terms of third order are .24 of those of second.
    found, expected = predicted(*polynomial(0.5, -1.0, 2.0, 0.6), h)
    # Round-off of second differences, times 4^3.
    assert float((found - expected).abs().max()) <= 1e-12


@pytest.mark.parametrize("coefficients", [(0.0, 3.0), (0.0, 1.0, -2.0)])
def test_parabolas_go_on_however_far(coefficients: tuple[float, ...]) -> None:
    found, expected = predicted(*polynomial(*coefficients), 7 * LAST)
    assert float((found - expected).abs().max()) <= 1e-13


def test_how_far_a_polynomial_goes_on_is_up_to_the_step() -> None:
    # Seen from its root all of a cube is of third order, which a step that is short does not mind.
    found, expected = predicted(*polynomial(0.0, 0.0, 0.0, 1.0), 0.29 * LAST)
    assert float((found - expected).abs().max()) <= 1e-15
    found, _ = predicted(*polynomial(0.0, 0.0, 0.0, 1.0), 0.31 * LAST)
    assert float(found.abs().max()) <= 1e-15


def test_of_two_curvatures_the_lesser_counts() -> None:
    # (t + LAST)^3 has 3 LAST at the end and 2 LAST across the step.
    found, _ = predicted(*polynomial(LAST**3, 3 * LAST**2, 3 * LAST, 1.0), 2 * LAST)
    t = 2 * LAST * NODES
    assert float((found - 3 * LAST**2 * t - 2 * LAST * t**2).abs().max()) <= 1e-14


def test_curvatures_of_two_signs_leave_a_straight_line() -> None:
    # LAST / 2 at the end, -LAST / 2 across the step, in which an arrival may have been.
    found, _ = predicted(*polynomial(0.0, 2.0, 0.5 * LAST, 1.0), 4 * LAST)
    assert float((found - 8 * LAST * NODES).abs().max()) <= 1e-14


def test_the_first_step_goes_along_the_velocity() -> None:
    found, _ = predicted(*polynomial(0.0, 2.0), 0.5 * LAST, has_last=False)
    assert float((found - LAST * NODES).abs().max()) <= 1e-15


def test_what_the_last_step_was_does_not_count_where_there_was_none() -> None:
    kept, _ = predicted(*polynomial(0.0, 2.0, 1.0, 0.6), LAST)
    found, _ = predicted(*polynomial(0.0, 2.0, 1.0, 0.6), LAST, has_last=False)
    assert float((found - kept).abs().max()) > 1e-3
