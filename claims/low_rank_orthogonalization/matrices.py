"""What the claims on sketches share: matrices with planted singular values, and intervals."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from claims.measuring.draws import gaussian
from claims.measuring.intervals import mean_with_interval

REFERENCE = "arXiv 2509.11983"
CONFIDENCE = 0.99


def planted(seeds: Iterable[int], m: int, n: int, s: Tensor, stream: int = 0) -> Tensor:
    """(seeds, m, n) with the singular values s and Haar singular vectors."""
    U, V = singular_vectors(seeds, m, n, len(s), stream)
    return (U * s) @ V.mT


def singular_vectors(
    seeds: Iterable[int], m: int, n: int, count: int, stream: int = 0
) -> tuple[Tensor, Tensor]:
    """U (seeds, m, count) and V (seeds, n, count) of what is planted: U V^T is its polar factor."""
    seeds = tuple(seeds)
    U, V = (
        torch.linalg.qr(gaussian(seeds, size, count, stream=stream + number)).Q
        for number, size in enumerate((m, n))
    )
    return U, V


def nuclear_norm(M: Tensor) -> Tensor:
    """Of every matrix (..., m, n)."""
    return torch.linalg.svdvals(M).sum(-1)


def interval(values: Tensor) -> tuple[float, float]:
    """The two ends of Student's interval of the mean of independent ``values`` (draws,)."""
    return mean_with_interval(values.numpy(), CONFIDENCE)[1:]
