"""SpecGD: what it has in common with Muon, with the flow, and with a loop by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter

from flows import MatrixFactorization, integrate, spectral_flow
from simulate.optimizers import Muon, SpectralDescent


def random(*shape: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


def step(W: Tensor, G: Tensor, lr: float = 0.1, **options: Any) -> Tensor:
    p = Parameter(W.clone())
    p.grad = G.clone()
    SpectralDescent([p], lr, **options).step()
    return p.detach()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_is_muon_without_momentum_bit_for_bit(dtype: torch.dtype) -> None:
    for decay in (0.0, 0.3):
        W = random(3, 7, 5, seed=0, dtype=dtype)
        mine, other = Parameter(W.clone()), Parameter(W.clone())
        pair = (
            SpectralDescent([mine], 0.05, weight_decay=decay),
            Muon(
                [other],
                lr=0.05,
                momentum=0.0,
                weight_decay=decay,
                orthogonalizer="svd",
                adjust_lr_fn="unadjusted",
            ),
        )
        for i in range(10):
            mine.grad = random(3, 7, 5, seed=1 + i, dtype=dtype)
            other.grad = mine.grad.clone()
            for optimizer in pair:
                optimizer.step()
        assert torch.equal(mine, other)
        assert not torch.equal(mine, W)


@pytest.mark.parametrize("decay", [0.0, 0.2])
@pytest.mark.parametrize("beta", [0.0, 0.3])
@pytest.mark.parametrize("smoothing", ["sqrt", "tanh"])
def test_is_the_euler_step_of_the_flow(smoothing: str, beta: float, decay: float) -> None:
    lr, count = 0.05, 30
    problem = MatrixFactorization.planted(
        m=8, n=7, singular_values=[2.0, 1.0], rank=2, l2=0.05, seed=0
    )
    start = problem.gaussian_init(0.3, seed=range(4))
    field = spectral_flow(problem, beta, smoothing=smoothing, weight_decay=decay)
    times = lr * torch.arange(count + 1, dtype=torch.float64)
    path = integrate(field, start, times, method="euler", step=lr, reduce=False)

    B, A = (Parameter(factor.clone()) for factor in start)
    optimizer = SpectralDescent([B, A], lr, beta, smoothing, weight_decay=decay)
    for index in range(1, count + 1):
        B.grad, A.grad = problem.gradients(B.detach(), A.detach())
        optimizer.step()
        for found, expected in zip((B, A), path.factors, strict=True):
            # Both round at the level of u; at beta = 0 the smallest singular value of a gradient,
            # .01 here and not less, is what they are divided by.
            assert float((found - expected[:, index]).detach().abs().max()) <= 1e-10


@pytest.mark.parametrize("shape", [(6, 6), (9, 4), (4, 9)])
def test_singular_values_of_an_update(shape: tuple[int, int]) -> None:
    G = random(*shape, seed=1)
    s = torch.linalg.svdvals(G)
    zero = torch.zeros_like(G)
    expected = {
        (0.0, "sqrt"): torch.ones_like(s),
        (0.5, "sqrt"): s / (s**2 + 0.25).sqrt(),
        (0.5, "tanh"): torch.tanh(s / 0.5),
    }
    for (beta, smoothing), values in expected.items():
        update = step(zero, G, lr=0.2, beta=beta, smoothing=smoothing)
        assert (torch.linalg.svdvals(update) - 0.2 * values).abs().max() <= 1e-8
        # Descent: the update is against the gradient, singular vector by singular vector.
        assert float((update * G).sum()) == pytest.approx(
            -0.2 * float((values * s).sum()), rel=1e-8
        )


def test_is_not_scaled_by_the_nuclear_norm() -> None:
    W, G = random(5, 4, seed=0), random(5, 4, seed=1)
    assert torch.equal(step(W, 1024 * G), step(W, G))


@pytest.mark.parametrize("beta", [0.0, 0.3])
def test_equivariance_under_orthogonal_transformations(beta: float) -> None:
    W, G = random(7, 5, seed=0), random(7, 5, seed=1)
    Q = torch.linalg.qr(random(7, 7, seed=20)).Q
    P = torch.linalg.qr(random(5, 5, seed=21)).Q
    options: dict[str, Any] = {"beta": beta, "weight_decay": 0.5}
    moved = step(Q @ W @ P, Q @ G @ P, **options)
    assert (moved - Q @ step(W, G, **options) @ P).abs().max() <= 1e-8
    assert (step(W.mT, G.mT, **options) - step(W, G, **options).mT).abs().max() <= 1e-8


def test_weight_decay_is_decoupled() -> None:
    W, G = random(5, 4, seed=0), random(5, 4, seed=1)
    difference = step(W, G, weight_decay=0.5) - step(W, G)
    assert (difference + 0.1 * 0.5 * W).abs().max() <= 1e-15 * 4
    assert difference.abs().max() > 0.01


def test_one_beta_a_member() -> None:
    W, G = random(2, 3, 5, 4, seed=0), random(2, 3, 5, 4, seed=1)
    betas = torch.tensor([0.1, 0.5, 2.0], dtype=torch.float64)
    found = step(W, G, beta=betas)
    for i, beta in enumerate(betas.tolist()):
        assert (found[:, i] - step(W[:, i], G[:, i], beta=beta)).abs().max() <= 1e-8
    assert (found[:, 0] - step(W[:, 0], G[:, 0], beta=2.0)).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beta": -1.0}, "beta must be finite and >= 0, got -1.0"),
        ({"smoothing": "tan"}, "unknown smoothing 'tan'.*did you mean 'tanh'"),
        ({"weight_decay": float("inf")}, "weight_decay must be finite and >= 0, got inf"),
    ],
)
def test_rejects(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SpectralDescent([Parameter(torch.zeros(3, 3))], 0.1, **options)


def test_rejects_a_beta_that_fits_no_member() -> None:
    W = torch.ones(2, 3, 3)
    for beta, message in ((torch.ones(3), r"batch dimensions \(2,\)"), (torch.zeros(2), "> 0")):
        with pytest.raises(ValueError, match=message):
            step(W, W, beta=beta)
