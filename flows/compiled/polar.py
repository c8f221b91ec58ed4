"""The polar factor of an upper triangle, by Newton's method.

X <- (mu X + mu^-1 X^-T) / 2 brings every singular value of X to 1 and turns nothing. With its
scaling (Byers and Xu 2008) it knows after each step between what bounds they lie, so it takes no
norms and each lane stops by its own: six steps from a condition number of 1000, seven from 10^6.

Every iterate is X = R S with S symmetric and positive definite, a function of R^T R. Its trailing
minors are then those of R times those of S: positive. So X is eliminated from its last row up
without exchanging rows, as a positive definite matrix is.
"""

from __future__ import annotations

from typing import Final

from flows.compiled.blocks import Array, apart, size, within
from flows.compiled.lanes import Lanes, anywhere, at, every, put, root, where

# Singular values this near to 1 are there.
THERE: Final = 1.0 + 2.0**-51


@apart
def polar_factor(X: Array, smallest: Lanes, inverse: Array, scratch: Array) -> None:
    """X (r, r), an upper triangle with positive diagonal, becomes its orthogonal polar factor.

    Args:
        smallest: a lower bound of its singular values.
        inverse: (r, r); scratch: (4, r).
    """
    r = len(X)
    largest = root(size(X))
    ratio = largest / smallest
    scale = 1.0 / root(largest * smallest)
    is_triangle = True
    while True:
        away = ratio > THERE
        if not anywhere(away):
            return
        if is_triangle:
            _invert_triangle(X, inverse)
            is_triangle = False
        else:
            for i in range(r):
                for j in range(r):
                    put(inverse, i, j, at(X, i, j))
            _invert(inverse, scratch)
        mine = where(away, 0.5 * scale, 1.0)
        other = where(away, 0.5 / scale, 0.0)
        for i in range(r):
            for j in range(r):
                put(X, i, j, mine * at(X, i, j) + other * at(inverse, j, i))
        middle = root(ratio)
        ratio = where(away, 0.5 * (middle + 1.0 / middle), 1.0)
        scale = 1.0 / root(ratio)


@apart
def _invert_triangle(X: Array, inverse: Array) -> None:
    r = len(X)
    for k in range(r - 1, -1, -1):
        for j in range(k):
            put(inverse, k, j, every(0.0))
        pivot = 1.0 / at(X, k, k)
        put(inverse, k, k, pivot)
        for j in range(k + 1, r):
            total = every(0.0)
            for i in range(k + 1, j + 1):
                total += at(X, k, i) * at(inverse, i, j)
            put(inverse, k, j, 0.0 - total * pivot)


@apart
def _invert(A: Array, scratch: Array) -> None:
    """A becomes its inverse (Gauss and Jordan), two pivots at a time from the last up.

    Two at a time, for what costs is to load and store A.
    """
    k = len(A) - 1
    while k > 0:
        _eliminate_two(A, k, scratch)
        k -= 2
    if k == 0:
        _eliminate_first(A, scratch)


@within
def _eliminate_two(A: Array, k: int, scratch: Array) -> None:
    """Pivots k and l = k - 1.

    scratch: rows 0 and 1 become the rows k and l that the others are reduced by, 2 and 3 by how
    much.
    """
    r, l, zero = len(A), k - 1, every(0.0)  # noqa: E741
    pivot = 1.0 / at(A, k, k)
    for j in range(r):
        put(scratch, 0, j, at(A, k, j) * pivot)
    put(scratch, 0, k, pivot)
    share = at(A, l, k)
    put(A, l, k, zero)
    for j in range(r):
        put(scratch, 1, j, at(A, l, j) - share * at(scratch, 0, j))
    pivot = 1.0 / at(scratch, 1, l)
    for j in range(r):
        put(scratch, 1, j, at(scratch, 1, j) * pivot)
    put(scratch, 1, l, pivot)
    between = at(scratch, 0, l)
    put(scratch, 0, l, zero)
    for i in range(r):
        share = at(A, i, k)
        put(scratch, 2, i, share)
        put(scratch, 3, i, at(A, i, l) - share * between)
        put(A, i, k, zero)
        put(A, i, l, zero)
    for i in range(0, r - r % 2, 2):
        _reduce_two(A, i, scratch)
    if r % 2:
        _reduce(A, r - 1, scratch)
    for j in range(r):
        put(A, k, j, at(scratch, 0, j) - between * at(scratch, 1, j))
        put(A, l, j, at(scratch, 1, j))


@within
def _reduce(A: Array, i: int, scratch: Array) -> None:
    """Row i is reduced by the rows k and l."""
    a, b = at(scratch, 2, i), at(scratch, 3, i)
    for j in range(len(A)):
        put(A, i, j, at(A, i, j) - a * at(scratch, 0, j) - b * at(scratch, 1, j))


@within
def _reduce_two(A: Array, i: int, scratch: Array) -> None:
    """Rows i and i + 1 are, by what is loaded once."""
    a, b, c, d = at(scratch, 2, i), at(scratch, 3, i), at(scratch, 2, i + 1), at(scratch, 3, i + 1)
    for j in range(len(A)):
        u, v = at(scratch, 0, j), at(scratch, 1, j)
        put(A, i, j, at(A, i, j) - a * u - b * v)
        put(A, i + 1, j, at(A, i + 1, j) - c * u - d * v)


@within
def _eliminate_first(A: Array, scratch: Array) -> None:
    r, pivot = len(A), 1.0 / at(A, 0, 0)
    for j in range(r):
        put(scratch, 0, j, at(A, 0, j) * pivot)
    put(scratch, 0, 0, pivot)
    for i in range(1, r):
        share = at(A, i, 0)
        put(A, i, 0, every(0.0))
        for j in range(r):
            put(A, i, j, at(A, i, j) - share * at(scratch, 0, j))
    for j in range(r):
        put(A, 0, j, at(scratch, 0, j))
