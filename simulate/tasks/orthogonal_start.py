"""Where a layer begins: orthogonal, and at every rank a part of the same dense layer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from geometry.gauge import Pair

# Batches draw with the key (seed, 0): a start shares no random number with them, nor do the others.
START, ADAPTERS, PLANTED, SAMPLES = 1, 2, 3, 4


class Streams:
    """Gaussian numbers for the members of an ensemble, each from its own seed alone.

    Args:
        seeds: one a member, 0 <= seed < 2^64. (torch's generator has 2^32 of them.)
        purpose: START, ADAPTERS, PLANTED or SAMPLES.
    """

    def __init__(self, seeds: Sequence[int], purpose: int = START) -> None:
        keys = [np.array([seed, purpose], dtype=np.uint64) for seed in seeds]
        self._streams = [np.random.Generator(np.random.Philox(key=key)) for key in keys]

    def gaussian(self, *shape: int) -> Tensor:
        """(E, *shape) float64 on the CPU."""
        drawn = [stream.standard_normal(shape) for stream in self._streams]
        return torch.from_numpy(np.stack(drawn))


def orthogonal_factors(streams: Streams, m: int, n: int, rank: int) -> Pair:
    """U (E, m, rank) and V (E, n, rank), both with orthonormal columns, uniformly distributed.

    Those of a smaller rank are the first columns of those of a greater one, and what is drawn
    afterwards does not depend on the rank.
    """
    most = min(m, n)
    drawn = streams.gaussian(most, m), streams.gaussian(most, n)
    U, V = (orthonormal(vectors[:, :rank].mT) for vectors in drawn)
    return U, V


def dense_start(U: Tensor, V: Tensor, gain: float) -> Tensor:
    """W = gain U V^T (E, m, n): for U, V of full rank every singular value is the gain."""
    # One product a member: those of a stack may round otherwise, by what else is in it.
    return torch.stack([gain * (u @ v.mT) for u, v in zip(U, V, strict=True)])


def low_rank_start(U: Tensor, V: Tensor, gain: float, factor_rescaling: float) -> Pair:
    """B = sqrt(gain) c U (E, m, r) and A = sqrt(gain) / c V^T (E, r, n), c the rescaling.

    B A is a best approximation of rank r of the dense start with the same streams; at c = 1 the
    factors are balanced, B^T B = A A^T = gain I.
    """
    root = gain**0.5
    return root * factor_rescaling * U, root / factor_rescaling * V.mT


def orthonormal(vectors: Tensor) -> Tensor:
    """Gram-Schmidt's columns: QR with a positive diagonal, so that they are nested and uniform.

    Of Gaussian vectors (..., n, r).
    """
    Q, R = torch.linalg.qr(vectors)
    return Q * R.diagonal(dim1=-2, dim2=-1).sign()[..., None, :]
