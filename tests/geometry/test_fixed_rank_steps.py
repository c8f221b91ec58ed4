"""Gradients of factors on the manifold, orthogonalised tangents, and the nearest factors."""

from __future__ import annotations

import math

import pytest
import torch

from geometry.fixed_rank import FixedRank, Tangent, as_pair, point, tangent_projection
from geometry.fixed_rank_steps import (
    nearest_factors,
    orthogonalized,
    point_and_gradient,
    product_projected,
)
from geometry.gauge import regauged
from geometry.scaling import widest_dtype
from tests.geometry.test_msign import random_matrices, with_spectrum

E, M, N, R = 4, 12, 9, 3


def drawn() -> tuple[FixedRank, Tangent]:
    X = point(random_matrices(E, M, R, seed=1), random_matrices(E, R, N, seed=2))
    return X, tangent_projection(X, random_matrices(E, M, N, seed=3))


@pytest.mark.parametrize("condition", [1.0, 1e3, 1e6])
def test_the_gradient_is_the_projection_of_the_dense_one(condition: float) -> None:
    C = with_spectrum(R, R, torch.logspace(0, -math.log10(condition), R).double(), 5)
    G = random_matrices(E, M, N, seed=3)
    B, A = regauged(random_matrices(E, M, R, seed=1), random_matrices(E, R, N, seed=2), C)
    X, xi = point_and_gradient(B, A, G @ A.mT, B.mT @ G)
    expected = tangent_projection(X, G)
    for found, other in zip(xi, expected, strict=True):
        assert float((found - other).abs().max()) <= 1e-13 * condition


@pytest.mark.parametrize(
    ("dtype", "device", "expected"),
    [
        (torch.float32, "cpu", torch.float64),
        (torch.bfloat16, "cuda", torch.float64),
        # Apple's device has no float64.
        (torch.bfloat16, "mps", torch.float32),
    ],
)
def test_factors_are_factorised_in_the_widest_dtype_of_their_device(
    dtype: torch.dtype, device: str, expected: torch.dtype
) -> None:
    assert widest_dtype(dtype, torch.device(device)) is expected


def test_gradients_that_are_not_of_the_factors_are_told() -> None:
    B, A = random_matrices(M, R), random_matrices(R, N)
    with pytest.raises(ValueError, match=r"G_A: shape \(3, 9\).*given \(9, 3\)"):
        point_and_gradient(B, A, B, A.mT)
    with pytest.raises(ValueError, match="G_B must be finite"):
        point_and_gradient(B, A, math.nan * B, A)


def test_an_orthogonalised_tangent_has_its_polar_factor() -> None:
    X, xi = drawn()
    left, right = as_pair(X, xi)
    U, s, Vh = torch.linalg.svd(left @ right, full_matrices=False)
    assert float(s[:, 2 * R :].max()) <= 1e-13 < float(s[:, 2 * R - 1].min())
    expected = U[..., : 2 * R] @ Vh[:, : 2 * R]
    first, second = orthogonalized(X, xi)
    assert first.shape == (E, M, 2 * R)
    assert second.shape == (E, 2 * R, N)
    assert float((first @ second - expected).abs().max()) <= 1e-12
    projected = product_projected(X, first, second)
    for found, other in zip(projected, tangent_projection(X, expected), strict=True):
        assert float((found - other).abs().max()) <= 1e-12


def test_directions_that_are_not_there_are_dropped() -> None:
    X, xi = drawn()
    # D_U of rank 1 and D_V in the span of V: a tangent of rank r.
    lower = Tangent(xi.D_U[..., :1] @ xi.D_U[..., :1].mT @ xi.D_U, X.V @ X.V.mT @ xi.D_V)
    left, right = orthogonalized(X, lower)
    s = torch.linalg.svdvals(left @ right)
    rank = int(torch.linalg.matrix_rank(torch.matmul(*as_pair(X, lower))[0]))
    assert rank < 2 * R
    assert float((s[:, :rank] - 1).abs().max()) <= 1e-12
    assert float(s[:, rank:].max()) <= 1e-12


def test_the_nearest_factors_are_balanced_and_no_rotation_is_nearer() -> None:
    B, A = random_matrices(E, M, R, seed=1), random_matrices(E, R, N, seed=2)
    X = point(B, A)
    b, a = nearest_factors(X, B, A)
    assert float((b @ a - B @ A).abs().max()) <= 1e-13
    assert float((b.mT @ b - a @ a.mT).abs().max()) <= 1e-13

    def distance(turn: torch.Tensor) -> torch.Tensor:
        return (b @ turn - B).square().sum((-2, -1)) + (turn.mT @ a - A).square().sum((-2, -1))

    least = distance(torch.eye(R).double().expand(E, R, R))
    for seed in range(20):
        turn = torch.linalg.qr(random_matrices(E, R, R, seed=seed)).Q
        assert bool((distance(turn) >= least).all())
    # Balanced factors are their own.
    again = nearest_factors(X, b, a)
    for one, other in zip((b, a), again, strict=True):
        assert float((one - other).abs().max()) <= 1e-13
