"""One correction of the stages of an implicit step, by blocks: spectra, metrics and solves.

What :class:`flows.implicit.ImplicitStepper` calls a correction, accelerated by Anderson's method as
:mod:`flows.anderson` has it.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from flows.compiled.blocks import Array, add, aligned, apart, copy, maker
from flows.compiled.lanes import WIDTH, Lanes, Mask, at, every, larger, magnitude, put, where
from flows.compiled.metric import Metric, empty_metric, factorise, solve
from flows.compiled.metric import Room as MetricRoom
from flows.compiled.metric import room_of as metric_room_of
from flows.compiled.spectrum import Spectral, empty_spectral, spectrum_of


class Collocation(NamedTuple):
    """A method with S stages, as :class:`flows.radau.Radau` has it."""

    inverse: Array
    lower: Array
    lower_inverse: Array
    nodes: Array
    error: Array
    coefficients: Array
    real: float
    start_weight: float


class FlowOf(NamedTuple):
    """What the velocity is of: the coefficients of the coupled and the decoupled regulariser, the
    smoothing, and what a metric has to exceed in units of beta for a mode to be slow."""

    l2: float
    decay: float
    is_tanh: bool
    fast: float


class Iterates(NamedTuple):
    """Stages (S, 2, d, r, WIDTH): increments Z, and the last corrections and iterates."""

    Z: Array
    last_f: Array
    last_x: Array


class Room(NamedTuple):
    """Scratch of :func:`correct`, and what it finds at the last stage: spectrum and metric."""

    pair: Array
    given: Array
    moved: Array
    spectral: Spectral
    metric: Metric
    scratch: MetricRoom


@maker
def empty_iterates(stages: int, d: int, r: int) -> Iterates:
    """Room for states (2, d, r)."""
    return Iterates(
        aligned((stages, 2, d, r, WIDTH)),
        aligned((stages, 2, d, r, WIDTH)),
        aligned((stages, 2, d, r, WIDTH)),
    )


@maker
def room_of(stages: int, d: int, r: int) -> Room:
    """Room for states (2, d, r)."""
    return Room(
        aligned((2, d, r, WIDTH)),
        aligned((2, d, r, WIDTH)),
        aligned((stages, 2, d, r, WIDTH)),
        empty_spectral(d, r),
        empty_metric(d, r),
        metric_room_of(d, r),
    )


@apart
def correct(
    start: Array,
    Z: Array,
    h: Lanes,
    target: Array,
    beta: Lanes,
    flow: FlowOf,
    method: Collocation,
    room: Room,
) -> None:
    """Fill room.moved with what is proposed for the stages, and the rest of it at the last stage.

    Args:
        start: (2, d, r, WIDTH), the state before the step. Z: (S, 2, d, r, WIDTH), increments.
        h: the length of the step. target: (d, d, WIDTH).
    """
    pair, given, moved, spectral = room.pair, room.given, room.moved, room.spectral
    for stage in range(len(Z)):
        for side in range(2):
            copy(start[side], pair[side])
            add(Z[stage, side], 1.0, pair[side])
        poison = spectrum_of(pair, target, beta, flow.l2, flow.is_tanh, spectral)
        for side in range(2):
            copy(spectral.velocity[side], given[side])
            add(pair[side], -flow.decay, given[side])
            for other in range(len(Z)):
                add(Z[other, side], -method.inverse[stage, other] / h, given[side])
            for before in range(stage):
                add(moved[before, side], -method.lower_inverse[stage, before] / h, given[side])
        factorise(
            pair,
            spectral.slopes,
            spectral.V,
            spectral.s,
            spectral.p,
            flow.fast * beta,
            method.lower[stage, stage] * h,
            poison,
            room.scratch,
            room.metric,
        )
        shift = method.lower_inverse[stage, stage] / h
        solve(room.metric, shift, given, room.scratch, moved[stage])


@apart
def accelerated(
    proposed: Array,
    wanted: Mask,
    working: Mask,
    y: Array,
    tolerance: tuple[float, float],
    on: Iterates,
) -> Lanes:
    """Take the step from Z where ``proposed`` is proposed, by Anderson where that is wanted.

    Args:
        working: the other lanes keep what they have.
        y: (2, d, r, WIDTH), the state before the step, which the bound of each component goes by.
        tolerance: rtol and atol.

    Returns:
        The largest component of the step over its bound, NaN where one is.
    """
    stages, _, d, r, _ = proposed.shape
    N = 2 * d * r
    f, x = proposed.reshape(stages, N, WIDTH), on.Z.reshape(stages, N, WIDTH)
    last_f, last_x = on.last_f.reshape(stages, N, WIDTH), on.last_x.reshape(stages, N, WIDTH)
    flat = y.reshape(1, N, WIDTH)
    along, square = every(0.0), every(0.0)
    for s in range(stages):
        for n in range(N):
            df = at(f, s, n) - at(last_f, s, n)
            along += at(f, s, n) * df
            square += df * df
    share = along / square
    # A NaN compares with nothing: without a change there is nothing to accelerate.
    g = where(wanted & (magnitude(share) < math.inf), share, 0.0)
    worst, spoilt = every(0.0), every(0.0)
    for s in range(stages):
        for n in range(N):
            now, here = at(f, s, n), at(x, s, n)
            change = now - at(last_f, s, n) + (here - at(last_x, s, n))
            step = now - g * change
            put(last_f, s, n, where(working, now, at(last_f, s, n)))
            put(last_x, s, n, where(working, here, at(last_x, s, n)))
            put(x, s, n, where(working, here + step, here))
            size = magnitude(step) / (tolerance[1] + tolerance[0] * magnitude(at(flat, 0, n)))
            worst = larger(worst, size)
            spoilt += 0.0 * size
    return worst + spoilt
