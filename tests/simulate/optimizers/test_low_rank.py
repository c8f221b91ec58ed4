"""Low-rank optimisers: what a step is, what it draws, and that members draw their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter

from geometry.polar import msign
from simulate.optimizers import LowRankMSGD, LowRankMuon, MatrixOptimizer, Muon, keep_members

Make = Callable[..., MatrixOptimizer]
both = pytest.mark.parametrize("make", [LowRankMSGD, LowRankMuon])


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


def after(make: Make, W: Tensor, gradients: list[Tensor], **options: Any) -> Tensor:
    """W after a step along each of the gradients."""
    p = Parameter(W.clone())
    optimizer = make([p], **options)
    for G in gradients:
        p.grad = G.clone()
        optimizer.step()
    return p.detach()


@both
@pytest.mark.parametrize("shape", [(6, 9), (9, 6)])
def test_a_step_is_the_polar_factor_of_the_projected_gradient(
    make: Make, shape: tuple[int, int]
) -> None:
    W, G = random(*shape, seed=1), random(*shape, seed=2)
    step = (W - after(make, W, [G], lr=0.5, rank=2)) / 0.5
    s = torch.linalg.svdvals(step)
    assert (s[:2] - 1).abs().max() < 1e-14
    assert s[2:].max() < 1e-14
    # Two columns of G, or rows where it is tall, span the left factor.
    wide, sketched = (G, step) if shape[0] < shape[1] else (G.mT, step.mT)
    U = torch.linalg.svd(sketched).U[:, :2]
    lies_in = (U @ (U.mT @ wide) - wide).norm(dim=0) < 1e-13
    assert int(lies_in.sum()) == 2
    assert (sketched - msign(U @ (U.mT @ wide))).abs().max() < 1e-13


def test_at_full_rank_it_is_muon() -> None:
    W, gradients = random(5, 7), [random(5, 7, seed=i) for i in range(4)]
    for nesterov in (False, True):
        full = after(
            Muon, W, gradients, lr=0.1, nesterov=nesterov, weight_decay=0.1,
            orthogonalizer="svd", adjust_lr_fn="unadjusted",
        )  # fmt: skip
        sketched = after(
            LowRankMuon, W, gradients, lr=0.1, rank=5, nesterov=nesterov, weight_decay=0.1
        )
        assert (full - sketched).abs().max() < 1e-13


def test_the_two_momenta_are_the_papers() -> None:
    # C <- beta C + G; N = beta C + G or C. With momentum .5 all is exact but for the polar factor.
    W, gradients, beta = random(5, 7), [random(5, 7, seed=i) for i in range(5)], 0.5
    for nesterov in (False, True):
        X, C = W.clone(), torch.zeros_like(W)
        for G in gradients:
            C = beta * C + G
            X = X - 0.1 * msign(beta * C + G if nesterov else C)
        found = after(LowRankMuon, W, gradients, lr=0.1, rank=5, momentum=beta, nesterov=nesterov)
        assert (found - X).abs().max() < 1e-13


@both
def test_draws_hang_on_seed_place_and_step(make: Make) -> None:
    W, G = torch.zeros(8, 12, dtype=torch.float64), random(8, 12)
    one = after(make, W, [G], lr=1.0, rank=3)
    assert torch.equal(one, after(make, W, [G], lr=1.0, rank=3))
    assert not torch.equal(one, after(make, W, [G], lr=1.0, rank=3, seed=1))
    two = after(make, W, [G, G], lr=1.0, rank=3)
    assert (two - 2 * one).abs().max() > 0.1
    params = [Parameter(W.clone()) for _ in range(2)]
    for p in params:
        p.grad = G.clone()
    make(params, lr=1.0, rank=3).step()
    assert (params[0] - one).abs().max() < 1e-13
    assert (params[1] - one).abs().max() > 0.1


@both
@pytest.mark.parametrize("sketch", ["columns", "weighted", "gaussian"])
def test_members_draw_by_their_own_seeds(make: Make, sketch: str) -> None:
    W, gradients = random(4, 8, 12), [random(4, 8, 12, seed=i) for i in range(3)]
    seeds, options = torch.tensor([5, 6, 7, 6]), {"lr": 0.3, "rank": 3, "sketch": sketch}
    together = after(make, W, gradients, seed=seeds, **options)
    for i, seed in enumerate(seeds.tolist()):
        alone = after(make, W[i], [G[i] for G in gradients], seed=seed, **options)
        assert (together[i] - alone).abs().max() < 1e-11
    # One seed for all: the same places, of each member's own gradient.
    shared = after(make, W, gradients, seed=6, **options)
    assert (shared[[1, 3]] - together[[1, 3]]).abs().max() < 1e-11
    assert (shared[0] - together[0]).abs().max() > 0.1


def test_members_that_are_kept_go_on_with_their_seed_and_momentum() -> None:
    W, gradients = random(4, 8, 12), [random(4, 8, 12, seed=i) for i in range(6)]
    options: dict[str, Any] = {
        "lr": torch.tensor([0.1, 0.2, 0.3, 0.4]),
        "momentum": torch.tensor([0.0, 0.5, 0.9, 0.99], dtype=torch.float64),
        "seed": torch.tensor([5, 6, 7, 8]),
        "rank": 2,
    }
    whole = after(LowRankMuon, W, gradients, **options)
    p, kept = Parameter(W.clone()), torch.tensor([3, 1])
    optimizer = LowRankMuon([p], **options)
    for step, G in enumerate(gradients):
        if step == 3:
            keep_members(optimizer, kept)
        p.grad = (G if step < 3 else G[kept]).clone()
        optimizer.step()
    assert (p - whole[kept]).abs().max() < 1e-11


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("nesterov", [False, True])
def test_one_momentum_a_member_gives_the_bits_of_its_number(
    dtype: torch.dtype, nesterov: bool
) -> None:
    momenta = [0.0, 0.3, 0.5, 0.95]
    W = random(4, 8, 12, dtype=dtype)
    gradients = [random(4, 8, 12, seed=i, dtype=dtype) for i in range(4)]
    options = {"lr": 0.1, "nesterov": nesterov}
    together = after(
        Muon, W, gradients, momentum=torch.tensor(momenta, dtype=torch.float64), **options
    )
    for i, momentum in enumerate(momenta):
        alone = after(Muon, W[i], [G[i] for G in gradients], momentum=momentum, **options)
        assert torch.equal(together[i], alone)


@both
@pytest.mark.parametrize(
    "option", [{"rank": 4}, {"seed": 9}, {"sketch": "gaussian"}, {"oversampling": 1}]
)
def test_an_option_that_is_changed_in_mid_run_holds_from_then_on(
    make: Make, option: dict[str, Any]
) -> None:
    W, G = Parameter(torch.zeros(8, 12, dtype=torch.float64)), random(8, 12)
    optimizer = make([W], lr=1.0, rank=2)
    for _ in range(2):
        W.grad = G.clone()
        optimizer.step()
    halfway = W.detach().clone()
    optimizer.param_groups[0].update(option)
    optimizer.step()
    # What it would have been with the option from the first step on.
    changed = {"rank": 2, **option}
    whole, shorter = (after(make, 0 * G, [G] * k, lr=1.0, **changed) for k in (3, 2))
    assert (W.detach() - halfway - (whole - shorter)).abs().max() < 1e-12


def test_what_cannot_be_is_told() -> None:
    p = Parameter(random(4, 6))
    with pytest.raises(ValueError, match=r"at most min\(m, n\) = 4 for 4 x 6 matrices, got 3 \+ 2"):
        LowRankMuon([p], lr=0.1, rank=3, oversampling=2)
    with pytest.raises(ValueError, match=r"unknown sketch 'rows'"):
        LowRankMSGD([p], lr=0.1, rank=2, sketch="rows")
    with pytest.raises(ValueError, match=r"seed must be an int in \[0, 2\^63\)"):
        LowRankMSGD([p], lr=0.1, rank=2, seed=-1)
    with pytest.raises(ValueError, match=r"int64 tensor, got torch\.float32"):
        LowRankMSGD([p], lr=0.1, rank=2, seed=torch.tensor(1.0))
    members = Parameter(random(3, 4, 6))
    with pytest.raises(ValueError, match=r"seed must broadcast to .* \(3,\), got shape \(2,\)"):
        LowRankMSGD([members], lr=0.1, rank=2, seed=torch.tensor([1, 2]))
    with pytest.raises(ValueError, match=r"momentum must lie in \[0, 1\), got \[0.5, 1.0, 0.5\]"):
        LowRankMuon([members], lr=0.1, rank=2, momentum=torch.tensor([0.5, 1.0, 0.5]))
    with pytest.raises(ValueError, match=r"momentum must broadcast to .* \(3,\), got shape \(2,\)"):
        Muon([members], lr=0.1, momentum=torch.tensor([0.5, 0.5]))


def test_a_seed_that_was_written_to_is_drawn_from_anew() -> None:
    # Small draws are made some steps ahead.
    W, G, options = random(4, 8, 12), random(4, 8, 12, seed=1), {"lr": 0.3, "rank": 3}
    p, seeds = Parameter(W.clone()), torch.tensor([5, 6, 7, 8])
    optimizer = LowRankMSGD([p], seed=seeds, **options)  # type: ignore[arg-type]
    for _ in range(2):
        p.grad = G.clone()
        optimizer.step()
        seeds += 1
    moved = after(LowRankMSGD, W, [G], seed=torch.tensor([5, 6, 7, 8]), **options)
    alone = LowRankMSGD([q := Parameter(moved)], seed=torch.tensor([6, 7, 8, 9]), **options)  # type: ignore[arg-type]
    alone.state[q]["step"] = 1
    q.grad = G.clone()
    alone.step()
    assert torch.equal(q, p)
