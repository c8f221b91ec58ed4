"""Compiled explicit steps: the plain ones to round-off, lane by lane."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from flows import MatrixFactorization, spectral_flow
from flows.compiled import CompiledMarcher
from flows.coordinates import ReducedCoordinates
from flows.march import Marcher, PlainMarcher, StepControl
from flows.runge_kutta import Method
from flows.tableaux import TABLEAUX, Tableau
from flows.tolerance import Tolerance

TOLERANCE = Tolerance(1e-7, 1e-9)
# More than a block, and one that is not full.
LANES = 19
END = 0.12


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

    @property
    def control(self) -> StepControl:
        return StepControl(END, self.method.tableau.order)

    def plain(self, count: int) -> Passed:
        marcher = PlainMarcher(
            self.method, self.control, TOLERANCE, self.velocity, self.y, count + 1
        )
        return Passed(self, torch.arange(LANES), marcher, count)

    def compiled(
        self, count: int, lanes: Tensor | None = None, needed: Tensor | None = None
    ) -> Passed:
        index = torch.arange(LANES) if lanes is None else lanes
        field, there = self.field.select(index), self.coordinates.select(index)
        pairs = self.pairs(self.y[index])
        marcher = field.compiled_marcher(
            there, self.method, self.control, TOLERANCE, pairs, count + 1, needed
        )
        return Passed(self, index, marcher, count)


class Passed:
    """A march of some lanes of a case."""

    def __init__(self, case: Case, lanes: Tensor, marcher: Marcher, count: int) -> None:
        self.y, self.method, self.marcher = case.y[lanes], case.method, marcher
        t = torch.zeros(len(lanes), dtype=torch.float64)
        self.march = marcher.go(count, t, case.h[lanes], self.y, case.f[lanes])

    def within(self, number: int, index: Tensor, theta: Tensor) -> Tensor:
        y = self.march.states[number - 1] if number else self.y
        K = self.marcher.stages(torch.full_like(index, number), index)
        return self.method.interpolate(y[index], self.march.step[number, index], K, theta)


def assert_same(one: Passed, other: Passed, of_one: Tensor) -> None:
    """To the bit."""
    for name in ("velocity", "planned"):
        assert torch.equal(getattr(one.march, name), getattr(other.march, name)[of_one]), name
    for name in ("good", "step", "times", "states"):
        assert torch.equal(getattr(one.march, name), getattr(other.march, name)[:, of_one]), name
    theta = torch.linspace(0, 1, len(of_one), dtype=torch.float64)
    inside = one.within(1, torch.arange(len(of_one)), theta)
    assert torch.equal(inside, other.within(1, of_one, theta))


@pytest.mark.parametrize(("l2", "decay"), [(0.0, 0.0), (0.05, 0.0), (0.0, 0.2)])
def test_agrees_with_the_plain_march(l2: float, decay: float) -> None:
    case = Case(l2, decay)
    given, expected = case.compiled(4), case.plain(4)
    assert torch.equal(given.march.good, expected.march.good)
    # Rejected steps, too, and some that reach the end.
    assert not bool(given.march.good.all())
    assert bool((given.march.times[-1] == END).any())
    # The estimate cancels: what its terms are rounded to is what is left of it, and of its root.
    assert float((given.march.step / expected.march.step - 1).abs().max()) <= 1e-5
    for name in ("times", "states", "velocity"):
        apart = getattr(given.march, name) - getattr(expected.march, name)
        assert float(apart.abs().max()) <= 1e-7, name


@pytest.mark.parametrize("name", sorted(TABLEAUX))
def test_one_attempt_agrees_to_round_off(name: str) -> None:
    case = Case(method=name)
    given, expected = case.compiled(1), case.plain(1)
    assert torch.equal(given.march.step, expected.march.step)
    assert torch.equal(given.march.good, expected.march.good)
    assert float((given.march.states - expected.march.states).abs().max()) <= 1e-12
    assert float((given.march.velocity - expected.march.velocity).abs().max()) <= 1e-11
    index, theta = torch.arange(LANES), torch.linspace(0, 1, LANES, dtype=torch.float64)
    zeros = torch.zeros_like(index)
    stages = given.marcher.stages(zeros, index) - expected.marcher.stages(zeros, index)
    assert float(stages.abs().max()) <= 1e-11
    if TABLEAUX[name].dense is not None:
        apart = given.within(0, index, theta) - expected.within(0, index, theta)
        assert float(apart.abs().max()) <= 1e-12


def test_stages_of_attempts_that_pass_a_needed_time_are_kept() -> None:
    case, needed = Case(), torch.linspace(0, END, 5, dtype=torch.float64)
    everything, some = case.compiled(4), case.compiled(4, needed=needed)
    assert torch.equal(some.march.states, everything.march.states)
    after = torch.searchsorted(needed, some.march.times, right=True)
    before = torch.cat([torch.ones_like(after[:1]), after[:-1]])
    number, index = (after > before).nonzero().unbind(-1)
    assert len(number) > 10
    kept = some.marcher.stages(number, index)
    assert torch.equal(kept, everything.marcher.stages(number, index))


def test_lanes_do_not_depend_on_each_other() -> None:
    case = Case()
    together = case.compiled(3)
    for lane in (0, 3, 7, 8, 18):
        one = torch.tensor([lane])
        assert_same(case.compiled(3, one), together, one)
    order = torch.randperm(LANES, generator=torch.Generator().manual_seed(2))
    assert_same(case.compiled(3, order), together, order)


@pytest.mark.parametrize("bad", [math.nan, math.inf, 1e200])
def test_lanes_that_are_not_finite_trouble_no_other(bad: float) -> None:
    case = Case()
    sound = case.compiled(2)
    case.y[3, 2] = bad
    spoilt = case.compiled(2)
    assert not bool(spoilt.march.good[:, 3].any())
    # What is not finite makes the next step as short as a step may make it.
    assert float(spoilt.march.step[1, 3] / spoilt.march.step[0, 3]) == pytest.approx(0.2)
    others = torch.arange(LANES)[torch.arange(LANES) != 3]
    for name in ("good", "step", "times", "states"):
        given, expected = getattr(spoilt.march, name), getattr(sound.march, name)
        assert torch.equal(given[:, others], expected[:, others])


def test_at_the_end_nothing_moves() -> None:
    case = Case()
    case.h = torch.full_like(case.h, 1e-3)
    marcher = case.compiled(1).marcher
    end = torch.full_like(case.h, END)
    march = marcher.go(2, end, case.h, case.y, case.f)
    assert bool((march.step == 0).all())
    assert bool((march.times == END).all())
    assert torch.equal(march.states[-1], case.y)
    assert float((march.velocity - case.f).abs().max()) <= 1e-11


def test_refusals() -> None:
    case = Case()
    pairs, target, t = case.pairs(case.y), case.coordinates.target, torch.zeros_like(case.h)
    marcher = case.compiled(1).marcher
    with pytest.raises(ValueError, match=r"states: shape .* is expected"):
        marcher.go(1, t, case.h, case.y[1:], case.f)
    with pytest.raises(ValueError, match=r"velocities: .*float64 on the CPU; given torch.float32"):
        marcher.go(1, t, case.h, case.y, case.f.float())
    with pytest.raises(ValueError, match="steps: a contiguous tensor is expected"):
        marcher.go(1, t, case.h.repeat_interleave(2)[::2], case.y, case.f)
    given = (case.method, case.control, TOLERANCE, pairs)
    with pytest.raises(ValueError, match=r"target: shape .* is expected"):
        CompiledMarcher(*given, target[1:], case.beta, 0.0, 0.0, 1)
    unscaled = CompiledMarcher(*given, target, torch.zeros_like(case.beta), 0.0, 0.0, 1)
    with pytest.raises(ValueError, match="beta must be finite and >= 1e-60"):
        unscaled.go(1, t, case.h, case.y, case.f)
