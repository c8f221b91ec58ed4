"""Orthonormal bases of span[U, B0], one a lane: columns that all lanes share, and each lane's own.

U is the same in every lane, so its share of the QR of [U, B0] is done once. A block reflector H
(Schreiber and Parlett 1988), orthogonal and symmetric, takes the orthonormalised U to the leading
rows; a Householder QR of what H leaves of B0 below them, and H once more, give the columns that are
a lane's own. As in a QR of [U, B0] every step is orthogonal, so the columns are orthonormal to
round-off whatever the rank and the scaling of B0.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

# Entries of the start that are worked on at a time: what is made of them stays in the cache.
SLAB = 2**17


@dataclass(frozen=True, eq=False)
class SpanBasis:
    """One basis of k + s columns a lane, in the dtype and on the device of what it was made of.

    Attributes:
        shared: (m, k), in every lane's basis.
        own: (L, m, s).
    """

    shared: Tensor
    own: Tensor

    @classmethod
    def of(cls, target: Tensor, start: Tensor) -> SpanBasis:
        """Orthonormal columns, min(m, k + r) a lane, that hold the target's and the start's.

        Args:
            target: (m, k), columns orthonormal to the square root of the unit round-off; QR makes
                them the shared ones, orthonormal to round-off and pointing the same way.
            start: (L, m, r), of any rank, zero included.
        """
        lanes, m, r = start.shape
        k = target.shape[1]
        shared, W = _reflector(target)
        # Rows, (L, s, m), are a column after the other to LAPACK, and A's own layout.
        own = start.new_empty(lanes, min(m - k, r), m)
        count = max(1, SLAB // (m * r))
        for rows, into in zip(start.mT.split(count), own.split(count), strict=True):
            below = torch.baddbmm(rows[..., k:], rows @ W, _each(W[k:].mT, rows), alpha=-2.0)
            q = torch.linalg.qr(below.mT).Q.mT
            into[..., :k] = 0.0
            into[..., k:] = q
            into.baddbmm_(q @ W[k:], _each(W.mT, rows), alpha=-2.0)
        return cls(shared, own.mT)

    @classmethod
    def given(cls, columns: Tensor) -> SpanBasis:
        """The basis of columns (L, m, p) that are orthonormal already; none is shared."""
        return cls(columns.new_empty(columns.shape[-2], 0), columns)

    @property
    def size(self) -> int:
        """How many columns a lane has, k + s."""
        return self.shared.shape[-1] + self.own.shape[-1]

    def select(self, lanes: Tensor) -> SpanBasis:
        """The bases of some of the lanes."""
        return SpanBasis(self.shared, self.own[lanes])

    def columns(self) -> Tensor:
        """(L, m, k + s), the shared columns first."""
        own = self.own.mT
        return torch.cat([_each(self.shared.mT, own), own], dim=-2).mT

    def coordinates(self, vectors: Tensor) -> Tensor:
        """Q^T X, (L, k + s, r), for X (L, m, r)."""
        return torch.cat([self.shared.mT @ vectors, self.own.mT @ vectors], dim=-2)


def _reflector(target: Tensor) -> tuple[Tensor, Tensor]:
    """Q (m, k), the target orthonormalised, and W (m, k), orthonormal, with H = I - 2 W W^T.

    With S P the polar decomposition of Q's leading k rows, H is the reflection that takes Q to
    -[S; 0]: W spans the columns of Q + [S; 0]. Their Gram matrix is 2 (I + P), of condition at most
    2, so nothing here is ill-conditioned, whatever the target.
    """
    q, triangle = torch.linalg.qr(target)
    shared = q * triangle.diagonal().sign()
    k = shared.shape[1]
    u, _, vt = torch.linalg.svd(shared[:k])
    W = shared.clone()
    W[:k] += u @ vt
    return shared, torch.linalg.qr(W).Q


def _each(matrix: Tensor, lanes: Tensor) -> Tensor:
    return matrix.expand(len(lanes), -1, -1)
