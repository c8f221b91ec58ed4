"""Matrices that claims draw, one a seed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor


def gaussian(seeds: Iterable[int], *shape: int, stream: int = 0) -> Tensor:
    """Standard normal entries (seeds, *shape): a member's own, whatever the others are."""
    members = []
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed * 1009 + stream)
        members.append(torch.randn(*shape, generator=generator, dtype=torch.float64))
    return torch.stack(members)


def gauge(seeds: Sequence[int], r: int, condition: float, *, top: float) -> Tensor:
    """C (seeds, r, r) of a condition number, in bases of Gaussian matrices: a member's own.

    Singular values fall geometrically from condition^top to condition^(top - 1): from 1 at top 0,
    with determinant 1 or -1 at top 1/2.
    """
    U, V = (torch.linalg.qr(gaussian(seeds, r, r, stream=stream)).Q for stream in (4, 5))
    exponents = torch.linspace(top, top - 1, r, dtype=torch.float64)
    return (U * condition**exponents) @ V.mT
