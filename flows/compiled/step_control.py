"""The step control of implicit steps in the kernel: numbers of one lane after the other.

What :mod:`flows.implicit` does with tensors of all lanes, by the same :class:`flows.rules.Rules`.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import numpy as np

from flows.compiled.blocks import Array, apart
from flows.compiled.lanes import WIDTH
from flows.rules import STAGES, Rules
from flows.underway import UNKNOWN

# The least of the normal numbers, as torch.finfo has it.
SMALLEST_STEP: Final = 2.0**-1022

# Rows of what a block notes of its lanes: the length of the step; whether the lane is at work; the
# size of the correction; whether the step is over, and good; its error; whether there was a step
# before, and its length.
LENGTH, WORKING, SIZE, OVER, GOOD, ERROR, BEFORE, LAST = range(8)
NOTES: Final = 8


class Underway(NamedTuple):
    """What :class:`flows.underway.Underway` has of every lane, by its names."""

    t: Array
    h: Array
    target: Array
    planned: Array
    arrival: Array
    slack: Array
    size: Array
    last_h: Array
    last_error: Array
    has_last: Array
    rejections: Array
    correction: Array
    rises: Array
    contraction: Array
    evaluations: Array
    singular_values: Array
    y: Array
    f: Array
    Z: Array
    last_Z: Array
    left: Array
    vectors: Array
    grams: Array
    weights: Array
    basis: Array
    dual: Array
    rates: Array
    states: Array


class Ended(NamedTuple):
    """What became of up to M steps of every lane.

    Attributes:
        made: (L,), how many there are.
        good: (M, L). start, step, end: (M, L), flow times. evaluations: (M, L).
        states: (M, L, 2, d, r), after the step. increments: (M, S, L, 2, d, r), its stages.
    """

    made: Array
    good: Array
    start: Array
    step: Array
    end: Array
    evaluations: Array
    states: Array
    increments: Array


@apart
def begin_correction(
    now: Underway, ended: Ended, end: float, most: int, first: int, present: int, notes: Array
) -> bool:
    """Note who is at work; whether anybody is."""
    found = False
    for lane in range(WIDTH):
        n = first + lane
        working = lane < present and now.t[n] < end and ended.made[n] < most
        found = found or working
        notes[WORKING, 0, lane] = 1.0 if working else 0.0
        # A lane that is not there, or has come to its end, has no step.
        notes[LENGTH, 0, lane] = now.h[n] if working else 1.0
    return found


@apart
def judge(now: Underway, rules: Rules, first: int, present: int, notes: Array) -> bool:
    """Whose iteration is over, and whether it has settled (GOOD, for now); whether any is over."""
    found = False
    for lane in range(WIDTH):
        notes[OVER, 0, lane], notes[GOOD, 0, lane] = 0.0, 0.0
        if notes[WORKING, 0, lane] == 0.0:
            continue
        n = first + lane
        size = notes[SIZE, 0, lane] / now.slack[n]
        if now.correction[n] > 0:
            now.contraction[n] = ratio = size / now.size[n]
        else:
            ratio = min(max(now.contraction[n], rules.quickest), UNKNOWN)
        remainder = min(1.0 / now.slack[n], rules.remainder)
        now.size[n] = size
        now.correction[n] += 1
        now.evaluations[n] += STAGES
        if ratio > 1.0:
            now.rises[n] += 1
        bound = remainder * min(max(1.0 / ratio - 1.0, 0.1), 10.0)
        is_small = size <= bound and ratio < 0.9 and now.rises[n] == 0
        settled = is_small or size <= 0.1 * remainder
        hopeless = now.correction[n] >= rules.corrections or now.rises[n] >= 2
        if settled or hopeless or not math.isfinite(size):
            found = True
            notes[OVER, 0, lane] = 1.0
            notes[GOOD, 0, lane] = 1.0 if settled else 0.0
    return found


@apart
def conclude(
    now: Underway, ended: Ended, rules: Rules, first: int, present: int, notes: Array
) -> None:
    """The step control: accept or reject, and plan the length of the next step."""
    for lane in range(present):
        if notes[OVER, 0, lane] == 0.0:
            continue
        n, settled = first + lane, notes[GOOD, 0, lane] > 0.0
        error = notes[ERROR, 0, lane] / now.slack[n]
        if not math.isfinite(error):
            error = math.inf
        good = settled and error <= 1.0
        h, power, least = now.h[n], 1.0 / rules.order, max(error, 1e-8)
        factor = rules.safety * least**-power
        up = factor
        if now.has_last[n]:
            trend = factor * (h / now.last_h[n]) * (now.last_error[n] / least) ** power
            up = min(factor, trend)
        if now.rejections[n] > 0:
            up = min(up, 1.0)
        up = min(max(up, 0.2), rules.fastest)
        down = max(min(factor, 0.9 if now.rejections[n] == 0 else 0.5), rules.slowest)
        new = h * (up if good else (down if settled else rules.after_failure))
        is_cut = good and h < now.planned[n] and up >= 1.0
        now.planned[n] = max(new, now.planned[n]) if is_cut else new
        row = ended.made[n]
        ended.good[row, n], ended.step[row, n], ended.start[row, n] = good, h, now.t[n]
        ended.evaluations[row, n] = now.evaluations[n]
        if not good:
            now.contraction[n] = UNKNOWN
        if good:
            now.last_h[n], now.last_error[n], now.has_last[n] = h, max(error, 1e-2), True
            now.rejections[n], now.t[n] = 0, now.target[n]
        else:
            now.rejections[n] += 1
        ended.end[row, n] = now.t[n]
        notes[GOOD, 0, lane] = 1.0 if good else 0.0


@apart
def look_ahead(
    now: Underway,
    rules: Rules,
    s: Array,
    beta: Array,
    first: int,
    present: int,
    notes: Array,
    ordered: Array,
) -> None:
    """When a singular value of a gradient is beyond zero, after steps that are good.

    Args:
        s: (2, 1, r, WIDTH), the singular values of both gradients at the end of the step.
        ordered: (2 r,), scratch.
    """
    r = s.shape[2]
    for lane in range(present):
        if notes[GOOD, 0, lane] == 0.0:
            continue
        n, soonest = first + lane, math.inf
        for side in range(2):
            for j in range(r):
                value, k = s[side, 0, j, lane], side * r + j
                while k > 0 and ordered[k - 1] > value:
                    ordered[k] = ordered[k - 1]
                    k -= 1
                ordered[k] = value
        for j in range(2 * r):
            rate = (now.singular_values[n, j] - ordered[j]) / notes[LENGTH, 0, lane]
            if rate > 0.0:
                soonest = min(soonest, (ordered[j] + rules.close * beta[0, 0, lane]) / rate)
            now.singular_values[n, j] = ordered[j]
        now.arrival[n] = soonest


@apart
def plan(now: Underway, rules: Rules, times: Array, first: int, present: int, notes: Array) -> None:
    """The length of the next step; ``times``, ascending, are those that steps have to end at."""
    for lane in range(present):
        if notes[OVER, 0, lane] == 0.0:
            continue
        n = first + lane
        planned = min(now.planned[n], rules.approach * now.arrival[n])
        upcoming = min(np.searchsorted(times, now.t[n], side="right"), len(times) - 1)
        left = times[upcoming] - now.t[n]
        is_cut = planned >= left * (1.0 - 1e-10)
        h = max(left if is_cut else planned, SMALLEST_STEP)
        now.planned[n], now.h[n] = planned, h
        now.target[n] = times[upcoming] if is_cut else now.t[n] + h
        now.correction[n], now.rises[n] = 0, 0
        notes[LENGTH, 0, lane] = h
        notes[BEFORE, 0, lane] = 1.0 if now.has_last[n] else 0.0
        notes[LAST, 0, lane] = now.last_h[n]
