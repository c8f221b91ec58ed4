"""Momentum of dense matrices: an exponential average, with or without Nesterov's look-ahead."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from geometry.errors import require_floating, require_share
from simulate.optimizers.descent import Rate


def require_momentum(options: Mapping[str, Any]) -> None:
    """Raise ValueError unless ``momentum``, one or one a member, lies in [0, 1)."""
    momentum = options["momentum"]
    if isinstance(momentum, Tensor):
        require_floating("momentum", momentum)
        if not bool(((momentum >= 0) & (momentum < 1)).all()):
            raise ValueError(f"momentum must lie in [0, 1), got {momentum.tolist()}")
    else:
        require_share("momentum", momentum)


def require_betas(betas: object) -> None:
    """Raise ValueError unless these are two decays in [0, 1), of the first and second moment."""
    two = betas if isinstance(betas, tuple | list) else ()
    if len(two) != 2 or not all(isinstance(x, int | float) and 0 <= x < 1 for x in two):
        raise ValueError(f"two betas in [0, 1) are expected, got {betas!r}")


def averaged(M: Tensor, G: Tensor, options: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """The new momentum M + (1 - momentum) (G - M), and the direction to be orthogonalised.

    That is the new momentum, or with ``nesterov`` G + momentum (M - G). Up to a factor, which no
    orthogonaliser sees, the two are N = C, with C <- momentum C + G (Polyak's heavy ball), and
    N = momentum C + G.

    Args:
        M, G: (..., m, n).
        options: ``momentum``, a number or a tensor that broadcasts to the leading dimensions, and
            ``nesterov``.
    """
    momentum = options["momentum"]
    M = _between(M, G, 1 - momentum)
    return M, _between(G, M, momentum) if options["nesterov"] else M


def _between(start: Tensor, end: Tensor, weight: Rate) -> Tensor:
    """start + weight (end - start); a tensor gives every member the bits of its own number."""
    if not isinstance(weight, Tensor):
        return start.lerp(end, weight)
    if start.dtype.itemsize < 4:
        # lerp by a number computes in float32; a tensor of weights would be rounded first.
        return _between(start.float(), end.float(), weight).to(start.dtype)
    return torch.lerp(start, end, weight.to(start).unsqueeze(-1).unsqueeze(-1))
