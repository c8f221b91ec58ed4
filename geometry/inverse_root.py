"""Inverse square roots of Gram matrices (X X^T)^(-1/2): by SVD, by eigh, by matrix products alone.

What they agree on is (X X^T + damping ||X X^T||_F I)^(-1/2). The damping is relative, so that for
a number c the root of c X is that of X over c; for powers of two to the bit, since every matrix is
brought to a common size by a power of two first. A zero matrix has the root 0: its pseudo-inverse,
where the formula has 0 / 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from geometry.errors import (
    require_finite,
    require_matrices,
    require_nonnegative,
    require_square,
)
from geometry.names import unknown_name
from geometry.newton_schulz import OddPolynomial
from geometry.scaling import compute_dtype, power_of_two_factors

# Cesista et al., arXiv 2606.12921, appendix B.4, Table 2, with the safety of Algorithm 4.
_TABLE = (
    (7.424865680309214, -18.39581635618996, 12.896720413604342),
    (3.4877256051546017, -2.3300436563986993, 0.4404692168431095),
    (2.7766085124882527, -2.070643152532662, 0.46302261050004967),
    (1.9913142104341506, -1.373936700681269, 0.3875934979568538),
    (1.8754637749479246, -1.2505152090010534, 0.37505152463617264),
    (1.874999066623701, -1.2499981332141676, 0.37499906659046633),
    (1.875, -1.25, 0.375),
)
_SAFETY = 1.001
_STEPS = tuple(OddPolynomial((a / _SAFETY, b / _SAFETY**3, c / _SAFETY**5)) for a, b, c in _TABLE)


@dataclass(frozen=True)
class InverseRoot:
    """One way to a root.

    Attributes:
        of: (X, damping) to the root, for X (..., r, n) of a common size.
        of_gram: (S, damping, cutoff) to the root from the Gram matrix S (..., r, r); undamped,
            directions below cutoff times the largest are dropped.
        default_damping: what damping=None means.
        source: the paper or text that defines it.
    """

    name: str
    of: Callable[[Tensor, float], Tensor]
    of_gram: Callable[[Tensor, float, float], Tensor]
    default_damping: float
    source: str


def inverse_root(X: Tensor, method: str = "svd", *, damping: float | None = None) -> Tensor:
    """(X X^T + damping ||X X^T||_F I)^(-1/2) of X (..., r, n), symmetric (..., r, r).

    "svd" factorises X itself: relative error about u cond(X). "eigh" factorises the Gram matrix:
    u cond(X)^2, and half the cost or less where n is much larger than r. "newton_schulz" takes
    matrix products alone: seven steps of a table, 2.5e-4 from the damped root, and only with a
    damping of about 1e-5 or more, for which its table is made. Undamped, directions below
    max(r, n) u (svd) or r u of the Gram matrix (eigh) are dropped, as in a pseudo-inverse.

    Args:
        X: (..., r, n), finite. float16 and bfloat16 compute in float32 and are cast back.
        method: "svd", "eigh" or "newton_schulz".
        damping: >= 0, relative to the Frobenius norm of the Gram matrix; by default 0, and 1e-5
            for "newton_schulz".

    Returns:
        (..., r, r), dtype and device of X; 0 where X is 0, infinite entries where the root is
        beyond the dtype.

    Raises:
        ValueError: not a finite floating (..., r, n) tensor, unknown method, damping negative, or
            below 1e-5 for "newton_schulz".

    Reference:
        Cesista et al., arXiv 2606.12921, Algorithm 4, for "newton_schulz".
    """
    require_matrices("X", X)
    require_finite("X", X)
    declared, eps = _declared(method), damping_of(method, damping)
    computed = X.to(compute_dtype(X.dtype))
    lift, factor = power_of_two_factors(computed)
    root = declared.of(computed * lift * factor, eps)
    # The root of X is that of the common size times the power of two between them, which by
    # itself may leave the range where the root does not.
    return (root * lift * factor).to(X.dtype)


def root_of_gram(
    S: Tensor, method: str = "svd", *, damping: float | None = None, cutoff: float
) -> Tensor:
    """The same root from the Gram matrix S = X X^T itself: relative error u cond(X)^2.

    Nothing is brought to a common size, and entries are not looked at: S must be finite, and its
    square must not overflow. Made for Gram matrices in a wider dtype than X has. "svd" and "eigh"
    are the same here.

    Args:
        S: (..., r, r), symmetric, positive semidefinite up to rounding.
        method, damping: as for :func:`inverse_root`.
        cutoff: undamped, directions with s_i^2 <= cutoff s_1^2 are dropped.

    Returns:
        (..., r, r), dtype and device of S; 0 where S is 0.

    Raises:
        ValueError: as there for method and damping; S not square.
    """
    require_square("S", S)
    declared, eps = _declared(method), damping_of(method, damping)
    return declared.of_gram(S, eps, cutoff)


def damping_of(method: str, damping: float | None) -> float:
    """The damping that is meant; ValueError for an unknown method, or one that it cannot take."""
    declared = _declared(method)
    if damping is None:
        return declared.default_damping
    require_nonnegative("damping", damping)
    if damping < declared.default_damping:
        raise ValueError(
            f"damping must be at least {declared.default_damping:g} for method {method!r}, "
            f"got {damping:g}"
        )
    return damping


def _declared(method: str) -> InverseRoot:
    if method not in INVERSE_ROOTS:
        raise unknown_name("method", method, INVERSE_ROOTS)
    return INVERSE_ROOTS[method]


def _by_svd(X: Tensor, damping: float) -> Tensor:
    # X^T = Q T has X's singular values in T, which is r x r where X is wide.
    T = torch.linalg.qr(X.mT, mode="r").R
    U, s, _ = torch.linalg.svd(T.mT, full_matrices=X.shape[-2] > X.shape[-1])
    if s.shape[-1] < X.shape[-2]:
        s = torch.nn.functional.pad(s, (0, X.shape[-2] - s.shape[-1]))
    square = s.square()
    kept = s > max(X.shape[-2:]) * torch.finfo(X.dtype).eps * s[..., :1]
    return _assembled(U, square, kept, damping, s)


def _by_eigh(X: Tensor, damping: float) -> Tensor:
    return _of_eigenvectors(X @ X.mT, damping, X.shape[-2] * torch.finfo(X.dtype).eps)


def _of_eigenvectors(S: Tensor, damping: float, cutoff: float) -> Tensor:
    w, V = torch.linalg.eigh(S)
    kept = w > cutoff * w[..., -1:]
    return _assembled(V, w.clamp_min(0), kept, damping, w.clamp_min(0).sqrt())


def _assembled(V: Tensor, w: Tensor, kept: Tensor, damping: float, root: Tensor) -> Tensor:
    """V (w + damping ||w||)^(-1/2) V^T; undamped, of the directions that are ``kept``."""
    if damping:
        norm = torch.linalg.vector_norm(w, dim=-1, keepdim=True)
        weights = (w + damping * norm).rsqrt()
    else:
        weights = torch.where(kept, 1 / root, 0.0)
    weights = torch.where(w.amax(-1, keepdim=True) > 0, weights, 0.0)
    return (V * weights[..., None, :]) @ V.mT


def _by_products(X: Tensor, damping: float) -> Tensor:
    return _of_products(X @ X.mT, damping, 0.0)


def _of_products(S: Tensor, damping: float, cutoff: float) -> Tensor:
    # Damped throughout, so nothing is cut off. Three dimensions: see newton_schulz_weight.
    P = S.reshape(-1, *S.shape[-2:])
    norm = torch.linalg.matrix_norm(P, keepdim=True)
    identity = torch.eye(S.shape[-1], dtype=S.dtype, device=S.device)
    P = torch.add(P / torch.where(norm > 0, norm, 1.0), identity, alpha=damping)
    root = W = _STEPS[0].over_x(P)
    for step in _STEPS[1:]:
        P = torch.bmm(torch.bmm(P, W), W)
        P = (P + P.mT) / 2
        W = step.over_x(P)
        root = torch.bmm(root, W)
    return torch.where(norm > 0, root / norm.sqrt(), 0.0).reshape(S.shape)


_DECLARED = (
    InverseRoot(
        "svd", _by_svd, _of_eigenvectors, 0.0, "of X: Higham, Functions of Matrices, chapter 6"
    ),
    InverseRoot("eigh", _by_eigh, _of_eigenvectors, 0.0, "of X X^T: Higham, as above"),
    InverseRoot(
        "newton_schulz",
        _by_products,
        _of_products,
        1e-5,
        "Cesista et al., arXiv 2606.12921, Algorithm 4",
    ),
)

INVERSE_ROOTS: Mapping[str, InverseRoot] = MappingProxyType({x.name: x for x in _DECLARED})
