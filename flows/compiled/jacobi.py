"""Eigenvectors of H = G^T G + beta^2 I, without H: one-sided Jacobi rotations.

[G; beta I] = Q R, and rotations make the columns of R^T orthogonal (Hestenes 1958; on R^T they take
fewer sweeps and shorter columns, Drmac and Veselic 2008). Those columns are V diag(p), p^2 the
eigenvalues of H: no rotation has to be accumulated, no condition number is squared.

Where the eigenvectors at a state nearby are known, G comes in their basis. R is nearly diagonal
then, and needs fewer rotations.
"""

from __future__ import annotations

import math
from typing import Final

from flows.compiled.blocks import Array, apart, within
from flows.compiled.lanes import (
    Lanes,
    Mask,
    anywhere,
    at,
    every,
    magnitude,
    put,
    root,
    where,
    with_sign,
)

# 8 x 8 takes up to seven; LAPACK's dgesvj gives up after thirty, too.
SWEEPS: Final = 30
EPSILON: Final = 2.0**-52


@apart
def orthogonalize(x: Array, squares: Array, cosine: float) -> Lanes:
    """Rotate the columns x[p] (r, WIDTH) pairwise until they are orthogonal to round-off.

    squares[0, p] become their squared lengths. Pairs with the same p + q modulo r have no column in
    common (Luk and Park 1989), so that one rotation need not wait for the last.

    Args:
        cosine: a sweep that meets none above sqrt(r) ``cosine`` is the last. With EPSILON, what
            rounding leaves, it finds nothing to do; with its root it leaves as much, for rotations
            converge quadratically, but among columns of nearly the same length.

    Returns:
        The poison, NaN in lanes that rotate still in the last of SWEEPS sweeps; none is known.
    """
    r = len(x)
    moved, largest = every(1.0), r * cosine**2
    for _ in range(SWEEPS):
        # Afresh in each sweep: the updates below cancel where a column loses most of its length.
        _measure(x, squares)
        # A lane that has settled is left alone, whatever its neighbours do.
        going = moved > 0.0
        moved = every(0.0)
        for total in range(r):
            for p in range((total + 1) // 2):
                moved = _settle(x, squares, p, total - p, largest, going, moved)
            for p in range(total + 1, (total + r + 1) // 2):
                moved = _settle(x, squares, p, total + r - p, largest, going, moved)
        if not anywhere(moved > 0.0):
            break
    _measure(x, squares)
    return where(moved > 0.0, math.nan, 0.0)


@within
def _measure(x: Array, squares: Array) -> None:
    for p in range(len(x)):
        put(squares, 0, p, _overlap(x, p, p))


@within
def _overlap(x: Array, p: int, q: int) -> Lanes:
    total = every(0.0)
    for i in range(len(x)):
        total += at(x, p, i) * at(x, q, i)
    return total


@within
def _settle(
    x: Array, squares: Array, p: int, q: int, largest: float, going: Mask, moved: Lanes
) -> Lanes:
    """Rotate columns p and q where they overlap, in lanes that are ``going``; where by more than
    ``largest``, the squared cosine, add those lanes to ``moved``."""
    overlap, product = _overlap(x, p, q), at(squares, 0, p) * at(squares, 0, q)
    square = overlap * overlap
    # Rounding leaves cosines of about sqrt(r) u.
    needed = (square > len(x) * EPSILON**2 * product) & going
    if anywhere(needed):
        _rotate(x, squares, p, q, overlap, needed)
        moved = where((square > largest * product) & going, 1.0, moved)
    return moved


@within
def _rotate(x: Array, squares: Array, p: int, q: int, overlap: Lanes, needed: Mask) -> None:
    """Make columns p and q orthogonal by the smaller rotation, in lanes that need it.

    tan 2t = 2 overlap / (n_q - n_p), n their squared lengths.
    """
    n_p, n_q = at(squares, 0, p), at(squares, 0, q)
    difference = n_q - n_p
    double = 2.0 * overlap
    hypotenuse = root(difference * difference + double * double)
    tangent = with_sign(double, double * difference) / (magnitude(difference) + hypotenuse)
    # Selections, not branches: a 0 / 0 of columns that are orthogonal already ends here.
    tangent = where(needed, tangent, 0.0)
    c = 1.0 / root(1.0 + tangent * tangent)
    s, shift = tangent * c, tangent * overlap
    put(squares, 0, p, n_p - shift)
    put(squares, 0, q, n_q + shift)
    for i in range(len(x)):
        u, v = at(x, p, i), at(x, q, i)
        put(x, p, i, c * u - s * v)
        put(x, q, i, s * u + c * v)


@apart
def keep(basis: Array, poison: Lanes, kept: Array) -> None:
    """kept = basis, and the identity in lanes that are poisoned, so that they can go on."""
    for j in range(len(basis)):
        for k in range(len(basis)):
            own = 1.0 if j == k else 0.0
            put(kept, j, k, where(poison < 1.0, at(basis, j, k), own))


@apart
def normalize(basis: Array, squares: Array) -> None:
    """Rows basis[j] of the squared lengths given: to length one."""
    for j in range(len(basis)):
        inverse = 1.0 / root(at(squares, 0, j))
        for k in range(len(basis)):
            put(basis, j, k, at(basis, j, k) * inverse)
