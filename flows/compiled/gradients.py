"""Residual and gradients of a block of lanes."""

from __future__ import annotations

from flows.compiled.blocks import Array, add, apart, condemned, size, spoil
from flows.compiled.lanes import Lanes
from flows.compiled.products import by_columns, by_rows, product


@apart
def gradients(pair: Array, target: Array, l2: float, residual: Array, out: Array) -> Lanes:
    """out becomes G_B = E a^T + l2 b above G_A^T = E^T b + l2 a^T, E = b a - y.

    Args:
        pair, out: (2, d, r, WIDTH), b above a^T. target, residual: (d, d, WIDTH).

    Returns:
        The poison, NaN in lanes whose gradient no norm can be taken of; they are NaN in ``out``.
    """
    by_rows(pair[0], pair[1], residual)
    add(target, -1.0, residual)
    product(residual, pair[1], out[0])
    by_columns(residual, pair[0], out[1])
    if l2 != 0.0:
        add(pair[0], l2, out[0])
        add(pair[1], l2, out[1])
    poison = condemned(size(out[0]) + size(out[1]))
    spoil(out[0], poison)
    spoil(out[1], poison)
    return poison
