"""The Cholesky factor of a Gram matrix, by blocks."""

from __future__ import annotations

from flows.compiled.blocks import Array, apart
from flows.compiled.lanes import Lanes, at, every, put, root


@apart
def cholesky(gram: Array, shift: Lanes, R: Array) -> None:
    """gram + shift I = R^T R, all (r, r, WIDTH), zeros below the diagonal of R.

    Args:
        shift: more than the round-off of ``gram``, which is positive semidefinite but for that.
    """
    r = len(gram)
    for j in range(r):
        pivot = at(gram, j, j) + shift
        for k in range(j):
            pivot -= at(R, k, j) * at(R, k, j)
            put(R, j, k, every(0.0))
        length = root(pivot)
        inverse = 1.0 / length
        put(R, j, j, length)
        for i in range(j + 1, r):
            total = at(gram, j, i)
            for k in range(j):
                total -= at(R, k, j) * at(R, k, i)
            put(R, j, i, total * inverse)
