"""Matrices that claims draw, one a seed."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


def gaussian(seeds: Iterable[int], *shape: int, stream: int = 0) -> Tensor:
    """Standard normal entries (seeds, *shape): a member's own, whatever the others are."""
    members = []
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed * 1009 + stream)
        members.append(torch.randn(*shape, generator=generator, dtype=torch.float64))
    return torch.stack(members)
