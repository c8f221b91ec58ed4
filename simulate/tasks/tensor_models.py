"""What a tensor is made of when it is trained: its entries, or a core and factors (Tucker)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import Parameter

from geometry.unfolding import mode_products
from simulate.tasks.orthogonal_start import Streams, orthonormal
from simulate.tasks.planted_tensors import require_ranks


class Entries:
    """W itself, (E, n_1, .., n_d), from 0."""

    def begun(
        self,
        shape: Sequence[int],
        seeds: Sequence[int],
        *,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str = "cpu",
    ) -> list[Parameter]:
        """Of the members with these seeds."""
        return [Parameter(torch.zeros(len(seeds), *shape, dtype=dtype, device=device))]

    def tensor(self, parameters: Sequence[Tensor]) -> Tensor:
        """W (E, n_1, .., n_d)."""
        return parameters[0]


@dataclass(frozen=True)
class Tucker:
    """A core (E, r_1, .., r_d) times factors (E, n_k, r_k) along the modes.

    Factors begin orthonormal, uniformly distributed, the core Gaussian with the deviation given:
    a member's start is a function of its seed.

    Args:
        ranks: r_1, .., r_d. scale: deviation of the core's entries at the start.
    """

    ranks: tuple[int, ...]
    scale: float = 0.1

    def begun(
        self,
        shape: Sequence[int],
        seeds: Sequence[int],
        *,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str = "cpu",
    ) -> list[Parameter]:
        """The core, then the factors, of the members with these seeds.

        They are drawn in float64 on the CPU, whatever they are to be.

        Raises:
            ValueError: ranks that no tensor of the shape has.
        """
        require_ranks(shape, self.ranks)
        streams = Streams(seeds)
        core = self.scale * streams.gaussian(*self.ranks)
        drawn = [streams.gaussian(n, r) for n, r in zip(shape, self.ranks, strict=True)]
        start = [core, *(orthonormal(vectors) for vectors in drawn)]
        return [Parameter(x.to(dtype=dtype, device=device)) for x in start]

    def tensor(self, parameters: Sequence[Tensor]) -> Tensor:
        """W (E, n_1, .., n_d)."""
        return mode_products(parameters[0], parameters[1:])
