"""Muon with its default orthogonaliser has the bits of torch.optim.Muon."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter

from simulate.optimizers import Muon

SHAPES = [(4, 4), (7, 7), (3, 8), (9, 4), (17, 33), (64, 16), (16, 64), (33, 33), (1, 5), (5, 1)]
DTYPES = [torch.float32, torch.bfloat16, torch.float64, torch.float16]


def parameters(dtype: torch.dtype, seed: int = 0) -> list[Parameter]:
    """Three parameters a shape, so that there is something to stack."""
    generator = torch.Generator().manual_seed(seed)
    drawn = [torch.randn(*shape, generator=generator) for shape in SHAPES for _ in range(3)]
    return [Parameter(W.to(dtype)) for W in drawn]


def give_gradients(groups: list[list[Parameter]], step: int) -> None:
    """The same gradients to each list, a new set each step."""
    generator = torch.Generator().manual_seed(1000 + step)
    for alike in zip(*groups, strict=True):
        G = torch.randn(*alike[0].shape, generator=generator)
        for p in alike:
            p.grad = G.to(p.dtype)


def run(steps: int, ours: list[Parameter], theirs: list[Parameter], **options: Any) -> None:
    pair = Muon(ours, **options), torch.optim.Muon(theirs, **options)
    for step in range(steps):
        give_gradients([ours, theirs], step)
        for optimizer in pair:
            optimizer.step()
        for W, V in zip(ours, theirs, strict=True):
            assert torch.equal(W, V), (step, W.shape)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("adjust_lr_fn", [None, "original", "match_rms_adamw"])
def test_the_defaults_over_many_steps(adjust_lr_fn: str | None, dtype: torch.dtype) -> None:
    start = parameters(dtype)
    ours, theirs = copy.deepcopy(start), copy.deepcopy(start)
    run(20, ours, theirs, lr=0.02, adjust_lr_fn=adjust_lr_fn)
    assert not any(torch.equal(W, V) for W, V in zip(ours, start, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "options",
    [
        {"nesterov": False},
        {"nesterov": False, "momentum": 0.5, "weight_decay": 0.0},
        {"momentum": 0.0, "lr": 0.3},
        {"weight_decay": 0.7, "lr": 0.05, "momentum": 0.9},
        {"ns_coefficients": (2.0, -1.5, 0.5), "ns_steps": 3, "eps": 1.0},
        {"lr": torch.tensor(0.02)},
        {"lr": torch.tensor(0.02, dtype=torch.float64), "weight_decay": 0.3},
    ],
)
def test_other_options(options: dict[str, Any], dtype: torch.dtype) -> None:
    start = parameters(dtype)
    run(12, copy.deepcopy(start), copy.deepcopy(start), **options)


@pytest.mark.parametrize(
    "options",
    [
        {"momentum": 0.0, "lr": 0.3},
        {"weight_decay": 0.7, "lr": 0.05, "momentum": 0.9},
        {"lr": torch.tensor(0.02), "weight_decay": 0.3},
    ],
)
def test_other_options_in_half_precision(options: dict[str, Any]) -> None:
    start = parameters(torch.bfloat16)
    run(12, copy.deepcopy(start), copy.deepcopy(start), **options)


def test_without_nesterov_in_bfloat16_only_torchs_buffer_is_normalised() -> None:
    # torch 2.13 divides the buffer by its norm in place (pytorch pull request 194664). Put right
    # after every step, its weights are ours.
    start = parameters(torch.bfloat16)
    ours, theirs = copy.deepcopy(start), copy.deepcopy(start)
    mine = Muon(ours, nesterov=False)
    other = torch.optim.Muon(theirs, nesterov=False)
    for step in range(8):
        give_gradients([ours, theirs], step)
        mine.step()
        other.step()
        for W, V in zip(ours, theirs, strict=True):
            assert torch.equal(W, V), (step, W.shape)
            kept = mine.state[W]["momentum_buffer"]
            assert float(kept.double().norm()) != pytest.approx(1, abs=0.005)
            other.state[V]["momentum_buffer"].copy_(kept)


def test_weights_in_column_order() -> None:
    # As QR returns them: torch's norms then run along columns.
    start = [Parameter(torch.linalg.qr(p.detach()).Q) for p in parameters(torch.float32)]
    assert any(p.stride(-2) < p.stride(-1) for p in start)
    run(12, copy.deepcopy(start), copy.deepcopy(start))


def on_the_verge(count: int, m: int, n: int) -> Tensor:
    """Matrices (count, m, n) of bfloat16 numbers whose norms lie midway between two others."""
    generator = torch.Generator().manual_seed(0)
    X = torch.randn(count, m * n, generator=generator).bfloat16().double()
    X[:, :8] = 0
    norm = X.norm(dim=1) * 1.01
    ulp = 2.0 ** (norm.log2().floor() - 7)
    target = ((norm / ulp).floor() + 0.5) * ulp
    for entry in range(8):
        # Bits are dropped, not rounded, so that something is left for the next entry.
        left = (target.square() - X.square().sum(1)).clamp_min(0).sqrt().float()
        X[:, entry] = (left.view(torch.int32) & -65536).view(torch.float32).double()
    shuffled = X[:, torch.randperm(m * n, generator=generator)]
    return shuffled.reshape(count, m, n).float()


@pytest.mark.parametrize("columns", [False, True])
def test_the_order_of_sums_in_norms(columns: bool) -> None:
    # With p(x) = x the weights show the norms alone, which bfloat16 rounds one way or the other
    # according to the order of their sums.
    gradients = on_the_verge(100, 64, 16)
    start = [Parameter(torch.zeros_like(G)) for G in gradients]
    ours, theirs = copy.deepcopy(start), copy.deepcopy(start)
    options: dict[str, Any] = {"ns_coefficients": (1.0, 0.0, 0.0), "ns_steps": 1, "lr": 1.0}
    pair = (
        Muon(ours, momentum=0.0, **options),
        torch.optim.Muon(theirs, momentum=0.0, **options),
    )
    for W, V, G in zip(ours, theirs, gradients, strict=True):
        W.grad = G.mT.contiguous().mT if columns else G.clone()
        V.grad = W.grad.clone()
        assert V.grad.stride() == W.grad.stride()
    for optimizer in pair:
        optimizer.step()
    assert [i for i in range(100) if not torch.equal(ours[i], theirs[i])] == []


def test_groups_and_a_scheduler() -> None:
    start = parameters(torch.float32)
    runs = []
    kinds: list[Callable[..., torch.optim.Optimizer]] = [Muon, torch.optim.Muon]
    for kind in kinds:
        mine = copy.deepcopy(start)
        optimizer = kind(
            [{"params": mine[:9]}, {"params": mine[9:], "lr": 0.1, "nesterov": False}], lr=0.01
        )
        scheduler = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=[0.02, 0.2], total_steps=12, base_momentum=0.8, cycle_momentum=True
        )
        for step in range(12):
            give_gradients([mine], step)
            optimizer.step()
            if step < 11:
                scheduler.step()
        runs.append((mine, [group["lr"] for group in optimizer.param_groups]))
    assert runs[0][1] == runs[1][1]
    assert all(torch.equal(W, V) for W, V in zip(runs[0][0], runs[1][0], strict=True))


@pytest.mark.parametrize("direction", ["from torch", "to torch"])
def test_state_dicts_are_exchanged(direction: str) -> None:
    first, second = (Muon, torch.optim.Muon)[:: 1 if direction == "to torch" else -1]
    start = parameters(torch.float32)
    uninterrupted, moved = copy.deepcopy(start), copy.deepcopy(start)
    before = first(moved, lr=0.03, weight_decay=0.2, ns_steps=5)
    reference = torch.optim.Muon(uninterrupted, lr=0.03, weight_decay=0.2)
    for step in range(10):
        if step == 5:
            after = second(moved)
            after.load_state_dict(copy.deepcopy(before.state_dict()))
            before = after
        give_gradients([uninterrupted, moved], step)
        reference.step()
        before.step()
    assert all(torch.equal(W, V) for W, V in zip(moved, uninterrupted, strict=True))


def test_an_ensemble_is_torch_on_every_member() -> None:
    def check(dtype: torch.dtype, shape: tuple[int, int]) -> None:
        generator = torch.Generator().manual_seed(3)
        W = Parameter(torch.randn(2, 3, *shape, generator=generator).to(dtype))
        members = [Parameter(M.clone()) for M in W.detach().flatten(0, 1)]
        pair = Muon([W], lr=0.05), torch.optim.Muon(members, lr=0.05)
        for _ in range(10):
            W.grad = torch.randn(W.shape, generator=generator).to(dtype)
            for M, G in zip(members, W.grad.flatten(0, 1), strict=True):
                M.grad = G.clone()
            for optimizer in pair:
                optimizer.step()
        found: Tensor = W.detach().flatten(0, 1)
        assert torch.equal(found, torch.stack([M.detach() for M in members])), (dtype, shape)

    for dtype in DTYPES:
        for shape in ((7, 7), (8, 5), (64, 16), (5, 12)):
            check(dtype, shape)
