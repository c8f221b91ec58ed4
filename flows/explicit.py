"""Explicit Runge–Kutta steps: every lane attempts one step, with a length of its own."""

from __future__ import annotations

import torch
from torch import Tensor

from flows.attempt import Attempt
from flows.coordinates import Coordinates
from flows.fields import Field
from flows.runge_kutta import Method, Trial
from flows.tolerance import Tolerance

SAFETY, SLOWEST, FASTEST = 0.9, 0.2, 10.0

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
        self._evaluations = 2
        self._strain = torch.zeros_like(self.t, dtype=torch.long)
        self._room = method.room(self.y)

    def attempt(self) -> Attempt:
        left = self.end - self.t
        # A step that nearly reaches the end is stretched to it, not followed by a sliver.
        final = self.h >= left * (1 - 1e-10)
        h = torch.where(final, left, self.h)
        start, y = self.t, self.y
        trial = self._trial(h)
        y1, f1 = trial.end, trial.velocity
        # A state that is not finite has a velocity that is not, and that is part of the estimate.
        error = trial.error.nan_to_num(torch.inf)
        good = error <= 1.0

        # The estimate is of the order of the solution carried on, one below its local error.
        factor = SAFETY * error ** (-1.0 / self.method.tableau.order)
        shorter = h * factor.clamp(SLOWEST, FASTEST)
        # After a rejection the step may only shrink, as it does for an error above 1.
        longer = torch.minimum(shorter, trial.stable)
        t1 = torch.where(final, self.end, start + h)
        self.t, self.h = torch.where(good, t1, start), torch.where(good, longer, shorter)
        if bool(good.all()):
            self.y, self.f = y1, f1
        else:
            self.y, self.f = (torch.where(good[:, None], *x) for x in ((y1, y), (f1, self.f)))
        short = FAR * self.h < self.y.abs().amax(-1)
        self._strain = (self._strain + 1) * short
        self._evaluations += self.method.tableau.stages

        lanes = torch.arange(len(h), device=h.device)
        return Attempt(lanes, good, start, h, t1, y1, trial.within)

    def stiff(self) -> bool:
        """Whether half of the lanes that are left are held up."""
        return int((self._strain >= STEADY).sum()) * 2 >= len(self._strain)

    def stuck(self) -> Tensor:
        return (self.h < 1e-14 * self.t.clamp_min(1e-6 * self.end)) & (self.t < self.end)

    def evaluations(self) -> Tensor:
        return torch.full_like(self._strain, self._evaluations)

    def select(self, stay: Tensor) -> None:
        self.coordinates, self.field = self.coordinates.select(stay), self.field.select(stay)
        self.t, self.h, self._strain = self.t[stay], self.h[stay], self._strain[stay]
        self.y, self.f = self.y[stay], self.f[stay]
        self._room = self.method.room(self.y)

    def _trial(self, h: Tensor) -> Trial:
        if not self.field.steps_compiled:
            return self.method.trial(self._velocity, self.y, self.f, h, self.tolerance, self._room)
        y, f = (x.view(len(x), 2, -1, self.shape[-1]) for x in (self.y, self.f))
        return self.field.compiled_step(self.coordinates, y, f, h, self.method, self.tolerance)

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
