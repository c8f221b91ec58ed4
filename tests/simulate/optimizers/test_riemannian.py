"""RiemannLoRA and Riemannion are their equations, written once more on dense matrices."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from geometry.gauge import regauged
from simulate.optimizers import (
    NotFiniteError,
    PairOptimizer,
    Riemannion,
    RiemannLoRA,
    keep_members,
    lora_pairs,
)
from simulate.step_costs import Trace, numbers_kept
from tests.geometry.test_msign import random_matrices
from tests.simulate.optimizers.test_lora_optimizers import (
    Adapted,
    M,
    N,
    R,
    drawn,
    gauge,
    noises,
    stepped,
)

Make = Callable[..., PairOptimizer]
# X, the momentum at it and the gradient to the step's direction and the momentum to keep.
Rule = Callable[[Tensor, Tensor, Tensor, int], tuple[Tensor, Tensor]]
BOTH = (RiemannLoRA, Riemannion)


def projected(X: Tensor, Z: Tensor) -> Tensor:
    """On the tangent space at X, by projectors of the size of X."""
    U, _, Vh = torch.linalg.svd(X)
    U, V = U[:, :R], Vh[:R].mT
    left, right = torch.eye(len(X)).double() - U @ U.mT, torch.eye(len(V)).double() - V @ V.mT
    return Z - left @ Z @ right


def truncated(X: Tensor, rank: int = R) -> Tensor:
    U, s, Vh = torch.linalg.svd(X, full_matrices=False)
    return (U[:, :rank] * s[:rank]) @ Vh[:rank]


def polar(X: Tensor) -> Tensor:
    U, _, Vh = torch.linalg.svd(X, full_matrices=False)
    return U[:, : 2 * R] @ Vh[: 2 * R]


def dense(rule: Rule, count: int, lr: float, decay: float = 0.0) -> Tensor:
    """The product after steps of an optimiser of matrices of rank r, as `stepped` takes them."""
    B, A = drawn()
    X, kept = B @ A, torch.zeros(M, N, dtype=torch.float64)
    for number, noise in enumerate(noises(count)):
        gradient = projected(X, 0.3 * X + noise)
        step, kept = rule(X, projected(X, kept), gradient, number)
        X = truncated((1 - lr * decay) * X - lr * step)
    return X


def riemann_lora(X: Tensor, past: Tensor, gradient: Tensor, number: int) -> tuple[Tensor, Tensor]:
    kept = 0.9 * past + 0.1 * gradient
    return kept, kept


def riemannion(X: Tensor, past: Tensor, gradient: Tensor, number: int) -> tuple[Tensor, Tensor]:
    kept = 0.9 * past + gradient
    return projected(X, polar(kept)), kept


def stored_after(X: Tensor, past: Tensor, gradient: Tensor, number: int) -> tuple[Tensor, Tensor]:
    step = projected(X, polar(0.9 * past + gradient))
    return step, step


def adaptive() -> Rule:
    squares = torch.zeros(2, dtype=torch.float64)

    def rule(X: Tensor, past: Tensor, gradient: Tensor, number: int) -> tuple[Tensor, Tensor]:
        U, _, _ = torch.linalg.svd(X)
        inside = U[:, :R] @ U[:, :R].mT

        def halves(xi: Tensor) -> tuple[Tensor, Tensor]:
            return xi - inside @ xi, inside @ xi

        new = torch.stack([half.square().sum() for half in halves(gradient)])
        squares.copy_(0.999 * squares + 0.001 * new)
        kept = 0.9 * past + 0.1 * gradient
        roots = (squares / (1 - 0.999 ** (number + 1))).sqrt() + 1e-8
        left, right = halves(kept / (1 - 0.9 ** (number + 1)))
        return left / roots[0] + right / roots[1], kept

    return rule


CASES: dict[str, tuple[Make, dict[str, Any], Callable[[], Rule]]] = {
    "RiemannLoRA": (RiemannLoRA, {}, lambda: riemann_lora),
    "RiemannLoRA, adaptive": (RiemannLoRA, {"adaptive": True}, adaptive),
    "Riemannion": (Riemannion, {}, lambda: riemannion),
    "Riemannion, stored after": (Riemannion, {"stored": "after"}, lambda: stored_after),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_they_are_their_equations(name: str, decay: float) -> None:
    make, options, rule = CASES[name]
    B, A = stepped(make, *drawn(), noises(12), lr=0.1, weight_decay=decay, **options)
    expected = dense(rule(), 12, 0.1, decay)
    assert float((B @ A - expected).abs().max()) <= 1e-11
    # The control: the same rule at another rate.
    assert float((B @ A - dense(rule(), 12, 0.11, decay)).abs().max()) > 1e-3


def test_the_two_conventions_differ_from_the_second_step_on() -> None:
    for count, least in ((1, 0.0), (2, 1e-3)):
        before, after = (
            stepped(Riemannion, *drawn(), noises(count), lr=0.1, stored=stored)
            for stored in ("before", "after")
        )
        apart = float((before[0] @ before[1] - after[0] @ after[1]).abs().max())
        assert apart >= least
        assert count > 1 or apart == 0.0


def product_of(make: Make, loss_scale: float, **options: Any) -> Tensor:
    pair = tuple(nn.Parameter(x.clone()) for x in drawn())
    optimizer = make([pair], lr=0.1, **options)
    for noise in noises(10):
        G = loss_scale * (0.3 * (pair[0] @ pair[1]).detach() + noise)
        pair[0].grad, pair[1].grad = G @ pair[1].detach().mT, pair[0].detach().mT @ G
        optimizer.step()
    return (pair[0] @ pair[1]).detach()


def test_the_scale_of_the_loss_matters_only_where_momentum_is_stored_after() -> None:
    for stored, invariant in (("before", True), ("after", False)):
        runs = [product_of(Riemannion, scale, stored=stored) for scale in (1.0, 1e-3)]
        apart = float((runs[0] - runs[1]).abs().max())
        assert apart <= 1e-11 if invariant else apart > 1e-2


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("scale", [0.5, 4.0])
def test_an_adapters_scale_leaves_the_run_of_w(name: str, scale: float) -> None:
    make, options, _ = CASES[name]
    products = []
    for own, first in ((1.0, 1.0), (scale, 1 / scale)):
        B, A = drawn()
        pair = nn.Parameter(first * B), nn.Parameter(A)
        optimizer = make([pair], lr=0.1, scale=own, **options)
        for noise in noises(5):
            # The gradient of W = scale B A, handed down the chain.
            G = own * (0.3 * own * (pair[0] @ pair[1]).detach() + noise)
            pair[0].grad, pair[1].grad = G @ pair[1].detach().mT, pair[0].detach().mT @ G
            optimizer.step()
        products.append(own * (pair[0] @ pair[1]).detach())
    assert float((products[0] - products[1]).abs().max()) <= 1e-11


@pytest.mark.parametrize("name", CASES)
def test_a_change_of_gauge_in_mid_run_is_not_noticed(name: str) -> None:
    make, options, _ = CASES[name]
    products = []
    for changed in (False, True):
        pair = tuple(nn.Parameter(x.clone()) for x in drawn())
        optimizer = make([pair], lr=0.1, **options)
        for number, noise in enumerate(noises(8)):
            if changed and number == 4:
                new = regauged(pair[0].detach(), pair[1].detach(), gauge(100.0))
                for p, values in zip(pair, new, strict=True):
                    p.data.copy_(values)
            G = 0.3 * (pair[0] @ pair[1]).detach() + noise
            pair[0].grad, pair[1].grad = G @ pair[1].detach().mT, pair[0].detach().mT @ G
            optimizer.step()
        products.append((pair[0] @ pair[1]).detach())
    # The momentum is a matrix of W's size in factors, not one of theirs.
    assert float((products[0] - products[1]).abs().max()) <= 1e-10


@pytest.mark.parametrize("name", CASES)
def test_factors_go_out_balanced_and_near(name: str) -> None:
    make, options, _ = CASES[name]
    B, A = stepped(make, *drawn(), noises(3), lr=0.1, **options)
    assert float((B.mT @ B - A @ A.mT).abs().max()) <= 1e-12
    again = stepped(make, B, A, noises(1), lr=1e-6, **options)
    for before, after in zip((B, A), again, strict=True):
        # No sign or order has jumped.
        assert float((after - before).abs().max()) <= 1e-4


@pytest.mark.parametrize("make", BOTH)
def test_the_zero_start_is_refused_and_what_to_do_is_told(make: Make) -> None:
    pair = nn.Parameter(torch.zeros(6, 2).double()), nn.Parameter(random_matrices(2, 5))
    optimizer = make([pair])
    for p in pair:
        p.grad = torch.ones_like(p)
    with pytest.raises(
        ValueError,
        match=r"pairs \[0\] of Riem\w+ at step 0: B: .*locally optimal initialisation.*"
        "nothing was updated",
    ):
        optimizer.step()
    assert not pair[0].detach().any()
    assert not optimizer.state


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("rate", [1e30, 1e160, 1e300])
def test_a_member_that_overflows_is_named_and_the_others_go_on(name: str, rate: float) -> None:
    make, options, _ = CASES[name]
    pair = nn.Parameter(random_matrices(3, 6, 2)), nn.Parameter(random_matrices(3, 2, 5, seed=1))
    target = random_matrices(3, 6, 5, seed=2)
    rates = torch.tensor([0.05, rate, 0.02], dtype=torch.float64)
    optimizer, going = make([pair], lr=rates, **options), [0, 1, 2]
    for _ in range(30):
        while True:
            G = (pair[0] @ pair[1]).detach() - target[going]
            pair[0].grad, pair[1].grad = G @ pair[1].detach().mT, pair[0].detach().mT @ G
            try:
                optimizer.step()
                break
            except NotFiniteError as error:
                going = [i for i in (0, 1, 2) if i not in error.members]
                keep_members(optimizer, torch.tensor(going))
    ends = (pair[0] @ pair[1]).detach()
    # Orthogonalised, a step of 1e30 or 1e160 overflows nothing.
    assert going in ([0, 1, 2], [0, 2])
    assert rate < 1e300 or going == [0, 2]
    for member, place in ((0, 0), (2, -1)):
        alone = tuple(nn.Parameter(random_matrices(3, *shape, seed=seed)[member])
                      for shape, seed in (((6, 2), 0), ((2, 5), 1)))  # fmt: skip
        single = make([alone], lr=float(rates[member]), **options)
        for _ in range(30):
            G = (alone[0] @ alone[1]).detach() - target[member]
            alone[0].grad, alone[1].grad = G @ alone[1].detach().mT, alone[0].detach().mT @ G
            single.step()
        assert float((ends[place] - (alone[0] @ alone[1]).detach()).abs().max()) <= 1e-10


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("make", BOTH)
def test_lower_precision_rounds_once(make: Make, dtype: torch.dtype) -> None:
    given = [x.to(dtype) for x in drawn()]
    gradients = [random_matrices(*x.shape, seed=300).to(dtype) for x in given]
    moved = []
    for kind in (torch.float64, dtype):
        pair = tuple(nn.Parameter(x.to(kind)) for x in given)
        for p, gradient in zip(pair, gradients, strict=True):
            p.grad = gradient.to(kind)
        make([pair], lr=0.1).step()
        moved.append([p.detach().double() for p in pair])
    for exact, rounded in zip(*moved, strict=True):
        apart = (exact - rounded).abs().max() / exact.abs().max()
        assert float(apart) <= torch.finfo(dtype).eps / 2


@pytest.mark.parametrize("make", BOTH)
def test_memory_is_that_of_the_factors(make: Make) -> None:
    m, n, r = 300, 200, 4
    pair = nn.Parameter(random_matrices(m, r)), nn.Parameter(random_matrices(r, n))
    for p in pair:
        p.grad = random_matrices(*p.shape, seed=5)
    optimizer = make([pair])
    with Trace() as seen:
        optimizer.step()
    assert seen.largest == 2 * m * r
    assert numbers_kept(optimizer) == 2 * (m + n) * r


@pytest.mark.parametrize("make", BOTH)
def test_rank_above_half_of_a_side(make: Make) -> None:
    # 2 r > n: the core is smaller than 2 r x 2 r.
    B, A = random_matrices(6, 3), random_matrices(3, 4, seed=1)
    pair = nn.Parameter(B.clone()), nn.Parameter(A.clone())
    optimizer = make([pair], lr=0.3 if make is RiemannLoRA else 0.05, momentum=0.5)
    target = random_matrices(6, 4, seed=2)
    for _ in range(300):
        G = (pair[0] @ pair[1]).detach() - target
        pair[0].grad, pair[1].grad = G @ pair[1].detach().mT, pair[0].detach().mT @ G
        optimizer.step()
    left = torch.linalg.matrix_norm((pair[0] @ pair[1]).detach() - target)
    best = torch.linalg.matrix_norm(truncated(target, 3) - target)
    assert float(left - best) <= (1e-8 if make is RiemannLoRA else 0.2)


@pytest.mark.parametrize("make", BOTH)
def test_adapters_of_a_model_train_from_a_start_on_the_manifold(make: Make) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(Adapted("default"), nn.ReLU(), Adapted("default"))
    pairs = lora_pairs(model)
    optimizer = pickle.loads(pickle.dumps(make(pairs, lr=0.05, scale=2.0)))
    own = optimizer.param_groups[0]["params"]
    inputs, targets = torch.randn(40, 5), torch.randn(40, 6)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = (2.0 * inputs @ own[1].mT @ own[0].mT - targets).square().mean()
        loss = loss + (2.0 * inputs @ own[3].mT @ own[2].mT - targets).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.9 * losses[0]


def test_options_out_of_range_are_told() -> None:
    pair = nn.Parameter(drawn()[0]), nn.Parameter(drawn()[1])
    for make, options, message in (
        (Riemannion, {"stored": "befor"}, "unknown stored 'befor'.*did you mean 'before'"),
        (Riemannion, {"scale": 0.0}, "scale must be finite and > 0, got 0"),
        (Riemannion, {"scale": math.nan}, "scale must be finite and > 0, got nan"),
        (Riemannion, {"momentum": 1.0}, r"momentum must lie in \[0, 1\), got 1.0"),
        (RiemannLoRA, {"beta": 1.0}, r"beta must lie in \[0, 1\), got 1.0"),
        (RiemannLoRA, {"eps": -1.0}, "eps must be finite and >= 0, got -1.0"),
        (RiemannLoRA, {"weight_decay": -0.1}, "weight_decay must be finite and >= 0, got -0.1"),
    ):
        with pytest.raises(ValueError, match=message):
            make([pair], **options)
    optimizer = Riemannion([pair], lr=2.0, weight_decay=0.5)
    for factor in pair:
        factor.grad = torch.ones_like(factor)
    with pytest.raises(ValueError, match=r"weight_decay \* lr in \[0, 1\) is expected"):
        optimizer.step()
