"""The kernels of the frozen metric: what :class:`flows.frozen_metric.FrozenMetric` does, by blocks.

The eigenvectors U of F^T F, F = A^T P_B^(-1/2) (d, r) for B's side, come as in
:mod:`flows.compiled.velocity` from one-sided rotations of the triangle of [F; c I]. The shift by
c^2, the round-off of F^T F, moves no eigenvector; without it a column of F that is null would leave
one without a direction. The eigenvalues are the squared lengths of the columns of F U.

Where no lane of a block has a slow mode the products with the slow vectors, which are all zero, are
left out; zeros add nothing, so no lane can tell what its neighbours have.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from flows.compiled.blocks import (
    BLOCKS,
    LARGEST,
    WIDTH,
    Array,
    add_products,
    apart,
    entry,
    load,
    normalize,
    orthogonalize,
    overlaps,
    product,
    scale_columns,
    spoil,
    store,
    triangle,
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
    V = np.empty((2, r, r, WIDTH))
    metric = np.empty((2, 1, r, WIDTH))
    left = np.empty((2, d, r, WIDTH))
    F = np.empty((2, d, r, WIDTH))
    scale = np.empty((2, WIDTH))
    gradients = np.empty((d, r, WIDTH))
    moved = np.empty((d, r, WIDTH))
    stacked = np.empty((r, d + r, WIDTH))
    grams = np.empty((2, r, r, WIDTH))
    square = np.empty((r, r, WIDTH))
    U = np.empty((r, r, WIDTH))
    turned_U = np.empty((r, r, WIDTH))
    values = np.empty((1, r, WIDTH))
    singular = np.empty((1, r, WIDTH))
    scratch = np.empty((1, 4, WIDTH))
    bounds = np.empty((1, 2, WIDTH))
    poison = np.empty((1, 1, WIDTH))
    for first in range(0, lanes, WIDTH):
        count = min(WIDTH, lanes - first)
        for lane in range(WIDTH):
            # A lane that is not there has p = 0 and is NaN from the whitening on.
            bounds[0, 0, lane] = fast * beta[first + lane] if lane < count else 1.0
            bounds[0, 1, lane] = reach[first + lane] if lane < count else 1.0
            poison[0, 0, lane] = 0.0
        _note(bounds, poison)
        for side in range(2):
            load(pair[:, side], first, count, factors[side])
            _note(factors[side], poison)
            overlaps(factors[side], factors[side], grams[side])
        _add(grams[1], 1.0, grams[0])
        for side in range(2):
            load(gradient[:, side], first, count, gradients)
            load(vectors[:, side].transpose(0, 2, 1), first, count, V[side])
            load(s[:, side : side + 1], first, count, singular)
            load(p[:, side : side + 1], first, count, metric[side])
            _note(gradients, poison)
            _note(V[side], poison)
            _note(singular, poison)
            _note(metric[side], poison)
            product(V[side], grams[0], square)
            if _weights(square, V[side], singular, metric[side], bounds, values):
                product(gradients, V[side], left[side])
                scale_columns(left[side], values)
                _project(left[side], square, moved, factors[side])
            else:
                left[side] = 0.0
        for side in range(2):
            # B is moved by A's Gram matrix and A by B's.
            _whiten(V[side], metric[side], values)
            product(factors[1 - side], V[side], F[side])
            _shift(F[side], scale[side], poison)
        # Not before all that may poison a lane is known.
        for side in range(2):
            store(left[side], poison, first, count, slow[:, side])
            spoil(F[side], poison)
            triangle(F[side], scale[side], stacked, U, scratch)
            orthogonalize(U, values, scratch, poison)
            normalize(U, values, turned_U)
            product(F[side], U, moved)
            store(moved, poison, first, count, states[:, 1 - side])
            _lengths(moved, values)
            store(values, poison, first, count, rates[:, side : side + 1])
            overlaps(V[side], turned_U, square)
            store(square, poison, first, count, basis[:, side])
            _scale_rows(V[side], metric[side])
            overlaps(V[side], turned_U, square)
            store(square, poison, first, count, dual[:, side])


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
    rate = np.empty((2, 1, r, WIDTH))
    inverse = np.empty((2, 1, r, WIDTH))
    # Z^T, and what takes its place for A.
    coupled = np.empty((2, r, r, WIDTH))
    left = np.empty((d, r, WIDTH))
    given = np.empty((d, r, WIDTH))
    moved = np.empty((d, r, WIDTH))
    square = np.empty((r, r, WIDTH))
    from_A = np.empty((r, r, WIDTH))
    from_B = np.empty((r, r, WIDTH))
    z = np.empty((1, 1, WIDTH))
    poison = np.empty((1, 1, WIDTH))
    projected = np.empty(2, np.bool_)
    for first in range(0, lanes, WIDTH):
        count = min(WIDTH, lanes - first)
        for lane in range(WIDTH):
            z[0, 0, lane] = shifts[first + lane] if lane < count else 1.0
            poison[0, 0, lane] = 0.0
        _note(z, poison)
        for side in range(2):
            load(residual[:, side], first, count, given)
            _note(given, poison)
            load(slow[:, side], first, count, left)
            projected[side] = _any(left)
            if projected[side]:
                _project(left, square, along[side], given)
            load(dual[:, side].transpose(0, 2, 1), first, count, square)
            product(given, square, rho[side])
            load(states[:, side], first, count, factors[side])
            load(rates[:, side : side + 1], first, count, rate[side])
            _invert(z, rate[side], inverse[side])
        overlaps(rho[1], factors[1], from_A)
        overlaps(factors[0], rho[0], from_B)
        _couple(z, rate, inverse[0], from_A, from_B, coupled)
        for side in range(2):
            product(factors[side], coupled[side], moved)
            _add(moved, -1.0, rho[side])
            scale_columns(rho[side], inverse[side])
            load(basis[:, side], first, count, square)
            product(rho[side], square, moved)
            if projected[side]:
                _divide(along[side], z)
                _add(along[side], 1.0, moved)
            store(moved, poison, first, count, solution[:, side])


@apart
def _note(block: Array, poison: Array) -> None:
    """Poison becomes NaN in lanes with an entry that is not finite."""
    rows, columns, _ = block.shape
    for i in range(rows):
        for k in range(columns):
            for lane in range(WIDTH):
                poison[0, 0, lane] += 0.0 * block[i, k, lane]


@apart
def _weights(moved: Array, V: Array, s: Array, p: Array, bounds: Array, weights: Array) -> bool:
    """weights[0, j] become 1 / s where mode j is slow and else 0; whether any is slow.

    The rows of V are v_j, those of ``moved`` M v_j, M the Gram matrix that gives the speeds.
    """
    r = len(V)
    found = 0
    for j in range(r):
        for lane in range(WIDTH):
            weights[0, j, lane] = 0.0
        add_products(r, moved, j, V, j, weights, 0, j)
        for lane in range(WIDTH):
            x, speed = p[0, j, lane], weights[0, j, lane]
            is_slow = (x > bounds[0, 0, lane]) & (x > speed * bounds[0, 1, lane])
            found += is_slow
            weights[0, j, lane] = 1.0 / s[0, j, lane] if is_slow else 0.0
    return found > 0


@apart
def _any(block: Array) -> bool:
    """Whether an entry is not zero."""
    rows, columns, _ = block.shape
    found = 0
    for i in range(rows):
        for k in range(columns):
            for lane in range(WIDTH):
                found += block[i, k, lane] != 0.0
    return found > 0


@apart
def _scale_rows(block: Array, factors: Array) -> None:
    """block[j] *= factors[0, j]."""
    rows, columns, _ = block.shape
    for j in range(rows):
        for k in range(columns):
            for lane in range(WIDTH):
                block[j, k, lane] *= factors[0, j, lane]


@apart
def _lengths(block: Array, lengths: Array) -> None:
    """lengths[0, j] is the squared length of column j of the block."""
    rows, columns, _ = block.shape
    for j in range(columns):
        for lane in range(WIDTH):
            lengths[0, j, lane] = 0.0
    for i in range(rows):
        for j in range(columns):
            for lane in range(WIDTH):
                lengths[0, j, lane] += block[i, j, lane] * block[i, j, lane]


@apart
def _add(block: Array, sign: float, x: Array) -> None:
    """x += sign block."""
    rows, columns, _ = block.shape
    for i in range(rows):
        for k in range(columns):
            for lane in range(WIDTH):
                x[i, k, lane] += sign * block[i, k, lane]


@apart
def _divide(x: Array, z: Array) -> None:
    """x /= z, a number a lane."""
    rows, columns, _ = x.shape
    for i in range(rows):
        for k in range(columns):
            for lane in range(WIDTH):
                x[i, k, lane] /= z[0, 0, lane]


@apart
def _project(left: Array, square: Array, along: Array, x: Array) -> None:
    """x -= along = left left^T x, all (d, r); square is scratch."""
    overlaps(x, left, square)
    product(left, square, along)
    _add(along, -1.0, x)


@apart
def _whiten(V: Array, p: Array, weights: Array) -> None:
    """The rows v_j of V become v_j p_j^-1/2."""
    for j in range(len(V)):
        for lane in range(WIDTH):
            weights[0, j, lane] = 1.0 / math.sqrt(p[0, j, lane])
    _scale_rows(V, weights)


@apart
def _shift(F: Array, scale: Array, poison: Array) -> None:
    """Scale becomes c of F; poison NaN where F has no norm, or has had no finite input."""
    d, r, _ = F.shape
    for lane in range(WIDTH):
        scale[lane] = 0.0
    for i in range(d):
        for k in range(r):
            for lane in range(WIDTH):
                scale[lane] += F[i, k, lane] * F[i, k, lane]
    for lane in range(WIDTH):
        # NaN compares false.
        poison[0, 0, lane] += 0.0 if scale[lane] < LARGEST else math.nan
        scale[lane] = max(SHIFT * math.sqrt(scale[lane]), SMALLEST)


@apart
def _invert(z: Array, rate: Array, inverse: Array) -> None:
    """inverse[0, j] = 1 / (z + rate_j)."""
    for j in range(rate.shape[1]):
        for lane in range(WIDTH):
            inverse[0, j, lane] = 1.0 / (z[0, 0, lane] + rate[0, j, lane])


@apart
def _couple(
    z: Array, rate: Array, inverse: Array, from_A: Array, from_B: Array, coupled: Array
) -> None:
    """coupled[0] = Z^T and coupled[1] = (B'^T rho_B - mu Z) / (z + lambda), all (r, r)."""
    r = len(from_A)
    for i in range(r):
        for j in range(r):
            for lane in range(WIDTH):
                x, mu, lam = z[0, 0, lane], rate[1, 0, i, lane], rate[0, 0, j, lane]
                by_A, by_B = from_A[i, j, lane], from_B[i, j, lane]
                Z = ((x + lam) * by_A - lam * by_B) / (x * (x + mu + lam))
                coupled[0, j, i, lane] = Z
                coupled[1, i, j, lane] = (by_B - mu * Z) * inverse[0, j, lane]
