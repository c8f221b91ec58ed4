"""The split spectral trust region of a low-rank product W = B A, and its solution on the factors.

A step (dB, dA) moves W by dB A + B dA to first order. The region bounds the halves apart,
||dB A||_2 <= eta / 2 and ||B dA||_2 <= eta / 2, and the linear form <G_B, dB> + <G_A, dA> is least
at -(eta / 2) (D_B, D_A) with

    D_B = msign(G_B R_A) R_A,  R_A = (A A^T)^(-1/2),
    D_A = R_B msign(R_B G_A),  R_B = (B^T B)^(-1/2).

||D_B A||_2 = ||B D_A||_2 = 1, and W moves alike in every gauge. The m x n product and its gradient
are never formed; memory is O((m + n) r).

The paper writes W = P Q^T: P is B, Q is A^T.

Reference: Cesista, Crowson, Simal, Biderman, LoRA-Muon, arXiv 2606.12921.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from geometry.errors import NotFiniteInputError, RankError, require_finite, require_number
from geometry.gauge import Pair, require_alike, require_gradients
from geometry.inverse_root import inverse_root, root_of_gram
from geometry.newton_schulz import newton_schulz_weight
from geometry.orthogonalizers import orthogonalizer_named
from geometry.polar import msign
from geometry.scaling import compute_dtype

# G (..., p, q) to its direction, such as the polar factor.
Direction = Callable[[Tensor], Tensor]
# X (..., r, n) to (X X^T)^(-1/2).
Root = Callable[[Tensor], Tensor]


def split_direction(
    B: Tensor,
    A: Tensor,
    G_B: Tensor,
    G_A: Tensor,
    *,
    orthogonalize: Direction = msign,
    root: Root = inverse_root,
) -> Pair:
    """(D_B, D_A), the direction of steepest descent in the split trust region, Gram form.

    Args:
        B, G_B: (..., m, r), a factor and its gradient G_W A^T. A, G_A: (..., r, n), and B^T G_W.
        orthogonalize: the direction in coordinates in which the trust region is a ball; for the
            norm dual to another spectral function, that function instead of the polar factor.
        root: inverse square root of a Gram matrix. Where a factor is 0 its root is, and so is the
            direction of the other: from LoRA's zero start B = 0 the first step moves B alone.

    Returns:
        Shapes, dtype and device of the factors. ||D_B A||_2 = ||B D_A||_2 = 1 with exact
        orthogonalisation and root where the gradients are not 0.

    Raises:
        ValueError: shapes that do not multiply, a rank above min(m, n), dtypes or devices that
            differ, integer or complex factors, entries that are not finite.

    Reference: arXiv 2606.12921, Algorithm 1.
    """
    require_gradients(B, A, G_B, G_A)
    R_A, R_B = root(A), root(B.mT)
    return orthogonalize(G_B @ R_A) @ R_A, R_B @ orthogonalize(R_B @ G_A)


def split_direction_by_qr(
    B: Tensor, A: Tensor, G_B: Tensor, G_A: Tensor, *, orthogonalize: Direction = msign
) -> Pair:
    """The same direction in QR coordinates: A^T = Q T gives D_B = msign(G_B T^-1) T^-T.

    T^T T is the Gram matrix, and the polar factor commutes with the rotation between T and its
    square root. No Gram matrix is formed, so the error grows with the condition number and not
    with its square; a factor has to have full rank.

    Arguments and shapes as for :func:`split_direction`. Half precisions compute in float32 and are
    cast back.

    Raises:
        ValueError: as there. RankError, which is one: a factor whose rank is not full.

    Reference: arXiv 2606.12921, Proposition 6; Yen et al., LoRA Done RITE, arXiv 2410.20625.
    """
    require_gradients(B, A, G_B, G_A)
    dtype = B.dtype
    B, A, G_B, G_A = (x.to(compute_dtype(dtype)) for x in (B, A, G_B, G_A))
    T_A, T_B = torch.linalg.qr(A.mT).R, torch.linalg.qr(B).R
    for name, T in (("A", T_A), ("B", T_B)):
        diagonal = T.diagonal(dim1=-2, dim2=-1).abs()
        if not bool((diagonal > 0).all()):
            raise RankError(
                f"{name}: full rank is expected for QR coordinates; given a factor of smaller "
                f"rank, shape {tuple(B.shape if name == 'B' else A.shape)}"
            )
    D_B = _in_coordinates(G_B, T_A, orthogonalize)
    D_A = _in_coordinates(G_A.mT, T_B, orthogonalize).mT
    return D_B.to(dtype), D_A.to(dtype)


def _in_coordinates(G: Tensor, T: Tensor, orthogonalize: Direction) -> Tensor:
    """O(G T^-1) T^-T."""
    inside = torch.linalg.solve_triangular(T, G, upper=True, left=False)
    return torch.linalg.solve_triangular(T.mT, orthogonalize(inside), upper=False, left=False)


def split_direction_by_gram(
    B: Tensor,
    A: Tensor,
    G_B: Tensor,
    G_A: Tensor,
    *,
    orthogonalizer: str = "svd",
    steps: int | None = None,
    root: str = "svd",
    damping: float | None = None,
) -> Pair:
    """The same direction from Gram matrices alone, in float64: D_B = G_B (R_A K R_A).

    An orthogonaliser is O(X) = X K(X^T X), and X = G_B R_A has the Gram matrix R_A G_B^T G_B R_A:
    four Gram matrices, r x r algebra and one product with each gradient, where
    :func:`split_direction` passes over (m + n) r numbers in every step of an iteration.

    A Gram matrix has the square of the condition number y = ||G_B|| ||R_A|| / s_r(G_B R_A). In
    float64 that costs u_64 y^2, less than the u_32 y that the rounding of float32 factors and
    gradients costs wherever that is below 1. For them this is the more accurate form; for
    float64 factors it is not.

    Args:
        B, A, G_B, G_A: as for :func:`split_direction`, of any floating dtype.
        orthogonalizer, steps: a name in ``geometry.orthogonalizers.ORTHOGONALIZERS``, and of it.
        root, damping: of ``geometry.inverse_root.INVERSE_ROOTS``; "svd" and "eigh" are one here.
            Undamped, directions below max(m, n) eps of the factors' dtype are dropped.

    Returns:
        Shapes, dtype and device of the factors.

    Raises:
        ValueError: as for :func:`split_direction`; unknown names, steps or damping out of range.
    """
    require_alike(B, A, G_B, G_A)
    polynomials = orthogonalizer_named(orthogonalizer).polynomials(steps)
    longer, eps = max(B.shape[-2], A.shape[-1]), torch.finfo(torch.float64).eps
    # Of squares; below r eps a Gram matrix knows nothing.
    cutoff = max((longer * torch.finfo(B.dtype).eps) ** 2, B.shape[-1] * eps)
    # Both factors in one batch. Copies in float64 live one at a time, and twice if need be: to
    # make them costs less than memory that the allocator has given back in between.
    S = torch.stack([_gram(A), _gram(B.mT)])
    T = torch.stack([_gram(G_B.mT), _gram(G_A)])
    if B.dtype == torch.float64:
        _require_squares(S, T, (A, B, G_B, G_A))
    if not bool(torch.isfinite(S.sum() + T.sum())):
        for name, x in (("B", B), ("A", A), ("G_B", G_B), ("G_A", G_A)):
            require_finite(name, x)
        raise NotFiniteInputError(
            "factors and gradients whose squares are finite in float64 are expected"
        )
    R = root_of_gram(S, root, damping=damping, cutoff=cutoff)
    X = R @ T @ R
    if polynomials:
        # What rounding may have taken from the smallest eigenvalue.
        lost = longer * eps / 2 * R.square().sum((-2, -1)) * _trace(T)
        X.diagonal(dim1=-2, dim2=-1).add_(lost[..., None])
        K = newton_schulz_weight(X, polynomials)
    else:
        K = root_of_gram(X, cutoff=cutoff)
    inner = R @ K @ R
    return (G_B.double() @ inner[0]).to(B.dtype), (inner[1] @ G_A.double()).to(A.dtype)


def _require_squares(S: Tensor, T: Tensor, of: tuple[Tensor, ...]) -> None:
    """Raise ValueError for matrices, not zero, whose squares underflow: nothing would move."""
    info = torch.finfo(torch.float64)
    for name, traces, X in zip(
        ("A", "B", "G_B", "G_A"), _trace(torch.cat([S, T])), of, strict=True
    ):
        small = traces < info.tiny / info.eps
        if bool(small.any()) and bool((small & (X != 0).any(-1).any(-1)).any()):
            raise ValueError(
                f"{name}: squares that are normal in float64 are expected; given entries up to "
                f"{float(X.abs().max()):g}. split_direction has no such limit"
            )


def _gram(X: Tensor) -> Tensor:
    X = X.double()
    return X @ X.mT


def _trace(S: Tensor) -> Tensor:
    return S.diagonal(dim1=-2, dim2=-1).sum(-1)


def split_step(
    B: Tensor,
    A: Tensor,
    D_B: Tensor,
    D_A: Tensor,
    eta: float | Tensor,
    weight_decay: float = 0.0,
) -> Pair:
    """The factors after a step of radius eta with split weight decay.

    B <- s B - (eta / 2 s) D_B with s = sqrt(1 - weight_decay eta), A likewise: the product decays
    by exactly 1 - weight_decay eta, and its first-order move is that of the step without decay.

    Args:
        B, D_B: (..., m, r). A, D_A: (..., r, n).
        eta: >= 0, a number or a tensor that broadcasts to the leading dimensions.

    Entries are not looked at: NaN gives NaN, and so may an eta beyond the factors' dtype.

    Raises:
        ValueError: eta < 0, or a tensor that does not broadcast; weight_decay eta not in [0, 1),
            for there is no split; shapes that do not fit.

    Reference: arXiv 2606.12921, Algorithm 1 and Proposition 4.
    """
    require_alike(B, A, D_B, D_A, ("D_B", "D_A"))
    if not isinstance(eta, Tensor):
        require_number("eta", eta)
    eta = torch.as_tensor(eta, dtype=B.dtype, device=B.device)
    try:
        eta.expand(B.shape[:-2])
    except RuntimeError:
        raise ValueError(
            f"eta must broadcast to the leading dimensions {tuple(B.shape[:-2])}, got shape "
            f"{tuple(eta.shape)}"
        ) from None
    # Of an eta that is infinite in this dtype the product with 0 would be NaN.
    left = 1 - weight_decay * eta if weight_decay else torch.ones_like(eta)
    if weight_decay < 0 or not bool(((left > 0) & (left <= 1) & ~(eta < 0)).all()):
        if bool((eta < 0).any()):
            raise ValueError(f"eta must be >= 0, got {float(eta.min()):g} at least")
        raise ValueError(
            f"weight_decay * eta in [0, 1) is expected; given weight_decay = {weight_decay:g} and "
            f"eta up to {float(eta.max()):g}"
        )
    scale = left.sqrt()[..., None, None]
    length = -eta[..., None, None] / (2 * scale)
    return (scale * B).addcmul_(length, D_B), (scale * A).addcmul_(length, D_A)
