"""What a step on the manifold takes from the factors (B, A), and what it gives back to them.

Gradients come as G_B = G A^T and G_A = B^T G of a matrix G that is never formed. All is
O((m + n) r^2).

Reference: Bogachev et al., RiemannLoRA, arXiv 2507.12142.
"""

from __future__ import annotations

import torch
from torch import Tensor

from geometry.fixed_rank import (
    FixedRank,
    Tangent,
    as_pair,
    factors,
    point,
    tangent_projection_from_products,
)
from geometry.gauge import Pair, require_gradients, require_pair
from geometry.polar import msign


def point_and_gradient(B: Tensor, A: Tensor, G_B: Tensor, G_A: Tensor) -> tuple[FixedRank, Tangent]:
    """X = B A, and P(G) from the gradients of the factors.

    With B = U R_B and A^T = V R_A, G V = G_B R_A^-1 and G^T U = G_A^T R_B^-1, two triangular
    solves. They cost the condition number of each factor, that of the gauge included, once.

    Args:
        B, G_B: (..., m, r). A, G_A: (..., r, n).

    Raises:
        ValueError: as :func:`geometry.fixed_rank.point`, and gradients of other shapes or dtypes
            than their factors, or not finite.
    """
    require_gradients(B, A, G_B, G_A)
    X = point(B, A)
    # R_B and R_A; what is below the diagonal is round-off.
    R_B, R_A = (X.U.mT @ B).triu(), (X.V.mT @ A.mT).triu()
    G_V, G_U = (
        torch.linalg.solve_triangular(R, G, upper=True, left=False)
        for R, G in ((R_A, G_B), (R_B, G_A.mT))
    )
    return X, tangent_projection_from_products(X, G_V, G_U)


def product_projected(X: FixedRank, left: Tensor, right: Tensor) -> Tangent:
    """P(Z) of Z = left right, (..., m, k) and (..., k, n): transport is that of an earlier xi."""
    return tangent_projection_from_products(X, left @ (right @ X.V), right.mT @ (left.mT @ X.U))


def orthogonalized(X: FixedRank, xi: Tangent) -> Pair:
    """Ortho(xi) = U V^T of xi = U S V^T: every singular value, of at most 2 r, is set to 1.

    Of two thin QRs and a core of at most 2 r x 2 r. Directions below max(m, n) eps of the largest
    are dropped, as :func:`geometry.polar.msign` of the whole matrix would drop them.

    Returns:
        left (..., m, min(m, 2 r)) and right (..., min(m, 2 r), n), whose product it is. Not
        tangent: :func:`product_projected` makes it so.

    Reference: arXiv 2507.12142, Eq. 10.
    """
    left, right = as_pair(X, xi)
    Q, R = torch.linalg.qr(left)
    L, T = torch.linalg.qr(right.mT)
    cutoff = max(left.shape[-2], right.shape[-1]) * torch.finfo(left.dtype).eps
    return Q, msign(R @ T.mT, rank_cutoff=cutoff) @ L.mT


def nearest_factors(X: FixedRank, B: Tensor, A: Tensor) -> Pair:
    """Of the balanced factors of X those nearest to (B, A), in the Frobenius norms together.

    Balanced factors differ by a rotation, (B' O, O^T A'), and the best is the polar factor of
    B'^T B + A' A^T (Procrustes). Unlike the factors by SVD they depend on X without jumps of signs
    or of order, and on nothing else that is arbitrary.

    Returns:
        B (..., m, r) and A (..., r, n) with B^T B = A A^T, dtype of X.

    Raises:
        ValueError: shapes that do not multiply.
    """
    require_pair(B, A)
    B_X, A_X = factors(X)
    P, _, Oh = torch.linalg.svd(B_X.mT @ B + A_X @ A.mT)
    # Not msign: directions that it drops would be lost to the product.
    turn = P @ Oh
    return B_X @ turn, turn.mT @ A_X
