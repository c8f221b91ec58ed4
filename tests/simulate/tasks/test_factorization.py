"""The flows' problem in discrete time: the reduction is exact where it is allowed, and refused
where it is not."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.optim import SGD, Adam, AdamW, Optimizer

import simulate.tasks.factorization
from flows import MatrixFactorization, integrate, orthogonalized_flow, spectral_flow
from flows.coordinates import ReducedCoordinates
from geometry.gauge import Pair
from simulate.optimizers import (
    FactorMuon,
    LoRAMuon,
    LoRARite,
    LoRARiteCore,
    MemberAdamW,
    Muon,
    Riemannion,
    RiemannLoRA,
    ScaledGD,
    SpectralDescent,
    Spectron,
    Tensorion,
)
from simulate.tasks import iterate

RATE = 0.05
STEPS = range(0, 41, 8)
U = 2.0**-53
PROBLEM = MatrixFactorization.planted(m=24, n=17, singular_values=[3.0, 2.0, 1.0], rank=4, seed=1)
START = PROBLEM.gaussian_init(0.3, seed=[3, 9])

Make = Callable[[list[Any], Any], Optimizer]


def of_factors(kind: Callable[..., Optimizer], **options: Any) -> Make:
    return lambda pairs, rate: kind(pairs[0], lr=rate, **options)


EXACT: dict[str, Make] = {
    "GD": of_factors(SGD),
    "GD, Nesterov, decay": of_factors(SGD, momentum=0.9, nesterov=True, weight_decay=0.1),
    "SpecGD": of_factors(SpectralDescent, weight_decay=0.1),
    "SpecGD, smoothed": of_factors(SpectralDescent, beta=0.1),
    "SpecGD, tanh": of_factors(SpectralDescent, beta=0.1, smoothing="tanh"),
    **{
        f"Muon, {name}": of_factors(Muon, orthogonalizer=name, adjust_lr_fn="unadjusted")
        for name in ("svd", "muon", "polar_express", "lora_muon")
    },
    "Tensorion": of_factors(Tensorion, order=2, adjust_lr_fn="unadjusted"),
    "Muon on each factor": FactorMuon,
    "LoRA-Muon": partial(LoRAMuon, weight_decay=0.1),
    "LoRA-Muon, as published": partial(
        LoRAMuon, orthogonalizer="lora_muon", root="newton_schulz"
    ),
    "LoRA-Muon, Gram": partial(LoRAMuon, root="eigh"),
    "LoRA-RITE's core": LoRARiteCore,
    "Spectron": Spectron,
    "ScaledGD": ScaledGD,
    "RiemannLoRA": partial(RiemannLoRA, weight_decay=0.1),
    "RiemannLoRA, adaptive": partial(RiemannLoRA, adaptive=True),
    "Riemannion": Riemannion,
}  # fmt: skip

REFUSED: dict[str, tuple[Make, str]] = {
    "Adam": (of_factors(Adam), r"Adam: .* it is not known to be, as are FactorMuon, LoRAMuon"),
    "AdamW": (of_factors(AdamW), "AdamW: an optimiser that commutes with rotations"),
    "AdamW of members": (of_factors(MemberAdamW), "MemberAdamW: .* methods such as Adam are not"),
    "Muon": (
        of_factors(Muon, adjust_lr_fn="unadjusted"),
        "orthogonalizer='torch' rounds every entry to bfloat16; 'muon' is the same polynomial",
    ),
    "Muon, rate by shape": (
        of_factors(Muon, orthogonalizer="svd"),
        "adjust_lr_fn=None goes by the number of rows and columns; 'unadjusted' does not",
    ),
    "Tensorion": (of_factors(Tensorion), "order=None may take members for a mode; with 2 it is"),
    "LoRA-RITE": (LoRARite, "LoRARite: .* means over the rows of a factor"),
}


def apart(one: Tensor, other: Tensor) -> float:
    """The largest distance of products at any of the times, over the largest product."""
    norm = torch.linalg.matrix_norm
    return float(norm(one - other).max() / norm(other).max())


def rounded(make: Make) -> Make:
    """The optimiser, with the factors off by a rounding, at random, after every step."""

    def made(pairs: list[Any], rate: Any) -> Optimizer:
        optimizer = make(pairs, rate)
        generator = torch.Generator().manual_seed(0)

        def off_by_a_rounding(*_: Any) -> None:
            for factor in pairs[0]:
                noise = torch.randn(factor.shape, generator=generator, dtype=torch.float64)
                factor.data.mul_(1 + U * noise.to(factor))

        optimizer.register_step_post_hook(off_by_a_rounding)
        return optimizer

    return made


def round_off(make: Make, start: Pair = START) -> float:
    """What a rounding of every entry at every step does to an ambient run."""
    exact, off = (
        iterate(PROBLEM, start, each, RATE, STEPS, reduce=False) for each in (make, rounded(make))
    )
    return apart(off.products, exact.products)


# A step of either run is a chain of some ten products, with inner dimensions up to 24, and
# factorisations as long: entries of it are off by that many roundings, where the reference is off
# by one.
ROUNDINGS = 10 * 24


@pytest.mark.parametrize("name", EXACT)
def test_the_reduced_run_is_the_ambient_one(name: str) -> None:
    make = EXACT[name]
    reduced = iterate(PROBLEM, START, make, RATE, STEPS)
    ambient = iterate(PROBLEM, START, make, RATE, STEPS, reduce=False)
    assert reduced.states.shape[-2] == 2 * 7
    assert ambient.states.shape[-2] == 24 + 17
    bound = ROUNDINGS * round_off(make)
    assert bound <= 1e-8
    assert apart(reduced.products, ambient.products) <= bound
    for lifted, factor in zip(reduced.factors, ambient.factors, strict=True):
        assert apart(lifted, factor) <= bound
    # It went somewhere: the products are not all alike.
    assert apart(ambient.products[:, -1], ambient.products[:, 0]) > 0.05
    scale = float(ambient.loss.max())
    assert float((reduced.loss - ambient.loss).abs().max()) <= 4 * bound * scale


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_equivariant_is_refused_in_reduced_coordinates(name: str) -> None:
    make, message = REFUSED[name]
    with pytest.raises(ValueError, match=message) as raised:
        iterate(PROBLEM, START, make, RATE, STEPS)
    assert "reduce=False runs it on the factors themselves" in str(raised.value)
    assert iterate(PROBLEM, START, make, RATE, STEPS, reduce=False).loss.isfinite().all()


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_would_be_wrong(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make, _ = REFUSED[name]
    monkeypatch.setattr(simulate.tasks.factorization, "require_equivariant", lambda _: None)
    reduced = iterate(PROBLEM, START, make, RATE, STEPS)
    ambient = iterate(PROBLEM, START, make, RATE, STEPS, reduce=False)
    assert apart(reduced.products, ambient.products) > 1e-3


def test_a_subclass_is_not_known_by_what_it_inherits_from() -> None:
    class Own(LoRAMuon):
        pass

    with pytest.raises(ValueError, match=r"Own: .* it is not known to be"):
        iterate(PROBLEM, START, Own, RATE, STEPS)


def test_the_ambient_run_is_a_loop_over_the_objective_s_own_gradient() -> None:
    W = [torch.nn.Parameter(factor.clone()) for factor in START]
    optimizer = SGD(W, lr=RATE, momentum=0.9)
    target = PROBLEM.dense_target()
    for _ in range(STEPS[-1]):
        optimizer.zero_grad()
        (0.5 * (W[0] @ W[1] - target).square().sum()).backward()
        optimizer.step()
    make = of_factors(SGD, momentum=0.9)
    found = iterate(PROBLEM, START, make, RATE, [STEPS[-1]], reduce=False)
    bound = ROUNDINGS * round_off(make)
    assert apart(found.products[:, -1], (W[0] @ W[1]).detach()) <= bound


@pytest.mark.parametrize("beta", [0.0, 0.1])
def test_spectral_descent_is_euler_s_method(beta: float, device: torch.device) -> None:
    problem = PROBLEM.to(device=device)
    start = START[0].to(device), START[1].to(device)
    times = RATE * torch.arange(41, dtype=torch.float64)
    flow = integrate(spectral_flow(problem, beta), start, times, method="euler", step=RATE)
    make = of_factors(SpectralDescent, beta=beta)
    found = iterate(problem, start, make, RATE, range(41))
    bound = ROUNDINGS * round_off(make)
    assert apart(found.products, flow.products) <= bound
    for name in ("singular_values", "mode_values", "loss", "gradient_norms", "imbalance"):
        here, there = getattr(found, name), getattr(flow, name)
        assert here.shape == there.shape
        assert float((here - there).abs().max()) <= 100 * bound
    arrivals = found.arrival_times(0.5)
    assert bool(arrivals.isfinite().any())
    expected = flow.arrival_times(0.5) / RATE
    assert torch.equal(arrivals, expected.round())


def test_muon_without_momentum_is_euler_s_method_too() -> None:
    times = RATE * torch.arange(41, dtype=torch.float64)
    field = orthogonalized_flow(PROBLEM, "muon", 5)
    flow = integrate(field, START, times, method="euler", step=RATE)
    options = {"orthogonalizer": "muon", "adjust_lr_fn": "unadjusted", "weight_decay": 0.0}
    still = of_factors(Muon, momentum=0.0, nesterov=False, **options)
    found = iterate(PROBLEM, START, still, RATE, range(41))
    assert apart(found.products, flow.products) <= ROUNDINGS * round_off(still)
    moving = iterate(PROBLEM, START, of_factors(Muon, **options), RATE, range(41))
    assert apart(moving.products, flow.products) > 1e-2


def test_rates_and_starts_make_one_ensemble() -> None:
    rates = torch.tensor([[0.1], [0.05], [0.02]])
    grid = iterate(PROBLEM, START, LoRAMuon, rates, [0, 5, 12])
    assert grid.products.shape == (3, 2, 3, 24, 17)
    assert grid.loss.shape == (3, 2, 3)
    assert grid.diverged.shape == (3, 2)
    assert grid.singular_values.shape == (3, 2, 3, 4)
    assert grid.times.tolist() == [0, 5, 12]
    for row, rate in enumerate(rates.flatten().double().tolist()):
        for seed in range(2):
            alone = START[0][seed], START[1][seed]
            one = iterate(PROBLEM, alone, LoRAMuon, rate, [0, 5, 12])
            assert one.loss.shape == (3,)
            bound = ROUNDINGS * round_off(LoRAMuon)
            assert apart(grid.products[row, seed], one.products) <= bound


def test_a_lane_does_not_depend_on_the_others() -> None:
    alone = iterate(PROBLEM, PROBLEM.gaussian_init(0.3, seed=[9]), LoRAMuon, RATE, STEPS)
    together = iterate(
        PROBLEM, PROBLEM.gaussian_init(0.3, seed=[3, 9, 4, 11]), LoRAMuon, RATE, STEPS
    )
    bases = []
    for found in (alone, together):
        assert isinstance(found.coordinates, ReducedCoordinates)
        bases.append(found.coordinates.left)
    assert torch.equal(bases[0][0], bases[1][1])
    assert torch.equal(alone.states[0, 0], together.states[1, 0])
    assert apart(together.products[1], alone.products[0]) <= ROUNDINGS * round_off(LoRAMuon)


@pytest.mark.parametrize("reduce", [True, False])
def test_a_lane_that_diverges_leaves_and_the_others_go_on(reduce: bool) -> None:
    rates = torch.tensor([[0.1], [1e8], [0.2]], dtype=torch.float64)
    options: dict[str, Any] = {"reduce": reduce}
    found = iterate(PROBLEM, START, ScaledGD, rates, range(31), **options)
    assert found.diverged[[0, 2]].isinf().all()
    gone = found.diverged[1]
    assert bool(((gone >= 2) & (gone <= 30)).all())
    for seed in range(2):
        finite = found.singular_values[1, seed].isfinite().all(-1)
        assert finite.tolist() == [step < int(gone[seed]) for step in range(31)]
    assert found.arrival_times(0.9).shape == (3, 2, 3)
    others = iterate(PROBLEM, START, ScaledGD, rates[[0, 2]], range(31), **options)
    bound = ROUNDINGS * round_off(ScaledGD)
    assert apart(found.products[[0, 2]], others.products) <= bound


def test_a_lane_whose_factorisation_fails_leaves_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rates = torch.tensor([[0.1], [0.15], [0.2]], dtype=torch.float64)
    real = LoRAMuon.updated

    def updated(self: LoRAMuon, batch: Any, state: Any) -> Any:
        if batch.step == 4 and bool((torch.as_tensor(batch.group["lr"]) == 0.15).any()):
            raise torch.linalg.LinAlgError("it is marked")  # type: ignore[attr-defined]
        return real(self, batch, state)

    monkeypatch.setattr(LoRAMuon, "updated", updated)
    found = iterate(PROBLEM, START, LoRAMuon, rates, range(9))
    assert found.diverged.tolist() == [[math.inf] * 2, [5.0] * 2, [math.inf] * 2]
    assert found.singular_values.isfinite().all(-1)[1].tolist() == [[s < 5 for s in range(9)]] * 2
    others = iterate(PROBLEM, START, LoRAMuon, rates[[0, 2]], range(9))
    assert apart(found.products[[0, 2]], others.products) <= ROUNDINGS * round_off(LoRAMuon)


def test_plain_descent_that_overflows_is_seen_without_the_optimiser_s_help() -> None:
    found = iterate(PROBLEM, START, of_factors(SGD, momentum=0.5), 50.0, range(20))
    assert bool((found.diverged < 20).all())
    assert bool(found.loss[:, -1].isnan().all())
    assert bool(found.loss[:, 0].isfinite().all())


def test_recorded_iterates_do_not_depend_on_which_are_asked_for() -> None:
    every = iterate(PROBLEM, START, Spectron, RATE, range(13))
    some = iterate(PROBLEM, START, Spectron, RATE, [2, 3, 12])
    assert torch.equal(every.states[:, [2, 3, 12]], some.states)


def test_arrivals_are_the_first_recorded_iterates_that_are_there() -> None:
    found = iterate(PROBLEM, START, of_factors(SpectralDescent), RATE, range(41))
    arrivals = found.arrival_times(0.9)
    sigma = PROBLEM.singular_values
    for lane in range(2):
        for mode in range(3):
            there = (found.mode_values[lane, :, mode] >= 0.9 * sigma[mode]).nonzero()
            expected = float(there[0]) if len(there) else math.inf
            assert float(arrivals[lane, mode]) == expected
    assert bool(arrivals.isfinite().any())


@pytest.mark.parametrize("reduce", [True, False])
def test_dtype_and_device_are_asked_for(reduce: bool, device: torch.device) -> None:
    options: dict[str, Any] = {"reduce": reduce, "dtype": torch.float32, "device": device}
    found = iterate(PROBLEM, START, LoRAMuon, RATE, STEPS, **options)
    assert found.states.dtype == found.times.dtype == torch.float32
    assert found.states.device.type == device.type
    double = iterate(PROBLEM, START, LoRAMuon, RATE, STEPS)
    bound = ROUNDINGS * round_off(LoRAMuon) * 2.0**29
    assert bound < 0.2
    assert apart(found.products.double().cpu(), double.products) <= bound
    with pytest.raises(ValueError, match=r"float32 or float64 is expected; given torch\.bfloat16"):
        iterate(PROBLEM, START, LoRAMuon, RATE, STEPS, dtype=torch.bfloat16)


@pytest.mark.parametrize("steps", [[], [3, 3], [2, 1], [-1, 2], [0.5, 1]])
def test_steps_are_ascending_whole_numbers(steps: list[Any]) -> None:
    with pytest.raises(ValueError, match="steps: ascending whole numbers from 0 or more"):
        iterate(PROBLEM, START, LoRAMuon, RATE, steps)


@pytest.mark.parametrize("reduce", [True, False])
def test_an_optimiser_that_takes_a_pair_for_a_name_is_refused(reduce: bool) -> None:
    with pytest.raises(ValueError, match="SGD: all 2 parameters are expected, got 1 of them"):
        iterate(PROBLEM, START, SGD, RATE, STEPS, reduce=reduce)


def test_what_does_not_fit_is_told() -> None:
    with pytest.raises(ValueError, match=r"rate: a shape that broadcasts with .* \(2,\)"):
        iterate(PROBLEM, START, LoRAMuon, torch.ones(3), STEPS)
    with pytest.raises(ValueError, match=r"B: shape \(..., 24, 4\) is expected"):
        iterate(PROBLEM, (START[0].mT, START[1]), LoRAMuon, RATE, STEPS)
    with pytest.raises(ValueError, match="lr must be finite and >= 0"):
        iterate(PROBLEM, START, LoRAMuon, -1.0, STEPS)
    with pytest.raises(ValueError, match="A must be finite"):
        iterate(PROBLEM, (START[0], math.nan * START[1]), LoRAMuon, RATE, STEPS)


def test_a_large_problem_costs_what_a_small_one_does() -> None:
    problem = MatrixFactorization.planted(m=3000, n=2000, singular_values=[2.0, 1.0], rank=2)
    found = iterate(problem, problem.lora_init(1e-3, seed=range(3)), LoRAMuon, 0.05, range(81))
    assert found.states.shape == (3, 81, 8, 2)
    assert bool((found.singular_values[:, -1, 0] > 1.5).all())
