"""Exact per-matrix normalisation by a power of two."""

from __future__ import annotations

import torch
from torch import Tensor


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype to factorise in: float32 for half precisions, otherwise `dtype` itself."""
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


def widest_dtype(dtype: torch.dtype, device: torch.device) -> torch.dtype:
    """float64, or what `compute_dtype` says on a device without it (Apple's mps)."""
    return compute_dtype(dtype) if device.type == "mps" else torch.float64


def unit_roundoff(dtype: torch.dtype) -> float:
    """u = eps / 2: the largest relative error of one rounded operation."""
    return torch.finfo(dtype).eps / 2


def power_of_two_factors(G: Tensor) -> tuple[Tensor, Tensor]:
    """Two powers of two per matrix whose product brings max|G| into [2, 4).

    They come apart because their product can exceed the exponent range (subnormal matrices). Each
    is about the root of the product: either may scale numbers near 1 without leaving the range.

    Args:
        G: (..., m, n), finite, floating dtype.

    Returns:
        Two tensors of shape (..., 1, 1) in G's dtype; both are 2 for a zero matrix.
    """
    # Not of |G|, a tensor as large as G, which takes longer to make than to read.
    peak = torch.maximum(G.amax(dim=(-2, -1), keepdim=True), -G.amin(dim=(-2, -1), keepdim=True))
    integers, place, bias = _FORMATS[G.dtype]
    # The numbers are made of their bits: powers and logarithms may round.
    both = 2 + 2 * bias - torch.frexp(peak).exponent.to(integers)
    half = both >> 1
    return (half << place).view(G.dtype), ((both - half) << place).view(G.dtype)


# Of a binary format: the integers of its width, where its exponent begins, and that of 1.
_FORMATS = {
    torch.float64: (torch.int64, 52, 1023),
    torch.float32: (torch.int32, 23, 127),
    torch.float16: (torch.int16, 10, 15),
    torch.bfloat16: (torch.int16, 7, 127),
}


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
    return (G * lift).mul_(factor)


def scaled_product(M: Tensor, small: Tensor, factors: tuple[Tensor, Tensor]) -> Tensor:
    """(first second M) small for two powers of two, without a scaled copy of M.

    Args:
        M: (..., m, n).
        small: (..., n, l), its entries far within the exponent range.
        factors: (first, second), each (..., 1, 1), of ``power_of_two_factors``: the
            one scales ``small``, the other the product.

    Returns:
        (..., m, l), each column in one piece.
    """
    first, second = factors
    # Products take up to four times as long where the large matrix is the left one.
    return (((small * first).mT @ M.mT) * second).mT
