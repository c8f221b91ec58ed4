"""Adaptive integration of many lanes: each has its own step, error control and stop.

A stepper works on all lanes of the batch at once and reports the attempts that came to an end; here
the results go to the record, arrivals are located, and lanes that reached the end or have converged
leave the batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from flows.arrivals import Levels, locate
from flows.attempt import Attempt, Stepper
from flows.convergence import Convergence
from flows.coordinates import Coordinates
from flows.errors import IntegrationError
from flows.recording import Record


@dataclass(frozen=True)
class Control:
    """Limits of an adaptive integration.

    Attributes:
        stop: when a lane has converged; None to go to the end.
        max_steps: attempted steps a lane.
        progress: called with the share of the way behind the slowest lane.
        successor: what takes over from a stepper once its lanes are stiff; None for nothing.
    """

    stop: Convergence | None
    max_steps: int
    progress: Callable[[float], None] | None
    successor: Callable[[Stepper, Coordinates, Tensor], Stepper] | None = None


class AdaptiveRun:
    """One integration from 0 to the last of ``record.times`` by ``stepper``."""

    def __init__(
        self,
        stepper: Stepper,
        coordinates: Coordinates,
        levels: Levels,
        control: Control,
        record: Record,
        shape: torch.Size,
    ) -> None:
        self.stepper, self.coordinates = stepper, coordinates
        self.levels, self.control, self.record = levels, control, record
        self.shape = shape
        self.end = float(record.times[-1])
        self.lanes = torch.arange(len(stepper.t), device=stepper.t.device)
        self.excess = levels.excess(coordinates, stepper.y.unflatten(1, shape))
        record.arrivals[self.excess >= 0] = 0.0
        bad = ~torch.isfinite(stepper.f).all(-1)
        if bool(bad.any()):
            self._fail("the velocity is not finite", int(bad.nonzero()[0]))

    def to_end(self) -> None:
        """Fill the record, or raise IntegrationError."""
        while len(self.lanes):
            attempt = self.stepper.attempt()
            if attempt is None:
                continue
            self._finish(attempt)
            if not len(self.lanes):
                return
            if self.control.progress is not None:
                self.control.progress(float(self.stepper.t.min()) / self.end)
            if self.control.successor is not None and self.stepper.stiff():
                self.stepper = self.control.successor(self.stepper, self.coordinates, self.lanes)
            spent = self.record.attempts(self.lanes) >= self.control.max_steps
            if bool(spent.any()):
                reason = f"{self.control.max_steps} steps were not enough"
                self._fail(reason, int(self.stepper.t.where(spent, torch.inf).argmin()))

    def _finish(self, attempt: Attempt) -> None:
        lanes, coordinates = self.lanes, self.coordinates
        if len(attempt.lanes) < len(lanes):
            lanes, coordinates = lanes[attempt.lanes], coordinates.select(attempt.lanes)
        states = attempt.state.unflatten(1, self.shape)
        self.record.count(lanes, attempt.good)
        done = self.stepper.t >= self.end
        if bool(attempt.good.any()):
            self._outputs(attempt, lanes)
            if self.excess.shape[1]:
                self._arrivals(attempt, lanes, coordinates, states)
            if self.control.stop is not None:
                moving = attempt.good & ~done[attempt.lanes]
                converged = moving & self.control.stop.reached(coordinates, states)
                if bool(converged.any()):
                    self.record.hold(lanes[converged], states[converged])
                    self.record.stop_times[lanes[converged]] = attempt.end[converged]
                    done[attempt.lanes[converged]] = True
        stuck = self.stepper.stuck()
        if bool(stuck.any()):
            reason = "the step fell below round-off: the state or the field is not finite, or jumps"
            self._fail(reason, int(stuck.nonzero()[0]))
        if bool(done.any()):
            self._leave(done)

    def _outputs(self, attempt: Attempt, lanes: Tensor) -> None:
        position, index = self.record.due(lanes, attempt.end.where(attempt.good, -1.0))
        if not len(position):
            return
        theta = (self.record.times[index] - attempt.start[position]) / attempt.step[position]
        states = attempt.within(position, theta).unflatten(1, self.shape)
        self.record.write(lanes[position], index, states)

    def _arrivals(
        self, attempt: Attempt, lanes: Tensor, coordinates: Coordinates, states: Tensor
    ) -> None:
        before, after = self.excess[attempt.lanes], self.levels.excess(coordinates, states)
        good = attempt.good[:, None, None]
        rising = good & (before < 0) & (after >= 0)
        if bool(rising.any()):
            rising &= torch.isinf(self.record.arrivals[lanes])
            events = rising.nonzero()
            position, fraction, mode = events.unbind(-1)
            there = coordinates.select(position)

            def height(theta: Tensor, which: Tensor) -> Tensor:
                inside = attempt.within(position, theta).unflatten(1, self.shape)
                return self.levels.excess(there, inside)[which, fraction, mode]

            below, above = (x[position, fraction, mode] for x in (before, after))
            theta = locate(height, below, above)
            arrived = attempt.start[position] + theta * attempt.step[position]
            self.record.arrivals[lanes[position], fraction, mode] = arrived
        self.excess[attempt.lanes] = torch.where(good, after, before)

    def _leave(self, done: Tensor) -> None:
        self.record.evaluations[self.lanes[done]] = self.stepper.evaluations()[done]
        stay = (~done).nonzero().squeeze(-1)
        self.stepper.select(stay)
        self.coordinates = self.coordinates.select(stay)
        self.lanes, self.excess = self.lanes[stay], self.excess[stay]

    def _fail(self, reason: str, position: int) -> None:
        factors = self.coordinates.lift(self.stepper.y.unflatten(1, self.shape))
        last = (factors[0][position], factors[1][position])
        lane = int(self.lanes[position])
        raise IntegrationError(reason, float(self.stepper.t[position]), lane, last)
