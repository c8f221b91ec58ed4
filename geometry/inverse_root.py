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

from geometry.errors import require_finite, require_matrices, require_nonnegative
from geometry.names import unknown_name
from geometry.scaling import compute_dtype, power_of_two_normalize

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


@dataclass(frozen=True)
class InverseRoot:
    """One way to a root.

    Attributes:
        of: (X, damping) to the root, for X (..., r, n) of a common size.
        default_damping: what damping=None means.
        source: the paper or text that defines it.
    """

    name: str
    of: Callable[[Tensor, float], Tensor]
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
        (..., r, r), dtype and device of X; 0 where X is 0.

    Raises:
        ValueError: not a finite floating (..., r, n) tensor, unknown method, damping negative, or
            below 1e-5 for "newton_schulz".

    Reference:
        Cesista et al., arXiv 2606.12921, Algorithm 4, for "newton_schulz".
    """
    require_matrices("X", X)
    require_finite("X", X)
    if method not in INVERSE_ROOTS:
        raise unknown_name("method", method, INVERSE_ROOTS)
    declared = INVERSE_ROOTS[method]
    eps = declared.default_damping if damping is None else damping
    require_nonnegative("damping", eps)
    if eps < declared.default_damping:
        raise ValueError(
            f"damping must be at least {declared.default_damping:g} for method {method!r}, "
            f"got {eps:g}"
        )
    computed = X.to(compute_dtype(X.dtype))
    common = power_of_two_normalize(computed)
    root = declared.of(common, eps)
    # The root of X is that of the common size over the power of two between them.
    peak, raised = (x.abs().amax((-2, -1), keepdim=True) for x in (computed, common))
    return (root * torch.where(peak > 0, raised / peak, 0.0)).to(X.dtype)


def _by_svd(X: Tensor, damping: float) -> Tensor:
    U, s, _ = torch.linalg.svd(X, full_matrices=X.shape[-2] > X.shape[-1])
    if s.shape[-1] < X.shape[-2]:
        s = torch.nn.functional.pad(s, (0, X.shape[-2] - s.shape[-1]))
    square = s.square()
    kept = s > max(X.shape[-2:]) * torch.finfo(X.dtype).eps * s[..., :1]
    return _assembled(U, square, kept, damping, s)


def _by_eigh(X: Tensor, damping: float) -> Tensor:
    w, V = torch.linalg.eigh(X @ X.mT)
    kept = w > X.shape[-2] * torch.finfo(X.dtype).eps * w[..., -1:]
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
    S = X @ X.mT
    norm = torch.linalg.matrix_norm(S, keepdim=True)
    identity = torch.eye(S.shape[-1], dtype=S.dtype, device=S.device)
    P, root = S / torch.where(norm > 0, norm, 1.0) + damping * identity, identity
    for a, b, c in _TABLE:
        W = a / _SAFETY * identity + b / _SAFETY**3 * P + c / _SAFETY**5 * (P @ P)
        root = root @ W
        P = P @ W @ W
        P = (P + P.mT) / 2
    return torch.where(norm > 0, root / norm.sqrt(), 0.0)


_DECLARED = (
    InverseRoot("svd", _by_svd, 0.0, "of X: Higham, Functions of Matrices, chapter 6"),
    InverseRoot("eigh", _by_eigh, 0.0, "of X X^T: Higham, Functions of Matrices, chapter 6"),
    InverseRoot(
        "newton_schulz", _by_products, 1e-5, "Cesista et al., arXiv 2606.12921, Algorithm 4"
    ),
)

INVERSE_ROOTS: Mapping[str, InverseRoot] = MappingProxyType({x.name: x for x in _DECLARED})
