"""What claims on matrices of fixed rank share: random points, and the matrices they stand for."""

from __future__ import annotations

import torch
from torch import Tensor

from claims.measuring.draws import gaussian_there, orthonormal_there
from claims.registry import Setting
from geometry.fixed_rank import FixedRank, Tangent, as_pair, point

PAPER = "riemannlora"
REFERENCE = "arXiv 2507.12142"


def gaussian_point(setting: Setting, m: int, n: int, r: int) -> FixedRank:
    """B A of Gaussian factors, one a seed: singular values apart, both spaces uniform."""
    return point(gaussian_there(setting, m, r), gaussian_there(setting, r, n, stream=1))


def product(x: FixedRank) -> Tensor:
    """U S V^T (..., m, n)."""
    return x.U @ x.S @ x.V.mT


def matrix(x: FixedRank, xi: Tangent) -> Tensor:
    """D_U V^T + U D_V^T (..., m, n)."""
    left, right = as_pair(x, xi)
    return left @ right


def tangent_part(x: FixedRank, Z: Tensor) -> Tensor:
    """P Z = Z - (I - U U^T) Z (I - V V^T) of dense Z, by the definition and not in factors."""
    rest = Z - x.U @ (x.U.mT @ Z)
    return Z - rest + (rest @ x.V) @ x.V.mT


def truncated(M: Tensor, r: int) -> Tensor:
    """The nearest matrices of rank r, by a dense SVD."""
    U, s, Vh = torch.linalg.svd(M, full_matrices=False)
    return (U[..., :r] * s[..., None, :r]) @ Vh[..., :r, :]


def spanned(U: Tensor, V: Tensor) -> FixedRank:
    """U V^T: where only the spaces matter."""
    r = U.shape[-1]
    return FixedRank(U, torch.eye(r).to(U).expand(*U.shape[:-2], r, r), V)


def uniform_spans(
    setting: Setting, m: int, n: int, r: int, stream: int = 0, size: str = "seeds"
) -> FixedRank:
    """U V^T of uniform subspaces, one a seed."""
    return spanned(
        orthonormal_there(setting, m, r, stream=stream, size=size),
        orthonormal_there(setting, n, r, stream=stream + 1, size=size),
    )
