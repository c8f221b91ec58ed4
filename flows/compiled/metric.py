"""The kernels of the frozen metric: what :class:`flows.frozen_metric.FrozenMetric` does, by blocks.

The eigenvectors U of F^T F, F = A^T P_B^(-1/2) (d, r) for B's side, come as in
:mod:`flows.compiled.jacobi` from one-sided rotations of a triangle, which begin at those of a state
nearby. Here it is the Cholesky factor of F^T F, shifted by its round-off: that moves no
eigenvector, and what it hides of small eigenvalues no solve can see beside z. The eigenvalues are
the squared lengths of the columns of F U.

The modes that are solved by themselves are those of :mod:`flows.compiled.turning`.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from flows.compiled.blocks import (
    BLOCKS,
    Array,
    add,
    aligned,
    apart,
    condemned,
    fill_identities,
    lengths,
    load,
    load_numbers,
    load_pairs,
    maker,
    noted,
    scale_rows,
    spoil,
    store,
    trace,
    transpose,
)
from flows.compiled.cholesky import cholesky
from flows.compiled.entries import entry
from flows.compiled.jacobi import EPSILON, keep, normalize, orthogonalize
from flows.compiled.lanes import WIDTH, Lanes, at, larger, put, root
from flows.compiled.metric_parts import (
    Metric,
    empty_metric,
    load_metric,
    spoil_metric,
    store_metric,
)
from flows.compiled.products import by_columns, by_rows, product
from flows.compiled.turning import Room as TurningRoom
from flows.compiled.turning import (
    Rows,
    Turning,
    find,
    keep_those_that_stay,
    solve_rows,
    take_rows,
)
from flows.compiled.turning import room_of as turning_room_of

# A sweep of rotations that meets no larger cosine is the last.
SMALL: Final = 2.0**-26
# The shift of a zero factor. Its square is still a normal number.
SMALLEST: Final = 1e-120


class Room(NamedTuple):
    """Scratch of :func:`factorise` and :func:`solve`; ``nearby`` are directions V U of a state
    nearby in rows, (2, r, r, WIDTH), where rotations begin, and those found last from then on."""

    F: Array
    nearby: Array
    begun: Array
    moved: Array
    grams: Array
    square: Array
    U: Array
    values: Array
    coupled: Array
    inverse: Array
    along: Array
    shares: Array
    solved: Array
    turning: TurningRoom


@apart
def _turning(metric: Metric, side: int) -> Turning:
    return Turning(
        metric.left[side], metric.vectors[side], metric.grams[side], metric.weights[side]
    )


@apart
def _rows(room: Room, side: int) -> Rows:
    return Rows(room.shares[side], room.solved[side])


@maker
def room_of(d: int, r: int) -> Room:
    """Room for states (2, d, r). ``nearby`` has to be filled."""
    return Room(
        aligned((2, d, r, WIDTH)),
        aligned((2, r, r, WIDTH)),
        aligned((2, r, r, WIDTH)),
        aligned((d, r, WIDTH)),
        aligned((2, r, r, WIDTH)),
        aligned((r, r, WIDTH)),
        aligned((r, r, WIDTH)),
        aligned((1, r, WIDTH)),
        aligned((2, r, r, WIDTH)),
        aligned((2, 1, r, WIDTH)),
        aligned((2, d, r, WIDTH)),
        aligned((2, r, r, WIDTH)),
        aligned((2, r, r, WIDTH)),
        turning_room_of(d, r),
    )


@apart
def factorise(
    pair: Array,
    turned: Array,
    V: Array,
    s: Array,
    p: Array,
    derivative: Array,
    beta: Lanes,
    limits: tuple[float, float, float],
    z: Lanes,
    given: Array,
    poison: Lanes,
    room: Room,
    out: Metric,
) -> Lanes:
    """Fill ``out`` with the factorisation at ``pair``, which is projected, as V is whitened.

    Args:
        pair: (2, d, r, WIDTH). turned: (2, d, r, WIDTH), G V.
        V: (2, r, r, WIDTH), singular vectors of the gradients in its rows.
        s, p, derivative: (2, 1, r, WIDTH), singular values of the gradients, the metric, and the
            derivative of the smoothing.
        limits: ``open``, ``trusted`` and ``nearly`` of the rules.
        z, given: of the system that says which modes arrive, given (2, d, r, WIDTH).
        poison: NaN in lanes that are not to be trusted.

    Returns:
        The poison; lanes that have it have rates that are NaN, and so is what they solve.
    """
    for side in range(2):
        by_columns(pair[side], pair[side], room.grams[side])
    for side in range(2):
        mine, gram, limit = _turning(out, side), room.grams[1 - side], limits[0] * beta
        find(
            turned[side], V[side], s[side], p[side], derivative[side], gram, beta, limit,
            room.turning, mine,
        )  # fmt: skip
        rows = _rows(room, side)
        solve_rows(mine, z, given[side], limits[2], room.turning, rows)
        if keep_those_that_stay(mine, p[side], limits[1], rows):
            _project(mine.left, room.square, room.moved, pair[side])
    for side in range(2):
        # B is moved by A's Gram matrix and A by B's.
        _whiten(V[side], p[side], room.values)
        # What is nearby, in the basis V.
        product(room.nearby[side], out.vectors[side], room.begun[side])
        product(room.begun[side], V[side], room.square)
        by_rows(pair[1 - side], room.square, room.F[side])
        by_columns(room.F[side], room.F[side], room.grams[side])
        poison += condemned(trace(room.grams[side]))
    # Not before all that may poison a lane is known, but for rotations that do not settle.
    d, r = pair.shape[1], pair.shape[2]
    for side in range(2):
        gram = room.grams[side]
        spoil(gram, poison)
        shift = larger((d + r + 1) * EPSILON * trace(gram), SMALLEST)
        cholesky(gram, shift, room.square)
        poison += orthogonalize(room.square, room.values, SMALL)
        normalize(room.square, room.values)
        by_rows(room.F[side], room.square, out.states[1 - side])
        lengths(out.states[1 - side], out.rates[side])
        product(room.square, room.begun[side], room.U)
        by_rows(room.U, out.vectors[side], room.square)
        keep(room.square, poison, room.nearby[side])
        transpose(room.U, room.square)
        by_columns(V[side], room.square, out.basis[side])
        scale_rows(V[side], p[side])
        by_columns(V[side], room.square, out.dual[side])
    for side in range(2):
        spoil(out.rates[side], poison)
    return poison


@apart
def solve(metric: Metric, z: Lanes, given: Array, nearly: float, room: Room, out: Array) -> None:
    """out = (z - J_W)^-1 given, all (2, d, r, WIDTH); ``given`` is used up."""
    for side in range(2):
        mine, rows = _turning(metric, side), _rows(room, side)
        solve_rows(mine, z, given[side], nearly, room.turning, rows)
    finish(metric, z, given, room, out)


@apart
def finish(metric: Metric, z: Lanes, given: Array, room: Room, out: Array) -> None:
    """What is left of :func:`solve` where the room has the rows of turning modes, as it has after
    :func:`factorise` those of its own right-hand side."""
    d, r = given.shape[1], given.shape[2]
    states = metric.states
    for side in range(2):
        mine, rows = _turning(metric, side), _rows(room, side)
        take_rows(mine, rows, given[side], room.turning, room.along[side])
        product(given[side], metric.dual[side], out[side])
        for j in range(r):
            put(room.inverse[side], 0, j, 1.0 / (z + at(metric.rates[side], 0, j)))
    by_columns(out[1], states[1], room.square)
    by_columns(states[0], out[0], room.U)
    _couple(z, metric.rates, room.inverse[0], room.square, room.U, room.coupled)
    for side in range(2):
        by_rows(states[side], room.coupled[side], room.moved)
        for j in range(r):
            factor = at(room.inverse[side], 0, j)
            for i in range(d):
                put(out[side], i, j, (at(out[side], i, j) - at(room.moved, i, j)) * factor)
        by_rows(out[side], metric.basis[side], room.moved)
        for i in range(d):
            for k in range(r):
                put(out[side], i, k, at(room.moved, i, k) + at(room.along[side], i, k))


@entry
def fill_factorisation(
    pair: Array,
    gradient: Array,
    vectors: Array,
    s: Array,
    p: Array,
    slope: Array,
    beta: Array,
    limits: tuple[float, float, float],
    shifts: Array,
    residual: Array,
    out: Metric,
    blocks: int = BLOCKS,
) -> None:
    """Fill ``out`` with the factorisation at ``pair``.

    Args:
        pair, gradient: (L, 2, d, r), B above A^T and G_B above G_A^T.
        vectors: (L, 2, r, r), eigenvectors of each G^T G in its columns.
        s, p, slope: (L, 2, r), singular values of G, eigenvalues of the metric, and the derivative
            of the smoothing.
        beta, shifts: (L,), the smoothing scale and z. residual: (L, 2, d, r), R.
        limits: ``open``, ``trusted`` and ``nearly`` of the rules.
        out: parts with the lanes first, rates (L, 2, r).
        blocks: to be left out.

    All are C-contiguous float64. Lanes with an input that is not finite, a p that is not positive
    or squares that would overflow are NaN in every output.
    """
    lanes, d, r = pair.shape[0], pair.shape[2], pair.shape[3]
    factors, slopes = aligned((2, d, r, WIDTH)), aligned((2, d, r, WIDTH))
    turned = aligned((2, d, r, WIDTH))
    given, V = aligned((2, d, r, WIDTH)), aligned((2, r, r, WIDTH))
    values, metric = aligned((2, 1, r, WIDTH)), aligned((2, 1, r, WIDTH))
    derivative = aligned((2, 1, r, WIDTH))
    scale, shift = aligned((1, 1, WIDTH)), aligned((1, 1, WIDTH))
    room, found = room_of(d, r), empty_metric(d, r)
    for first in range(0, lanes, WIDTH):
        count = min(WIDTH, lanes - first)
        fill_identities(room.nearby)
        # A lane that is not there has p = 0 and is NaN from the whitening on.
        load_numbers(beta, first, count, 1.0, scale)
        load_numbers(shifts, first, count, 1.0, shift)
        poison = noted(scale) + noted(shift)
        load_pairs(pair, first, count, factors)
        load_pairs(gradient, first, count, slopes)
        load_pairs(residual, first, count, given)
        for side in range(2):
            load(vectors[:, side].transpose(0, 2, 1), first, count, V[side])
            load(s[:, side : side + 1], first, count, values[side])
            load(p[:, side : side + 1], first, count, metric[side])
            load(slope[:, side : side + 1], first, count, derivative[side])
            poison += noted(factors[side]) + noted(slopes[side]) + noted(V[side])
            poison += noted(values[side]) + noted(metric[side]) + noted(derivative[side])
            poison += noted(given[side])
        for side in range(2):
            by_rows(slopes[side], V[side], turned[side])
        poison = factorise(
            factors, turned, V, values, metric, derivative, at(scale, 0, 0), limits,
            at(shift, 0, 0), given, poison, room, found,
        )  # fmt: skip
        spoil_metric(found, poison)
        store_metric(found, first, count, out)


@entry
def fill_solution(
    metric: Metric,
    shifts: Array,
    residual: Array,
    nearly: float,
    solution: Array,
    blocks: int = BLOCKS,
) -> None:
    """Fill solution with (z - J_W)^-1 residual for one real z a lane.

    Args:
        metric: parts with the lanes first, rates (L, 2, r).
        shifts: (L,), z. residual: (L, 2, d, r). solution: (L, 2, d, r), filled.
        nearly: of the rules.
        blocks: to be left out.

    All are C-contiguous float64. Lanes with a factorisation, shift or residual that is not finite
    are NaN.
    """
    lanes, d, r = residual.shape[0], residual.shape[2], residual.shape[3]
    here, room = empty_metric(d, r), room_of(d, r)
    given, moved = aligned((2, d, r, WIDTH)), aligned((2, d, r, WIDTH))
    shift = aligned((1, 1, WIDTH))
    for first in range(0, lanes, WIDTH):
        count = min(WIDTH, lanes - first)
        load_numbers(shifts, first, count, 1.0, shift)
        load_pairs(residual, first, count, given)
        poison = noted(shift) + noted(given[0]) + noted(given[1])
        load_metric(metric, first, count, here)
        solve(here, at(shift, 0, 0), given, nearly, room, moved)
        for side in range(2):
            store(moved[side], poison, first, count, solution[:, side])


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
