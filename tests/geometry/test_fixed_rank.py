"""The manifold of fixed rank on factors: its laws, and pymanopt as a second opinion."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pymanopt.manifolds import FixedRankEmbedded
from torch import Tensor

from geometry.fixed_rank import (
    FixedRank,
    Tangent,
    as_pair,
    factors,
    point,
    retract,
    tangent_inner,
    tangent_norm,
    tangent_projection,
    tangent_projection_from_products,
    transport,
)
from geometry.gauge import regauged
from tests.geometry.test_msign import U64, random_matrices

# Tall, wide, square; 2 r above one side, above both, and r = min(m, n).
SHAPES = [(9, 7, 2), (7, 12, 3), (8, 8, 4), (5, 12, 3), (6, 5, 4), (9, 4, 4), (5, 5, 5)]
TOLERANCE = 400 * U64


def random_point(m: int, n: int, r: int, batch: int = 3, seed: int = 0) -> FixedRank:
    return point(
        random_matrices(batch, m, r, seed=seed), random_matrices(batch, r, n, seed=seed + 1)
    )


def dense(x: FixedRank) -> Tensor:
    return x.U @ x.S @ x.V.mT


def dense_tangent(x: FixedRank, xi: Tangent) -> Tensor:
    left, right = as_pair(x, xi)
    return left @ right


def off(found: Tensor, expected: Tensor) -> float:
    return float(torch.linalg.matrix_norm(found - expected).max())


def truncated(M: Tensor, r: int) -> Tensor:
    U, s, Vh = torch.linalg.svd(M, full_matrices=False)
    kept: Tensor = (U[..., :r] * s[..., None, :r]) @ Vh[..., :r, :]
    return kept


def test_a_point_is_its_product_in_every_gauge(device: torch.device) -> None:
    B, A = random_matrices(4, 9, 3).to(device), random_matrices(4, 3, 7, seed=1).to(device)
    x, eye = point(B, A), torch.eye(3, dtype=torch.float64, device=device)
    assert off(dense(x), B @ A) <= TOLERANCE
    assert off(x.U.mT @ x.U, eye) <= TOLERANCE
    assert off(x.V.mT @ x.V, eye) <= TOLERANCE
    R = random_matrices(4, 3, 3, seed=2).to(device)
    other = point(*regauged(B, A, R))
    assert off(dense(other), dense(x)) <= TOLERANCE * float(torch.linalg.cond(R).max())


def test_factors_are_balanced() -> None:
    x = random_point(9, 7, 3)
    B, A = factors(x)
    assert off(B @ A, dense(x)) <= TOLERANCE
    assert off(B.mT @ B, A @ A.mT) <= TOLERANCE


@pytest.mark.parametrize(("m", "n", "r"), SHAPES)
def test_the_projection_is_the_orthogonal_one(m: int, n: int, r: int) -> None:
    x, Z = random_point(m, n, r), random_matrices(3, m, n, seed=5)
    xi = tangent_projection(x, Z)
    P = dense_tangent(x, xi)
    assert off(x.U.mT @ xi.D_U, torch.zeros(())) <= TOLERANCE
    # What is left over is orthogonal to U and to V, so to every tangent vector.
    assert off(x.U.mT @ (Z - P), torch.zeros(())) <= TOLERANCE
    assert off((Z - P) @ x.V, torch.zeros(())) <= TOLERANCE
    again = tangent_projection(x, P)
    assert off(again.D_U, xi.D_U) <= TOLERANCE
    assert off(again.D_V, xi.D_V) <= TOLERANCE
    by_products = tangent_projection_from_products(x, Z @ x.V, Z.mT @ x.U)
    assert torch.equal(by_products.D_U, xi.D_U)
    assert torch.equal(by_products.D_V, xi.D_V)
    assert torch.allclose(tangent_norm(xi), torch.linalg.matrix_norm(P), rtol=1e-14)
    eta = tangent_projection(x, random_matrices(3, m, n, seed=6))
    expected = (P * dense_tangent(x, eta)).sum((-2, -1))
    assert torch.allclose(tangent_inner(xi, eta), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("m", "n", "r"), SHAPES)
def test_the_retraction_is_the_truncated_svd(m: int, n: int, r: int) -> None:
    x = random_point(m, n, r)
    for size in (1e-8, 1.0, 30.0):
        xi = tangent_projection(x, size * random_matrices(3, m, n, seed=5))
        new = retract(x, xi)
        scale = max(1.0, size) * (m + n)
        assert off(dense(new), truncated(dense(x) + dense_tangent(x, xi), r)) <= TOLERANCE * scale
        eye = torch.eye(r, dtype=torch.float64)
        assert off(new.U.mT @ new.U, eye) <= TOLERANCE
        assert off(new.V.mT @ new.V, eye) <= TOLERANCE


def test_a_tangent_vector_of_low_rank_leaves_the_rest_alone() -> None:
    # QR of D_U alone would fill up with vectors that overlap with U.
    x = random_point(9, 7, 4)
    D_U = torch.zeros(3, 9, 4, dtype=torch.float64)
    column = random_matrices(3, 9, 1, seed=8)
    D_U[..., 2:3] = column - x.U @ (x.U.mT @ column)
    D_U[..., 3:4] = 2 * D_U[..., 2:3]
    for xi in (Tangent(D_U, torch.zeros_like(x.V)), Tangent(0 * x.U, 0 * x.V)):
        expected = truncated(dense(x) + dense_tangent(x, xi), 4)
        assert off(dense(retract(x, xi)), expected) <= 4 * TOLERANCE


def test_a_tie_at_the_cut_gives_one_of_the_nearest() -> None:
    U, V = (torch.linalg.qr(random_matrices(size, 4, seed=size)).Q for size in (9, 7))
    x = FixedRank(U[:, :2], torch.eye(2, dtype=torch.float64), V[:, :2])
    # X + xi = [U_1 U_2] [I, I; I, 0] [V_1 V_2]^T: singular values (sqrt 5 + 1) / 2 twice, and
    # (sqrt 5 - 1) / 2 twice; with zero X all four are one.
    tied = FixedRank(x.U, torch.zeros(2, 2, dtype=torch.float64), x.V)
    xi = Tangent(U[:, 2:], V[:, 2:])
    for start, least in ((x, (5**0.5 - 1) / 2), (tied, 1.0)):
        new = retract(start, xi)
        target = dense(start) + dense_tangent(start, xi)
        assert off(new.U.mT @ new.U, torch.eye(2)) <= TOLERANCE
        distance = torch.linalg.matrix_norm(target - dense(new))
        assert abs(float(distance) - least * 2**0.5) <= TOLERANCE


def test_where_the_rank_falls_the_nearest_has_zeros_and_is_refused_as_a_point() -> None:
    x = random_point(9, 7, 2)
    new = retract(x, tangent_projection(x, -dense(x)))
    assert float(new.S.abs().max()) <= TOLERANCE
    assert off(new.U.mT @ new.U, torch.eye(2)) <= TOLERANCE
    exact = FixedRank(new.U, torch.diag(torch.tensor([1.0, 0.0]).double()).expand(3, 2, 2), new.V)
    with pytest.raises(ValueError, match="B: rank 2 is expected of every matrix"):
        point(*factors(exact))


@pytest.mark.parametrize(("m", "n", "r"), [s for s in SHAPES if 2 * s[2] <= min(s[:2])])
def test_agrees_with_pymanopt(m: int, n: int, r: int) -> None:
    manifold = FixedRankEmbedded(m, n, r)
    U, s, Vh = torch.linalg.svd(dense(random_point(m, n, r, batch=1))[0], full_matrices=False)
    U, s, Vh = U[:, :r], s[:r], Vh[:r]
    ours, theirs = FixedRank(U, torch.diag(s), Vh.mT), (U.numpy(), s.numpy(), Vh.numpy())
    Z = random_matrices(m, n, seed=5)
    xi, their_xi = tangent_projection(ours, Z), manifold.projection(theirs, Z.numpy())

    def ambient(p: tuple[np.ndarray, ...], v: object) -> Tensor:
        left, middle, right = manifold.embedding(p, v)
        return torch.from_numpy(left @ middle @ right.T)

    assert off(dense_tangent(ours, xi), ambient(theirs, their_xi)) <= TOLERANCE
    assert abs(float(tangent_norm(xi)) - manifold.norm(theirs, their_xi)) <= TOLERANCE
    new, their_new = retract(ours, xi), manifold.retraction(theirs, their_xi)
    their_dense = torch.from_numpy(their_new[0] @ np.diag(their_new[1]) @ their_new[2])
    assert off(dense(new), their_dense) <= 4 * TOLERANCE
    moved = dense_tangent(new, transport(ours, xi, new))
    their_moved = ambient(their_new, manifold.transport(theirs, their_new, their_xi))
    assert off(moved, their_moved) <= 4 * TOLERANCE


def test_tied_singular_values_are_no_matter() -> None:
    # A gradient through the SVD of X, as pymanopt's is, divides by differences.
    U, V = (torch.linalg.qr(random_matrices(size, 2, seed=size)).Q for size in (9, 7))
    Z = random_matrices(9, 7)
    point_of = (U.numpy(), np.ones(2), V.mT.numpy())
    through_svd = (Z @ V).numpy(), np.diag((U.mT @ Z @ V).numpy()).copy(), (U.mT @ Z).numpy()
    manifold = FixedRankEmbedded(9, 7, 2)
    with np.errstate(all="ignore"):
        theirs = manifold.euclidean_to_riemannian_gradient(point_of, through_svd)
    x = FixedRank(U, torch.eye(2, dtype=torch.float64), V)
    xi = tangent_projection(x, Z)
    error = dense_tangent(x, xi) - (U @ (U.mT @ Z) + (Z - U @ (U.mT @ Z)) @ V @ V.mT)
    assert float(error.abs().max()) <= TOLERANCE
    assert not np.isfinite(theirs.M).all()


@pytest.mark.parametrize(("m", "n", "r"), SHAPES)
def test_transport_is_the_projection_of_the_same_matrix(m: int, n: int, r: int) -> None:
    x, y = random_point(m, n, r), random_point(m, n, r, seed=7)
    xi = tangent_projection(x, random_matrices(3, m, n, seed=5))
    moved, expected = transport(x, xi, y), tangent_projection(y, dense_tangent(x, xi))
    assert off(moved.D_U, expected.D_U) <= TOLERANCE
    assert off(moved.D_V, expected.D_V) <= TOLERANCE
    assert bool((tangent_norm(moved) <= tangent_norm(xi) * (1 + TOLERANCE)).all())


def test_other_dtypes_and_devices_are_kept(device: torch.device) -> None:
    for dtype, accuracy in ((torch.float32, 1e-4), (torch.bfloat16, 1.0)):
        B, A = (random_matrices(9, 3).to(device, dtype), random_matrices(3, 7).to(device, dtype))
        x = point(B, A)
        xi = tangent_projection(x, random_matrices(9, 7, seed=4).to(device, dtype))
        new = retract(x, xi)
        for tensor in (*x, *xi, *new, *transport(x, xi, new), *factors(new)):
            assert tensor.dtype == dtype
            assert tensor.device.type == device.type
        exact = truncated((dense(x) + dense_tangent(x, xi)).double(), 3)
        assert off(dense(new).double(), exact) <= accuracy


def test_errors_say_what_was_given() -> None:
    B, A = random_matrices(2, 9, 3), random_matrices(2, 3, 7, seed=1)
    for bad, name in ((torch.zeros_like(B), "B"), (B[..., [0, 1, 1]], "B")):
        with pytest.raises(ValueError, match=f"{name}: rank 3 is expected of every matrix"):
            point(bad, A)
    twice = A.clone()
    twice[1, 2] = 2 * twice[1, 0] - twice[1, 1]
    with pytest.raises(ValueError, match=r"A: rank 3 .* shape \(2, 3, 7\)"):
        point(B, twice)
    with pytest.raises(ValueError, match=r"at most min\(m, n\) = 7 is expected; given 8"):
        point(random_matrices(9, 8), random_matrices(8, 7))
    with pytest.raises(ValueError, match="floating-point dtype"):
        point(B.to(torch.complex128), A)
    with pytest.raises(ValueError, match="floating-point dtype"):
        point(B.long(), A)
    with pytest.raises(ValueError, match="A must be finite, got 1 NaN"):
        point(B, torch.where(A.max() == A, torch.nan, A))
    x = point(B, A)
    with pytest.raises(ValueError, match=r"Z: shape \(2, 9, 7\), .* given \(9, 7\)"):
        tangent_projection(x, random_matrices(9, 7))
    with pytest.raises(ValueError, match=r"Z_U: shape \(2, 7, 3\)"):
        tangent_projection_from_products(x, B, A)
    with pytest.raises(ValueError, match=r"D_V: .* given \(2, 7, 3\), torch.float32"):
        retract(x, Tangent(0 * x.U, 0 * x.V.float()))
    with pytest.raises(ValueError, match=r"points of one manifold are expected"):
        transport(x, Tangent(0 * x.U, 0 * x.V), point(B[..., :2], A[..., :2, :]))
