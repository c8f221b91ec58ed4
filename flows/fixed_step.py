"""Fixed-step integration, all lanes in lockstep: with Euler's method, the optimiser itself."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from flows.arrivals import Levels
from flows.coordinates import Coordinates
from flows.errors import IntegrationError
from flows.fields import Field
from flows.recording import Record
from flows.runge_kutta import Method


def step_count(times: Tensor, step: float) -> Tensor:
    """The whole number of steps to each of ``times``; ValueError where it is not whole.

    A thousandth of a step is forgiven, so that times rounded to float32 still fit.
    """
    counts = (times / step).round()
    off = (counts - times / step).abs() > 1e-3
    if bool(off.any()):
        raise ValueError(
            f"times: whole multiples of step = {step:g} are expected, for there are no iterates "
            f"in between; given {float(times[off][0]):g}"
        )
    return counts.long()


def run_fixed(
    field: Field,
    coordinates: Coordinates,
    start: Tensor,
    method: Method,
    levels: Levels,
    step: float,
    record: Record,
    progress: Callable[[float], None] | None,
) -> None:
    """March ``start`` (L, p + q, r) to the last of ``record.times``; arrivals are at iterates."""
    counts = step_count(record.times, step)
    shape, last = start.shape[1:], int(counts[-1])
    h = start.new_full((start.shape[0],), step)
    y = start.flatten(1)

    def velocity(state: Tensor) -> Tensor:
        return field.velocity(coordinates, state.unflatten(1, shape)).flatten(1)

    def note_arrivals(time: float) -> None:
        above = levels.excess(coordinates, y.unflatten(1, shape)) >= 0
        record.arrivals[above & torch.isinf(record.arrivals)] = time

    # A time may round to the start without being 0, which is all the record itself looks for.
    record.states[:, counts == 0] = start[:, None]
    note_arrivals(0.0)
    f = velocity(y)
    for number in range(1, last + 1):
        step_taken = method.step(velocity, y, f, h)
        y1, f = step_taken.end, step_taken.K[-1]
        finite = torch.isfinite(y1).all(-1)
        if not bool(finite.all()):
            lane = int((~finite).nonzero()[0])
            B, A = coordinates.lift(y.unflatten(1, shape))
            raise IntegrationError(
                f"the state is not finite after step {number} of {step:g}",
                (number - 1) * step,
                lane,
                (B[lane], A[lane]),
            )
        y = y1
        note_arrivals(number * step)
        for index in (counts == number).nonzero().squeeze(-1).tolist():
            record.states[:, index] = y.unflatten(1, shape)
        if progress is not None:
            progress(number / last)
    record.march(last, 1 + last * method.tableau.stages)
