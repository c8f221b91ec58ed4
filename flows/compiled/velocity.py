"""The kernel of the velocity for the square-root smoothing: many small polar factors at once.

G (G^T G + beta^2 I)^(-1/2) is the upper part of the polar factor of [G; beta I] = Q R, and that is
Q times the polar factor of R. No eigenvector is needed and H = G^T G + beta^2 I, whose condition
number is squared, is never formed. What comes out is exact for a [G; beta I] perturbed by a few
u ||G||, so the velocity is good to about u ||G|| / beta.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

from flows.compiled.blocks import (
    BLOCKS,
    Array,
    aligned,
    apart,
    load,
    load_numbers,
    load_pairs,
    maker,
    store,
    triangle,
)
from flows.compiled.entries import entry
from flows.compiled.gradients import gradients
from flows.compiled.lanes import WIDTH, Lanes, at, put
from flows.compiled.polar import polar_factor
from flows.compiled.products import product

# Smaller scales underflow once they are squared twice.
SMALLEST_BETA: Final = 1e-60


class Room(NamedTuple):
    """Scratch of :func:`velocity_of`."""

    residual: Array
    gradient: Array
    columns: Array
    triangle: Array
    inverse: Array
    scratch: Array
    rows: Array


@maker
def room_of(d: int, r: int) -> Room:
    """Room for states (2, d, r)."""
    return Room(
        aligned((d, d, WIDTH)),
        aligned((2, d, r, WIDTH)),
        aligned((r, d + r, WIDTH)),
        aligned((r, r, WIDTH)),
        aligned((r, r, WIDTH)),
        aligned((4, r, WIDTH)),
        aligned((d, r, WIDTH)),
    )


@apart
def velocity_of(
    pair: Array, target: Array, beta: Lanes, l2: float, room: Room, velocity: Array
) -> Lanes:
    """Fill velocity (2, d, r, WIDTH) with -T_beta of the gradients at the states ``pair``.

    Returns:
        The poison, NaN in lanes that are NaN.
    """
    _, d, r, _ = pair.shape
    poison = gradients(pair, target, l2, room.residual, room.gradient)
    for side in range(2):
        triangle(room.gradient[side], beta, room.columns, room.triangle)
        polar_factor(room.triangle, beta, room.inverse, room.scratch)
        for i in range(d):
            for k in range(r):
                put(room.rows, i, k, 0.0 - at(room.columns, k, i))
        product(room.rows, room.triangle, velocity[side])
    return poison


@apart
def in_range(beta: Array) -> bool:
    """Whether every scale is finite and not below SMALLEST_BETA."""
    found = True
    for lane in range(len(beta)):
        found &= SMALLEST_BETA <= beta[lane] < math.inf
    return found


@entry
def fill_velocity(
    states: Array, target: Array, beta: Array, l2: float, velocity: Array, blocks: int = BLOCKS
) -> bool:
    """Fill velocity with -T_beta of the gradients.

    Args:
        states: (L, 2, d, r), b above a^T.
        target: (L, d, d).
        beta: (L,), positive.
        l2: coefficient of the coupled regulariser.
        velocity: (L, 2, d, r), filled.
        blocks: to be left out.

    Returns:
        False, and nothing is filled, where a beta is not finite or below SMALLEST_BETA.

    All are C-contiguous float64. Lanes with a gradient that is not finite, or whose squares would
    overflow, are NaN.
    """
    lanes, d, r = states.shape[0], states.shape[2], states.shape[3]
    if not in_range(beta):
        return False
    pair, moved = aligned((2, d, r, WIDTH)), aligned((2, d, r, WIDTH))
    y, scale, room = aligned((d, d, WIDTH)), aligned((1, 1, WIDTH)), room_of(d, r)
    for first in range(0, lanes, WIDTH):
        count = min(WIDTH, lanes - first)
        load_numbers(beta, first, count, 1.0, scale)
        load(target, first, count, y)
        load_pairs(states, first, count, pair)
        poison = velocity_of(pair, y, at(scale, 0, 0), l2, room, moved)
        for side in range(2):
            store(moved[side], poison, first, count, velocity[:, side])
    return True
