"""Locally optimal initialisation: where on the manifold of rank r the gradient is most tangent.

At X = U S V^T what the tangent space leaves of a gradient G is (I - U U^T) G (I - V V^T), which
differs from G by a matrix of rank 2 r at most. So by Eckart and Young

    ||P_X G||_F^2 <= s_1^2 + ... + s_2r^2,

and U = U_{1..r}, V = V_{r+1..2r} of the SVD of G leave exactly s_{2r+1}, s_{2r+2}, .... The pairing
U_{1..r}, V_{1..r} reaches s_1^2 + ... + s_r^2 alone. The singular values of X do not matter to the
bound; here all are ``scale``. Which other X attain it: :func:`optimal_subspaces`.

The adapter begins at X, and the frozen weight as W - X, so that the model begins where it was.

Reference: Bogachev et al., RiemannLoRA, arXiv 2507.12142, Theorem 5.1 and Section 5.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from geometry.errors import (
    require_finite,
    require_matrices,
    require_nonnegative_int,
    require_positive_int,
    require_square,
)
from geometry.gauge import Pair, require_pair
from geometry.scaling import compute_dtype

# Of several matrices at once, N to G N or M to G^T M: a backward pass gives those of every layer.
Products = Callable[[Sequence[Tensor]], Sequence[Tensor]]


class LocallyOptimal(NamedTuple):
    """X = B A and what is known of the gradient.

    Attributes:
        B: (..., m, r), root(scale) U_{1..r}. A: (..., r, n), root(scale) V_{r+1..2r}^T.
        singular_values: of the gradient, descending, the first min(2 r, m, n), or estimates.
    """

    B: Tensor
    A: Tensor
    singular_values: Tensor


def locally_optimal_initialization(
    G: Tensor, rank: int, *, scale: float | Tensor = 1.0
) -> LocallyOptimal:
    """The locally optimal X for a dense gradient, by its SVD.

    Args:
        G: (..., m, n), finite, nowhere else needed; half precisions compute in float32.
        rank: r, 1 to min(m, n).
        scale: every singular value of X, > 0; a number or a tensor that broadcasts to (...).
            Beside a step of gradient descent eta s_1 it should be large: from a small X a step
            leaves the tangent space, and brings what the r leading directions bring.

    Where 2 r > min(m, n) all of G is tangent at X = scale U_{1..r} V_{l+1..l+r}^T,
    l = min(m, n) - r. Directions in which G is zero are filled up with orthonormal ones.

    Returns:
        Balanced factors, dtype and device of G.

    Raises:
        ValueError: not a finite floating (..., m, n), a rank or a scale out of range.
    """
    require_matrices("G", G)
    _require_rank(rank, *G.shape[-2:])
    require_finite("G", G)
    U, s, Vh = torch.linalg.svd(G.to(compute_dtype(G.dtype)), full_matrices=False)
    return _paired(U, s, Vh.mT, rank, scale, G)


def locally_optimal_from_products(
    right: Products,
    left: Products,
    weights: Sequence[Tensor],
    rank: int,
    *,
    oversampling: int | None = None,
    power_iterations: int = 1,
    scale: float | Tensor = 1.0,
    generator: torch.Generator,
) -> list[LocallyOptimal]:
    """The same of several gradients G at once by randomised SVD, no G being formed.

    A basis Q of k = 2 r + oversampling vectors, or min(m, n) where that is less, spans
    (G G^T)^h G N of a Gaussian N, made orthonormal after every product, and the SVD is that of
    Q Q^T G. ``right`` and ``left`` are called h + 1 times each.

    Args:
        right: [N, ...] to [G N, ...], N (..., n, k). left: [M, ...] to [G^T M, ...], M (..., m, k).
        weights: what the gradients are of, for shapes (..., m, n), dtypes and devices.
        oversampling: r by default. power_iterations: h.
        scale: as above. generator: what N is drawn from, on its own device, in float64.

    Raises:
        ValueError: sizes out of range, products of wrong shapes or not finite.

    Reference: Halko, Martinsson, Tropp, SIAM Review 53, 2011, algorithm 4.4; arXiv 2507.12142,
        Section 5 and Eq. 18.
    """
    oversampling = rank if oversampling is None else oversampling
    for name, value in (("oversampling", oversampling), ("power_iterations", power_iterations)):
        require_nonnegative_int(name, value)
    N = []
    for W in weights:
        require_matrices("a weight", W)
        m, n = W.shape[-2:]
        _require_rank(rank, m, n)
        shape = (*W.shape[:-2], n, min(2 * rank + oversampling, m, n))
        drawn = torch.randn(
            shape, generator=generator, device=generator.device, dtype=torch.float64
        )
        N.append(drawn.to(W))
    for _ in range(power_iterations):
        M = [_orthonormal(Y) for Y in _products(right, "G N", N, weights, -2)]
        N = [_orthonormal(Y) for Y in _products(left, "G^T M", M, weights, -1)]
    M = [_orthonormal(Y) for Y in _products(right, "G N", N, weights, -2)]
    found = []
    for Q, Z, W in zip(M, _products(left, "G^T M", M, weights, -1), weights, strict=True):
        # G is nearly Q Z^T.
        V, s, Uh = torch.linalg.svd(Z.to(compute_dtype(Z.dtype)), full_matrices=False)
        found.append(_paired(Q.to(Uh.dtype) @ Uh.mT, s, V, rank, scale, W))
    return found


def frozen_weight(W: Tensor, B: Tensor, A: Tensor, *, adapter_scale: float = 1.0) -> Tensor:
    """W - adapter_scale B A: beside it the adapter begins where W was.

    To rounding: the sum is off by eps of the larger of W and the adapter. In half precision that
    can be seen in a loss.

    Args:
        W: (..., m, n). B: (..., m, r). A: (..., r, n). adapter_scale: alpha / r of LoRA, of a layer
            that computes W + adapter_scale B A.

    Raises:
        ValueError: shapes that do not fit.
    """
    require_pair(B, A)
    if W.shape != (*B.shape[:-1], A.shape[-1]):
        raise ValueError(
            f"W: shape {(*B.shape[:-1], A.shape[-1])} is expected beside B {tuple(B.shape)} and "
            f"A {tuple(A.shape)}; given {tuple(W.shape)}"
        )
    return W - adapter_scale * (B @ A)


def optimal_subspaces(G: Tensor, turn: Tensor) -> Pair:
    """Another optimum: the column and row spaces of an X at which all of s_1, ..., s_2r is tangent.

    With U_2r S V_2r^T the leading part of G and [Q', Q] orthogonal, take V = V_2r Q and U = U_2r P
    where P spans S Q'. What is left of the leading part is U_2r (I - P P^T) S Q' Q'^T V_2r^T = 0.
    The pairing of :func:`locally_optimal_initialization` is Q = [0; I]. Where s_2r > s_{2r+1} and
    no s_i is zero there are no others in the spaces of U_2r and V_2r.

    Args:
        G: (..., m, n), 2 r <= min(m, n), of a rank of 2 r at least.
        turn: (..., 2 r, 2 r), orthogonal: its first r columns are Q', its last Q.

    Returns:
        U (..., m, r) and V (..., n, r) of orthonormal columns.
    """
    require_matrices("G", G)
    require_square("turn", turn)
    both = turn.shape[-1]
    if both % 2 or both > min(G.shape[-2:]):
        raise ValueError(
            f"turn: (..., 2 r, 2 r) with 2 r at most {min(G.shape[-2:])} is expected; given "
            f"{tuple(turn.shape)}"
        )
    U, s, Vh = torch.linalg.svd(G, full_matrices=False)
    P = torch.linalg.qr(s[..., :both, None] * turn[..., : both // 2]).Q
    return U[..., :both] @ P, Vh.mT[..., :both] @ turn[..., both // 2 :]


def _paired(
    U: Tensor, s: Tensor, V: Tensor, rank: int, scale: float | Tensor, like: Tensor
) -> LocallyOptimal:
    size = torch.as_tensor(scale, dtype=U.dtype, device=U.device)
    if not bool(((size > 0) & torch.isfinite(size)).all()):
        raise ValueError(f"scale must be finite and > 0, got {scale}")
    root = size.sqrt()[..., None, None]
    first = min(rank, min(like.shape[-2:]) - rank)
    B, A = root * U[..., :rank], root * V[..., first : first + rank].mT
    if B.shape[:-2] != like.shape[:-2]:
        raise ValueError(
            f"scale: a number, or a tensor that broadcasts to the leading dimensions "
            f"{tuple(like.shape[:-2])}, is expected; given {tuple(size.shape)}"
        )
    return LocallyOptimal(B.to(like), A.to(like), s[..., : 2 * rank].to(like))


def _require_rank(rank: int, m: int, n: int) -> None:
    require_positive_int("rank", rank)
    if rank > min(m, n):
        raise ValueError(
            f"rank: at most min(m, n) = {min(m, n)} is expected of {m} x {n}, got {rank}"
        )


def _orthonormal(Y: Tensor) -> Tensor:
    # What Y does not span is filled up: a start needs r directions even where G has fewer.
    return torch.linalg.qr(Y.to(compute_dtype(Y.dtype))).Q.to(Y.dtype)


def _products(
    product: Products, name: str, given: list[Tensor], weights: Sequence[Tensor], side: int
) -> list[Tensor]:
    found = [Y.detach() for Y in product(given)]
    for place, (X, Y, W) in enumerate(zip(given, found, weights, strict=True)):
        expected = (*W.shape[:-2], W.shape[side], X.shape[-1])
        if Y.shape != expected:
            raise ValueError(
                f"{name} of weight {place}: shape {expected} is expected; given {tuple(Y.shape)}"
            )
        require_finite(f"{name} of weight {place}", Y)
    return found
