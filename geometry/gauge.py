"""The gauge freedom of a low-rank product W = B A: (B, A) and (B R, R^-1 A) are one matrix.

Everything is done on the factors: the m x n product is never formed, and memory is
O((m + n) r).
"""

from __future__ import annotations

import torch
from torch import Tensor

from geometry.errors import require_finite, require_matrices, require_square

Pair = tuple[Tensor, Tensor]


def require_pair(B: Tensor, A: Tensor, names: tuple[str, str] = ("B", "A")) -> None:
    """Raise ValueError unless B (..., m, r) and A (..., r, n) multiply to a matrix of rank r.

    The leading dimensions, dtypes and devices have to be the same. Reads only metadata.
    """
    for name, factor in zip(names, (B, A), strict=True):
        require_matrices(name, factor)
    if B.shape[:-2] != A.shape[:-2] or B.shape[-1] != A.shape[-2]:
        raise ValueError(
            f"{names[0]} (..., m, r) and {names[1]} (..., r, n) with the same leading dimensions "
            f"are expected; given {tuple(B.shape)} and {tuple(A.shape)}"
        )
    if B.shape[-1] > min(B.shape[-2], A.shape[-1]):
        raise ValueError(
            f"a rank of at most min(m, n) = {min(B.shape[-2], A.shape[-1])} is expected; given "
            f"{B.shape[-1]}, from {names[0]} {tuple(B.shape)} and {names[1]} {tuple(A.shape)}"
        )
    if (B.dtype, B.device) != (A.dtype, A.device):
        raise ValueError(
            f"{names[0]} and {names[1]} of one dtype on one device are expected; given {B.dtype} "
            f"on {B.device} and {A.dtype} on {A.device}"
        )


def require_alike(
    B: Tensor, A: Tensor, X_B: Tensor, X_A: Tensor, names: tuple[str, str] = ("G_B", "G_A")
) -> None:
    """Raise ValueError unless (B, A) is a pair, and X_B and X_A are like their factors.

    That is of their shape, dtype and device. Reads only metadata.
    """
    require_pair(B, A)
    for name, X, factor in ((names[0], X_B, B), (names[1], X_A, A)):
        if X.shape != factor.shape or (X.dtype, X.device) != (factor.dtype, factor.device):
            raise ValueError(
                f"{name}: shape {tuple(factor.shape)} and {factor.dtype} are expected, those of "
                f"its factor on {factor.device}; given {tuple(X.shape)} and {X.dtype} on {X.device}"
            )


def require_gradients(B: Tensor, A: Tensor, G_B: Tensor, G_A: Tensor) -> None:
    """Raise ValueError unless G_B and G_A are finite and like their factors."""
    require_alike(B, A, G_B, G_A)
    for name, gradient in (("G_B", G_B), ("G_A", G_A)):
        require_finite(name, gradient)


def regauged(B: Tensor, A: Tensor, R: Tensor) -> Pair:
    """(B R, R^-1 A): the same product in another gauge.

    Args:
        B: (..., m, r). A: (..., r, n). R: (..., r, r), invertible.

    Raises:
        ValueError: shapes that do not fit.
        torch.linalg.LinAlgError: R is singular.
    """
    _require_gauge(B, A, R)
    return B @ R, torch.linalg.solve(R, A)


def regauged_gradients(G_B: Tensor, G_A: Tensor, R: Tensor) -> Pair:
    """(G_B R^-T, R^T G_A): what gradients, and first moments, become where B becomes B R.

    Since <G_B, dB> + <G_A, dA> does not depend on the gauge. Arguments as for :func:`regauged`.
    """
    _require_gauge(G_B, G_A, R)
    return torch.linalg.solve(R.mT, G_B, left=False), R.mT @ G_A


def balanced(B: Tensor, A: Tensor) -> Pair:
    """Factors of the same product with B^T B = A A^T, diagonal: the square roots of its SVD.

    Args:
        B: (..., m, r). A: (..., r, n).

    Returns:
        (U S^(1/2), S^(1/2) V^T) of B A = U S V^T, shapes and dtype as given.

    Raises:
        ValueError: shapes that do not fit, NaN or infinity.
    """
    require_pair(B, A)
    for name, factor in (("B", B), ("A", A)):
        require_finite(name, factor)
    Q, L, core = _core(B, A)
    U, s, Vh = torch.linalg.svd(core)
    root = s.sqrt()
    return Q @ (U * root[..., None, :]), (root[..., None] * Vh) @ L.mT


def product_singular_values(B: Tensor, A: Tensor) -> Tensor:
    """The singular values of B A, descending, (..., min(m, n, r)).

    By two thin QR factorisations and the SVD of an r x r core, whatever the sizes of B and A:
    r may exceed m or n, as where a sum of products is one product of stacked factors.

    Raises:
        ValueError: shapes that do not multiply, dtypes that differ, NaN or infinity.
    """
    for name, factor in (("B", B), ("A", A)):
        require_matrices(name, factor)
        require_finite(name, factor)
    if B.shape[-1] != A.shape[-2] or B.dtype != A.dtype:
        raise ValueError(
            f"B (..., m, k) and A (..., k, n) of one dtype are expected; given {tuple(B.shape)}, "
            f"{B.dtype}, and {tuple(A.shape)}, {A.dtype}"
        )
    *_, core = _core(B, A)
    return torch.linalg.svdvals(core)


def change_of_product(B: Tensor, A: Tensor, dB: Tensor, dA: Tensor) -> Pair:
    """Factors of (B + dB)(A + dA) - B A, of rank at most 2 r: [dB, B] and [A + dA; dA].

    For its norms use :func:`product_singular_values`; no product is formed and nothing cancels.

    Raises:
        ValueError: changes that are not like their factors.
    """
    require_alike(B, A, dB, dA, ("dB", "dA"))
    return torch.cat([dB, B], dim=-1), torch.cat([A + dA, dA], dim=-2)


def _core(B: Tensor, A: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Q, L and K with B A = Q K L^T, Q and L of orthonormal columns."""
    Q, T_B = torch.linalg.qr(B)
    L, T_A = torch.linalg.qr(A.mT)
    return Q, L, T_B @ T_A.mT


def _require_gauge(B: Tensor, A: Tensor, R: Tensor) -> None:
    require_pair(B, A)
    require_square("R", R)
    if R.shape[-1] != B.shape[-1]:
        raise ValueError(
            f"R (..., {B.shape[-1]}, {B.shape[-1]}) is expected for rank {B.shape[-1]}; "
            f"given {tuple(R.shape)}"
        )
