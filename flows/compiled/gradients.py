"""Residual and gradients of a block of lanes."""

from __future__ import annotations

from flows.compiled.blocks import Array, apart, condemned, size, spoil
from flows.compiled.lanes import Lanes, at, put
from flows.compiled.products import add_by_columns, add_by_rows, add_product


@apart
def gradients(pair: Array, target: Array, l2: float, residual: Array, out: Array) -> Lanes:
    """out becomes G_B = E a^T + l2 b above G_A^T = E^T b + l2 a^T, E = b a - y.

    Args:
        pair, out: (2, d, r, WIDTH), b above a^T. target, residual: (d, d, WIDTH).

    Returns:
        The poison, NaN in lanes whose gradient no norm can be taken of; they are NaN in ``out``.
    """
    _, d, r, _ = pair.shape
    for i in range(d):
        for j in range(d):
            put(residual, i, j, 0.0 - at(target, i, j))
    add_by_rows(pair[0], pair[1], residual)
    for side in range(2):
        for i in range(d):
            for k in range(r):
                put(out[side], i, k, l2 * at(pair[side], i, k))
    add_product(residual, pair[1], out[0])
    add_by_columns(residual, pair[0], out[1])
    poison = condemned(size(out[0]) + size(out[1]))
    spoil(out[0], poison)
    spoil(out[1], poison)
    return poison
