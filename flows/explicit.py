"""Explicit Runge–Kutta steps: every lane attempts one step, with a length of its own."""

from __future__ import annotations

import torch
from torch import Tensor

from flows.attempt import Attempts
from flows.coordinates import Coordinates
from flows.fields import Field
from flows.runge_kutta import Method, PlainTrials, Trials
from flows.tolerance import Tolerance

SAFETY, SLOWEST, FASTEST = 0.9, 0.2, 10.0
# Attempts in a row, before anybody looks at what they led to.
SPAN = 8

# A lane is stiff once STEADY steps in a row, whatever cuts them, are so short that a state which
# moves at speed 1 needs FAR of them to go its own size. A whole stiff trajectory takes some 400
# implicit steps, each at the price of about ten explicit ones.
STEADY, FAR = 25, 4000.0


class ExplicitStepper:
    """Lanes from ``start`` (L, p + q, r) at 0 to ``end``."""

    def __init__(
        self,
        field: Field,
        coordinates: Coordinates,
        start: Tensor,
        method: Method,
        tolerance: Tolerance,
        end: float,
    ) -> None:
        self.field, self.coordinates, self.method = field, coordinates, method
        self.tolerance, self.end = tolerance, end
        self.shape = start.shape[1:]
        self.t = start.new_zeros(start.shape[0])
        self.y = start.flatten(1)
        self.f = self._velocity(self.y)
        self.h = self._first_step()
        self.evaluations = 2
        self._strain = torch.zeros_like(self.t, dtype=torch.long)
        self._trials = self._trials_of_all()

    def advance(self, most: int) -> Attempts:
        count, before = min(most, SPAN), (self.y, self.t)
        good, step, times, states = zip(*map(self._attempt, range(count)), strict=True)
        stages = self.method.tableau.stages
        spent = self.evaluations + stages * torch.arange(1, count + 1, device=self.t.device)
        self.evaluations += stages * count
        h, starts = torch.stack(step), torch.stack([before[1], *times[:-1]])
        begins = (before[0], *states[:-1])

        def within(number: Tensor, index: Tensor, theta: Tensor) -> Tensor:
            y = torch.stack(begins)[number, index]
            K = self._trials.stages(number, index)
            return self.method.interpolate(y, h[number, index], K, theta)

        return Attempts(
            lanes=torch.arange(len(self.t), device=self.t.device),
            good=torch.stack(good),
            start=starts,
            step=h,
            end=torch.stack(times),
            states=torch.stack(states),
            evaluations=spent[:, None].expand(h.shape),
            within=within,
        )

    def _attempt(self, number: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Whether it was good, its length, and the time and the state after it."""
        left = self.end - self.t
        # A step that nearly reaches the end is stretched to it, not followed by a sliver.
        final = self.h >= left * (1 - 1e-10)
        h = torch.where(final, left, self.h)
        y1, f1, error, stable = self._trials.attempt(number, self.y, self.f, h)
        # A state that is not finite has a velocity that is not, and that is part of the estimate.
        error = error.nan_to_num(torch.inf)
        good = error <= 1.0

        # The estimate is of the order of the solution carried on, one below its local error.
        factor = SAFETY * error ** (-1.0 / self.method.tableau.order)
        shorter = h * factor.clamp(SLOWEST, FASTEST)
        # After a rejection the step may only shrink, as it does for an error above 1.
        self.h = torch.where(good, torch.minimum(shorter, stable), shorter)
        self.t = torch.where(good, torch.where(final, self.end, self.t + h), self.t)
        moved = good[:, None]
        self.y, self.f = torch.where(moved, y1, self.y), torch.where(moved, f1, self.f)
        short = FAR * self.h < self.y.abs().amax(-1)
        self._strain = (self._strain + 1) * short
        return good, h, self.t, self.y

    def stiff(self) -> bool:
        """Whether half of the lanes that are left are held up."""
        return int((self._strain >= STEADY).sum()) * 2 >= len(self._strain)

    def stuck(self) -> Tensor:
        return (self.h < 1e-14 * self.t.clamp_min(1e-6 * self.end)) & (self.t < self.end)

    def select(self, stay: Tensor) -> None:
        self.coordinates, self.field = self.coordinates.select(stay), self.field.select(stay)
        self.t, self.h, self._strain = self.t[stay], self.h[stay], self._strain[stay]
        self.y, self.f = self.y[stay], self.f[stay]
        self._trials = self._trials_of_all()

    def _trials_of_all(self) -> Trials:
        y, field = self.y, self.field
        if not field.steps_compiled:
            return PlainTrials(self.method, self._velocity, y, self.tolerance, SPAN)
        shape = (len(y), 2, self.shape[0] // 2, self.shape[1])
        return field.compiled_trials(
            self.coordinates, y.view(shape), self.method, self.tolerance, SPAN
        )

    def _velocity(self, y: Tensor) -> Tensor:
        return self.field.velocity(self.coordinates, y.unflatten(1, self.shape)).flatten(1)

    def _first_step(self) -> Tensor:
        """Hairer's starting step, from the sizes of the state, its velocity and its change."""
        scale = self.tolerance.scale(self.y, self.y)

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
