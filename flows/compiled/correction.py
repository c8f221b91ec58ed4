"""One correction of the stages of an implicit step, by blocks: spectra, metrics and sweeps.

What :class:`flows.implicit.ImplicitStepper` calls a correction.
"""

from __future__ import annotations

from typing import NamedTuple

from flows.compiled.blocks import Array, add, aligned, apart, copy, maker, size
from flows.compiled.lanes import WIDTH, Lanes, Mask, at, every, larger, magnitude, put, root, where
from flows.compiled.metric import Room as MetricRoom
from flows.compiled.metric import factorise, finish, solve
from flows.compiled.metric import room_of as metric_room_of
from flows.compiled.metric_parts import Metric, empty_metrics, metric_at
from flows.compiled.spectrum import Spectral, empty_spectral, spectrum_of
from flows.rules import STAGES, Rules


class Collocation(NamedTuple):
    """A method with S = STAGES stages, as :class:`flows.radau.Radau` has it. Loops over a constant
    number of stages are unrolled."""

    inverse: Array
    lower_inverse: Array
    nodes: Array
    error: Array
    bend: Array
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
def room_of(d: int, r: int) -> Room:
    """Room for states (2, d, r)."""
    return Room(
        aligned((2, d, r, WIDTH)),
        aligned((STAGES, 2, d, r, WIDTH)),
        aligned((STAGES, 2, d, r, WIDTH)),
        aligned((STAGES, 2, d, r, WIDTH)),
        empty_spectral(d, r),
        empty_metrics(STAGES, d, r),
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
    moved = room.moved
    for stage in range(STAGES):
        _expose(start, Z, stage, h, target, beta, flow, method, rules, room)
        shift = method.lower_inverse[stage, stage] / h
        metric, given = metric_at(room.metrics, stage), room.given[stage]
        finish(metric, shift, given, room.scratch, moved[stage])
    for _ in range(1, rules.sweeps):
        for stage in range(STAGES):
            _leave(method, stage, h, room)
        for stage in range(STAGES):
            _take_off(method, stage, h, room)
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
    _remain(Z, stage, h, flow.decay, method, room)
    _take_off(method, stage, h, room)
    factorise(
        pair,
        spectral.turned,
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
def _remain(Z: Array, stage: int, h: Lanes, decay: float, method: Collocation, room: Room) -> None:
    """The residual of a stage, and as its right-hand side."""
    _, _, d, r, _ = Z.shape
    N, share = 2 * d * r, 1.0 / h
    velocity, pair = room.spectral.velocity.reshape(1, N, WIDTH), room.pair.reshape(1, N, WIDTH)
    increments = Z.reshape(STAGES, N, WIDTH)
    residual = room.residual.reshape(STAGES, N, WIDTH)
    given = room.given.reshape(STAGES, N, WIDTH)
    for n in range(N):
        total = at(velocity, 0, n) - decay * at(pair, 0, n)
        for other in range(STAGES):
            total -= method.inverse[stage, other] * share * at(increments, other, n)
        put(residual, stage, n, total)
        put(given, stage, n, total)


@apart
def _leave(method: Collocation, stage: int, h: Lanes, room: Room) -> None:
    """The residual of a stage without what the triangle leaves out: the right-hand side."""
    _, _, d, r, _ = room.moved.shape
    N, share = 2 * d * r, 1.0 / h
    moved = room.moved.reshape(STAGES, N, WIDTH)
    residual = room.residual.reshape(STAGES, N, WIDTH)
    given = room.given.reshape(STAGES, N, WIDTH)
    for n in range(N):
        total = at(residual, stage, n)
        for other in range(STAGES):
            left_out = method.inverse[stage, other] - method.lower_inverse[stage, other]
            total -= left_out * share * at(moved, other, n)
        put(given, stage, n, total)


@apart
def _take_off(method: Collocation, stage: int, h: Lanes, room: Room) -> None:
    """What the stages before have of the triangle, off the right-hand side."""
    _, _, d, r, _ = room.moved.shape
    N, share = 2 * d * r, 1.0 / h
    moved, given = room.moved.reshape(STAGES, N, WIDTH), room.given.reshape(STAGES, N, WIDTH)
    for n in range(N):
        total = at(given, stage, n)
        for before in range(stage):
            total -= method.lower_inverse[stage, before] * share * at(moved, before, n)
        put(given, stage, n, total)


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
    _, _, d, r, _ = moved.shape
    N = 2 * d * r
    f, x = moved.reshape(STAGES, N, WIDTH), Z.reshape(STAGES, N, WIDTH)
    worst, spoilt = every(0.0), every(0.0)
    for s in range(STAGES):
        for n in range(N):
            step = at(f, s, n)
            put(x, s, n, where(working, at(x, s, n) + step, at(x, s, n)))
            worst = larger(worst, magnitude(step))
            spoilt += 0.0 * step
    return worst / bound + spoilt
