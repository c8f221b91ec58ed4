"""The locally optimal start: what it attains, what else does, and products instead of G."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from geometry.fixed_rank import FixedRank, point, tangent_norm, tangent_projection
from geometry.gauge import product_singular_values
from geometry.locally_optimal import (
    LocallyOptimal,
    frozen_weight,
    locally_optimal_from_products,
    locally_optimal_initialization,
    optimal_subspaces,
)
from tests.geometry.test_msign import random_matrices, with_spectrum

SHAPES = [(9, 7, 2), (7, 12, 3), (8, 8, 4), (6, 5, 4), (9, 4, 4), (5, 5, 1)]


def captured(G: Tensor, B: Tensor, A: Tensor) -> Tensor:
    """||P G||_F^2 over the sum of the first 2 r squares."""
    tangent = tangent_norm(tangent_projection(point(B, A), G)).square()
    share: Tensor = tangent / torch.linalg.svdvals(G)[..., : 2 * B.shape[-1]].square().sum(-1)
    return share


@pytest.mark.parametrize(("m", "n", "r"), SHAPES)
def test_attains_the_optimum(m: int, n: int, r: int, device: torch.device) -> None:
    G = random_matrices(3, m, n).to(device)
    scale = torch.tensor([0.5, 1.0, 7.0]).to(G)
    start = locally_optimal_initialization(G, r, scale=scale)
    assert float((captured(G, start.B, start.A) - 1).abs().max()) <= 1e-13
    s = product_singular_values(start.B, start.A)
    assert torch.allclose(s, scale[:, None].expand(3, r), rtol=1e-13)
    assert torch.allclose(start.B.mT @ start.B, start.A @ start.A.mT, rtol=0, atol=1e-13)
    assert torch.equal(start.singular_values, torch.linalg.svd(G)[1][..., : 2 * r])
    # The control: leading directions on both sides.
    if 2 * r <= min(m, n):
        U, s, Vh = torch.linalg.svd(G, full_matrices=False)
        expected = s[..., :r].square().sum(-1) / s[..., : 2 * r].square().sum(-1)
        assert torch.allclose(captured(G, U[..., :r], Vh[..., :r, :]), expected, rtol=1e-12)


def test_a_family_attains_it() -> None:
    G = random_matrices(5, 12, 9)
    turn = torch.linalg.qr(random_matrices(5, 6, 6, seed=3)).Q
    U, V = optimal_subspaces(G, turn)
    eye = torch.eye(3, dtype=torch.float64)
    x = FixedRank(U, eye.expand(5, 3, 3), V)
    best = torch.linalg.svdvals(G)[..., :6].square().sum(-1)
    assert torch.allclose(tangent_norm(tangent_projection(x, G)).square(), best, rtol=1e-13)
    U, V = optimal_subspaces(G, torch.eye(6, dtype=torch.float64).expand(5, 6, 6))
    start = locally_optimal_initialization(G, 3)
    assert torch.allclose(U @ U.mT, start.B @ start.B.mT, rtol=0, atol=1e-12)
    assert torch.allclose(V @ V.mT, start.A.mT @ start.A, rtol=0, atol=1e-12)


def test_of_a_gradient_of_small_rank_the_rest_is_filled_up() -> None:
    for rank in (0, 1, 3):
        G = with_spectrum(9, 7, torch.tensor([3.0, 2.0, 1.0][:rank]).double())
        for start in (
            locally_optimal_initialization(G, 2),
            from_products([G], 2)[0],
        ):
            assert torch.allclose(product_singular_values(start.B, start.A), torch.ones(2).double())
            x = point(start.B, start.A)
            left = G.square().sum() - tangent_norm(tangent_projection(x, G)).square()
            assert abs(float(left)) <= 1e-12


def from_products(
    gradients: Sequence[Tensor], rank: int, calls: list[str] | None = None, **options: int
) -> list[LocallyOptimal]:
    def right(N: Sequence[Tensor]) -> list[Tensor]:
        if calls is not None:
            calls.append("right")
        return [G @ X for G, X in zip(gradients, N, strict=True)]

    def left(M: Sequence[Tensor]) -> list[Tensor]:
        if calls is not None:
            calls.append("left")
        return [G.mT @ X for G, X in zip(gradients, M, strict=True)]

    generator = torch.Generator().manual_seed(0)
    return locally_optimal_from_products(
        right, left, gradients, rank, generator=generator, **options
    )


def test_products_alone_reach_it() -> None:
    gradients = [random_matrices(3, 20, 30), random_matrices(14, 11), random_matrices(8, 25)]
    calls: list[str] = []
    near = from_products(gradients, 3, calls, power_iterations=2)
    assert calls == ["right", "left"] * 3
    for G, start in zip(gradients, near, strict=True):
        assert float(captured(G, start.B, start.A).min()) >= 0.95
    # As many vectors as there are: the SVD itself.
    for G, start in zip(gradients, from_products(gradients, 3, oversampling=30), strict=True):
        assert float((captured(G, start.B, start.A) - 1).abs().max()) <= 1e-12
        exact = torch.linalg.svdvals(G)[..., :6]
        assert torch.allclose(start.singular_values, exact, rtol=1e-12)
    # The control: a sketch of no more vectors than are wanted, and no power iteration.
    poor = from_products(gradients, 3, oversampling=0, power_iterations=0)
    assert float(captured(gradients[0], poor[0].B, poor[0].A).max()) < 0.95


def test_dtypes_are_kept(device: torch.device) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        G = random_matrices(20, 30).to(device, dtype)
        for start in (locally_optimal_initialization(G, 3), from_products([G], 3)[0]):
            assert {x.dtype for x in start} == {dtype}
            assert {x.device.type for x in start} == {device.type}
            exact = captured(G.double(), start.B.double(), start.A.double())
            assert float(exact) >= 0.9


def test_the_frozen_weight_takes_the_adapter_back() -> None:
    W, G = random_matrices(2, 9, 7), random_matrices(2, 9, 7, seed=1)
    start = locally_optimal_initialization(G, 2, scale=0.3)
    frozen = frozen_weight(W, start.B, start.A, adapter_scale=2.0)
    assert torch.allclose(frozen + 2 * start.B @ start.A, W, rtol=0, atol=1e-15)
    assert float((frozen - W).abs().max()) > 0.01


def test_errors_say_what_was_given() -> None:
    G = random_matrices(2, 9, 7)
    with pytest.raises(ValueError, match=r"at most min\(m, n\) = 7 is expected of 9 x 7, got 8"):
        locally_optimal_initialization(G, 8)
    with pytest.raises(ValueError, match=r"scale must be finite and > 0, got 0"):
        locally_optimal_initialization(G, 2, scale=0.0)
    with pytest.raises(ValueError, match=r"leading dimensions \(2,\), is expected; given \(3, 1\)"):
        locally_optimal_initialization(G, 2, scale=torch.ones(3, 1))
    with pytest.raises(ValueError, match="G must be finite"):
        locally_optimal_initialization(G / 0, 2)
    with pytest.raises(ValueError, match="power_iterations must be an int >= 0, got -1"):
        from_products([G], 2, power_iterations=-1)
    with pytest.raises(ValueError, match=r"G\^T M of weight 0: shape \(2, 7, 6\) is expected"):
        locally_optimal_from_products(
            lambda N: [G @ N[0]], lambda M: [M[0]], [G], 2, generator=torch.Generator()
        )
    with pytest.raises(ValueError, match=r"W: shape \(2, 9, 7\) is expected"):
        frozen_weight(G.mT, G[..., :2], G[:, :2])
    with pytest.raises(ValueError, match=r"2 r at most 7 is expected; given \(3, 3\)"):
        optimal_subspaces(G, torch.eye(3))
