"""Adaptive integration of many lanes: each has its own step, error control and stop.

Lanes advance together, one attempted step each an iteration, so the field is always evaluated on a
batch; a lane that reached the end or has converged leaves the batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from flows.arrivals import Levels, locate
from flows.coordinates import Coordinates
from flows.errors import IntegrationError
from flows.fields import Field
from flows.problem import MatrixFactorization
from flows.recording import Record
from flows.runge_kutta import Method

SAFETY, SLOWEST, FASTEST = 0.9, 0.2, 10.0


@dataclass(frozen=True)
class Convergence:
    """When a lane has converged to ``tolerance`` in its factors.

    Where the optimum fits the target exactly, the residual ||BA - Y||_F says it. Elsewhere the
    gradient does, over the smallest curvature of the optimum, together with a loss below every
    saddle's: a saddle that is passed by slowly is no end.
    """

    tolerance: float
    optimal_loss: float
    curvature: float
    saddle_gap: float

    @classmethod
    def of(cls, problem: MatrixFactorization, tolerance: float) -> Convergence:
        return cls(tolerance, problem.optimal_loss, problem.optimal_curvature, problem.saddle_gap)

    def reached(self, coordinates: Coordinates, states: Tensor) -> Tensor:
        """(L,) booleans."""
        if self.optimal_loss == 0.0:
            return (2 * coordinates.loss(states)).sqrt() <= self.tolerance
        size = torch.linalg.matrix_norm(coordinates.gradient(states))
        small = size <= self.tolerance * self.curvature
        if not bool(small.any()):
            return small
        return small & (coordinates.loss(states) <= self.optimal_loss + 0.5 * self.saddle_gap)


@dataclass(frozen=True)
class Control:
    """Tolerances and limits of an adaptive integration."""

    rtol: float
    atol: float
    stop: Convergence | None
    max_steps: int
    progress: Callable[[float], None] | None


class AdaptiveRun:
    """One integration of ``start`` (L, p + q, r) from 0 to the last of ``record.times``."""

    def __init__(
        self,
        field: Field,
        coordinates: Coordinates,
        start: Tensor,
        method: Method,
        levels: Levels,
        control: Control,
        record: Record,
    ) -> None:
        self.field, self.coordinates, self.method = field, coordinates, method
        self.levels, self.control, self.record = levels, control, record
        self.shape = start.shape[1:]
        self.end = float(record.times[-1])
        self.lanes = torch.arange(start.shape[0], device=start.device)
        self.t = start.new_zeros(start.shape[0])
        self.y = start.flatten(1)
        self.excess = levels.excess(coordinates, start)
        record.arrivals[self.excess >= 0] = 0.0
        self.f = self._velocity(self.y)
        self._check_finite(self.f)
        self.h = self._first_step()
        record.count(self.lanes, 2, 0)
        record.counts[2] = 0

    def to_end(self) -> None:
        """Fill the record, or raise IntegrationError."""
        for _ in range(self.control.max_steps):
            if not len(self.lanes):
                return
            self._step()
            if self.control.progress is not None and len(self.lanes):
                self.control.progress(float(self.t.min()) / self.end)
        if len(self.lanes):
            reason = f"{self.control.max_steps} steps were not enough"
            self._fail(reason, int(self.t.argmin()))

    def _velocity(self, y: Tensor) -> Tensor:
        return self.field.velocity(self.coordinates, y.unflatten(1, self.shape)).flatten(1)

    def _step(self) -> None:
        left = self.end - self.t
        # A step that nearly reaches the end is stretched to it, not followed by a sliver.
        final = self.h >= left * (1 - 1e-10)
        h = torch.where(final, left, self.h)
        step = self.method.step(self._velocity, self.y, self.f, h)
        K, y1 = step.K, step.end
        scale = self.control.atol + self.control.rtol * torch.maximum(self.y.abs(), y1.abs())
        error = self.method.error(K, h, scale)
        error = torch.where(torch.isfinite(y1).all(-1), error, torch.inf).nan_to_num(torch.inf)
        good = error <= 1.0
        t1 = torch.where(final, self.end, self.t + h)

        # The estimate is of the order of the solution carried on, one below its local error.
        factor = SAFETY * error.clamp_min(1e-30) ** (-1.0 / self.method.tableau.order)
        factor = factor.clamp(SLOWEST, FASTEST)
        self.record.count(self.lanes, self.method.tableau.stages, good.long())
        if bool(good.any()):
            self._outputs(good, h, t1, K)
            self._arrivals(good, h, t1, K, y1)
        keep = good[:, None]
        self.y, self.f = torch.where(keep, y1, self.y), torch.where(keep, K[-1], self.f)
        self.t = torch.where(good, t1, self.t)
        # After a rejection the step may only shrink.
        grown = torch.minimum(h * factor, self.method.stable_step(step))
        self.h = torch.where(good, grown, h * factor.clamp_max(1.0))
        stuck = self.h < 1e-14 * self.t.clamp_min(1e-6 * self.end)
        stuck &= self.t < self.end
        if bool(stuck.any()):
            reason = "the step fell below round-off: the state or the field is not finite, or jumps"
            self._fail(reason, int(stuck.nonzero()[0]))
        self._leave(good)

    def _outputs(self, good: Tensor, h: Tensor, t1: Tensor, K: Tensor) -> None:
        position, index = self.record.due(self.lanes, torch.where(good, t1, -1.0))
        if not len(position):
            return
        theta = (self.record.times[index] - self.t[position]) / h[position]
        states = self._dense(position, h, K, theta)
        self.record.write(self.lanes[position], index, states)

    def _arrivals(self, good: Tensor, h: Tensor, t1: Tensor, K: Tensor, y1: Tensor) -> None:
        excess = self.levels.excess(self.coordinates, y1.unflatten(1, self.shape))
        rising = good[:, None, None] & (self.excess < 0) & (excess >= 0)
        if bool(rising.any()):
            rising &= torch.isinf(self.record.arrivals[self.lanes])
            events = rising.nonzero()
            position, fraction, mode = events.unbind(-1)
            coordinates = self.coordinates.select(position)

            def height(theta: Tensor, which: Tensor) -> Tensor:
                states = self._dense(position, h, K, theta)
                return self.levels.excess(coordinates, states)[which, fraction, mode]

            before, after = (x[position, fraction, mode] for x in (self.excess, excess))
            theta = locate(height, before, after)
            arrived = self.t[position] + theta * h[position]
            self.record.arrivals[self.lanes[position], fraction, mode] = arrived
        self.excess = torch.where(good[:, None, None], excess, self.excess)

    def _dense(self, position: Tensor, h: Tensor, K: Tensor, theta: Tensor) -> Tensor:
        states = self.method.interpolate(self.y[position], h[position], K[:, position], theta)
        return states.unflatten(1, self.shape)

    def _leave(self, good: Tensor) -> None:
        done = self.t >= self.end
        if self.control.stop is not None:
            reached = self.control.stop.reached(self.coordinates, self.y.unflatten(1, self.shape))
            converged = good & ~done & reached
            if bool(converged.any()):
                lanes = self.lanes[converged]
                self.record.hold(lanes, self.y[converged].unflatten(1, self.shape))
                self.record.stop_times[lanes] = self.t[converged]
                done = done | converged
        if bool(done.any()):
            stay = (~done).nonzero().squeeze(-1)
            self.coordinates, self.field = self.coordinates.select(stay), self.field.select(stay)
            self.lanes, self.t, self.h = self.lanes[stay], self.t[stay], self.h[stay]
            self.y, self.f, self.excess = self.y[stay], self.f[stay], self.excess[stay]

    def _first_step(self) -> Tensor:
        """Hairer's starting step, from the sizes of the state, its velocity and its change."""
        scale = self.control.atol + self.control.rtol * self.y.abs()

        def size(x: Tensor) -> Tensor:
            return (x / scale).square().mean(-1).sqrt()

        state, speed = size(self.y), size(self.f)
        guess = torch.where((state < 1e-5) | (speed < 1e-5), 1e-6, 0.01 * state / speed)
        guess = guess.clamp_max(self.end)
        turn = size(self._velocity(self.y + guess[:, None] * self.f) - self.f) / guess
        largest = torch.maximum(speed, turn)
        fine = (0.01 / largest.clamp_min(1e-300)) ** (1.0 / self.method.tableau.order)
        h = torch.where(largest <= 1e-15, (1e-3 * guess).clamp_min(1e-6), fine)
        # Where the trial left the field's domain, a short step lets the error control decide.
        h = torch.where(torch.isfinite(turn), h, 1e-3 * guess)
        return torch.minimum(100 * guess, h).clamp_max(self.end)

    def _check_finite(self, velocity: Tensor) -> None:
        bad = ~torch.isfinite(velocity).all(-1)
        if bool(bad.any()):
            self._fail("the velocity is not finite", int(bad.nonzero()[0]))

    def _fail(self, reason: str, position: int) -> None:
        factors = self.coordinates.lift(self.y.unflatten(1, self.shape))
        lane = int(self.lanes[position])
        last = (factors[0][position], factors[1][position])
        raise IntegrationError(reason, float(self.t[position]), lane, last)
