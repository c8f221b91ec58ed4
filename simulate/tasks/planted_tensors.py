"""Tensors of low multilinear rank, planted, one a seed."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from geometry.errors import require_positive_int
from geometry.unfolding import mode_products
from simulate.tasks.orthogonal_start import PLANTED, Streams, orthonormal


def planted_tensors(
    shape: Sequence[int],
    ranks: Sequence[int],
    seeds: Sequence[int],
    *,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Tucker tensors, a Gaussian core times uniform orthonormal factors, of root mean square 1.

    Args:
        shape: n_1, .., n_d, d >= 2.
        ranks: r_1, .., r_d, the multilinear rank: 1 <= r_k <= n_k, and no r_k above the product of
            the others.
        seeds: one for each of the S tensors, 0 <= seed < 2^64.
        dtype, device: of the result, which is drawn in float64 on the CPU.

    Returns:
        (S, n_1, .., n_d).

    Raises:
        ValueError: sizes or ranks out of these ranges.
    """
    require_ranks(shape, ranks)
    streams = Streams(seeds, PLANTED)
    tensor = streams.gaussian(*ranks)
    factors = [orthonormal(streams.gaussian(n, r)) for n, r in zip(shape, ranks, strict=True)]
    tensor = mode_products(tensor, factors)
    size = tensor.flatten(1).square().mean(1).sqrt().reshape(-1, *[1] * len(shape))
    return (tensor / size).to(dtype=dtype, device=device)


def require_ranks(shape: Sequence[int], ranks: Sequence[int]) -> None:
    """Raise ValueError unless there are tensors of the shape with the multilinear rank."""
    for name, sizes in (("shape", shape), ("ranks", ranks)):
        for size in sizes:
            require_positive_int(f"every size of {name}", size)
    most = math.prod(ranks)
    if (
        len(shape) < 2
        or len(ranks) != len(shape)
        or any(r > n or r * r > most for r, n in zip(ranks, shape, strict=True))
    ):
        raise ValueError(
            "ranks: one a mode, at most its size and the product of the others, of two modes or "
            f"more, are expected, got {tuple(ranks)} for {tuple(shape)}"
        )
