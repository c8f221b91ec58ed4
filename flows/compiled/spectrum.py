"""The kernel of the spectrum: velocities, gradients and their singular bases, by blocks."""

from __future__ import annotations

import math
from typing import NamedTuple

from flows.compiled.blocks import (
    BLOCKS,
    Array,
    aligned,
    apart,
    fill_identities,
    lengths,
    load,
    load_numbers,
    load_pairs,
    maker,
    store,
    transpose,
    triangle,
)
from flows.compiled.entries import entry
from flows.compiled.gradients import gradients
from flows.compiled.jacobi import EPSILON, keep, normalize, orthogonalize
from flows.compiled.lanes import WIDTH, Lanes, at, put, root, where
from flows.compiled.products import by_rows, product
from flows.compiled.velocity import in_range


class Spectral(NamedTuple):
    """The pieces of a spectral direction by blocks, B's first.

    Attributes:
        velocity, slopes, turned: (2, d, r, WIDTH), -T_beta(G), G and G V.
        V: (2, r, r, WIDTH), the eigenvectors of G^T G in its rows.
        s, p, derivative: (2, 1, r, WIDTH), the singular values, the metric s / f(s) and f'(s).
        nearby: (2, r, r, WIDTH), the V of a state nearby, where rotations begin; V from then on.
        residual, columns, weighed, turn: scratch.
    """

    velocity: Array
    slopes: Array
    turned: Array
    V: Array
    s: Array
    p: Array
    derivative: Array
    nearby: Array
    residual: Array
    columns: Array
    weighed: Array
    turn: Array


@maker
def empty_spectral(d: int, r: int) -> Spectral:
    """Room for states (2, d, r). ``nearby`` has to be filled."""
    return Spectral(
        aligned((2, d, r, WIDTH)),
        aligned((2, d, r, WIDTH)),
        aligned((2, d, r, WIDTH)),
        aligned((2, r, r, WIDTH)),
        aligned((2, 1, r, WIDTH)),
        aligned((2, 1, r, WIDTH)),
        aligned((2, 1, r, WIDTH)),
        aligned((2, r, r, WIDTH)),
        aligned((d, d, WIDTH)),
        aligned((r, d + r, WIDTH)),
        aligned((d, r, WIDTH)),
        aligned((r, r, WIDTH)),
    )


@apart
def spectrum_of(
    pair: Array, target: Array, beta: Lanes, l2: float, is_tanh: bool, out: Spectral
) -> Lanes:
    """Fill ``out`` at the states ``pair`` (2, d, r, WIDTH).

    Returns:
        The poison, NaN in lanes that are not to be trusted; of ``out`` they spoil nothing yet.
    """
    poison = gradients(pair, target, l2, out.residual, out.slopes)
    for side in range(2):
        V, turned, s, p = out.V[side], out.turned[side], out.s[side], out.p[side]
        by_rows(out.slopes[side], out.nearby[side], out.weighed)
        triangle(out.weighed, beta, out.columns, out.turn)
        poison += orthogonalize(out.turn, s, EPSILON)
        normalize(out.turn, s)
        by_rows(out.weighed, out.turn, turned)
        product(out.turn, out.nearby[side], V)
        keep(V, poison, out.nearby[side])
        _weigh(turned, beta, is_tanh, s, p, out.derivative[side], out.weighed)
        product(out.weighed, V, out.velocity[side])
    return poison


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
    slope: Array,
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
        metric, slope: (L, 2, r), s / f(s) and f'(s) with f the smoothed sign.
        blocks: to be left out.

    Returns:
        False, and nothing is filled, where a beta is not finite or too small.

    All are C-contiguous float64. Lanes with a gradient that is not finite, or whose squares would
    overflow, are NaN in every output.
    """
    lanes, d, r = states.shape[0], states.shape[2], states.shape[3]
    if not in_range(beta):
        return False
    pair, y, found = aligned((2, d, r, WIDTH)), aligned((d, d, WIDTH)), empty_spectral(d, r)
    turned, scale = aligned((r, r, WIDTH)), aligned((1, 1, WIDTH))
    for first in range(0, lanes, WIDTH):
        count = min(WIDTH, lanes - first)
        fill_identities(found.nearby)
        load_numbers(beta, first, count, 1.0, scale)
        load(target, first, count, y)
        load_pairs(states, first, count, pair)
        poison = spectrum_of(pair, y, at(scale, 0, 0), l2, is_tanh, found)
        for side in range(2):
            transpose(found.V[side], turned)
            store(found.velocity[side], poison, first, count, velocity[:, side])
            store(found.slopes[side], poison, first, count, gradient[:, side])
            store(turned, poison, first, count, vectors[:, side])
            store(found.s[side], poison, first, count, values[:, side : side + 1])
            store(found.p[side], poison, first, count, metric[:, side : side + 1])
            store(found.derivative[side], poison, first, count, slope[:, side : side + 1])
    return True


@apart
def _weigh(
    turned: Array,
    beta: Lanes,
    is_tanh: bool,
    s: Array,
    p: Array,
    derivative: Array,
    weighed: Array,
) -> None:
    """s are the lengths of the columns of G V, p = s / f(s); ``weighed`` is -G V diag(1 / p)."""
    d, r, _ = turned.shape
    lengths(turned, s)
    for j in range(r):
        square = at(s, 0, j)
        put(s, 0, j, root(square))
        if is_tanh:
            put(p, 0, j, at(s, 0, j) / beta)
            for lane in range(WIDTH):
                p[0, j, lane] = math.tanh(p[0, j, lane])
            sign = at(p, 0, j)
            put(p, 0, j, where(sign > 0.0, at(s, 0, j) / sign, beta))
            put(derivative, 0, j, (1.0 - sign) * (1.0 + sign) / beta)
        else:
            put(p, 0, j, root(square + beta * beta))
        factor = 1.0 / at(p, 0, j)
        if not is_tanh:
            put(derivative, 0, j, beta * factor * (beta * factor) * factor)
        for i in range(d):
            put(weighed, i, j, at(turned, i, j) * (0.0 - factor))
