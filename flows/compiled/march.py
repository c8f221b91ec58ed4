"""The kernel of explicit steps in a row: stages, error estimate and how long the next one is."""

from __future__ import annotations

import math

import numpy as np

from flows.compiled.blocks import (
    BLOCKS,
    Array,
    aligned,
    apart,
    choose,
    copy,
    load,
    load_numbers,
    load_pairs,
    store,
    store_pairs,
)
from flows.compiled.entries import entry
from flows.compiled.lanes import (
    WIDTH,
    Lanes,
    Mask,
    at,
    every,
    larger,
    magnitude,
    put,
    root,
    where,
)
from flows.compiled.velocity import in_range, room_of, velocity_of

# end, -1 / order, safety, slowest, fastest, the stability interval, rtol and atol.
Control = tuple[float, float, float, float, float, float, float, float]


@entry
def fill_march(
    begin: Array,
    slopes: Array,
    begin_times: Array,
    planned: Array,
    target: Array,
    beta: Array,
    l2: float,
    decay: float,
    rows: Array,
    errors: Array,
    control: Control,
    needed: Array,
    keeps_all: bool,
    kept: Array,
    states: Array,
    velocity: Array,
    good: Array,
    passed: Array,
    onward: Array,
    start: int,
    stop: int,
    blocks: int = BLOCKS,
) -> bool:
    """Attempt M explicit Runge-Kutta steps in a row of every lane, with lengths of its own.

    Args:
        begin, slopes: (L, 2, d, r), states and velocities to start from. begin_times: (L,).
        planned: (L,), the length of the first step.
        target: (L, d, d).
        beta: (L,), positive.
        l2, decay: coefficients of the coupled regulariser and of the decoupled decay.
        rows: (S + 1, S), what each stage and the end of the step is made of.
        errors: (S + 1,), weights of the error estimate.
        needed: (T,), flow times, ascending.
        kept: (M or more, L, S + 1, 2 d r), filled with the stages of attempts that pass one of the
            times, or of all: to keep them costs as much as a tenth of making them.
        states: (M, L, 2, d, r), filled: after every attempt, moved or not.
        velocity: (L, 2, d, r), filled: at the last of them.
        good: (M, L) booleans, filled. passed: (2, M, L), filled: lengths, and times after it.
        onward: (L,), filled: the length of the next step.
        start, stop: of the lanes, those from ``start``, a multiple of WIDTH, to ``stop``.
        blocks: to be left out.

    Returns:
        False, and nothing is filled, where a beta is not finite or too small.

    All are C-contiguous float64.
    """
    count, lanes, _, d, r = states.shape
    if not in_range(beta):
        return False
    last, size = rows.shape[1], 2 * d * r
    before, chosen = aligned((2, d, r, WIDTH)), aligned((2, d, r, WIDTH))
    y, trial = aligned((d, d, WIDTH)), aligned((2, 2, d, r, WIDTH))
    scale, t, h = aligned((1, 1, WIDTH)), aligned((1, 1, WIDTH)), aligned((1, 1, WIDTH))
    moved, result, room = aligned((1, 1, WIDTH)), aligned((3, 1, WIDTH)), room_of(d, r)
    flat, K = before.reshape(1, size, WIDTH), aligned((last + 1, size, WIDTH))
    parts = K.reshape(last + 1, 2, d, r, WIDTH)
    for first in range(start, stop, WIDTH):
        present = min(WIDTH, stop - first)
        load_numbers(beta, first, present, 1.0, scale)
        load_numbers(begin_times, first, present, control[0], t)
        load_numbers(planned, first, present, 0.0, h)
        load(target, first, present, y)
        load_pairs(begin, first, present, before)
        load_pairs(slopes, first, present, chosen)
        for number in range(count):
            for side in range(2):
                copy(chosen[side], parts[0, side])
            left = control[0] - at(t, 0, 0)
            final = left * (1.0 - 1e-10) <= at(h, 0, 0)
            length = where(final, left, at(h, 0, 0))
            for stage in range(1, last + 1):
                to = trial[stage % 2]
                _move(flat, K, rows[stage], stage, length, to.reshape(1, size, WIDTH))
                velocity_of(to, y, at(scale, 0, 0), l2, room, parts[stage])
                if decay != 0.0:
                    _decay(to.reshape(1, size, WIDTH), decay, K, stage)
            to, previous = trial[last % 2], trial[(last + 1) % 2]
            end, other = to.reshape(1, size, WIDTH), previous.reshape(1, size, WIDTH)
            _measure(flat, end, other, K, errors, length, control[6], control[7], result)
            accepted = at(result, 0, 0) <= 1.0
            for lane in range(present):
                good[number, first + lane] = result[0, 0, lane] <= 1.0
            for side in range(2):
                choose(accepted, to[side], before[side], before[side])
                choose(accepted, parts[last, side], parts[0, side], chosen[side])
            store_pairs(before, first, present, states[number])
            put(h, 0, 0, length)
            store(h, every(0.0), first, present, passed[0, number].reshape(lanes, 1, 1))
            after = where(final, control[0], at(t, 0, 0) + length)
            put(moved, 0, 0, where(accepted, after, at(t, 0, 0)))
            for lane in range(present):
                if keeps_all or _passes(needed, t[0, 0, lane], moved[0, 0, lane]):
                    _keep(K, lane, kept[number, first + lane])
            put(t, 0, 0, at(moved, 0, 0))
            store(t, every(0.0), first, present, passed[1, number].reshape(lanes, 1, 1))
            _plan(result, accepted, control, h)
        store(h, every(0.0), first, present, onward.reshape(lanes, 1, 1))
        store_pairs(chosen, first, present, velocity)
    return True


@apart
def _passes(times: Array, before: float, after: float) -> bool:
    """Whether one of the ascending times is in (before, after]."""
    following = np.searchsorted(times, before, side="right")
    return bool(following < len(times) and times[following] <= after)


@apart
def _keep(K: Array, lane: int, out: Array) -> None:
    """The stages (S + 1, N, WIDTH) of one lane."""
    stages, size, _ = K.shape
    for s in range(stages):
        for n in range(size):
            out[s, n] = K[s, n, lane]


@apart
def _plan(result: Array, accepted: Mask, control: Control, h: Array) -> None:
    """The length h of an attempt becomes that of the next, as ``StepControl.planned`` has it."""
    limit = control[5] * at(result, 1, 0) / at(result, 2, 0)
    stable = where(limit > 0.0, limit, math.inf)
    for lane in range(WIDTH):
        error = result[0, 0, lane]
        factor = control[2] * (error if error == error else math.inf) ** control[1]
        result[0, 0, lane] = min(max(factor, control[3]), control[4])
    shorter = at(h, 0, 0) * at(result, 0, 0)
    bounded = where(stable < shorter, stable, shorter)
    put(h, 0, 0, where(accepted, bounded, shorter))


@apart
def _move(y: Array, K: Array, weights: Array, stages: int, h: Lanes, out: Array) -> None:
    """out = y + h sum over s < stages of weights[s] K[s]."""
    for n in range(y.shape[1]):
        total = every(0.0)
        for s in range(stages):
            total += weights[s] * at(K, s, n)
        put(out, 0, n, at(y, 0, n) + h * total)


@apart
def _decay(y: Array, decay: float, K: Array, stage: int) -> None:
    """K[stage] -= decay y."""
    for n in range(y.shape[1]):
        put(K, stage, n, at(K, stage, n) - decay * at(y, 0, n))


@apart
def _measure(
    y: Array,
    end: Array,
    previous: Array,
    K: Array,
    errors: Array,
    h: Lanes,
    rtol: float,
    atol: float,
    result: Array,
) -> None:
    """result[0, 0] becomes the largest error over its bound, NaN where one is; [1] and [2] the
    distances of the last two stages' states and velocities."""
    last = len(errors) - 1
    worst, spoilt, states, velocities = every(0.0), every(0.0), every(0.0), every(0.0)
    for n in range(y.shape[1]):
        error = every(0.0)
        for s in range(last + 1):
            error += errors[s] * at(K, s, n)
        scale = atol + rtol * larger(magnitude(at(y, 0, n)), magnitude(at(end, 0, n)))
        error = magnitude(error) / scale
        worst = larger(worst, error)
        spoilt += 0.0 * error
        change = at(end, 0, n) - at(previous, 0, n)
        states += change * change
        change = at(K, last, n) - at(K, last - 1, n)
        velocities += change * change
    put(result, 0, 0, worst * h + spoilt)
    put(result, 1, 0, root(states))
    put(result, 2, 0, root(velocities))
