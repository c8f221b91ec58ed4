"""The exact polar factor by matrix products, certified matrix by matrix by its residual.

Let G be m x n, m <= n, ||G||_F = 1, and X what eight quintics make of it: those of Polar Express
for singular values in [1e-3, 1], which they bring to 1 up to rounding. If G = U S V^T, then in
exact arithmetic X = U p(S) V^T with p > 0. A computed X is accepted where, with H the symmetric
part of G X^T,

    ||X X^T - I||_F <= t   and   ||G - H X||_F <= t,     t = 8 n u.

Then X is the polar factor, up to t, of a matrix no farther than t from G: the backward error that
an SVD has as well (`geometry.error_bound`; 37 u occurred for 8 x 10, where X had 15 u). H must be
positive definite for that. It is: p multiplies a singular value by no more than its slope at 0,
7e3, so one that ends at 1 was never below 1e-4, and rounding, of order u, did not turn its sign.

What is not accepted, matrices with singular values much below 1e-3 ||G||_F, is left to the caller.
"""

from __future__ import annotations

import torch
from torch import Tensor

from geometry.minimax import polar_express_coefficients
from geometry.newton_schulz import OddPolynomial
from geometry.scaling import unit_roundoff

STEPS, LOWER_BOUND = 8, 1e-3
# As in error_bound.py, of which this is a part.
_PER_SIZE = 8


def polynomials() -> tuple[OddPolynomial, ...]:
    """Those that are composed. Only half precision needs a safety factor."""
    table = polar_express_coefficients(STEPS, lower_bound=LOWER_BOUND, safety=1.0)
    return tuple(OddPolynomial(c) for c in table)


def certified_polar_factor(G: Tensor) -> tuple[Tensor, Tensor]:
    """A candidate for the polar factor of each matrix, and whether it is one.

    Args:
        G: (..., m, n), m <= n, float32 or float64, finite, of a common size: entries within the
            root of the exponent range.

    Returns:
        (..., m, n) in G's dtype, and (...) booleans: False where the candidate is nothing.
    """
    m, n = G.shape[-2:]
    # NaN, of a zero matrix, is not certified.
    given = G.reshape(-1, m, n)
    X = given = given / torch.linalg.matrix_norm(given, keepdim=True)
    for polynomial in polynomials():
        X = polynomial.apply_to_matrix(X)
    H = torch.bmm(given, X.mT)
    residual = torch.baddbmm(given, H + H.mT, X, alpha=-0.5)
    identity = torch.eye(m, dtype=G.dtype, device=G.device).expand(len(X), m, m)
    gram = torch.baddbmm(identity, X, X.mT, beta=-1)
    worst = torch.maximum(torch.linalg.matrix_norm(residual), torch.linalg.matrix_norm(gram))
    certified = worst <= _PER_SIZE * n * unit_roundoff(G.dtype)
    return X.reshape(G.shape), certified.reshape(G.shape[:-2])
