"""Matrices that claims draw, one a seed, on the CPU: numbers do not depend on the device.

What takes a setting draws for as many of its seeds as its ``size`` says, and moves what was drawn
to the setting's device and dtype, float64 where none is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from claims.registry import Setting


def gaussian(seeds: Iterable[int], *shape: int, stream: int = 0) -> Tensor:
    """Standard normal entries (seeds, *shape): a member's own, whatever the others are."""
    members = []
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed * 1009 + stream)
        members.append(torch.randn(*shape, generator=generator, dtype=torch.float64))
    return torch.stack(members)


def orthonormal(seeds: Iterable[int], rows: int, columns: int, stream: int = 0) -> Tensor:
    """Orthonormal columns of uniform subspaces, (seeds, rows, columns)."""
    return torch.linalg.qr(gaussian(seeds, rows, columns, stream=stream)).Q


def gauge(seeds: Sequence[int], r: int, condition: float, *, top: float) -> Tensor:
    """C (seeds, r, r) of a condition number, in bases of Gaussian matrices: a member's own.

    Singular values fall geometrically from condition^top to condition^(top - 1): from 1 at top 0,
    with determinant 1 or -1 at top 1/2.
    """
    U, V = (orthonormal(seeds, r, r, stream=stream) for stream in (4, 5))
    exponents = torch.linspace(top, top - 1, r, dtype=torch.float64)
    return (U * condition**exponents) @ V.mT


def gaussian_there(setting: Setting, *shape: int, stream: int = 0, size: str = "seeds") -> Tensor:
    """Those of :func:`gaussian`, where the setting computes."""
    return _there(setting, gaussian(setting.seeds(setting[size]), *shape, stream=stream))


def orthonormal_there(
    setting: Setting, rows: int, columns: int, stream: int = 0, size: str = "seeds"
) -> Tensor:
    """Those of :func:`orthonormal`, where the setting computes."""
    return _there(setting, orthonormal(setting.seeds(setting[size]), rows, columns, stream=stream))


def gauge_there(setting: Setting, r: int, condition: float, *, top: float) -> Tensor:
    """Those of :func:`gauge`, where the setting computes."""
    return _there(setting, gauge(setting.seeds(setting["seeds"]), r, condition, top=top))


def _there(setting: Setting, drawn: Tensor) -> Tensor:
    return drawn.to(setting.device, setting.dtype(torch.float64))
