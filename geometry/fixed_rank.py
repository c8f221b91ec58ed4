"""The manifold of m x n matrices of rank r, on factors: tangent vectors, retraction, transport.

A point is X = U S V^T with U and V of orthonormal columns, a tangent vector

    xi = D_U V^T + U D_V^T  with  U^T D_U = 0,

unique for the U and V of its point, in (m + n) r numbers. Its halves are orthogonal to each other.
The metric is that of the ambient space, <xi, eta> = tr(xi^T eta), and the projection on the tangent
space is

    P(Z) = Z - (I - U U^T) Z (I - V V^T) = (I - U U^T) Z V V^T + U U^T Z.

No product is formed: time and memory are O((m + n) r^2) and O((m + n) r). Nothing divides by S.

The paper's A_L, G, B_R are U, S, V; its Adot and Bdot are D_U and D_V.

Reference: Bogachev et al., RiemannLoRA, arXiv 2507.12142; Vandereycken, SIAM J. Optim. 23, 2013.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from geometry.errors import RankError, require_finite, require_matrices
from geometry.gauge import Pair, require_pair
from geometry.scaling import compute_dtype, widest_dtype


class FixedRank(NamedTuple):
    """X = U S V^T: U (..., m, r) and V (..., n, r) of orthonormal columns, S (..., r, r)."""

    U: Tensor
    S: Tensor
    V: Tensor


class Tangent(NamedTuple):
    """xi = D_U V^T + U D_V^T at a point: D_U (..., m, r) with U^T D_U = 0, D_V (..., n, r)."""

    D_U: Tensor
    D_V: Tensor


def point(B: Tensor, A: Tensor) -> FixedRank:
    """The point B A, by two thin QR factorisations.

    They are done in float64 whatever the dtype, for the condition number of the gauge multiplies
    their rounding: (B R, R^-1 A) gives the same X up to eps times the condition number of R.

    Args:
        B: (..., m, r). A: (..., r, n).

    Returns:
        U, S, V in the dtype given, S = R_B R_A^T of the triangular factors.

    Raises:
        ValueError: shapes, dtypes or devices that do not fit, a rank above min(m, n), integer or
            complex factors, NaN or infinity.
        RankError: a ValueError; a factor whose rank is not full, the zero factor of LoRA's usual
            start among them, for then B A is not on the manifold.
    """
    require_pair(B, A)
    for name, factor in (("B", B), ("A", A)):
        require_finite(name, factor)
    wide = widest_dtype(B.dtype, B.device)
    U, R_B = torch.linalg.qr(B.to(wide))
    V, R_A = torch.linalg.qr(A.mT.to(wide))
    longest, eps = max(B.shape[-2], A.shape[-1]), torch.finfo(wide).eps
    s = torch.linalg.svdvals(torch.stack([R_B, R_A]))
    deficient = (s[..., -1] <= longest * eps * s[..., 0]).reshape(2, -1).any(-1)
    for name, factor, found in zip(("B", "A"), (B, A), deficient.tolist(), strict=True):
        if found:
            raise RankError(
                f"{name}: rank {B.shape[-1]} is expected of every matrix, for B A has to lie on "
                f"the manifold; given a factor of smaller rank, shape {tuple(factor.shape)}. From "
                f"a zero factor there is no tangent space to step in: start from a locally "
                f"optimal initialisation, or from small Gaussian factors"
            )
    return FixedRank(U.to(B.dtype), (R_B @ R_A.mT).to(B.dtype), V.to(B.dtype))


def factors(point: FixedRank) -> Pair:
    """Balanced factors of X: (U P s^(1/2), s^(1/2) Q^T V^T) of the SVD S = P s Q^T.

    Returns:
        B (..., m, r) and A (..., r, n) with B^T B = A A^T = diag(s), dtype of the point.
    """
    P, s, Qh = torch.linalg.svd(_computing(point.S))
    root = s.sqrt()
    B = point.U @ (P * root[..., None, :]).to(point.U.dtype)
    return B, (root[..., None] * Qh).to(B.dtype) @ point.V.mT


def tangent_projection(point: FixedRank, Z: Tensor) -> Tangent:
    """P(Z) of a dense Z (..., m, n); ``tangent_projection_from_products`` needs no such matrix.

    Raises:
        ValueError: Z of another shape, dtype or device than X.
    """
    _require_like("Z", Z, (*point.U.shape[:-1], point.V.shape[-2]), point)
    return _projected(point, Z @ point.V, Z.mT @ point.U)


def tangent_projection_from_products(point: FixedRank, Z_V: Tensor, Z_U: Tensor) -> Tangent:
    """P(Z) from two products of Z alone: D_U = (I - U U^T) Z V and D_V = Z^T U.

    Args:
        Z_V: (..., m, r), Z V. Z_U: (..., n, r), Z^T U. That they are of one Z, so that
            U^T Z_V = Z_U^T V, is not looked at.

    Raises:
        ValueError: shapes, dtypes or devices other than those of U and V.
    """
    _require_like("Z_V", Z_V, point.U.shape, point)
    _require_like("Z_U", Z_U, point.V.shape, point)
    return _projected(point, Z_V, Z_U)


def tangent_inner(xi: Tangent, eta: Tangent) -> Tensor:
    """<xi, eta> (...,) of two tangent vectors at one point: the halves share nothing.

    Raises:
        ValueError: vectors of other sizes, of which none are at one point.
    """
    for name, D, E in (("D_U", xi.D_U, eta.D_U), ("D_V", xi.D_V, eta.D_V)):
        if D.shape[-2:] != E.shape[-2:]:
            raise ValueError(
                f"{name}: of one size in both vectors is expected; given {tuple(D.shape)} and "
                f"{tuple(E.shape)}"
            )
    return (xi.D_U * eta.D_U).sum((-2, -1)) + (xi.D_V * eta.D_V).sum((-2, -1))


def tangent_norm(xi: Tangent) -> Tensor:
    """||xi||_F (...,), without squares that could overflow."""
    return torch.hypot(torch.linalg.matrix_norm(xi.D_U), torch.linalg.matrix_norm(xi.D_V))


def as_pair(point: FixedRank, xi: Tangent) -> Pair:
    """xi as one product of rank 2 r: [D_U, U] (..., m, 2 r) and [V, D_V]^T (..., 2 r, n).

    2 r may exceed min(m, n).
    """
    _require_tangent(point, xi)
    return torch.cat([xi.D_U, point.U], dim=-1), torch.cat([point.V, xi.D_V], dim=-1).mT


def retract(point: FixedRank, xi: Tangent) -> FixedRank:
    """The truncated SVD of X + xi: a matrix of rank r nearest to it in the Frobenius norm.

    [U, D_U] = Q R and [V, D_V] = L T, and of the core K = R [S, I; I, 0] T^T, at most 2 r x 2 r,
    the first r singular triplets are kept. Both QR are of all 2 r columns at once: that of D_U
    alone fills up, where D_U has not rank r, with vectors that need not be orthogonal to U. Where
    2 r > min(m, n) the core is min(m, 2 r) x min(n, 2 r), and nothing else changes; at
    r = min(m, n) the tangent space is the whole space and the retraction is X + xi.

    Where the singular values r and r + 1 of X + xi are equal, many matrices are nearest, equally
    near, and the map is not continuous; which of them is returned is up to LAPACK's order. Where
    X + xi has a rank below r there is no nearest on the manifold: S then has zeros, U and V are
    orthonormal all the same and :func:`factors` gives columns of zeros, which :func:`point`
    refuses.

    Returns:
        U, V (..., m, r), (..., n, r) and S diagonal, descending, dtype of the point.
    """
    _require_tangent(point, xi)
    r, dtype = point.S.shape[-1], point.U.dtype
    Q, R = torch.linalg.qr(_computing(torch.cat([point.U, xi.D_U], dim=-1)))
    L, T = torch.linalg.qr(_computing(torch.cat([point.V, xi.D_V], dim=-1)))
    # R [S, I; I, 0] without the zeros.
    first = R[..., :r] @ _computing(point.S) + R[..., r:]
    core = first @ T[..., :r].mT + R[..., :r] @ T[..., r:].mT
    P, s, Oh = torch.linalg.svd(core)
    U, V = Q @ P[..., :r], L @ Oh.mT[..., :r]
    return FixedRank(U.to(dtype), torch.diag_embed(s[..., :r]).to(dtype), V.to(dtype))


def transport(point: FixedRank, xi: Tangent, new_point: FixedRank) -> Tangent:
    """xi at ``point`` projected on the tangent space at ``new_point``, in factors.

    Reprojection is linear and never lengthens a vector.
    """
    _require_tangent(point, xi)
    if new_point.U.shape != point.U.shape or new_point.V.shape != point.V.shape:
        raise ValueError(
            f"points of one manifold are expected; given U {tuple(point.U.shape)}, "
            f"V {tuple(point.V.shape)} and U {tuple(new_point.U.shape)}, "
            f"V {tuple(new_point.V.shape)}"
        )
    U, V = new_point.U, new_point.V
    Z_V = xi.D_U @ (point.V.mT @ V) + point.U @ (xi.D_V.mT @ V)
    Z_U = point.V @ (xi.D_U.mT @ U) + xi.D_V @ (point.U.mT @ U)
    return _projected(new_point, Z_V, Z_U)


def _projected(point: FixedRank, Z_V: Tensor, Z_U: Tensor) -> Tangent:
    return Tangent(Z_V - point.U @ (point.U.mT @ Z_V), Z_U)


def _computing(x: Tensor) -> Tensor:
    return x.to(compute_dtype(x.dtype))


def _require_tangent(point: FixedRank, xi: Tangent) -> None:
    _require_like("D_U", xi.D_U, point.U.shape, point)
    _require_like("D_V", xi.D_V, point.V.shape, point)


def _require_like(name: str, x: Tensor, shape: tuple[int, ...], point: FixedRank) -> None:
    require_matrices(name, x)
    if x.shape != shape or (x.dtype, x.device) != (point.U.dtype, point.U.device):
        raise ValueError(
            f"{name}: shape {tuple(shape)}, {point.U.dtype} on {point.U.device} is expected, for "
            f"a point of U {tuple(point.U.shape)} and V {tuple(point.V.shape)}; given "
            f"{tuple(x.shape)}, {x.dtype} on {x.device}"
        )
