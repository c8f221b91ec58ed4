"""The kernel of explicit steps: all stages, the error estimate and the dense output's stages."""

from __future__ import annotations

import numpy as np

from flows.compiled.blocks import (
    BLOCKS,
    Array,
    apart,
    entry,
    load,
    load_numbers,
    store,
)
from flows.compiled.lanes import WIDTH, Lanes, at, every, larger, magnitude, put, root
from flows.compiled.velocity import in_range, room_of, velocity_of


@entry
def fill_step(
    states: Array,
    velocities: Array,
    lengths: Array,
    target: Array,
    beta: Array,
    l2: float,
    decay: float,
    rows: Array,
    errors: Array,
    rtol: float,
    atol: float,
    stages: Array,
    ends: Array,
    measured: Array,
    blocks: int = BLOCKS,
) -> bool:
    """One explicit Runge-Kutta step of every lane, with a length of its own.

    Args:
        states, velocities: (L, 2, d, r) before the step. lengths: (L,).
        target: (L, d, d).
        beta: (L,), positive.
        l2, decay: coefficients of the coupled regulariser and of the decoupled decay.
        rows: (S + 1, S), what each stage and the end of the step is made of.
        errors: (S + 1,), weights of the error estimate.
        rtol, atol: the bound of a component's error.
        stages: (L / WIDTH rounded up, S + 1, 2 d r, WIDTH), filled: K by blocks of lanes.
        ends: (2, L, 2, d, r), filled: the state after the step and the velocity there.
        measured: (3, L), filled: the largest error over its bound; how far the last two stages'
            states are apart, and their velocities.
        blocks: to be left out.

    Returns:
        False, and nothing is filled, where a beta is not finite or too small.

    All are C-contiguous float64.
    """
    lanes, d, r = states.shape[0], states.shape[2], states.shape[3]
    if not in_range(beta):
        return False
    count_of_stages, size = rows.shape[1], 2 * d * r
    start, y = np.empty((2, d, r, WIDTH)), np.empty((d, d, WIDTH))
    trial = np.empty((2, 2, d, r, WIDTH))
    scale, step, result = np.empty((1, 1, WIDTH)), np.empty((1, 1, WIDTH)), np.empty((3, 1, WIDTH))
    room = room_of(d, r)
    for block in range(len(stages)):
        first = block * WIDTH
        count = min(WIDTH, lanes - first)
        K = stages[block].reshape(count_of_stages + 1, 2, d, r, WIDTH)
        load_numbers(beta, first, count, 1.0, scale)
        load_numbers(lengths, first, count, 0.0, step)
        load(target, first, count, y)
        for side in range(2):
            load(states[:, side], first, count, start[side])
            load(velocities[:, side], first, count, K[0, side])
        h = at(step, 0, 0)
        for stage in range(1, count_of_stages + 1):
            to = trial[stage % 2]
            _move(
                start.reshape(1, size, WIDTH),
                stages[block],
                rows[stage],
                stage,
                h,
                to.reshape(1, size, WIDTH),
            )
            velocity_of(to, y, at(scale, 0, 0), l2, room, K[stage])
            if decay != 0.0:
                _decay(to.reshape(1, size, WIDTH), decay, stages[block], stage)
        to, previous = trial[count_of_stages % 2], trial[(count_of_stages + 1) % 2]
        _measure(
            start.reshape(1, size, WIDTH),
            to.reshape(1, size, WIDTH),
            previous.reshape(1, size, WIDTH),
            stages[block],
            errors,
            h,
            rtol,
            atol,
            result,
        )
        for side in range(2):
            store(to[side], every(0.0), first, count, ends[0][:, side])
            store(K[count_of_stages, side], every(0.0), first, count, ends[1][:, side])
        for which in range(3):
            for lane in range(count):
                measured[which, first + lane] = result[which, 0, lane]
    return True


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
