"""The step control of the compiled steps, wherever it may find a lane: that of the plain ones."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import Tensor

from flows.compiled import compiled_spectrum
from flows.march import PlainMarcher, StepControl
from flows.rules import RULES
from flows.tolerance import Tolerance
from flows.underway import Underway
from tests.flows.test_compiled_collocation import (
    COUNTS,
    LANES,
    NUMBERS,
    TIMES,
    corrected,
    marched,
)
from tests.flows.test_compiled_collocation import Case as ImplicitCase
from tests.flows.test_compiled_march import END
from tests.flows.test_compiled_march import Case as ExplicitCase


@pytest.fixture(autouse=True)
def numba() -> None:
    """Skips, and says why, where numba is missing."""
    pytest.importorskip("numba", reason="the compiled kernel needs numba")


def shake(now: Underway, seed: int) -> None:
    """Notes of the step control as they may be, though no short run has them."""
    generator = torch.Generator().manual_seed(seed)

    def one_of(*values: float) -> Tensor:
        chosen = torch.randint(len(values), (LANES,), generator=generator)
        return torch.tensor(values, dtype=torch.float64)[chosen]

    def spread(low: float, high: float) -> Tensor:
        drawn = torch.rand(LANES, generator=generator, dtype=torch.float64)
        return 10 ** (low + (high - low) * drawn)

    now.has_last, now.contraction = one_of(0, 1, 1).bool(), spread(-2, 0.3)
    now.rises, now.rejections = one_of(0, 0, 0, 1).long(), one_of(0, 1, 2).long()
    now.correction = one_of(0, 1, 5, RULES.corrections - 1).long()
    # Some steps are long for their metric.
    now.h = torch.where(one_of(0, 0, 1).bool(), now.h * spread(0.5, 1.5), now.h)
    now.target = now.t + now.h
    # The last step may be longer, or a thousandth as long.
    now.last_h, now.last_error = now.h * spread(-3, 1), spread(-2, 0)
    now.planned, now.size = now.h * spread(0, 1), now.size * spread(-1, 2)
    now.arrival = torch.where(one_of(0, 1).bool(), now.h * spread(-1, 2), torch.inf)
    now.slack = spread(0.5, 2)
    # Modes that are close, and ones that a long way is left of.
    now.singular_values = now.singular_values * spread(0, 1)[:, None]


@pytest.mark.parametrize("seed", range(8))
def test_implicit_steps_go_by_the_same_rules(seed: int) -> None:
    case = ImplicitCase(smallest=1e-2)
    plain, compiled = case.stepper(False), case.stepper(True)
    marched(plain, 4 + 3 * seed)
    shake(plain.now, seed)
    compiled.now = deepcopy(plain.now)
    for corrections in (1, 1, 2, 4):
        marched(plain, corrections)
        corrected(compiled, corrections)
        for name in COUNTS:
            given, expected = getattr(compiled.now, name), getattr(plain.now, name)
            assert torch.equal(given, expected), name
        for name in NUMBERS:
            given, expected = getattr(compiled.now, name), getattr(plain.now, name)
            met = torch.isfinite(expected)
            assert torch.equal(torch.isfinite(given), met), name
            error = float((given - expected)[met].abs().max()) if bool(met.any()) else 0.0
            assert error <= 1e-7 * (1 + float(expected[met].abs().max())), name


def test_the_notes_that_were_shaken_reach_every_rule() -> None:
    good = bad = going = 0
    for seed in range(8):
        stepper = ImplicitCase(smallest=1e-2).stepper(False)
        marched(stepper, 4 + 3 * seed)
        shake(stepper.now, seed)
        before = stepper.t.clone()
        marched(stepper, 1)
        over, moved = stepper.now.correction == 0, stepper.t > before
        good, bad = good + int(moved.sum()), bad + int((over & ~moved).sum())
        going += int((~over).sum())
    assert good >= 5
    assert bad >= 20
    assert going >= 20


def test_no_sliver_is_left_before_a_requested_time() -> None:
    stepper = ImplicitCase(smallest=1e-2).stepper(True)
    now, left = stepper.now, TIMES[0].expand(LANES)
    # An iteration that is given up: the next step would be a third as long, but for the arrival.
    now.h, now.correction = 20.0 * left, torch.full_like(now.correction, RULES.corrections - 1)
    now.arrival = 2.0 * left * (1 - 1e-11)
    corrected(stepper, 1)
    assert bool((now.rejections == 1).all())
    assert torch.equal(now.h, left)
    assert torch.equal(now.target, left)


@pytest.mark.parametrize("share", [1.0, 30.0])
def test_explicit_steps_are_held_to_the_stability_limit(share: float) -> None:
    case, count = ExplicitCase(), 6
    loose, control = Tolerance(1e-2, 1e-3), StepControl(1e3, case.method.tableau.order)
    t = torch.zeros(LANES, dtype=torch.float64)
    plain = PlainMarcher(case.method, control, loose, case.velocity, case.y, 41)
    # Where modes have arrived nothing changes, and stability alone bounds the steps.
    late = plain.go(40, t, case.h, case.y, case.f)
    y, f, h, t = late.states[-1], late.velocity, share * late.planned, late.times[-1]
    compiled = case.field.compiled_marcher(
        case.coordinates, case.method, control, loose, case.pairs(y), count + 1, None
    )
    given, expected = (each.go(count, t, h, y, f) for each in (compiled, plain))
    rejected = float((~expected.good).double().mean())
    assert 0.05 < rejected < 0.5 if share == 1.0 else rejected > 0.5
    assert torch.equal(given.good, expected.good)
    assert float((given.step / expected.step - 1).abs().max()) <= 1e-6
    assert float((given.planned / expected.planned - 1).abs().max()) <= 1e-6


def test_no_sliver_is_left_before_the_end() -> None:
    case = ExplicitCase()
    case.h = torch.full_like(case.h, END * (1 - 1e-11))
    march = case.compiled(1).march
    assert bool((march.step == END).all())
    assert bool((march.times[march.good] == END).all())


@pytest.mark.parametrize("smoothing", ["sqrt", "tanh"])
def test_the_metric_of_a_gradient_that_is_zero_is_beta(smoothing: str) -> None:
    states, target = torch.zeros(3, 2, 6, 2).double(), torch.eye(6).double().expand(3, 6, 6)
    found = compiled_spectrum(states, target.contiguous(), 1e-3, 0.0, smoothing)
    assert float((found.metric / 1e-3 - 1).abs().max()) <= 1e-15
