"""Newton-Schulz type iterations: compositions of odd polynomials, applied to a matrix."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from geometry.scaling import compute_dtype, power_of_two_normalize


@dataclass(frozen=True)
class OddPolynomial:
    """p(x) = c_1 x + c_3 x^3 + ..., on scalars and on the singular values of a matrix.

    Attributes:
        coefficients: (c_1, c_3, c_5, ...), at least c_1.
    """

    coefficients: tuple[float, ...]

    def __call__(self, x: Tensor) -> Tensor:
        """p(x), elementwise, by Horner's rule in x^2."""
        square = x * x
        value = torch.full_like(x, self.coefficients[-1])
        for c in reversed(self.coefficients[:-1]):
            value = value * square + c
        return x * value

    def apply_to_matrix(self, X: Tensor) -> Tensor:
        """U p(S) V^T for X = U S V^T of shape (..., m, n), best with m <= n.

        Matrix products only: X <- c_1 X + (c_3 A + c_5 A^2 + ...) X with A = X X^T.
        """
        first, *others = self.coefficients
        if not others:
            return first * X
        # Three dimensions, and sums within the products: small matrices are all overhead.
        folded = X.reshape(-1, *X.shape[-2:])
        A = torch.bmm(folded, folded.mT)
        *others, last = others
        value, weight = A, last
        for c in reversed(others):
            value, weight = torch.baddbmm(A, value, A, beta=c, alpha=weight), 1.0
        return torch.baddbmm(folded, value, folded, beta=first, alpha=weight).reshape(X.shape)

    def over_x(self, S: Tensor) -> Tensor:
        """p(x) / x as a function of x^2: c_1 I + c_3 S + c_5 S^2 + ... of S (..., r, r).

        p(X) = X over_x(X^T X) = over_x(X X^T) X.
        """
        identity = torch.eye(S.shape[-1], dtype=S.dtype, device=S.device)
        *lower, last = self.coefficients
        if not lower:
            return last * identity.expand_as(S)
        square = S.reshape(-1, *S.shape[-2:])
        value = torch.add(last * square, identity, alpha=lower[-1])
        for c in reversed(lower[:-1]):
            value = torch.baddbmm(identity.expand_as(square), value, square, beta=c)
        return value.reshape(S.shape)


def frobenius_normalize(G: Tensor) -> Tensor:
    """G / ||G||_F per matrix, so that every singular value is <= 1; a zero matrix stays zero.

    The norm is taken after an exact scaling by a power of two, in float32 for half precisions, so
    it neither overflows nor underflows, and 2^j G gives the same bits as G.

    Args:
        G: (..., m, n), finite.

    Returns:
        (..., m, n) in G's dtype.
    """
    X = power_of_two_normalize(G.to(compute_dtype(G.dtype)))
    norm = torch.linalg.matrix_norm(X, keepdim=True)
    return (X / torch.where(norm > 0, norm, torch.ones_like(norm))).to(G.dtype)


def newton_schulz(G: Tensor, polynomials: Iterable[OddPolynomial]) -> Tensor:
    """Compose odd polynomials on the singular values of G / ||G||_F.

    All products are taken in G's dtype, with the Gram matrix of the smaller side.

    Args:
        G: (..., m, n), finite, any floating dtype.
        polynomials: applied in order.

    Returns:
        (..., m, n), dtype and device of G.

    Reference:
        Higham, Functions of Matrices, section 8.3; Jordan et al., Muon, 2024.
    """
    X = frobenius_normalize(G)
    tall = X.shape[-2] > X.shape[-1]
    if tall:
        X = X.mT
    for polynomial in polynomials:
        X = polynomial.apply_to_matrix(X)
    return X.mT if tall else X


def newton_schulz_weight(S: Tensor, polynomials: Iterable[OddPolynomial]) -> Tensor:
    """K with newton_schulz(X, polynomials) = X K, from the Gram matrix S = X^T X alone.

    X is multiplied once, where the iteration multiplies it twice a step. A Gram matrix has the
    squares of the singular values, so those below about sqrt(u) ||X||_F are lost, which the
    iteration on X keeps down to u ||X||_F: S belongs into a dtype of twice the digits of X.

    Args:
        S: (..., r, r), symmetric and positive semidefinite: the polynomials magnify a negative
            eigenvalue beyond bound, also one that rounding made.
        polynomials: applied in order, at least one.

    Returns:
        (..., r, r), dtype and device of S; 0 where S is 0.
    """
    first, *others = polynomials
    # Three dimensions throughout: batches of more are folded and unfolded in every product.
    left = S.reshape(-1, *S.shape[-2:])
    square = left.diagonal(dim1=-2, dim2=-1).sum(-1)[:, None, None]
    left = left / torch.where(square > 0, square, 1.0)
    weight = factor = first.over_x(left)
    for polynomial in others:
        left = torch.bmm(torch.bmm(factor, left), factor)
        factor = polynomial.over_x(left)
        weight = torch.bmm(weight, factor)
    return torch.where(square > 0, weight / square.sqrt(), 0.0).reshape(S.shape)
