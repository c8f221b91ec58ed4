"""The kernel of the spectrum: velocities, gradients and their singular bases, by blocks."""

from __future__ import annotations

import math

import numpy as np

from flows.compiled.blocks import (
    BLOCKS,
    Array,
    add_product,
    apart,
    by_rows,
    entry,
    fill,
    lengths,
    load,
    load_numbers,
    store,
    transpose,
    triangle,
)
from flows.compiled.gradients import gradients
from flows.compiled.jacobi import normalize, orthogonalize
from flows.compiled.lanes import WIDTH, at, every, put, root
from flows.compiled.velocity import in_range


@entry
def fill_spectrum(
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
    """Fill velocity with -T_beta of the gradients, and the rest with what it is made of.

    Args:
        states: (L, 2, d, r), b above a^T.
        target: (L, d, d).
        beta: (L,), positive.
        l2: coefficient of the coupled regulariser.
        is_tanh: tanh(s / beta) instead of s / sqrt(s^2 + beta^2).
        velocity, gradient: (L, 2, d, r), filled.
        vectors: (L, 2, r, r), eigenvectors of each G^T G in its columns.
        values: (L, 2, r), the singular values s of G in the order of the vectors.
        metric: (L, 2, r), s / f(s) with f the smoothed sign.
        blocks: to be left out.

    Returns:
        False, and nothing is filled, where a beta is not finite or too small.

    All are C-contiguous float64. Lanes with a gradient that is not finite, or whose squares would
    overflow, are NaN in every output.
    """
    lanes, d, r = states.shape[0], states.shape[2], states.shape[3]
    if not in_range(beta):
        return False
    pair, slopes = np.empty((2, d, r, WIDTH)), np.empty((2, d, r, WIDTH))
    y, residual = np.empty((d, d, WIDTH)), np.empty((d, d, WIDTH))
    columns = np.empty((r, d + r, WIDTH))
    basis, turned = np.empty((r, r, WIDTH)), np.empty((r, r, WIDTH))
    rotated, moved = np.empty((d, r, WIDTH)), np.empty((d, r, WIDTH))
    s, p = np.empty((1, r, WIDTH)), np.empty((1, r, WIDTH))
    scale = np.empty((1, 1, WIDTH))
    for first in range(0, lanes, WIDTH):
        count = min(WIDTH, lanes - first)
        load_numbers(beta, first, count, 1.0, scale)
        load(target, first, count, y)
        for side in range(2):
            load(states[:, side], first, count, pair[side])
        poison = gradients(pair, y, l2, residual, slopes)
        for side in range(2):
            triangle(slopes[side], at(scale, 0, 0), columns, basis)
            stalled = orthogonalize(basis, s)
            normalize(basis, s)
            by_rows(slopes[side], basis, rotated)
            _weigh(rotated, scale, is_tanh, s, p)
            transpose(basis, turned)
            fill(moved, every(0.0))
            add_product(rotated, basis, moved)
            store(moved, poison + stalled, first, count, velocity[:, side])
            store(slopes[side], poison + stalled, first, count, gradient[:, side])
            store(turned, poison + stalled, first, count, vectors[:, side])
            store(s, poison + stalled, first, count, values[:, side : side + 1])
            store(p, poison + stalled, first, count, metric[:, side : side + 1])
    return True


@apart
def _weigh(rotated: Array, beta: Array, is_tanh: bool, s: Array, p: Array) -> None:
    """s are the lengths of the columns of G V, p = s / f(s); column j is multiplied by -1 / p_j."""
    d, r, _ = rotated.shape
    lengths(rotated, s)
    scale = at(beta, 0, 0)
    for j in range(r):
        square = at(s, 0, j)
        put(s, 0, j, root(square))
        put(p, 0, j, root(square + scale * scale))
        if is_tanh:
            for lane in range(WIDTH):
                sign = math.tanh(s[0, j, lane] / beta[0, 0, lane])
                p[0, j, lane] = s[0, j, lane] / sign if sign > 0 else beta[0, 0, lane]
        factor = -1.0 / at(p, 0, j)
        for i in range(d):
            put(rotated, i, j, at(rotated, i, j) * factor)
