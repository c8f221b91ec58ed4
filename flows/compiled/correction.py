"""The kernel of an implicit correction: spectra, metrics and solves of all stages in one pass.

What :meth:`flows.implicit.ImplicitStepper` does with the kernels of the spectrum and of the metric
one after the other, without leaving the blocks in between.
"""

from __future__ import annotations

import numpy as np

from flows.compiled.blocks import BLOCKS, Array, add, entry, load, load_numbers, store
from flows.compiled.lanes import WIDTH, at, every
from flows.compiled.metric import empty_metric, factorise, room_of, solve, store_metric
from flows.compiled.spectrum import empty_spectral, spectrum_of
from flows.compiled.velocity import in_range


@entry
def fill_correction(
    begin: Array,
    increments: Array,
    lengths: Array,
    target: Array,
    beta: Array,
    l2: float,
    decay: float,
    is_tanh: bool,
    fast: float,
    inverse: Array,
    lower: Array,
    lower_inverse: Array,
    proposed: Array,
    values: Array,
    slow: Array,
    basis: Array,
    dual: Array,
    rates: Array,
    states: Array,
    blocks: int = BLOCKS,
) -> bool:
    """Fill ``proposed`` with one correction of the stages, and the rest with the last stage's.

    Args:
        begin: (L, 2, d, r), the state before the step. increments: (S, L, 2, d, r), the stages' Z.
        lengths: (L,), h.
        target: (L, d, d).
        beta: (L,), positive.
        l2, decay: coefficients of the coupled regulariser and of the decoupled decay.
        is_tanh: the smoothing.
        fast: a mode may be slow where its metric exceeds ``fast`` beta.
        inverse, lower, lower_inverse: (S, S), A^-1, L and L^-1 of the method.
        proposed: (S, L, 2, d, r), filled.
        values: (L, 2, r), filled: singular values of the gradients at the last stage.
        slow, basis, dual, rates, states: filled: the parts of the metric there.
        blocks: to be left out.

    Returns:
        False, and nothing is filled, where a beta is not finite or too small.

    All are C-contiguous float64. Lanes that are not finite are NaN.
    """
    count, lanes, _, d, r = increments.shape
    if not in_range(beta):
        return False
    y, start, pair = np.empty((d, d, WIDTH)), np.empty((2, d, r, WIDTH)), np.empty((2, d, r, WIDTH))
    Z, moved = np.empty((count, 2, d, r, WIDTH)), np.empty((count, 2, d, r, WIDTH))
    scale, step, given = (
        np.empty((1, 1, WIDTH)),
        np.empty((1, 1, WIDTH)),
        np.empty((2, d, r, WIDTH)),
    )
    spectral, metric, room = empty_spectral(d, r), empty_metric(d, r), room_of(d, r)
    for first in range(0, lanes, WIDTH):
        present = min(WIDTH, lanes - first)
        load_numbers(beta, first, present, 1.0, scale)
        load_numbers(lengths, first, present, 1.0, step)
        load(target, first, present, y)
        b, h = at(scale, 0, 0), at(step, 0, 0)
        for side in range(2):
            load(begin[:, side], first, present, start[side])
            for stage in range(count):
                load(increments[stage][:, side], first, present, Z[stage, side])
        for stage in range(count):
            for side in range(2):
                pair[side] = start[side]
                add(Z[stage, side], 1.0, pair[side])
            poison = spectrum_of(pair, y, b, l2, is_tanh, spectral)
            for side in range(2):
                given[side] = spectral.velocity[side]
                add(pair[side], -decay, given[side])
                for other in range(count):
                    add(Z[other, side], -inverse[stage, other] / h, given[side])
                for before in range(stage):
                    add(moved[before, side], -lower_inverse[stage, before] / h, given[side])
            if stage == count - 1:
                for side in range(2):
                    store(spectral.s[side], poison, first, present, values[:, side : side + 1])
            reach = lower[stage, stage] * h
            factorise(
                pair,
                spectral.slopes,
                spectral.V,
                spectral.s,
                spectral.p,
                fast * b,
                reach,
                poison,
                room,
                metric,
            )
            solve(metric, lower_inverse[stage, stage] / h, given, room, moved[stage])
        for side in range(2):
            for stage in range(count):
                store(moved[stage, side], every(0.0), first, present, proposed[stage][:, side])
        store_metric(metric, first, present, slow, basis, dual, rates, states)
    return True
