"""One correction of the stages of an implicit step, by blocks: spectra, metrics and sweeps.

What :class:`flows.implicit.ImplicitStepper` calls a correction.
"""

from __future__ import annotations

from typing import NamedTuple

from flows.compiled.blocks import Array, add, aligned, apart, copy, maker, size
from flows.compiled.lanes import WIDTH, Lanes, Mask, at, every, larger, magnitude, put, root, where
from flows.compiled.metric import Room as MetricRoom
from flows.compiled.metric import factorise, solve
from flows.compiled.metric import room_of as metric_room_of
from flows.compiled.metric_parts import Metric, empty_metrics, metric_at
from flows.compiled.spectrum import Spectral, empty_spectral, spectrum_of
from flows.rules import Rules


class Collocation(NamedTuple):
    """A method with S stages, as :class:`flows.radau.Radau` has it."""

    inverse: Array
    lower_inverse: Array
    nodes: Array
    error: Array
    coefficients: Array
    real: float
    start_weight: float


class FlowOf(NamedTuple):
    """What the velocity is of: the coefficients of the coupled and the decoupled regulariser, and
    the smoothing."""

    l2: float
    decay: float
    is_tanh: bool


class Room(NamedTuple):
    """Scratch of :func:`correct`, and what it finds: the correction of the stages, ``moved``, and
    the metrics of all of them; of the last one the spectrum."""

    pair: Array
    given: Array
    residual: Array
    moved: Array
    spectral: Spectral
    metrics: Metric
    scratch: MetricRoom


@maker
def room_of(stages: int, d: int, r: int) -> Room:
    """Room for states (2, d, r)."""
    return Room(
        aligned((2, d, r, WIDTH)),
        aligned((stages, 2, d, r, WIDTH)),
        aligned((stages, 2, d, r, WIDTH)),
        aligned((stages, 2, d, r, WIDTH)),
        empty_spectral(d, r),
        empty_metrics(stages, d, r),
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
    rules: Rules,
    room: Room,
) -> None:
    """Fill room.moved with what is to be added to the stages.

    Args:
        start: (2, d, r, WIDTH), the state before the step. Z: (S, 2, d, r, WIDTH), increments.
        h: the length of the step. target: (d, d, WIDTH).
    """
    moved, stages = room.moved, len(Z)
    for stage in range(stages):
        _expose(start, Z, stage, h, target, beta, flow, method, rules, room)
        shift = method.lower_inverse[stage, stage] / h
        metric, given = metric_at(room.metrics, stage), room.given[stage]
        solve(metric, shift, given, rules.nearly, room.scratch, moved[stage])
    for _ in range(1, rules.sweeps):
        for stage in range(stages):
            for side in range(2):
                given = room.given[stage, side]
                copy(room.residual[stage, side], given)
                for other in range(stages):
                    left_out = method.inverse[stage, other] - method.lower_inverse[stage, other]
                    add(moved[other, side], (0.0 - left_out) / h, given)
        for stage in range(stages):
            _take_off(method, stage, h, moved, room.given[stage])
            shift, metric = method.lower_inverse[stage, stage] / h, metric_at(room.metrics, stage)
            solve(metric, shift, room.given[stage], rules.nearly, room.scratch, moved[stage])


@apart
def _expose(
    start: Array,
    Z: Array,
    stage: int,
    h: Lanes,
    target: Array,
    beta: Lanes,
    flow: FlowOf,
    method: Collocation,
    rules: Rules,
    room: Room,
) -> None:
    """The residual of a stage, what it leaves for the first sweep, and its metric."""
    pair, spectral = room.pair, room.spectral
    for side in range(2):
        copy(start[side], pair[side])
        add(Z[stage, side], 1.0, pair[side])
    poison = spectrum_of(pair, target, beta, flow.l2, flow.is_tanh, spectral)
    for side in range(2):
        residual = room.residual[stage, side]
        copy(spectral.velocity[side], residual)
        add(pair[side], -flow.decay, residual)
        for other in range(len(Z)):
            add(Z[other, side], -method.inverse[stage, other] / h, residual)
        copy(residual, room.given[stage, side])
    _take_off(method, stage, h, room.moved, room.given[stage])
    factorise(
        pair,
        spectral.slopes,
        spectral.V,
        spectral.s,
        spectral.p,
        spectral.derivative,
        beta,
        (rules.open, rules.trusted, rules.nearly),
        method.lower_inverse[stage, stage] / h,
        room.given[stage],
        poison,
        room.scratch,
        metric_at(room.metrics, stage),
    )


@apart
def _take_off(method: Collocation, stage: int, h: Lanes, moved: Array, given: Array) -> None:
    """What the stages before have of the triangle, off the right-hand side (2, d, r, WIDTH)."""
    for side in range(2):
        for before in range(stage):
            add(moved[before, side], -method.lower_inverse[stage, before] / h, given[side])


@apart
def overall(y: Array, tolerance: tuple[float, float]) -> Lanes:
    """The bound of all components of a state (2, d, r, WIDTH), by its root mean square."""
    squares = size(y[0]) + size(y[1])
    return tolerance[1] + tolerance[0] * root(squares / float(y.size // WIDTH))


@apart
def take(moved: Array, working: Mask, bound: Lanes, Z: Array) -> Lanes:
    """Add to the stages Z what is proposed for them, in lanes that are ``working``.

    Returns:
        The largest component over the bound, NaN where one is.
    """
    stages, _, d, r, _ = moved.shape
    N = 2 * d * r
    f, x = moved.reshape(stages, N, WIDTH), Z.reshape(stages, N, WIDTH)
    worst, spoilt = every(0.0), every(0.0)
    for s in range(stages):
        for n in range(N):
            step = at(f, s, n)
            put(x, s, n, where(working, at(x, s, n) + step, at(x, s, n)))
            worst = larger(worst, magnitude(step))
            spoilt += 0.0 * step
    return worst / bound + spoilt
