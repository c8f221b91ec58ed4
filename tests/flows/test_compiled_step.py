"""The compiled explicit step: the plain one to round-off, lane by lane."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from flows import MatrixFactorization, spectral_flow
from flows.compiled import CompiledTrials
from flows.coordinates import ReducedCoordinates
from flows.runge_kutta import Method, PlainTrials, Step, Trials
from flows.tableaux import TABLEAUX, Tableau
from flows.tolerance import Tolerance

TOLERANCE = Tolerance(1e-7, 1e-9)
# More than a block, and one that is not full.
LANES = 19


@pytest.fixture(autouse=True)
def numba() -> None:
    """Skips, and says why, where numba is missing."""
    pytest.importorskip("numba", reason="the compiled kernel needs numba")


def tableau(name: str) -> Tableau:
    """A tableau with an error estimate: something of its size where it has none of its own."""
    found = TABLEAUX[name]
    if found.error is not None:
        return found
    error = torch.zeros(found.stages + 1, dtype=torch.float64).numpy()
    error[:-1], error[0], error[-1] = found.b, found.b[0] - 0.75, -0.25
    return replace(found, error=error)


class Case:
    """Lanes with scales and steps of their own, and the steps of either path."""

    def __init__(self, l2: float = 0.0, decay: float = 0.0, method: str = "dormand_prince") -> None:
        problem = MatrixFactorization.planted(
            m=12, n=11, singular_values=[3.0, 2.0, 0.5], rank=4, seed=1, l2=l2
        )
        B, A = problem.gaussian_init(0.3, seed=range(LANES))
        self.coordinates = ReducedCoordinates.of(problem, B, A)
        self.y = self.coordinates.restrict(B, A).flatten(1)
        self.beta = torch.logspace(-2, 0, LANES, dtype=torch.float64)
        self.h = torch.logspace(-3, -1, LANES, dtype=torch.float64).flip(0).contiguous()
        self.field = spectral_flow(problem, self.beta, route="svd", weight_decay=decay)
        self.f = self.velocity(self.y)
        self.method = Method.on(tableau(method), self.y)

    def pairs(self, y: Tensor) -> Tensor:
        return y.view(len(y), 2, -1, 4)

    def velocity(self, y: Tensor) -> Tensor:
        pairs = self.pairs(y).flatten(1, 2)
        return self.field.velocity(self.coordinates, pairs).flatten(1)

    def plain_step(self) -> Step:
        return self.method.step(self.velocity, self.y, self.f, self.h)

    def plain(self) -> Attempt:
        trials = PlainTrials(self.method, self.velocity, self.y, TOLERANCE, 1)
        return Attempt(self, torch.arange(LANES), trials)

    def compiled(self, lanes: Tensor | None = None) -> Attempt:
        index = torch.arange(LANES) if lanes is None else lanes
        field, there = self.field.select(index), self.coordinates.select(index)
        pairs = self.pairs(self.y[index])
        return Attempt(
            self, index, field.compiled_trials(there, pairs, self.method, TOLERANCE, 2), number=1
        )


class Attempt:
    """One attempt of some lanes of a case."""

    def __init__(self, case: Case, lanes: Tensor, trials: Trials, number: int = 0) -> None:
        self.y, self.h, self.method = case.y[lanes], case.h[lanes], case.method
        self.trials, self.number = trials, number
        self.end, self.velocity, self.error, self.stable = trials.attempt(
            number, self.y, case.f[lanes], self.h
        )

    def within(self, index: Tensor, theta: Tensor) -> Tensor:
        K = self.trials.stages(torch.full_like(index, self.number), index)
        return self.method.interpolate(self.y[index], self.h[index], K, theta)


def assert_same(one: Attempt, other: Attempt, of_one: Tensor) -> None:
    """To the bit."""
    for name in ("end", "velocity", "error", "stable"):
        assert torch.equal(getattr(one, name), getattr(other, name)[of_one]), name
    theta = torch.linspace(0, 1, len(of_one), dtype=torch.float64)
    inside = one.within(torch.arange(len(of_one)), theta)
    assert torch.equal(inside, other.within(of_one, theta))


@pytest.mark.parametrize("name", sorted(TABLEAUX))
@pytest.mark.parametrize(("l2", "decay"), [(0.0, 0.0), (0.05, 0.0), (0.0, 0.2)])
def test_agrees_with_the_plain_step(name: str, l2: float, decay: float) -> None:
    case = Case(l2, decay, name)
    given, expected = case.compiled(), case.plain()
    bound = 1e-12
    assert float((given.end - expected.end).abs().max()) <= bound
    assert float((given.velocity - expected.velocity).abs().max()) <= 10 * bound
    # The sum of the estimate cancels: what its terms are rounded to is what is left of it.
    scale = TOLERANCE.scale(case.y, given.end).amin(-1)
    noise = bound * case.h / scale
    assert bool(((given.error - expected.error).abs() <= noise + 1e-9 * given.error).all())
    if TABLEAUX[name].stages > 1:
        # So do the distances of the last two stages.
        step = case.plain_step()
        pairs = (step.end, step.previous), (step.K[-1], step.K[-2])
        apart = torch.stack([torch.linalg.vector_norm(x - z, dim=-1) for x, z in pairs]).amin(0)
        off = (given.stable / expected.stable - 1).abs()
        assert bool((off <= 10 * bound * (1 + 1 / apart)).all())
    if TABLEAUX[name].dense is not None:
        index, theta = torch.arange(LANES), torch.linspace(0, 1, LANES, dtype=torch.float64)
        apart = given.within(index, theta) - expected.within(index, theta)
        assert float(apart.abs().max()) <= bound


def test_lanes_do_not_depend_on_each_other() -> None:
    case = Case()
    together = case.compiled()
    for lane in (0, 3, 7, 8, 18):
        one = torch.tensor([lane])
        assert_same(case.compiled(one), together, one)
    order = torch.randperm(LANES, generator=torch.Generator().manual_seed(2))
    assert_same(case.compiled(order), together, order)


@pytest.mark.parametrize("bad", [math.nan, math.inf, 1e200])
def test_lanes_that_are_not_finite_trouble_no_other(bad: float) -> None:
    case = Case()
    sound = case.compiled()
    case.y[3, 2] = bad
    spoilt = case.compiled()
    assert math.isnan(float(spoilt.error[3]))
    others = torch.arange(LANES)[torch.arange(LANES) != 3]
    for name in ("end", "velocity", "error", "stable"):
        assert torch.equal(getattr(spoilt, name)[others], getattr(sound, name)[others])


def test_a_step_of_no_length_moves_nothing_and_bounds_nothing() -> None:
    case = Case()
    case.h = torch.zeros_like(case.h)
    given = case.compiled()
    assert bool(torch.isinf(given.stable).all())
    assert torch.equal(given.end, case.y)
    assert float(given.error.abs().max()) == 0.0


def test_refusals() -> None:
    case = Case()
    pairs, target = case.pairs(case.y), case.coordinates.target
    trials = case.field.compiled_trials(case.coordinates, pairs, case.method, TOLERANCE, 1)
    with pytest.raises(ValueError, match=r"states: shape .* is expected"):
        trials.attempt(0, case.y[1:], case.f, case.h)
    with pytest.raises(ValueError, match=r"velocities: .*float64 on the CPU; given torch.float32"):
        trials.attempt(0, case.y, case.f.float(), case.h)
    with pytest.raises(ValueError, match="steps: a contiguous tensor is expected"):
        trials.attempt(0, case.y, case.f, case.h.repeat_interleave(2)[::2])
    with pytest.raises(ValueError, match=r"target: shape .* is expected"):
        CompiledTrials(case.method, pairs, TOLERANCE, target[1:], case.beta, 0.0, 0.0, 1)
    none = torch.zeros_like(case.beta)
    unscaled = CompiledTrials(case.method, pairs, TOLERANCE, target, none, 0.0, 0.0, 1)
    with pytest.raises(ValueError, match="beta must be finite and >= 1e-60"):
        unscaled.attempt(0, case.y, case.f, case.h)
