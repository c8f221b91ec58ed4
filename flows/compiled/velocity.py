"""The kernel of the velocity: many small smoothed polar factors at once, by blocks of lanes.

The eigenvectors of H = G^T G + beta^2 I come without H being formed, which would square the
condition number: [G; beta I] = Q R by modified Gram-Schmidt, whose R is as good as Householder's
(Bjorck 1967), and then Jacobi rotations from one side make the columns of R^T orthogonal
(Hestenes 1958; on R^T they take fewer sweeps and shorter columns, Drmac and Veselic 2008). Those
columns are V diag(p), p^2 the eigenvalues of H: no rotation has to be accumulated. Everything here
is the exact result of a [G; beta I] perturbed by a few u ||G||, so the velocity is good to about
u ||G|| / beta.
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
    compiled,
    entry,
    load,
    multiply,
    normalize,
    orthogonalize,
    rotate,
    scale_columns,
    spoil,
    store,
    transpose,
    triangle,
)

# Smaller scales underflow once they are squared twice.
SMALLEST_BETA: Final = 1e-60


@entry
def fill_velocity(
    states: Array,
    target: Array,
    beta: Array,
    l2: float,
    is_tanh: bool,
    velocity: Array,
    gradient: Array,
    vectors: Array,
    values: Array,
    metric: Array,
    blocks: int = BLOCKS,
) -> bool:
    """Fill velocity with -T_beta of the gradients and, unless they are empty, the other outputs.

    Args:
        states: (L, 2, d, r), b above a^T.
        target: (L, d, d).
        beta: (L,), positive.
        l2: coefficient of the coupled regulariser.
        is_tanh: tanh(s / beta) instead of s / sqrt(s^2 + beta^2).
        velocity, gradient: (L, 2, d, r), filled; gradient may be (0, 2, d, r), then it is not.
        vectors: (L, 2, r, r), eigenvectors of each G^T G in its columns; or (0, 2, r, r).
        values: (L, 2, r), the singular values s of G in the order of the vectors; or (0, 2, r).
        metric: (L, 2, r), s / f(s) with f the smoothed sign; or (0, 2, r).
        blocks: to be left out.

    Returns:
        False, and nothing is filled, where a beta is not finite or below SMALLEST_BETA.

    All are C-contiguous float64. Lanes with a gradient that is not finite, or whose squares would
    overflow, are NaN in every output.
    """
    lanes, d, r = states.shape[0], states.shape[2], states.shape[3]
    for lane in range(lanes):
        if not SMALLEST_BETA <= beta[lane] < math.inf:
            return False
    pair = np.empty((2, d, r, WIDTH))
    turned_pair = np.empty((2, r, d, WIDTH))
    residual = np.empty((2, d, d, WIDTH))
    gradients = np.empty((2, d, r, WIDTH))
    stacked = np.empty((r, d + r, WIDTH))
    basis = np.empty((r, r, WIDTH))
    turned_basis = np.empty((r, r, WIDTH))
    rotated = np.empty((d, r, WIDTH))
    product = np.empty((d, r, WIDTH))
    norms = np.empty((1, r, WIDTH))
    inverse = np.empty((1, r, WIDTH))
    scratch = np.empty((1, 4, WIDTH))
    scale = np.empty(WIDTH)
    poison = np.empty((1, 1, WIDTH))
    for first in range(0, lanes, WIDTH):
        count = min(WIDTH, lanes - first)
        for lane in range(WIDTH):
            # Lanes that are not there have a zero state: nothing to rotate.
            scale[lane] = beta[first + lane] if lane < count else 1.0
        for side in range(2):
            load(states[:, side], first, count, pair[side])
            transpose(pair[side], turned_pair[side])
        # The target takes the room of the transposed residual until that is known.
        load(target, first, count, residual[1])
        _residual(pair[0], pair[1], residual[1], residual[0])
        transpose(residual[0], residual[1])
        for side in range(2):
            _gradient(residual[side], turned_pair[1 - side], pair[side], l2, gradients[side])
        _condemn(gradients, poison)
        for side in range(2):
            g = gradients[side]
            triangle(g, scale, stacked, basis, scratch)
            orthogonalize(basis, norms, scratch, poison)
            normalize(basis, norms, turned_basis)
            rotate(g, basis, rotated, norms)
            if len(vectors) > 0:
                store(turned_basis, poison, first, count, vectors[:, side])
                store(norms, poison, first, count, values[:, side : side + 1])
            _weigh(rotated, norms, inverse, scale, is_tanh)
            if len(metric) > 0:
                store(norms, poison, first, count, metric[:, side : side + 1])
            multiply(rotated, turned_basis, product)
            store(product, poison, first, count, velocity[:, side])
        if len(gradient) > 0:
            for side in range(2):
                store(gradients[side], poison, first, count, gradient[:, side])
    return True


@compiled
def _residual(b: Array, a: Array, y: Array, e: Array) -> None:
    """e = b a - y, (d, d, WIDTH); a is given transposed, (d, r, WIDTH) as b is."""
    d, r, width = b.shape
    for i in range(d):
        for j in range(d):
            for lane in range(width):
                e[i, j, lane] = -y[i, j, lane]
            add_products(r, b, i, a, j, e, i, j)


@compiled
def _gradient(e: Array, other: Array, own: Array, l2: float, g: Array) -> None:
    """g = e a^T + l2 b, for other = a (r, d, WIDTH) and own = b (d, r, WIDTH)."""
    d, r, width = own.shape
    for i in range(d):
        for k in range(r):
            for lane in range(width):
                g[i, k, lane] = l2 * own[i, k, lane]
            add_products(d, e, i, other, k, g, i, k)


@compiled
def _condemn(gradients: Array, poison: Array) -> None:
    """Poison is NaN for lanes whose gradient no norm can be taken of, which become NaN, else 0."""
    _, d, r, width = gradients.shape
    for lane in range(width):
        poison[0, 0, lane] = 0.0
    for side in range(2):
        g = gradients[side]
        for i in range(d):
            add_products(r, g, i, g, i, poison, 0, 0)
    for lane in range(width):
        # NaN compares false.
        poison[0, 0, lane] = 0.0 if poison[0, 0, lane] < LARGEST else math.nan
    for side in range(2):
        spoil(gradients[side], poison)


@compiled
def _weigh(rotated: Array, values: Array, inverse: Array, beta: Array, is_tanh: bool) -> None:
    """Multiply column j of G V by -f(s_j) / s_j; values[0, j] becomes s_j / f(s_j)."""
    _, r, width = rotated.shape
    for j in range(r):
        if is_tanh:
            for lane in range(width):
                s = values[0, j, lane]
                sign = math.tanh(s / beta[lane])
                values[0, j, lane] = s / sign if sign > 0 else beta[lane]
        else:
            for lane in range(width):
                values[0, j, lane] = math.sqrt(values[0, j, lane] ** 2 + beta[lane] ** 2)
        for lane in range(width):
            inverse[0, j, lane] = -1.0 / values[0, j, lane]
    scale_columns(rotated, inverse)
