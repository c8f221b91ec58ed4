"""The kernels of the frozen metric: what :class:`flows.frozen_metric.FrozenMetric` does, by blocks.

The eigenvectors U of F^T F, F = A^T P_B^(-1/2) (d, r) for B's side, come as in
:mod:`flows.compiled.jacobi` from one-sided rotations of the triangle of [F; c I]. The shift by
c^2, the round-off of F^T F, moves no eigenvector; without it a column of F that is null would leave
one without a direction. The eigenvalues are the squared lengths of the columns of F U.

Where no lane of a block has a slow mode the products with the slow vectors, which are all zero, are
left out; zeros add nothing, so no lane can tell what its neighbours have.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from flows.compiled.blocks import (
    BLOCKS,
    Array,
    add,
    aligned,
    apart,
    by_columns,
    by_rows,
    condemned,
    entry,
    fill,
    lengths,
    load,
    load_numbers,
    load_pairs,
    maker,
    noted,
    product,
    scale_columns,
    scale_rows,
    size,
    spoil,
    store,
    store_pairs,
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


class Metric(NamedTuple):
    """The parts of a factorisation by blocks, as ``FrozenMetric`` has them.

    Attributes:
        slow, states: (2, d, r, WIDTH). basis, dual: (2, r, r, WIDTH). rates: (2, 1, r, WIDTH).
    """

    slow: Array
    basis: Array
    dual: Array
    rates: Array
    states: Array


class Room(NamedTuple):
    """Scratch of :func:`factorise` and :func:`solve`."""

    F: Array
    moved: Array
    columns: Array
    grams: Array
    square: Array
    U: Array
    values: Array
    shifts: Array
    coupled: Array
    inverse: Array
    along: Array


@maker
def empty_metric(d: int, r: int) -> Metric:
    """Room for states (2, d, r)."""
    return Metric(
        aligned((2, d, r, WIDTH)),
        aligned((2, r, r, WIDTH)),
        aligned((2, r, r, WIDTH)),
        aligned((2, 1, r, WIDTH)),
        aligned((2, d, r, WIDTH)),
    )


@maker
def room_of(d: int, r: int) -> Room:
    """Room for states (2, d, r)."""
    return Room(
        aligned((2, d, r, WIDTH)),
        aligned((d, r, WIDTH)),
        aligned((r, d + r, WIDTH)),
        aligned((2, r, r, WIDTH)),
        aligned((r, r, WIDTH)),
        aligned((r, r, WIDTH)),
        aligned((1, r, WIDTH)),
        aligned((1, 2, WIDTH)),
        aligned((2, r, r, WIDTH)),
        aligned((2, 1, r, WIDTH)),
        aligned((2, d, r, WIDTH)),
    )


@apart
def factorise(
    pair: Array,
    slopes: Array,
    V: Array,
    s: Array,
    p: Array,
    limit: Lanes,
    reach: Lanes,
    poison: Lanes,
    room: Room,
    out: Metric,
) -> Lanes:
    """Fill ``out`` with the factorisation at ``pair``, which is projected, as V is whitened.

    Args:
        pair, slopes: (2, d, r, WIDTH). V: (2, r, r, WIDTH), singular vectors in its rows.
        s, p: (2, 1, r, WIDTH), singular values of the gradients and the metric.
        limit: a mode may be slow where its p exceeds this. reach: the flow time of a step.
        poison: NaN in lanes that are not to be trusted.

    Returns:
        The poison; lanes that have it are NaN in every part.
    """
    for side in range(2):
        by_columns(pair[side], pair[side], room.grams[side])
    add(room.grams[1], 1.0, room.grams[0])
    for side in range(2):
        left = out.slow[side]
        by_rows(V[side], room.grams[0], room.square)
        if _weights(room.square, V[side], s[side], p[side], limit, reach, room.values):
            by_rows(slopes[side], V[side], left)
            scale_columns(left, room.values)
            _project(left, room.square, room.moved, pair[side])
        else:
            fill(left, every(0.0))
    for side in range(2):
        # B is moved by A's Gram matrix and A by B's.
        _whiten(V[side], p[side], room.values)
        by_rows(pair[1 - side], V[side], room.F[side])
        norm = size(room.F[side])
        poison += condemned(norm)
        put(room.shifts, 0, side, larger(SHIFT * root(norm), SMALLEST))
    # Not before all that may poison a lane is known, but for rotations that do not settle.
    for side in range(2):
        spoil(room.F[side], poison)
        triangle(room.F[side], at(room.shifts, 0, side), room.columns, room.U)
        poison += orthogonalize(room.U, room.values)
        normalize(room.U, room.values)
        by_rows(room.F[side], room.U, out.states[1 - side])
        lengths(out.states[1 - side], out.rates[side])
        transpose(room.U, room.square)
        by_columns(V[side], room.square, out.basis[side])
        scale_rows(V[side], p[side])
        by_columns(V[side], room.square, out.dual[side])
    for side in range(2):
        spoil(out.slow[side], poison)
        spoil(out.basis[side], poison)
        spoil(out.dual[side], poison)
        spoil(out.rates[side], poison)
        spoil(out.states[side], poison)
    return poison


@apart
def solve(metric: Metric, z: Lanes, given: Array, room: Room, out: Array) -> None:
    """out = (z - J_W)^-1 given, all (2, d, r, WIDTH); ``given`` is used up."""
    d, r = given.shape[1], given.shape[2]
    slow, states = metric.slow, metric.states
    for side in range(2):
        if _any(slow[side]):
            _project(slow[side], room.square, room.along[side], given[side])
        else:
            fill(room.along[side], every(0.0))
        product(given[side], metric.dual[side], out[side])
        for j in range(r):
            put(room.inverse[side], 0, j, 1.0 / (z + at(metric.rates[side], 0, j)))
    by_columns(out[1], states[1], room.square)
    by_columns(states[0], out[0], room.U)
    _couple(z, metric.rates, room.inverse[0], room.square, room.U, room.coupled)
    for side in range(2):
        by_rows(states[side], room.coupled[side], room.moved)
        add(room.moved, -1.0, out[side])
        scale_columns(out[side], room.inverse[side])
        by_rows(out[side], metric.basis[side], room.moved)
        for i in range(d):
            for k in range(r):
                put(out[side], i, k, at(room.moved, i, k) + at(room.along[side], i, k) / z)


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
    factors, slopes = aligned((2, d, r, WIDTH)), aligned((2, d, r, WIDTH))
    V = aligned((2, r, r, WIDTH))
    values, metric = aligned((2, 1, r, WIDTH)), aligned((2, 1, r, WIDTH))
    scale, covered = aligned((1, 1, WIDTH)), aligned((1, 1, WIDTH))
    room, found = room_of(d, r), empty_metric(d, r)
    for first in range(0, lanes, WIDTH):
        count = min(WIDTH, lanes - first)
        # A lane that is not there has p = 0 and is NaN from the whitening on.
        load_numbers(beta, first, count, 1.0, scale)
        load_numbers(reach, first, count, 1.0, covered)
        poison = noted(scale) + noted(covered)
        load_pairs(pair, first, count, factors)
        load_pairs(gradient, first, count, slopes)
        for side in range(2):
            load(vectors[:, side].transpose(0, 2, 1), first, count, V[side])
            load(s[:, side : side + 1], first, count, values[side])
            load(p[:, side : side + 1], first, count, metric[side])
            poison += noted(factors[side]) + noted(slopes[side]) + noted(V[side])
            poison += noted(values[side]) + noted(metric[side])
        limit, time = fast * at(scale, 0, 0), at(covered, 0, 0)
        factorise(factors, slopes, V, values, metric, limit, time, poison, room, found)
        store_metric(found, first, count, Metric(slow, basis, dual, rates, states))


@apart
def load_metric(source: Metric, first: int, count: int, metric: Metric) -> None:
    """Lanes first to first + count of parts that have the lanes first, rates (L, 2, r)."""
    load_pairs(source.slow, first, count, metric.slow)
    load_pairs(source.basis, first, count, metric.basis)
    load_pairs(source.dual, first, count, metric.dual)
    load_pairs(source.states, first, count, metric.states)
    for side in range(2):
        load(source.rates[:, side : side + 1], first, count, metric.rates[side])


@apart
def store_metric(metric: Metric, first: int, count: int, out: Metric) -> None:
    """What :func:`load_metric` would load."""
    store_pairs(metric.slow, first, count, out.slow)
    store_pairs(metric.basis, first, count, out.basis)
    store_pairs(metric.dual, first, count, out.dual)
    store_pairs(metric.states, first, count, out.states)
    for side in range(2):
        store(metric.rates[side], every(0.0), first, count, out.rates[:, side : side + 1])


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
    metric, room = empty_metric(d, r), room_of(d, r)
    given, moved = aligned((2, d, r, WIDTH)), aligned((2, d, r, WIDTH))
    shift = aligned((1, 1, WIDTH))
    for first in range(0, lanes, WIDTH):
        count = min(WIDTH, lanes - first)
        load_numbers(shifts, first, count, 1.0, shift)
        load_pairs(residual, first, count, given)
        poison = noted(shift) + noted(given[0]) + noted(given[1])
        load_metric(Metric(slow, basis, dual, rates, states), first, count, metric)
        solve(metric, at(shift, 0, 0), given, room, moved)
        for side in range(2):
            store(moved[side], poison, first, count, solution[:, side])


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
