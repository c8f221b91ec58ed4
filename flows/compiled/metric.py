"""The kernels of the frozen metric: what :class:`flows.frozen_metric.FrozenMetric` does, by blocks.

The eigenvectors U of F^T F, F = A^T P_B^(-1/2) (d, r) for B's side, come as in
:mod:`flows.compiled.jacobi` from one-sided rotations of the triangle of [F; c I]. The shift by
c^2, the round-off of F^T F, moves no eigenvector; without it a column of F that is null would leave
one without a direction. The eigenvalues are the squared lengths of the columns of F U.

Where no lane of a block has a slow mode the products with the slow vectors, which are all zero, are
left out; zeros add nothing, so no lane can tell what its neighbours have.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from flows.compiled.blocks import (
    BLOCKS,
    Array,
    add,
    apart,
    by_columns,
    by_rows,
    condemned,
    entry,
    fill,
    lengths,
    load,
    load_numbers,
    noted,
    scale_columns,
    scale_rows,
    size,
    spoil,
    store,
    transpose,
    triangle,
)
from flows.compiled.jacobi import normalize, orthogonalize
from flows.compiled.lanes import (
    WIDTH,
    Lanes,
    anywhere,
    at,
    every,
    larger,
    magnitude,
    put,
    root,
    where,
)

# c / ||F||: c^2 is the round-off of F^T F, which no solve can see.
SHIFT: Final = 2.0**-26
# c of a zero factor. Its fourth power is still a normal number.
SMALLEST: Final = 1e-60


@entry
def fill_factorisation(
    pair: Array,
    gradient: Array,
    vectors: Array,
    s: Array,
    p: Array,
    beta: Array,
    reach: Array,
    fast: float,
    slow: Array,
    basis: Array,
    dual: Array,
    rates: Array,
    states: Array,
    blocks: int = BLOCKS,
) -> None:
    """Fill slow, basis, dual, rates and states with the factorisation at ``pair``.

    Args:
        pair, gradient: (L, 2, d, r), B above A^T and G_B above G_A^T.
        vectors: (L, 2, r, r), eigenvectors of each G^T G in its columns.
        s, p: (L, 2, r), singular values of G and eigenvalues of the metric.
        beta, reach: (L,), the smoothing scale and the flow time that a step may cover.
        fast: a mode may be slow where its p exceeds ``fast`` beta.
        slow, states: (L, 2, d, r), filled. basis, dual: (L, 2, r, r). rates: (L, 2, r).
        blocks: to be left out.

    All are C-contiguous float64. Lanes with an input that is not finite, a p that is not positive
    or squares that would overflow are NaN in every output.
    """
    lanes, d, r = pair.shape[0], pair.shape[2], pair.shape[3]
    factors = np.empty((2, d, r, WIDTH))
    F = np.empty((2, d, r, WIDTH))
    left = np.empty((2, d, r, WIDTH))
    V, grams = np.empty((2, r, r, WIDTH)), np.empty((2, r, r, WIDTH))
    metric = np.empty((2, 1, r, WIDTH))
    slopes, moved = np.empty((d, r, WIDTH)), np.empty((d, r, WIDTH))
    columns = np.empty((r, d + r, WIDTH))
    square, U = np.empty((r, r, WIDTH)), np.empty((r, r, WIDTH))
    values, singular = np.empty((1, r, WIDTH)), np.empty((1, r, WIDTH))
    scale, covered = np.empty((1, 1, WIDTH)), np.empty((1, 1, WIDTH))
    shifts = np.empty((1, 2, WIDTH))
    for first in range(0, lanes, WIDTH):
        count = min(WIDTH, lanes - first)
        # A lane that is not there has p = 0 and is NaN from the whitening on.
        load_numbers(beta, first, count, 1.0, scale)
        load_numbers(reach, first, count, 1.0, covered)
        poison = noted(scale) + noted(covered)
        for side in range(2):
            load(pair[:, side], first, count, factors[side])
            poison += noted(factors[side])
            by_columns(factors[side], factors[side], grams[side])
        add(grams[1], 1.0, grams[0])
        for side in range(2):
            load(gradient[:, side], first, count, slopes)
            load(vectors[:, side].transpose(0, 2, 1), first, count, V[side])
            load(s[:, side : side + 1], first, count, singular)
            load(p[:, side : side + 1], first, count, metric[side])
            poison += noted(slopes) + noted(V[side]) + noted(singular) + noted(metric[side])
            by_rows(V[side], grams[0], square)
            limit, speed = fast * at(scale, 0, 0), at(covered, 0, 0)
            if _weights(square, V[side], singular, metric[side], limit, speed, values):
                by_rows(slopes, V[side], left[side])
                scale_columns(left[side], values)
                _project(left[side], square, moved, factors[side])
            else:
                fill(left[side], every(0.0))
        for side in range(2):
            # B is moved by A's Gram matrix and A by B's.
            _whiten(V[side], metric[side], values)
            by_rows(factors[1 - side], V[side], F[side])
            norm = size(F[side])
            poison += condemned(norm)
            put(shifts, 0, side, larger(SHIFT * root(norm), SMALLEST))
        # Not before all that may poison a lane is known.
        for side in range(2):
            store(left[side], poison, first, count, slow[:, side])
            spoil(F[side], poison)
            triangle(F[side], at(shifts, 0, side), columns, U)
            stalled = orthogonalize(U, values)
            normalize(U, values)
            by_rows(F[side], U, moved)
            lengths(moved, values)
            store(moved, poison + stalled, first, count, states[:, 1 - side])
            store(values, poison + stalled, first, count, rates[:, side : side + 1])
            transpose(U, square)
            by_columns(V[side], square, U)
            store(U, poison + stalled, first, count, basis[:, side])
            scale_rows(V[side], metric[side])
            by_columns(V[side], square, U)
            store(U, poison + stalled, first, count, dual[:, side])


@entry
def fill_solution(
    slow: Array,
    basis: Array,
    dual: Array,
    rates: Array,
    states: Array,
    shifts: Array,
    residual: Array,
    solution: Array,
    blocks: int = BLOCKS,
) -> None:
    """Fill solution with (z - J_W)^-1 residual for one real z a lane.

    Args:
        slow, states: (L, 2, d, r). basis, dual: (L, 2, r, r). rates: (L, 2, r).
        shifts: (L,), z. residual: (L, 2, d, r). solution: (L, 2, d, r), filled.
        blocks: to be left out.

    All are C-contiguous float64. Lanes with a factorisation, shift or residual that is not finite
    are NaN.
    """
    lanes, d, r = residual.shape[0], residual.shape[2], residual.shape[3]
    factors = np.empty((2, d, r, WIDTH))
    rho = np.empty((2, d, r, WIDTH))
    along = np.empty((2, d, r, WIDTH))
    rate, inverse = np.empty((2, 1, r, WIDTH)), np.empty((2, 1, r, WIDTH))
    # Z^T, and what takes its place for A.
    coupled = np.empty((2, r, r, WIDTH))
    left = np.empty((d, r, WIDTH))
    given = np.empty((d, r, WIDTH))
    moved = np.empty((d, r, WIDTH))
    square = np.empty((r, r, WIDTH))
    from_A = np.empty((r, r, WIDTH))
    from_B = np.empty((r, r, WIDTH))
    shift = np.empty((1, 1, WIDTH))
    projected = np.empty(2, np.bool_)
    for first in range(0, lanes, WIDTH):
        count = min(WIDTH, lanes - first)
        load_numbers(shifts, first, count, 1.0, shift)
        z, poison = at(shift, 0, 0), noted(shift)
        for side in range(2):
            load(residual[:, side], first, count, given)
            poison += noted(given)
            load(slow[:, side], first, count, left)
            projected[side] = _any(left)
            if projected[side]:
                _project(left, square, along[side], given)
            load(dual[:, side].transpose(0, 2, 1), first, count, square)
            by_rows(given, square, rho[side])
            load(states[:, side], first, count, factors[side])
            load(rates[:, side : side + 1], first, count, rate[side])
            for j in range(r):
                put(inverse[side], 0, j, 1.0 / (z + at(rate[side], 0, j)))
        by_columns(rho[1], factors[1], from_A)
        by_columns(factors[0], rho[0], from_B)
        _couple(z, rate, inverse[0], from_A, from_B, coupled)
        for side in range(2):
            by_rows(factors[side], coupled[side], moved)
            add(moved, -1.0, rho[side])
            scale_columns(rho[side], inverse[side])
            load(basis[:, side], first, count, square)
            by_rows(rho[side], square, moved)
            if projected[side]:
                _add_divided(along[side], z, moved)
            store(moved, poison, first, count, solution[:, side])


@apart
def _weights(
    moved: Array, V: Array, s: Array, p: Array, limit: Lanes, reach: Lanes, weights: Array
) -> bool:
    """weights[0, j] become 1 / s where mode j is slow and else 0; whether any is slow.

    The rows of V are v_j, those of ``moved`` M v_j, M the Gram matrix that gives the speeds.
    """
    r, found = len(V), False
    for j in range(r):
        speed = every(0.0)
        for k in range(r):
            speed += at(moved, j, k) * at(V, j, k)
        is_slow = (at(p, 0, j) > limit) & (at(p, 0, j) > speed * reach)
        found = found or anywhere(is_slow)
        put(weights, 0, j, where(is_slow, 1.0 / at(s, 0, j), 0.0))
    return found


@apart
def _any(block: Array) -> bool:
    """Whether an entry is neither zero nor NaN."""
    rows, columns, _ = block.shape
    for i in range(rows):
        for k in range(columns):
            if anywhere(magnitude(at(block, i, k)) > 0.0):
                return True
    return False


@apart
def _add_divided(x: Array, z: Lanes, out: Array) -> None:
    """out += x / z."""
    rows, columns, _ = x.shape
    for i in range(rows):
        for k in range(columns):
            put(out, i, k, at(out, i, k) + at(x, i, k) / z)


@apart
def _project(left: Array, square: Array, along: Array, x: Array) -> None:
    """x -= along = left left^T x, all (d, r); square is scratch."""
    by_columns(x, left, square)
    by_rows(left, square, along)
    add(along, -1.0, x)


@apart
def _whiten(V: Array, p: Array, weights: Array) -> None:
    """The rows v_j of V become v_j p_j^-1/2."""
    for j in range(len(V)):
        put(weights, 0, j, 1.0 / root(at(p, 0, j)))
    scale_rows(V, weights)


@apart
def _couple(
    z: Lanes, rate: Array, inverse: Array, from_A: Array, from_B: Array, coupled: Array
) -> None:
    """coupled[0] = Z^T and coupled[1] = (B'^T rho_B - mu Z) / (z + lambda), all (r, r)."""
    r = len(from_A)
    for i in range(r):
        mu = at(rate[1], 0, i)
        for j in range(r):
            lam = at(rate[0], 0, j)
            by_A, by_B = at(from_A, i, j), at(from_B, i, j)
            Z = ((z + lam) * by_A - lam * by_B) / (z * (z + mu + lam))
            put(coupled[0], j, i, Z)
            put(coupled[1], i, j, (by_B - mu * Z) * at(inverse, 0, j))
