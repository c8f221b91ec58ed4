"""The kernel of implicit steps: corrections in a row, and what becomes of the steps they settle.

What :class:`flows.implicit.ImplicitStepper` does between two looks at its lanes. The lanes of a
block make their corrections together, and each ends its step and begins the next when it is ready.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from flows.compiled.blocks import (
    BLOCKS,
    Array,
    aligned,
    apart,
    copy,
    fill_identities,
    load,
    load_numbers,
    load_pairs,
    maker,
    store_pairs,
    within,
)
from flows.compiled.correction import Collocation, FlowOf, Room, correct, overall, room_of, take
from flows.compiled.entries import entry
from flows.compiled.lanes import WIDTH, Lanes, at, every, larger, magnitude, put, where
from flows.compiled.metric import solve
from flows.compiled.metric_parts import (
    Metric,
    choose_metric,
    empty_metric,
    load_metric,
    metric_at,
    store_metric,
)
from flows.compiled.step_control import (
    BEFORE,
    ERROR,
    GOOD,
    LAST,
    LENGTH,
    NOTES,
    OVER,
    SIZE,
    WORKING,
    Ended,
    Underway,
    begin_correction,
    conclude,
    judge,
    look_ahead,
    plan,
)
from flows.compiled.velocity import in_range
from flows.rules import STAGES, Rules


class Block(NamedTuple):
    """The lanes at hand: states and velocities (2, d, r, WIDTH), stages (S, 2, d, r, WIDTH), the
    metric that filters the error, beta (1, 1, WIDTH), notes (NOTES, 1, WIDTH) and scratch."""

    y: Array
    f: Array
    Z: Array
    last_Z: Array
    filtering: Metric
    target: Array
    beta: Array
    notes: Array
    ordered: Array


@entry
def fill_steps(
    now: Underway,
    ended: Ended,
    target: Array,
    beta: Array,
    flow: FlowOf,
    method: Collocation,
    rules: Rules,
    tolerance: tuple[float, float],
    times: Array,
    corrections: int,
    most: int,
    start: int,
    stop: int,
    blocks: int = BLOCKS,
) -> bool:
    """Make corrections of every lane, and note the steps that end.

    Args:
        now: changed in place. ended: filled, as far as its counts say.
        target: (L, d, d). beta: (L,), positive. tolerance: rtol and atol.
        times: that steps have to end at, ascending.
        corrections: how many. most: steps of a lane that may end.
        start, stop: of the lanes, those from ``start``, a multiple of WIDTH, to ``stop``.
        blocks: to be left out.

    Returns:
        False, and nothing is filled, where a beta is not finite or too small.
    """
    if not in_range(beta):
        return False
    _, _, _, d, r = now.Z.shape
    room, block = room_of(d, r), _empty_block(d, r)
    for first in range(start, stop, WIDTH):
        present = min(WIDTH, stop - first)
        load(target, first, present, block.target)
        load_numbers(beta, first, present, 1.0, block.beta)
        _load(now, first, present, block)
        fill_identities(room.spectral.nearby)
        fill_identities(room.scratch.nearby)
        for lane in range(present):
            ended.made[first + lane] = 0
        for _ in range(corrections):
            if not begin_correction(now, ended, times[-1], most, first, present, block.notes):
                break
            h, scale = at(block.notes, LENGTH, 0), at(block.beta, 0, 0)
            correct(block.y, block.Z, h, block.target, scale, flow, method, rules, room)
            working, bound = at(block.notes, WORKING, 0) > 0.0, overall(block.y, tolerance)
            put(block.notes, SIZE, 0, take(room.moved, working, bound, block.Z))
            if judge(now, rules, first, present, block.notes):
                _estimate(block, method, bound, rules.nearly, room)
                conclude(now, ended, rules, first, present, block.notes)
                _go_on(block, method, room)
                _write_down(now, ended, first, present, block)
                s, ordered = room.spectral.s, block.ordered
                look_ahead(now, rules, s, block.beta, first, present, block.notes, ordered)
                plan(now, rules, times, first, present, block.notes)
                _predict(block, method, rules.smooth, room.moved)
        _store(block, first, present, now)
    return True


@maker
def _empty_block(d: int, r: int) -> Block:
    return Block(
        aligned((2, d, r, WIDTH)),
        aligned((2, d, r, WIDTH)),
        aligned((STAGES, 2, d, r, WIDTH)),
        aligned((STAGES, 2, d, r, WIDTH)),
        empty_metric(d, r),
        aligned((d, d, WIDTH)),
        aligned((1, 1, WIDTH)),
        np.zeros((NOTES, 1, WIDTH)),
        np.zeros(2 * r),
    )


@apart
def _metric_of(now: Underway) -> Metric:
    return Metric(
        now.left,
        now.vectors,
        now.grams,
        now.weights,
        now.basis,
        now.dual,
        now.rates,
        now.states,
    )


@apart
def _load(now: Underway, first: int, present: int, block: Block) -> None:
    load_pairs(now.y, first, present, block.y)
    load_pairs(now.f, first, present, block.f)
    for stage in range(STAGES):
        load_pairs(now.Z[stage], first, present, block.Z[stage])
        load_pairs(now.last_Z[stage], first, present, block.last_Z[stage])
    load_metric(_metric_of(now), first, present, block.filtering)


@apart
def _store(block: Block, first: int, present: int, now: Underway) -> None:
    store_pairs(block.y, first, present, now.y)
    store_pairs(block.f, first, present, now.f)
    for stage in range(STAGES):
        store_pairs(block.Z[stage], first, present, now.Z[stage])
        store_pairs(block.last_Z[stage], first, present, now.last_Z[stage])
    store_metric(block.filtering, first, present, _metric_of(now))


@apart
def _estimate(block: Block, method: Collocation, bound: Lanes, nearly: float, room: Room) -> None:
    """The error of the step over the bound, not yet over the slack, into the notes."""
    _, _, d, r, _ = block.Z.shape
    N = 2 * d * r
    h = at(block.notes, LENGTH, 0)
    shift = method.real / h
    raw, Z = room.residual[0].reshape(1, N, WIDTH), block.Z.reshape(STAGES, N, WIDTH)
    f, filtered = block.f.reshape(1, N, WIDTH), room.pair.reshape(1, N, WIDTH)
    for n in range(N):
        total = h * method.start_weight * at(f, 0, n)
        for s in range(STAGES):
            total += method.error[s] * at(Z, s, n)
        put(raw, 0, n, total * shift)
    worst, spoilt = every(0.0), every(0.0)
    for metric in (block.filtering, metric_at(room.metrics, STAGES - 1)):
        for side in range(2):
            copy(room.residual[0, side], room.given[0, side])
        solve(metric, shift, room.given[0], nearly, room.scratch, room.pair)
        for n in range(N):
            worst = larger(worst, magnitude(at(filtered, 0, n)))
            spoilt += 0.0 * at(filtered, 0, n)
    put(block.notes, ERROR, 0, worst / bound + spoilt)


@apart
def _go_on(block: Block, method: Collocation, room: Room) -> None:
    """State, velocity, stages and filter of the step, in lanes where it is good."""
    _, _, d, r, _ = block.Z.shape
    N = 2 * d * r
    good, h = at(block.notes, GOOD, 0) > 0.0, at(block.notes, LENGTH, 0)
    Z, last_Z = block.Z.reshape(STAGES, N, WIDTH), block.last_Z.reshape(STAGES, N, WIDTH)
    y, f = block.y.reshape(1, N, WIDTH), block.f.reshape(1, N, WIDTH)
    for n in range(N):
        slope = every(0.0)
        for s in range(STAGES):
            slope += method.inverse[STAGES - 1, s] * at(Z, s, n)
            put(last_Z, s, n, where(good, at(Z, s, n), at(last_Z, s, n)))
        put(f, 0, n, where(good, slope / h, at(f, 0, n)))
        put(y, 0, n, where(good, at(y, 0, n) + at(Z, STAGES - 1, n), at(y, 0, n)))
    choose_metric(good, metric_at(room.metrics, STAGES - 1), block.filtering)


@apart
def _write_down(now: Underway, ended: Ended, first: int, present: int, block: Block) -> None:
    """States, and stages where they are kept, of the steps that ended, and that they did."""
    kept = min(len(ended.increments), 1) * STAGES
    for lane in range(present):
        if block.notes[OVER, 0, lane] == 0.0:
            continue
        n = first + lane
        row = ended.made[n]
        for side in range(2):
            _take_out(block.y[side], lane, ended.states[row, n, side])
            for s in range(kept):
                _take_out(block.Z[s, side], lane, ended.increments[row, s, n, side])
        ended.made[n] = row + 1


@apart
def _take_out(block: Array, lane: int, out: Array) -> None:
    """One lane of a block (d, r, WIDTH)."""
    for i in range(block.shape[0]):
        for k in range(block.shape[1]):
            out[i, k] = block[i, k, lane]


@apart
def _predict(block: Block, method: Collocation, smooth: float, scratch: Array) -> None:
    """The stages of the next step, in lanes where one begins."""
    _, _, d, r, _ = block.Z.shape
    N = 2 * d * r
    Z, last = block.Z.reshape(STAGES, N, WIDTH), block.last_Z.reshape(STAGES, N, WIDTH)
    f, bends = block.f.reshape(1, N, WIDTH), scratch.reshape(STAGES, N, WIDTH)
    last_h, largest, twisted = at(block.notes, LAST, 0), every(0.0), every(0.0)
    ratio = at(block.notes, LENGTH, 0) / last_h
    for n in range(N):
        at_end, whole = every(0.0), last_h * at(f, 0, n) - at(last, STAGES - 1, n)
        for s in range(STAGES):
            at_end += method.bend[s] * at(last, s, n)
        put(bends, 0, n, at_end)
        put(bends, 1, n, whole)
        largest = larger(largest, larger(magnitude(at_end), magnitude(whole)))
        twisted = larger(twisted, magnitude(at_end - whole))
    is_smooth = (ratio * twisted <= smooth * largest) & (at(block.notes, BEFORE, 0) > 0.0)
    over = at(block.notes, OVER, 0) > 0.0
    for n in range(N):
        slope, at_end, whole = last_h * at(f, 0, n), at(bends, 0, n), at(bends, 1, n)
        bend = where(is_smooth, at_end, _lesser(at_end, whole))
        twist = where(is_smooth, at_end - whole, 0.0)
        for i in range(STAGES):
            x = method.nodes[i] * ratio
            put(Z, i, n, where(over, x * (slope + x * (bend + x * twist)), at(Z, i, n)))


@within
def _lesser(a: Lanes, b: Lanes) -> Lanes:
    """Of two numbers of the same sign the one nearer to zero, else zero."""
    return where(a * b > 0.0, where(magnitude(a) < magnitude(b), a, b), 0.0)
