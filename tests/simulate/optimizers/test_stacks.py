"""What a matrix gets in a stack or an ensemble is what it gets alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter

from geometry.orthogonalizers import ORTHOGONALIZERS
from geometry.polar import smoothed_msign
from simulate.optimizers import MatrixOptimizer, Muon, SpectralDescent, Tensorion

Make = Callable[..., MatrixOptimizer]


def random(*shape: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


def alone(make: Make, members: Tensor, gradients: list[Tensor], lr: list[float]) -> Tensor:
    """Each matrix of members (k, m, n) by an optimiser of its own, for one step a gradient."""
    found = []
    for i, member in enumerate(members):
        p = Parameter(member.clone())
        optimizer = make([p], lr=lr[i])
        for G in gradients:
            p.grad = G[i].clone()
            optimizer.step()
        found.append(p.detach())
    return torch.stack(found)


BATCHED: dict[str, Make] = {
    "torch": lambda params, lr: Muon(params, lr=lr, weight_decay=0.3),
    "torch, no nesterov": lambda params, lr: Muon(params, lr=lr, nesterov=False),
    "tensorion": lambda params, lr: Tensorion(params, lr=lr, order=2, orthogonalizer="torch"),
}


@pytest.mark.parametrize("make", BATCHED.values(), ids=BATCHED.keys())
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("shape", [(4, 4), (7, 5), (17, 33), (20, 18)])
def test_members_and_stacks_have_the_bits_they_have_alone(
    make: Make, dtype: torch.dtype, shape: tuple[int, int]
) -> None:
    members = random(6, *shape, seed=1, dtype=dtype)
    gradients = [random(6, *shape, seed=2 + step, dtype=dtype) for step in range(5)]
    rates = [0.02 * (1 + i) for i in range(6)]
    one_rate = alone(make, members, gradients, [0.02] * 6)
    own_rates = alone(make, members, gradients, rates)
    assert not torch.equal(one_rate, own_rates)

    def ensemble(lr: float | Tensor) -> Tensor:
        p = Parameter(members.clone().reshape(2, 3, *shape))
        optimizer = make([p], lr=lr)
        for G in gradients:
            p.grad = G.reshape(2, 3, *shape)
            optimizer.step()
        return p.detach().reshape(6, *shape)

    def stack() -> Tensor:
        params = [Parameter(member.clone()) for member in members]
        optimizer = make(params, lr=0.02)
        for G in gradients:
            for p, its_gradient in zip(params, G, strict=True):
                p.grad = its_gradient.clone()
            optimizer.step()
        return torch.stack([p.detach() for p in params])

    assert torch.equal(ensemble(0.02), one_rate)
    assert torch.equal(stack(), one_rate)
    assert torch.equal(ensemble(torch.tensor(rates, dtype=torch.float64).reshape(2, 3)), own_rates)


def direction_error(orthogonalizer: str, beta: float, D: Tensor) -> float:
    """Largest error of a computed direction of D (..., m, n) in the Frobenius norm, in float64."""
    u, size = 2.0**-53, max(D.shape[-2:])
    if beta:
        return float(smoothed_msign(D, beta, return_error_bound=True)[1].max())
    if orthogonalizer == "svd":
        # The polar factor's condition number is 1 / s_min, the SVD's backward error p u ||D||_F.
        s = torch.linalg.svdvals(D)
        return float((8 * size * u * s.norm(dim=-1) / s[..., -1]).max())
    # Every step adds rounding of some sizes u in each of min(m, n) directions, and those before it
    # grow by at most the slope of the polynomial at 0.
    slope = 1.0
    for polynomial in ORTHOGONALIZERS[orthogonalizer].polynomials():
        slope *= max(polynomial.coefficients[0], 1.0)
    return 10 * size * u * slope * min(D.shape[-2:]) ** 0.5


@pytest.mark.parametrize(
    ("orthogonalizer", "beta"),
    [("svd", 0.0), ("svd", 0.3), ("muon", 0.0), ("polar_express", 0.0), ("cubic", 0.0)],
)
@pytest.mark.parametrize("shape", [(4, 4), (7, 5), (17, 33), (33, 17)])
def test_other_members_and_stacks_differ_by_round_off(
    orthogonalizer: str, beta: float, shape: tuple[int, int]
) -> None:
    # MKL and LAPACK take other paths for matrices that lie otherwise in memory. Buffers are
    # elementwise and so have the same bits; directions are within their error of the exact one on
    # both sides, and the gradients do not depend on the weights, so that the steps add up.
    lr, steps = 0.05, 6

    def make(params: Any, lr: float) -> MatrixOptimizer:
        if beta:
            return SpectralDescent(params, lr, beta)
        return Muon(
            params,
            lr=lr,
            momentum=0.0,
            weight_decay=0.0,
            adjust_lr_fn="unadjusted",
            orthogonalizer=orthogonalizer,
        )

    members = random(6, *shape, seed=1)
    gradients = [random(6, *shape, seed=2 + step) for step in range(steps)]
    one_by_one = alone(make, members, gradients, [lr] * 6)
    ensemble = Parameter(members.clone().reshape(2, 3, *shape))
    stack = [Parameter(member.clone()) for member in members]
    optimizers = make([ensemble], lr), make(stack, lr)
    for G in gradients:
        ensemble.grad = G.reshape(2, 3, *shape)
        for p, its_gradient in zip(stack, G, strict=True):
            p.grad = its_gradient.clone()
        for optimizer in optimizers:
            optimizer.step()
    bound = sum(2 * lr * direction_error(orthogonalizer, beta, G) for G in gradients)
    # Two roundings a step on either side, of entries that a step moves by at most lr s_1(O(G)).
    bound += 4 * steps * 2.0**-53 * float(members.flatten(1).norm(dim=1).max() + 6)
    for found in (ensemble.detach().reshape(6, *shape), torch.stack([p.detach() for p in stack])):
        assert float((found - one_by_one).flatten(1).norm(dim=1).max()) <= bound
    assert bound <= 1e-10
