"""Exact per-matrix normalisation by a power of two."""

from __future__ import annotations

import torch
from torch import Tensor


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype to factorise in: float32 for half precisions, otherwise `dtype` itself."""
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


def unit_roundoff(dtype: torch.dtype) -> float:
    """u = eps / 2: the largest relative error of one rounded operation."""
    return torch.finfo(dtype).eps / 2


def power_of_two_factors(G: Tensor) -> tuple[Tensor, Tensor]:
    """Two powers of two per matrix whose product brings max|G| into [2, 4).

    They come apart because their product can exceed the exponent range (subnormal matrices).

    Args:
        G: (..., m, n), finite, floating dtype.

    Returns:
        Two tensors of shape (..., 1, 1) in G's dtype; both are 1 for a zero matrix.
    """
    info = torch.finfo(G.dtype)
    peak = G.abs().amax(dim=(-2, -1), keepdim=True)
    lift = torch.where(peak < info.tiny, 1 / info.eps, 1.0).to(G.dtype)
    peak = peak * lift
    mantissa, _ = torch.frexp(peak)
    # 4 mantissa / peak is a power of two and in range, so the division is exact.
    factor = torch.where(peak > 0, 4 * mantissa / peak, torch.ones_like(peak))
    return lift, factor


def power_of_two_normalize(G: Tensor) -> Tensor:
    """Multiply each matrix by a power of two so that max|G| lies in [2, 4).

    Multiplying by a power of two is exact in binary floating point, so G and 2^j G give the
    same bits afterwards (entries below the smallest normal number times max|G| may underflow).

    Args:
        G: (..., m, n), finite, floating dtype.

    Returns:
        (..., m, n) in G's dtype; zero matrices are unchanged.
    """
    lift, factor = power_of_two_factors(G)
    return G * lift * factor
