"""The compiled correction of implicit steps: the plain one to round-off, lane by lane."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from flows import MatrixFactorization, spectral_flow
from flows.coordinates import ReducedCoordinates
from flows.frozen_metric import FAST
from flows.implicit import STAGES, ImplicitStepper
from flows.radau import Radau
from flows.tolerance import Tolerance

# More than a block, and one that is not full.
LANES = 11


@pytest.fixture(autouse=True)
def numba() -> None:
    """Skips, and says why, where numba is missing."""
    pytest.importorskip("numba", reason="the compiled kernel needs numba")


class Case:
    """Lanes with scales, steps and increments of their own."""

    def __init__(self, smoothing: str = "sqrt", decay: float = 0.0) -> None:
        problem = MatrixFactorization.planted(
            m=9, n=8, singular_values=[2.0, 1.2, 0.7, 0.3], rank=3, seed=1
        )
        B, A = problem.gaussian_init(0.3, seed=range(LANES))
        self.coordinates = ReducedCoordinates.of(problem, B, A)
        self.states = self.coordinates.restrict(B, A)
        self.y = self.states.unflatten(-2, (2, -1)).contiguous()
        self.beta = torch.logspace(-5, -1, LANES, dtype=torch.float64)
        self.h = torch.logspace(-3, -1, LANES, dtype=torch.float64)
        generator = torch.Generator().manual_seed(3)
        drawn = torch.randn(STAGES, *self.y.shape, generator=generator, dtype=torch.float64)
        self.Z = 0.3 * self.h[:, None, None, None] * drawn
        self.plain = spectral_flow(problem, self.beta, smoothing=smoothing, weight_decay=decay)
        self.field = replace(self.plain, compiled=True)
        self.method = Radau.on(STAGES, self.y)

    def compiled(self, lanes: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The proposed corrections, and the singular values at the last stage."""
        index = torch.arange(LANES) if lanes is None else lanes
        there, field = self.coordinates.select(index), self.field.select(index)
        given = (self.y[index], self.Z[:, index], self.h[index], self.method, FAST)
        proposed, values, _ = field.compiled_correction(there, *given)
        return proposed, values

    def by_torch(self) -> Tensor:
        """What a stepper without the kernel proposes."""
        times = torch.tensor([1.0], dtype=torch.float64)
        tolerance = Tolerance(1e-6, 1e-8)
        stepper = ImplicitStepper(self.plain, self.coordinates, self.states, tolerance, times)
        stepper.h, stepper.Z = self.h, self.Z.flatten(2)
        return stepper._proposed().view_as(self.Z)


@pytest.mark.parametrize("smoothing", ["sqrt", "tanh"])
@pytest.mark.parametrize("decay", [0.0, 0.2])
def test_agrees_with_the_plain_correction(smoothing: str, decay: float) -> None:
    case = Case(smoothing, decay)
    given, expected = case.compiled()[0], case.by_torch()
    error = (given - expected).abs().amax((0, 2, 3, 4)) / expected.abs().amax((0, 2, 3, 4))
    # The plain spectrum goes by Gram matrices, whose round-off is u (||G|| / beta)^2.
    size = torch.linalg.matrix_norm(case.coordinates.gradient(case.states))
    rounding = torch.finfo(torch.float64).eps / 2 * (size / case.beta) ** 2
    assert bool((error <= 1e-10 + 100 * rounding).all())
    assert float(error[-1]) <= 1e-10


def test_lanes_do_not_depend_on_each_other() -> None:
    case = Case()
    together, values = case.compiled()
    for lane in (0, 7, 8, 10):
        one = torch.tensor([lane])
        alone, own = case.compiled(one)
        assert torch.equal(alone, together[:, one])
        assert torch.equal(own, values[one])
    order = torch.randperm(LANES, generator=torch.Generator().manual_seed(2))
    assert torch.equal(case.compiled(order)[0], together[:, order])


@pytest.mark.parametrize("bad", [math.nan, math.inf, 1e200])
def test_lanes_that_are_not_finite_trouble_no_other(bad: float) -> None:
    case = Case()
    sound, _ = case.compiled()
    case.Z[1, 3, 0, 0, 0] = bad
    spoilt, _ = case.compiled()
    others = torch.arange(LANES)[torch.arange(LANES) != 3]
    assert torch.equal(spoilt[:, others], sound[:, others])
    # The first stage still stands on its own feet; what follows the bad one does not.
    assert bool(spoilt[1:, 3].isnan().all())


def test_refusals() -> None:
    case = Case()
    field, there = case.field, case.coordinates
    with pytest.raises(ValueError, match=r"increments: shape .* is expected"):
        field.compiled_correction(there, case.y, case.Z[:2], case.h, case.method, FAST)
    none = replace(field, scales=torch.zeros_like(case.beta))
    with pytest.raises(ValueError, match="beta must be finite and >= 1e-60"):
        none.compiled_correction(there, case.y, case.Z, case.h, case.method, FAST)
