"""What the claims on sketches share: matrices with planted singular values, and intervals."""

from __future__ import annotations

import torch
from torch import Tensor

from claims.measuring.draws import orthonormal_there
from claims.measuring.intervals import mean_with_interval
from claims.registry import Setting

REFERENCE = "arXiv 2509.11983"
CONFIDENCE = 0.99


def planted(
    setting: Setting, m: int, n: int, s: Tensor, stream: int = 0, size: str = "seeds"
) -> Tensor:
    """(seeds, m, n) with the singular values s and Haar singular vectors, where it computes."""
    U, V = singular_vectors(setting, m, n, len(s), stream, size)
    return (U * s.to(U)) @ V.mT


def singular_vectors(
    setting: Setting, m: int, n: int, count: int, stream: int = 0, size: str = "seeds"
) -> tuple[Tensor, Tensor]:
    """U (seeds, m, count) and V (seeds, n, count) of what is planted: U V^T is its polar factor."""
    U, V = (
        orthonormal_there(setting, rows, count, stream=stream + number, size=size)
        for number, rows in enumerate((m, n))
    )
    return U, V


def nuclear_norm(M: Tensor) -> Tensor:
    """Of every matrix (..., m, n)."""
    return torch.linalg.svdvals(M).sum(-1)


def interval(values: Tensor) -> tuple[float, float]:
    """The two ends of Student's interval of the mean of independent ``values`` (draws,)."""
    return mean_with_interval(values.cpu().numpy(), CONFIDENCE)[1:]
