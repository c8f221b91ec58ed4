"""What every optimiser of LoRA pairs keeps of torch's contract, and how members stay apart."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor

from simulate.optimizers import (
    FactorMuon,
    LoRAMuon,
    LoRARite,
    LoRARiteCore,
    PairOptimizer,
    Riemannion,
    RiemannLoRA,
    ScaledGD,
    Spectron,
)
from tests.geometry.test_msign import random_matrices

Make = Callable[..., PairOptimizer]
OF_PAIRS: tuple[type[PairOptimizer], ...] = (
    FactorMuon,
    LoRAMuon,
    LoRARite,
    LoRARiteCore,
    Riemannion,
    RiemannLoRA,
    ScaledGD,
    Spectron,
)
OPTIMIZERS: dict[str, Make] = {
    **{each.__name__: each for each in OF_PAIRS},
    "RiemannLoRA, adaptive": partial(RiemannLoRA, adaptive=True),
    "Riemannion, stored after": partial(Riemannion, stored="after"),
}
each_optimizer = pytest.mark.parametrize("name", OPTIMIZERS)
Parameters = list[tuple[torch.nn.Parameter, torch.nn.Parameter]]


def parameters(*shapes: tuple[int, int, int], batch: tuple[int, ...] = ()) -> Parameters:
    """Pairs of m x r and r x n."""
    return [
        (
            torch.nn.Parameter(random_matrices(*batch, m, r, seed=number)),
            torch.nn.Parameter(random_matrices(*batch, r, n, seed=100 + number)),
        )
        for number, (m, n, r) in enumerate(shapes)
    ]


def give_gradients(pairs: Parameters, step: int) -> None:
    """Noisy gradients of half the distance from 0."""
    for number, (B, A) in enumerate(pairs):
        noise = random_matrices(*B.shape[:-1], A.shape[-1], seed=1000 * step + number)
        G = (B @ A).detach() + noise
        B.grad, A.grad = G @ A.detach().mT, B.detach().mT @ G


def run(optimizer: PairOptimizer, pairs: Parameters, steps: range) -> list[Tensor]:
    for step in steps:
        give_gradients(pairs, step)
        optimizer.step()
    return [factor.detach().clone() for pair in pairs for factor in pair]


def bitwise(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(one, other, strict=True))


@each_optimizer
def test_moves_downhill_and_is_deterministic(name: str) -> None:
    results = []
    for _ in range(2):
        pairs = parameters((9, 7, 3), (5, 6, 2))
        before = sum(float((B @ A).detach().norm()) for B, A in pairs)
        results.append(run(OPTIMIZERS[name](pairs, lr=0.1), pairs, range(5)))
        after = sum(float((B @ A).detach().norm()) for B, A in pairs)
        assert after < before
    assert bitwise(*results)


@each_optimizer
def test_a_run_taken_up_from_its_state_is_the_same(name: str) -> None:
    pairs = parameters((9, 7, 3), (9, 7, 3), (5, 6, 2))
    optimizer = OPTIMIZERS[name](pairs, lr=0.05)
    run(optimizer, pairs, range(3))
    saved = copy.deepcopy(optimizer.state_dict())
    half = [torch.nn.Parameter(p.detach().clone()) for pair in pairs for p in pair]
    others = list(zip(half[::2], half[1::2], strict=True))
    straight = run(optimizer, pairs, range(3, 6))
    resumed = OPTIMIZERS[name](others, lr=9.0)
    resumed.load_state_dict(saved)
    assert resumed.param_groups[0]["lr"] == 0.05
    assert bitwise(run(resumed, others, range(3, 6)), straight)


@each_optimizer
def test_copies_and_pickles_carry_on(name: str) -> None:
    pairs = parameters((9, 7, 3))
    optimizer = OPTIMIZERS[name](pairs, lr=0.05)
    run(optimizer, pairs, range(2))
    for again in (copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))):
        own = again.param_groups[0]["params"]
        others = [(own[0], own[1])]
        expected_optimizer = copy.deepcopy(optimizer)
        expected = expected_optimizer.param_groups[0]["params"]
        assert bitwise(
            run(again, others, range(2, 4)),
            run(expected_optimizer, [(expected[0], expected[1])], range(2, 4)),
        )
        assert not bitwise([own[0].detach()], [pairs[0][0].detach()])


@each_optimizer
def test_a_closure_is_called_with_gradients_and_its_loss_returned(name: str) -> None:
    pairs = parameters((6, 5, 2))
    optimizer = OPTIMIZERS[name](pairs, lr=0.05)
    B, A = pairs[0]
    losses = []

    def closure() -> float:
        optimizer.zero_grad()
        loss = (B @ A).square().sum()
        loss.backward()
        losses.append(float(loss.detach()))
        return losses[-1]

    for _ in range(3):
        assert optimizer.step(closure) == losses[-1]
    assert losses[2] < losses[0]


@each_optimizer
def test_schedulers_and_groups_set_their_own_rate(name: str) -> None:
    pairs = parameters((6, 5, 2), (6, 5, 2))
    for factor, other in zip(*pairs, strict=True):
        other.data.copy_(factor.data)
    groups = [{"pairs": [pairs[0]], "lr": 0.1}, {"pairs": [pairs[1]], "lr": 0.0}]
    optimizer = OPTIMIZERS[name](groups)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5**step)
    before = [factor.detach().clone() for factor in pairs[1]]
    give_gradients(pairs, 0)
    optimizer.step()
    scheduler.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.05)
    assert bitwise([factor.detach() for factor in pairs[1]], before)
    assert not bitwise([factor.detach() for factor in pairs[0]], before)


@each_optimizer
def test_members_of_an_ensemble_are_pairs_alone(name: str, device: torch.device) -> None:
    rates = torch.tensor([0.01, 0.05, 0.2], dtype=torch.float64)
    together = [
        (torch.nn.Parameter(B.detach().to(device)), torch.nn.Parameter(A.detach().to(device)))
        for B, A in parameters((9, 7, 3), batch=(3,))
    ]
    optimizer = OPTIMIZERS[name](together, lr=rates.to(device))
    alone: list[Parameters] = []
    for member in range(3):
        B, A = (torch.nn.Parameter(factor.detach()[member].cpu()) for factor in together[0])
        alone.append([(B, A)])
    singles = [OPTIMIZERS[name](alone[member], lr=float(rates[member])) for member in range(3)]
    for step in range(4):
        noise = random_matrices(3, 9, 7, seed=step)
        everyone = [(together, noise.to(device)), *zip(alone, noise, strict=True)]
        for pairs, parts in everyone:
            B, A = pairs[0]
            G = (B @ A).detach() + parts
            B.grad, A.grad = G @ A.detach().mT, B.detach().mT @ G
        for each in (optimizer, *singles):
            each.step()
    for member in range(3):
        for factor, own in zip(together[0], alone[member][0], strict=True):
            apart = (factor.detach()[member].cpu() - own.detach()).abs().max()
            # Products of a batch may be summed in another order; four steps of condition 1e2.
            assert float(apart) <= 1e-11


@each_optimizer
def test_pairs_beside_it_change_nothing_but_round_off(name: str) -> None:
    alone, beside = parameters((9, 7, 3)), parameters((9, 7, 3), (9, 7, 3), (5, 6, 2))
    one = run(OPTIMIZERS[name](alone, lr=0.05), alone, range(3))
    other = run(OPTIMIZERS[name](beside, lr=0.05), beside, range(3))
    for x, y in zip(one, other[:2], strict=True):
        assert float((x - y).abs().max()) <= 1e-12


@each_optimizer
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_gradient_that_is_not_finite_changes_nothing(name: str, bad: float) -> None:
    pairs = parameters((6, 5, 2), (6, 5, 2), batch=(3,))
    optimizer = OPTIMIZERS[name](pairs, lr=0.05)
    run(optimizer, pairs, range(2))
    before = [factor.detach().clone() for pair in pairs for factor in pair]
    state = copy.deepcopy(optimizer.state_dict())
    give_gradients(pairs, 2)
    gradient = pairs[1][1].grad
    assert gradient is not None
    gradient[2, 0, 0] = bad
    with pytest.raises(
        ValueError, match=r"pair 1, gradient of A \(3, 2, 5\): .* at step 2, members \[\[2\]\]"
    ):
        optimizer.step()
    assert bitwise([factor.detach() for pair in pairs for factor in pair], before)
    assert str(optimizer.state_dict()) == str(state)


@each_optimizer
def test_wrong_input_is_told(name: str) -> None:
    make = OPTIMIZERS[name]
    B, A = parameters((6, 5, 2))[0]
    with pytest.raises(ValueError, match=r"pair 0: B \(..., m, r\) and pair 0: A .* are expected"):
        make([(A, B)])
    with pytest.raises(ValueError, match=r"rank of at most min\(m, n\) = 2 is expected; given 3"):
        make([(random_matrices(2, 3), random_matrices(3, 5))])
    with pytest.raises(ValueError, match=r"floating-point dtype, got torch.complex128"):
        make([(B.detach().to(torch.complex128), A)])
    with pytest.raises(ValueError, match="at least one"):
        make([])
    with pytest.raises(ValueError, match=r"lr must be finite and >= 0, got -1"):
        make([(B, A)], lr=-1.0)
    with pytest.raises(ValueError, match=r"unknown option of \w+ 'lrr'"):
        make([{"pairs": [(B, A)], "lrr": 0.1}])
    optimizer = make([(B, A)])
    B.grad = torch.zeros_like(B)
    with pytest.raises(ValueError, match=r"pair 0: gradients of both factors .* given none of A"):
        optimizer.step()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@each_optimizer
def test_half_precisions_step(name: str, dtype: torch.dtype) -> None:
    """Nearly where float64 does; those with QR found none in half precision and raised."""
    exact, rounded = parameters((6, 5, 2)), parameters((6, 5, 2))
    give_gradients(exact, 0)
    for pair, halves in zip(exact, rounded, strict=True):
        for p, half in zip(pair, halves, strict=True):
            assert p.grad is not None
            half.data = p.detach().to(dtype)
            half.grad = p.grad.to(dtype)
    for pairs in (exact, rounded):
        OPTIMIZERS[name](pairs, lr=0.01).step()
    for p, half in zip(exact[0], rounded[0], strict=True):
        assert half.dtype == dtype
        torch.testing.assert_close(half.double(), p.double(), rtol=0.02, atol=0.02)
