"""What claims on matrices of fixed rank share: random points, and the matrices they stand for."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from claims.measuring.draws import gaussian
from geometry.fixed_rank import FixedRank, Tangent, as_pair, point

PAPER = "riemannlora"
REFERENCE = "arXiv 2507.12142"


def gaussian_point(seeds: Iterable[int], m: int, n: int, r: int, stream: int = 0) -> FixedRank:
    """B A of Gaussian factors, one a seed: singular values apart, both spaces uniform."""
    seeds = tuple(seeds)
    return point(gaussian(seeds, m, r, stream=stream), gaussian(seeds, r, n, stream=stream + 1))


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


def uniform_spans(seeds: Iterable[int], m: int, n: int, r: int, stream: int = 0) -> FixedRank:
    """U V^T of uniform subspaces, one a seed."""
    seeds = tuple(seeds)
    left, right = gaussian(seeds, m, r, stream=stream), gaussian(seeds, n, r, stream=stream + 1)
    return spanned(torch.linalg.qr(left).Q, torch.linalg.qr(right).Q)
