"""The compiled implicit steps: the plain ones to round-off, lane by lane, and shared by threads."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from flows import MatrixFactorization, spectral_flow
from flows.attempt import Attempts
from flows.compiled import lanes_by_threads
from flows.coordinates import ReducedCoordinates
from flows.implicit import SPAN, ImplicitStepper
from flows.tolerance import Tolerance

# More than two blocks, the last of which is not full.
LANES = 19
TIMES = torch.tensor([0.1, 0.25, 0.3, 2.0], dtype=torch.float64)
TOLERANCE = Tolerance(1e-6, 1e-8)
NUMBERS = (
    *("t", "h", "target", "planned", "arrival", "last_h", "last_error"),
    *("contraction", "singular_values", "y", "f", "Z", "last_Z"),
)
COUNTS = ("has_last", "rejections", "correction", "rises", "evaluations")


@pytest.fixture(autouse=True)
def numba() -> None:
    """Skips, and says why, where numba is missing."""
    pytest.importorskip("numba", reason="the compiled kernel needs numba")


class Case:
    """Lanes with scales of their own, from small ones on."""

    def __init__(self, smoothing: str = "sqrt", decay: float = 0.0, smallest: float = 3e-3) -> None:
        problem = MatrixFactorization.planted(
            m=9, n=8, singular_values=[2.0, 1.2, 0.7, 0.3], rank=3, seed=1
        )
        B, A = problem.gaussian_init(0.3, seed=range(LANES))
        self.coordinates = ReducedCoordinates.of(problem, B, A)
        self.states = self.coordinates.restrict(B, A)
        beta = torch.logspace(math.log10(smallest), -1, LANES, dtype=torch.float64)
        self.plain = spectral_flow(problem, beta, smoothing=smoothing, weight_decay=decay)

    def stepper(self, compiled: bool, lanes: Tensor | None = None) -> ImplicitStepper:
        index = torch.arange(LANES) if lanes is None else lanes
        field, there = self.plain.select(index), self.coordinates.select(index)
        field = replace(field, compiled=compiled)
        return ImplicitStepper(field, there, self.states[index], TOLERANCE, TIMES)


def marched(stepper: ImplicitStepper, marches: int) -> list[Attempts]:
    found = [stepper.advance(1000) for _ in range(marches)]
    return [attempts for attempts in found if attempts is not None]


def corrected(stepper: ImplicitStepper, corrections: int, most: int = 1000) -> None:
    """So many corrections by the kernel, whatever the stepper itself would make of them."""
    iteration = stepper.field.compiled_iteration(
        stepper.coordinates, stepper.method, TOLERANCE, TIMES, corrections, inside=True
    )
    iteration.go(stepper.now.tensors(), most)


def same(
    one: ImplicitStepper,
    other: ImplicitStepper,
    lanes: Tensor | None = None,
    own: Tensor | None = None,
) -> bool:
    """Whether the one's lanes, or its ``own``, are bitwise the other's ``lanes``."""
    mine = one.now if own is None else one.now.select(own)
    theirs = other.now if lanes is None else other.now.select(lanes)
    pairs = zip(mine.tensors().values(), theirs.tensors().values(), strict=True)
    return all(torch.equal(x, y) for x, y in pairs)


@pytest.mark.parametrize("smoothing", ["sqrt", "tanh"])
@pytest.mark.parametrize("decay", [0.0, 0.2])
def test_agrees_with_the_plain_steps(smoothing: str, decay: float) -> None:
    case, marches = Case(smoothing, decay), 2
    plain, compiled = case.stepper(False), case.stepper(True)
    by_torch, by_kernel = marched(plain, SPAN * marches), marched(compiled, marches)
    for name in COUNTS:
        assert torch.equal(getattr(compiled.now, name), getattr(plain.now, name)), name
    for name in NUMBERS:
        given, expected = getattr(compiled.now, name), getattr(plain.now, name)
        met = torch.isfinite(expected)
        assert torch.equal(torch.isfinite(given), met), name
        error = float((given - expected)[met].abs().max())
        # Round-off through three dozen corrections of (||G|| / beta)^2 u and what h multiplies.
        assert error <= 1e-7 * (1 + float(expected[met].abs().max())), name
    shift = torch.full_like(plain.t, 7.0)
    drawn = torch.randn(plain.y.shape, generator=torch.Generator().manual_seed(4)).double()
    residual = drawn.unflatten(1, (2, -1, 3))
    solved = [stepper.now.filter.solve(shift, residual) for stepper in (plain, compiled)]
    assert float((solved[0] - solved[1]).abs().max()) <= 1e-7
    # What is reported: as many steps of every lane, good and bad, at the same times.
    ends: list[list[list[tuple[bool, float]]]] = [[], []]
    for reports, found in zip(ends, (by_torch, by_kernel), strict=True):
        for lane in range(LANES):
            steps = []
            for attempts in found:
                for column in (attempts.lanes == lane).nonzero()[:, 0].tolist():
                    live = attempts.start[:, column] < TIMES[-1]
                    rows = zip(attempts.good[live, column], attempts.end[live, column], strict=True)
                    steps += [(bool(good), round(float(end), 6)) for good, end in rows]
            reports.append(steps)
    assert ends[0] == ends[1]
    assert len({len(steps) for steps in ends[0]}) > 1
    assert min(len(steps) for steps in ends[0]) >= 3


def test_states_within_a_step_are_the_plain_ones() -> None:
    case = Case()
    plain, compiled = case.stepper(False), case.stepper(True)
    by_kernel = compiled.advance(1000)
    assert by_kernel is not None
    column, wanted = 3, [float(x) for x in by_kernel.end[:, 3] if x < TIMES[-1]]
    theta = torch.tensor([0.3, 1.0], dtype=torch.float64)
    found: list[Tensor] = []
    while len(found) < len(wanted):
        attempts = plain.advance(1000)
        if attempts is not None and column in attempts.lanes.tolist():
            position = int((attempts.lanes == column).nonzero())
            index = torch.full((2,), position)
            found.append(attempts.within(torch.zeros(2, dtype=torch.long), index, theta))
    assert len(found) >= 2
    for number, expected in enumerate(found):
        given = by_kernel.within(torch.full((2,), number), torch.full((2,), column), theta)
        assert float((given - expected).abs().max()) <= 1e-9


def test_lanes_do_not_depend_on_each_other() -> None:
    case = Case(smallest=1e-5)
    together = case.stepper(True)
    marched(together, 3)
    for lane in (0, 7, 8, 18):
        one = torch.tensor([lane])
        alone = case.stepper(True, one)
        marched(alone, 3)
        assert same(alone, together, one)
    order = torch.randperm(LANES, generator=torch.Generator().manual_seed(2))
    shuffled = case.stepper(True, order)
    marched(shuffled, 3)
    assert same(shuffled, together, order)


def shown(stepper: ImplicitStepper, marches: int) -> list[Tensor]:
    """Where accepted steps led to, 0 elsewhere. A march makes room for itself in the last."""
    found = (stepper.advance(1000) for _ in range(marches))
    return [each.states.where(each.good[..., None], 0.0).clone() for each in found if each]


def test_threads_change_nothing() -> None:
    case, before = Case(smallest=1e-5), torch.get_num_threads()
    alone, shared = case.stepper(True), case.stepper(True)
    one_by_one = shown(alone, 3)
    torch.set_num_threads(3)
    try:
        with lanes_by_threads():
            assert torch.get_num_threads() == 1
            at_once = shown(shared, 3)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert same(alone, shared)
    for mine, theirs in zip(one_by_one, at_once, strict=True):
        assert torch.equal(mine, theirs)
        assert bool(mine.any())


def test_where_a_march_is_cut_changes_nothing_but_round_off() -> None:
    """A march begins its rotations anew; what they find is the same."""
    case = Case(smallest=1e-5)
    whole, parts = case.stepper(True), case.stepper(True)
    marched(whole, 2)
    parts_of_two = (1, 5, 7, 3, 2 * SPAN - 16)
    for corrections in parts_of_two:
        corrected(parts, corrections)
    for name in COUNTS:
        assert torch.equal(getattr(parts.now, name), getattr(whole.now, name)), name
    assert float((parts.now.y - whole.now.y).abs().max()) <= 1e-9


def test_a_lane_that_was_not_finite_begins_its_rotations_anew() -> None:
    """What is kept of a state nearby is not kept of one that is NaN."""
    case = Case(smallest=1e-5)
    sound, spoilt = case.stepper(True), case.stepper(True)
    for stepper in (sound, spoilt):
        corrected(stepper, 3)
    spoilt.now.Z[1, 3, 0] = math.nan
    before = spoilt.t[3].clone()
    corrected(spoilt, SPAN)
    assert float(spoilt.t[3]) > float(before)
    assert bool(torch.isfinite(spoilt.now.y[3]).all())


def test_no_more_steps_than_asked_for() -> None:
    stepper = Case().stepper(True)
    attempts = stepper.advance(1)
    assert attempts is not None
    assert attempts.good.shape == (1, LANES)
    assert bool((attempts.start == 0).all())


@pytest.mark.parametrize("bad", [math.nan, math.inf, 1e200])
def test_lanes_that_are_not_finite_trouble_no_other(bad: float) -> None:
    case = Case(smallest=1e-5)
    sound, spoilt = case.stepper(True), case.stepper(True)
    spoilt.now.Z[1, 3, 0] = bad
    marched(sound, 3)
    attempts = marched(spoilt, 3)
    others = torch.arange(LANES)[torch.arange(LANES) != 3]
    assert same(spoilt, sound, others, others)
    # The step is given up and tried again, shorter, from the state that it began with.
    assert not bool(attempts[0].good[0, 3])
    assert bool(torch.isfinite(spoilt.now.y[3]).all())


def test_refusals() -> None:
    stepper = Case().stepper(True)
    field, there, now = stepper.field, stepper.coordinates, stepper.now
    about = stepper.method, TOLERANCE, TIMES, 1, True
    none = replace(field, scales=torch.zeros(LANES, dtype=torch.float64))
    with pytest.raises(ValueError, match="beta must be finite and >= 1e-60"):
        none.compiled_iteration(there, *about).go(now.tensors(), 1)
    iteration = field.compiled_iteration(there, *about)
    now.planned = now.planned.float()
    with pytest.raises(ValueError, match=r"planned: .* float64 on the CPU; given torch.float32"):
        iteration.go(now.tensors(), 1)
    now.planned = now.planned[:3].double()
    with pytest.raises(ValueError, match=r"planned: shape \(19,\) is expected; given \(3,\)"):
        iteration.go(now.tensors(), 1)


def test_stages_are_kept_only_where_they_are_asked_for() -> None:
    case = Case()
    index = torch.arange(LANES)
    field = replace(case.plain, compiled=True)
    steppers = [
        ImplicitStepper(field, case.coordinates, case.states, TOLERANCE, TIMES, inside=inside)
        for inside in (True, False)
    ]
    kept, left = ([stepper.advance(1000) for _ in range(2)] for stepper in steppers)
    assert same(steppers[0], steppers[1])
    for mine, theirs in zip(kept, left, strict=True):
        assert mine is not None
        assert theirs is not None
        ends = torch.zeros(LANES, dtype=torch.long), index, torch.ones(LANES).double()
        assert torch.equal(mine.within(*ends), theirs.within(*ends))
        with pytest.raises(AssertionError, match="steps end at the requested times"):
            theirs.within(*ends[:2], 0.5 * ends[2])
