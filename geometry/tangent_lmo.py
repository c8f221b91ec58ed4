"""The linear minimisation oracle of the spectral norm over a tangent space of fixed-rank matrices.

At W = B A of rank r the tangent space is T = {dB A + B dA}; in orthonormal bases that begin with
those of B and of A^T its elements are the matrices whose last block is zero,
Z = [Z_11, Z_12; Z_21, 0]. The largest <G, Z> with ||Z||_2 <= 1 is, by duality, the least nuclear
norm of [G_11, G_12; G_21, X] over X. There is no closed form; X is found by iteratively reweighted
least squares with a falling smoothing, and how good it is, is known from the gap: every Z with
||Z||_2 <= 1 in T is a lower bound, every X an upper.

It is a yardstick for :mod:`geometry.lora`, whose step is the optimum of a smaller set. Dense and
iterative: not for training.

Reference: Mohan, Fazel 2012, Iterative reweighted algorithms for matrix rank minimization, JMLR 13.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from geometry.errors import require_finite, require_matrices, require_positive
from geometry.fixed_rank import point
from geometry.gauge import require_pair
from geometry.scaling import power_of_two_factors

# Factors of the smoothing, relative to ||G||_2, and sweeps at each of them.
_FALLING = tuple(0.7**k for k in range(80))
_SWEEPS = 12


class TangentOptimum(NamedTuple):
    """A feasible Z (..., m, n) in the tangent space, and bounds (...,) on the best <G, Z>."""

    Z: Tensor
    value: Tensor
    upper: Tensor


def tangent_lmo(B: Tensor, A: Tensor, G: Tensor, *, gap: float = 5e-3) -> TangentOptimum:
    """The Z in the tangent space at B A with ||Z||_2 <= 1 and the largest <G, Z>, to a gap.

    Args:
        B: (..., m, r). A: (..., r, n), both of full rank. G: (..., m, n).
        gap: sweeps end once upper - value is at most this share of upper in every matrix.

    Returns:
        Z with its value and the upper bound, dtype and device of G. Where the sweeps run out the
        gap is larger than was asked for; the bounds hold whatever it is.

    Raises:
        ValueError: shapes, dtypes or devices that do not fit, entries that are not finite,
            gap <= 0. RankError, which is one: a factor whose rank is not full.
    """
    require_pair(B, A)
    require_matrices("G", G)
    require_positive("gap", gap)
    expected = (*B.shape[:-1], A.shape[-1])
    if G.shape != expected:
        raise ValueError(f"G: shape {tuple(expected)} is expected; given {tuple(G.shape)}")
    if (G.dtype, G.device) != (B.dtype, B.device):
        raise ValueError(
            f"G: {B.dtype} on {B.device}, as of the factors, is expected; given {G.dtype} on "
            f"{G.device}"
        )
    require_finite("G", G)
    point(B, A)
    # The bounds are homogeneous; squares are taken on the way.
    lift, factor = power_of_two_factors(G)
    G = G * lift * factor
    r = B.shape[-1]
    left = torch.linalg.qr(B, mode="complete").Q
    right = torch.linalg.qr(A.mT, mode="complete").Q
    M = left.mT @ G @ right
    given = M.clone()
    given[..., r:, r:] = 0.0
    M = given.clone()
    largest = torch.linalg.matrix_norm(M, 2, keepdim=True)
    # Of a zero matrix nothing is left to weigh.
    largest = torch.where(largest > 0, largest, 1.0)
    best = _bounds(given, M, r, 1e-15 * largest)
    for share in _FALLING:
        epsilon = share * largest
        for _ in range(_SWEEPS):
            weights = _inverse_root(M, epsilon)
            corner = weights[..., r:, r:]
            if corner.shape[-1]:
                M[..., r:, r:] = -torch.linalg.solve(corner, weights[..., r:, :r] @ M[..., :r, r:])
        found = _bounds(given, M, r, epsilon)
        better = (found.value > best.value)[..., None, None]
        best = TangentOptimum(
            torch.where(better, found.Z, best.Z),
            torch.maximum(found.value, best.value),
            torch.minimum(found.upper, best.upper),
        )
        if bool((best.upper - best.value <= gap * best.upper).all()):
            break
    lift, factor = lift[..., 0, 0], factor[..., 0, 0]
    return TangentOptimum(
        left @ best.Z @ right.mT, best.value / lift / factor, best.upper / lift / factor
    )


def _inverse_root(M: Tensor, epsilon: Tensor) -> Tensor:
    """(M M^T + epsilon^2)^(-1/2), the weights of the rows."""
    U, s, _ = torch.linalg.svd(M)
    pad = M.shape[-2] - s.shape[-1]
    s = torch.nn.functional.pad(s, (0, pad)) if pad else s
    weights = (s.square() + epsilon[..., 0].square()).rsqrt()
    return (U * weights[..., None, :]) @ U.mT


def _bounds(given: Tensor, M: Tensor, r: int, epsilon: Tensor) -> TangentOptimum:
    """The smoothed polar factor of M, brought into the tangent space and the ball; M's own norm."""
    U, s, Vh = torch.linalg.svd(M, full_matrices=False)
    weights = s / (s.square() + epsilon[..., 0].square()).sqrt()
    Z = (U * weights[..., None, :]) @ Vh
    Z[..., r:, r:] = 0.0
    size = torch.linalg.matrix_norm(Z, 2, keepdim=True)
    Z = Z / torch.where(size > 0, size, 1.0)
    return TangentOptimum(Z, (given * Z).sum((-2, -1)), s.sum(-1))
