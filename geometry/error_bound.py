"""A-priori error bounds of the two routes to a smoothed polar factor.

Notation: G is m x n, r = min(m, n), k = max(m, n), u the unit roundoff, x = ||G||_F / beta
(at least 1 / eps, where eps = beta / ||G||_2). All bounds are in the Frobenius norm, hence also in
the spectral norm, and to first order in u.

SVD route. The computed SVD is the exact one of G + E, ||E||_F <= p u ||G||_F, up to singular
vectors that are orthonormal to p u (LAPACK Users' Guide, section 4.9). An odd 1/beta-Lipschitz
function of singular values is 1/beta-Lipschitz in the Frobenius norm (Wielandt's dilation and
Davies, J. London Math. Soc. 37, 1988), so E moves the result by at most p u x. The product of
U f(S) with V^T adds r u ||U f(S)||_F ||V||_F <= r^(3/2) u x, for ||f(S)||_F <= x. Together

    (p_svd + r^(3/2)) u x.

Gram route. S = G^T G is formed with ||E_1||_F <= k u ||G||_F^2, eigh adds p u ||G||_F^2, and
clamping negative eigenvalues is the projection on the positive semidefinite cone, which moves the
matrix no farther from the true S. With h(lambda) = f(s) / s convex and decreasing, row i and
column j of G (h(S + E) - h(S)) in the singular bases are s_i h[lambda_i, lambda_j'] E_ij, and

    |s h[s^2, .]| <= s (h(0) - h(s^2)) / s^2 <= kappa / beta^2,

with kappa = sup (1 - f(s)/s) / s at beta = 1 (`Smoothing.gram_sensitivity`). So E costs
kappa (k + p) u x^2 and not x^3. The products V h V^T (entries up to 1/beta) and G H cost
r^2 u x + r^(3/2) u x, and the vectors' lost orthogonality and h's rounding p sqrt(r) u x:

    kappa (k + p_eigh) u x^2 + (r^2 + r^(3/2) + p_eigh sqrt(r)) u x.

LAPACK calls p "a modestly growing function". Here p_svd = 200 + 4 k, because dbdsqr drops
off-diagonals below 10 to 100 u of their neighbours (its tolmul; residuals of 100 u do occur, even
for 3 x 3), and p_eigh = 64 + 4 r (30 u occur). The tests hunt for violations with a 60-digit
reference.
"""

from __future__ import annotations

from math import sqrt

import torch
from torch import Tensor

from geometry.scaling import compute_dtype, unit_roundoff

# Covers the second-order terms and the rounding of the norm that enters the bound.
_SLACK = 1.05


def _svd_backward(m: int, n: int) -> float:
    return 200 + 4 * max(m, n)


def _eigh_backward(r: int) -> float:
    return 64 + 4 * r


def svd_route_bound(x: Tensor, m: int, n: int) -> Tensor:
    """Bound of the SVD route for x = ||G||_F / beta, any shape, in x's dtype."""
    r = min(m, n)
    return x * (_SLACK * unit_roundoff(x.dtype) * (_svd_backward(m, n) + r * sqrt(r)))


def gram_route_bound(x: Tensor, m: int, n: int, gram_sensitivity: float) -> Tensor:
    """Bound of the Gram route for x = ||G||_F / beta, any shape, in x's dtype."""
    r, k = min(m, n), max(m, n)
    u = _SLACK * unit_roundoff(x.dtype)
    quadratic = u * gram_sensitivity * (k + _eigh_backward(r))
    linear = u * (r**2 + r * sqrt(r) + _eigh_backward(r) * sqrt(r))
    return x * (quadratic * x + linear)


def cast_bound(x: Tensor, m: int, n: int, dtype: torch.dtype) -> Tensor:
    """What rounding the result to `dtype` adds: underflow, and for a half precision its u."""
    root = sqrt(m * n)
    underflow = 16 * root * torch.finfo(compute_dtype(dtype)).tiny
    if dtype == compute_dtype(dtype):
        return torch.full_like(x, underflow)
    u = unit_roundoff(dtype)
    underflow += root * torch.finfo(dtype).tiny * 2 * u
    return x.clamp(max=sqrt(min(m, n))) * (_SLACK * u) + underflow
