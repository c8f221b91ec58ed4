"""Adaptive integration of many lanes: each has its own step, error control and stop.

A stepper works on all lanes of the batch at once and reports the attempts that came to an end,
several in a row; here the results go to the record, arrivals are located, and lanes that reached
the end or have converged leave the batch. Nothing here is done for every step, nor does a GPU have
to be waited for at every step: to look costs as much as to step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from flows.arrivals import Levels, locate
from flows.attempt import Attempts, Stepper
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
        most, successor = self.control.max_steps, self.control.successor
        while len(self.lanes):
            spent = self.record.attempts(self.lanes)
            left = most - int(spent.max())
            if left <= 0:
                slowest = int(self.stepper.t.where(spent >= most, torch.inf).argmin())
                self._fail(f"{most} steps were not enough", slowest)
            attempts = self.stepper.advance(left)
            if attempts is None:
                continue
            self._finish(attempts)
            if not len(self.lanes):
                return
            if self.control.progress is not None:
                self.control.progress(float(self.stepper.t.min()) / self.end)
            if successor is not None and self.stepper.stiff(self._left):
                self.stepper = successor(self.stepper, self.coordinates, self.lanes)
                # It is asked nothing: what is left costs a loss of every lane.
                successor = None

    def _finish(self, attempts: Attempts) -> None:
        lanes, coordinates = self.lanes, self.coordinates
        if len(attempts.lanes) < len(lanes):
            lanes, coordinates = lanes[attempts.lanes], coordinates.select(attempts.lanes)
        states = attempts.states.unflatten(-1, self.shape).transpose(0, 1)
        live = attempts.start < self.end
        done = self.stepper.t >= self.end
        if self.control.stop is not None:
            converged = self.control.stop.reached(coordinates, states[:, -1])
            if bool(converged.any()):
                which = converged.nonzero().squeeze(-1)
                live &= self._stop(which, attempts, lanes, coordinates, states, done)
        self.record.count(lanes, live, attempts.good, attempts.evaluations)
        self._outputs(attempts, live, lanes)
        if self.excess.shape[1]:
            self._arrivals(attempts, live, lanes, coordinates, states)
        stuck = self.stepper.stuck()
        if bool(stuck.any()):
            reason = "the step fell below round-off: the state or the field is not finite, or jumps"
            self._fail(reason, int(stuck.nonzero()[0]))
        if bool(done.any()):
            self._leave(done)

    def _stop(
        self,
        which: Tensor,
        attempts: Attempts,
        lanes: Tensor,
        coordinates: Coordinates,
        states: Tensor,
        done: Tensor,
    ) -> Tensor:
        """Stop lanes ``which``, converged by now, in the first state in which they were.

        Returns:
            (M, P) booleans, the attempts up to the one that led there.
        """
        assert self.control.stop is not None
        rows, reached = len(attempts.good), torch.zeros_like(attempts.good)
        there, passed = coordinates.select(which.repeat(rows)), states[which].transpose(0, 1)
        reached[:, which] = self.control.stop.reached(there, passed.flatten(0, 1)).view(rows, -1)
        reached &= attempts.good & (attempts.end < self.end)
        behind = reached.cumsum(0)
        which = (behind[-1] > 0).nonzero().squeeze(-1)
        first = reached.to(torch.uint8).argmax(0)[which]
        self.record.stop(lanes[which], attempts.end[first, which], states[which, first])
        done[attempts.lanes[which]] = True
        return (behind == 0) | (reached & (behind == 1))

    def _outputs(self, attempts: Attempts, live: Tensor, lanes: Tensor) -> None:
        end = attempts.end.where(live, attempts.start)
        number, position, index = self.record.due(attempts.start, end)
        if not len(index):
            return
        start, step = attempts.start[number, position], attempts.step[number, position]
        theta = (self.record.times[index] - start) / step
        states = attempts.within(number, position, theta).unflatten(1, self.shape)
        self.record.write(lanes[position], index, states)

    def _arrivals(
        self,
        attempts: Attempts,
        live: Tensor,
        lanes: Tensor,
        coordinates: Coordinates,
        states: Tensor,
    ) -> None:
        after = self.levels.excess(coordinates, states)
        before = torch.cat([self.excess[attempts.lanes, None], after[:, :-1]], dim=1)
        self.excess[attempts.lanes] = after[:, -1]
        rising = (before < 0) & (after >= 0) & live.mT[..., None, None]
        if not bool(rising.any()):
            return
        rising &= torch.isinf(self.record.arrivals[lanes])[:, None]
        # The first of a mode that rises twice.
        rising &= rising.cumsum(1) == 1
        position, number, fraction, mode = rising.nonzero().unbind(-1)
        if not len(position):
            return
        there = coordinates.select(position)

        def height(theta: Tensor, which: Tensor) -> Tensor:
            inside = attempts.within(number, position, theta).unflatten(1, self.shape)
            return self.levels.excess(there, inside)[which, fraction, mode]

        below, above = (x[position, number, fraction, mode] for x in (before, after))
        theta = locate(height, below, above)
        start, step = attempts.start[number, position], attempts.step[number, position]
        self.record.arrivals[lanes[position], fraction, mode] = start + theta * step

    def _left(self) -> Tensor:
        """(L,): about the flow time that lanes have to go to convergence, inf where it is no end.

        Where both factors of a mode grow at speed 1, what is left of it, e, takes sqrt(e) at most.
        """
        if self.control.stop is None:
            return torch.full_like(self.stepper.t, torch.inf)
        residual = (2 * self.coordinates.loss(self.stepper.y.unflatten(1, self.shape))).sqrt()
        return residual.sqrt()

    def _leave(self, done: Tensor) -> None:
        stay = (~done).nonzero().squeeze(-1)
        self.stepper.select(stay)
        self.coordinates = self.coordinates.select(stay)
        self.lanes, self.excess = self.lanes[stay], self.excess[stay]

    def _fail(self, reason: str, position: int) -> None:
        factors = self.coordinates.lift(self.stepper.y.unflatten(1, self.shape))
        last = (factors[0][position], factors[1][position])
        lane = int(self.lanes[position])
        raise IntegrationError(reason, float(self.stepper.t[position]), lane, last)
