"""The kernels of modes that have not converged: :mod:`flows.turning_modes`, by blocks.

A row that no lane of a block solves by itself is left out; where its left vector is zero the row is
zero, so no lane can tell what its neighbours have.
"""

from __future__ import annotations

from typing import NamedTuple

from flows.compiled.blocks import Array, add, aligned, apart, choose, fill, maker, transpose
from flows.compiled.lanes import (
    WIDTH,
    Lanes,
    Mask,
    anywhere,
    at,
    every,
    larger,
    magnitude,
    put,
    root,
    where,
)
from flows.compiled.products import by_columns, by_rows, product


class Turning(NamedTuple):
    """The parts of one side by blocks, as ``TurningModes`` has them.

    Attributes:
        left: (d, r, WIDTH). vectors, grams, weights: (r, r, WIDTH).
    """

    left: Array
    vectors: Array
    grams: Array
    weights: Array


class Rows(NamedTuple):
    """What a right-hand side leads to: its shares left^T R and the rows w_i, (r, r, WIDTH)."""

    shares: Array
    solved: Array


class Room(NamedTuple):
    """Scratch: squares (r, r, WIDTH), numbers (1, r, WIDTH), and a state's (d, r, WIDTH)."""

    pushed: Array
    factor: Array
    inverse: Array
    solved: Array
    next: Array
    moved: Array


@maker
def room_of(d: int, r: int) -> Room:
    """Room for factors (d, r)."""
    return Room(
        aligned((r, r, WIDTH)),
        aligned((r, r, WIDTH)),
        aligned((1, r, WIDTH)),
        aligned((1, r, WIDTH)),
        aligned((1, r, WIDTH)),
        aligned((d, r, WIDTH)),
    )


@apart
def find(
    turned: Array,
    V: Array,
    s: Array,
    p: Array,
    derivative: Array,
    gram: Array,
    beta: Lanes,
    limit: Lanes,
    room: Room,
    out: Turning,
) -> None:
    """Fill ``out`` with all modes that are not as good as converged.

    Args:
        turned: (d, r, WIDTH), G V. V: (r, r, WIDTH), singular vectors in its rows.
        s, p, derivative: (1, r, WIDTH), singular values, metric and the smoothing's derivative.
        gram: (r, r, WIDTH), of the other factor. limit: of the metric of modes that are converged.
    """
    r = len(V)
    transpose(V, out.vectors)
    product(gram, out.vectors, room.pushed)
    by_columns(out.vectors, room.pushed, out.grams)
    for i in range(r):
        mine = at(p, 0, i)
        factor = where(mine > limit, 1.0 / at(s, 0, i), 0.0)
        for n in range(len(turned)):
            put(out.left, n, i, at(turned, n, i) * factor)
        put(out.weights, i, i, root(at(derivative, 0, i)))
        for j in range(i):
            other = at(p, 0, j)
            weight = root((mine * other + beta * beta) / (mine * other * (mine + other)))
            put(out.weights, i, j, weight)
            put(out.weights, j, i, weight)


@apart
def keep_those_that_stay(turning: Turning, p: Array, trusted: float, rows: Rows) -> bool:
    """Make the others' left vectors zero, as ``TurningModes.that_stay`` does; whether any is left.

    Args:
        p: (1, r, WIDTH), the metric.
        rows: of all modes; those of the others become zero.
    """
    r = len(turning.grams)
    found = False
    for i in range(r):
        change = every(0.0)
        for j in range(r):
            change += at(rows.solved, i, j) * at(turning.grams, j, i)
        stays = magnitude(change) < trusted * at(p, 0, i)
        for j in range(r):
            put(rows.shares, i, j, where(stays, at(rows.shares, i, j), 0.0))
            put(rows.solved, i, j, where(stays, at(rows.solved, i, j), 0.0))
        for n in range(len(turning.left)):
            value = where(stays, at(turning.left, n, i), 0.0)
            put(turning.left, n, i, value)
            found = found or anywhere(magnitude(value) > 0.0)
    return found


@apart
def take_rows(turning: Turning, rows: Rows, given: Array, room: Room, out: Array) -> None:
    """out = the rows' share of (z - J)^-1 given, which is taken out of ``given``; all (d, r)."""
    left = turning.left
    if not is_any(left):
        fill(out, every(0.0))
        return
    product(left, rows.shares, room.moved)
    add(room.moved, -1.0, given)
    by_rows(rows.solved, turning.vectors, room.pushed)
    product(left, room.pushed, out)


@apart
def is_any(block: Array) -> bool:
    """Whether an entry is neither zero nor NaN."""
    largest = every(0.0)
    for i in range(len(block)):
        for k in range(block.shape[1]):
            largest = larger(largest, magnitude(at(block, i, k)))
    return bool(anywhere(largest > 0.0))


@apart
def solve_rows(
    turning: Turning, z: Lanes, given: Array, nearly: float, room: Room, rows: Rows
) -> None:
    """Fill ``rows`` for the right-hand side ``given`` (d, r, WIDTH) of (z - J) x."""
    if not is_any(turning.left):
        return
    S, H, k, solved = turning.grams, turning.weights, room.solved, rows.solved
    r, share = len(S), 1.0 / z
    by_columns(turning.left, given, rows.shares)
    product(rows.shares, turning.vectors, solved)
    product(solved, S, room.pushed)
    for i in range(r):
        if not is_any(solved[i : i + 1]):
            continue
        trace = every(0.0)
        for a in range(r):
            pushed = at(room.pushed, i, a) * at(H, i, a)
            put(room.pushed, i, a, pushed)
            put(k, 0, a, pushed * share)
            trace += at(H, i, a) * at(S, a, a) * at(H, i, a)
        # What is not near is far, a NaN as well.
        near = nearly * z < trace
        if anywhere(near):
            _solve(S, H, i, z, near, room)
        for j in range(r):
            put(solved, i, j, (at(solved, i, j) - at(k, 0, j) * at(H, i, j)) * share)


@apart
def _solve(S: Array, H: Array, i: int, z: Lanes, near: Mask, room: Room) -> None:
    """room.solved = (z + H S H)^-1 room.pushed of row i, in lanes that are ``near``."""
    r, x, k = len(S), room.next, room.solved
    _factorise(S, H, i, z, room.factor, room.inverse, x)
    for a in range(r):
        total = at(room.pushed, i, a)
        for c in range(a):
            total -= at(room.factor, a, c) * at(x, 0, c)
        put(x, 0, a, total)
    for back in range(r):
        a = r - 1 - back
        total = at(x, 0, a) * at(room.inverse, 0, a)
        for c in range(a + 1, r):
            total -= at(room.factor, c, a) * at(x, 0, c)
        put(x, 0, a, total)
    choose(near, x, k, k)


@apart
def _factorise(
    S: Array, H: Array, i: int, z: Lanes, factor: Array, inverse: Array, scratch: Array
) -> None:
    """z + H S H = L D L^T, H the row i of weights: L below its diagonal of ones, and D^-1.

    Cholesky's method without its roots, of which each would wait for the last.
    """
    for a in range(len(S)):
        mine = at(H, i, a)
        pivot = z + mine * at(S, a, a) * mine
        for b in range(a):
            total = mine * at(S, a, b) * at(H, i, b)
            for c in range(b):
                total -= at(scratch, 0, c) * at(factor, b, c)
            put(scratch, 0, b, total)
            entry = total * at(inverse, 0, b)
            put(factor, a, b, entry)
            pivot -= total * entry
        put(inverse, 0, a, 1.0 / pivot)
