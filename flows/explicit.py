"""Explicit Runge–Kutta steps: every lane attempts one step, with a length of its own."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from flows.attempt import Attempts
from flows.coordinates import Coordinates
from flows.fields import Field
from flows.march import Marcher, PlainMarcher, StepControl
from flows.runge_kutta import Method
from flows.tolerance import Tolerance

# Attempts in a row, before anybody looks at what they led to.
SPAN = 8

# A lane is stiff once, after STEADY spans in a row, its steps are so short that FAR of them neither
# bring it to its end nor across its own size at speed 1: a small state takes short steps, stiff or
# not. A whole stiff trajectory takes 100 to 400 implicit steps at rtol = TIGHT, each at the price
# of two to four explicit ones; and more steps below it, for their estimate, of order 4, may be
# rtol^(2/3).
STEADY, FAR, TIGHT = 3, 800.0, 1e-6


class ExplicitStepper:
    """Lanes from ``start`` (L, p + q, r) at 0 to ``end``.

    Args:
        needed: the ascending flow times at which states within attempts are asked for; None where
            they may be asked for at any.
    """

    def __init__(
        self,
        field: Field,
        coordinates: Coordinates,
        start: Tensor,
        method: Method,
        tolerance: Tolerance,
        end: float,
        needed: Tensor | None = None,
    ) -> None:
        self.field, self.coordinates, self.method = field, coordinates, method
        self.tolerance, self.end, self.needed = tolerance, end, needed
        self.far = FAR * max(1.0, TIGHT / tolerance.rtol) ** (1 / 6)
        self.shape = start.shape[1:]
        self.t = start.new_zeros(start.shape[0])
        self.y = start.flatten(1)
        self.f = self._velocity(self.y)
        self.h = self._first_step()
        self.evaluations = 2
        self._strain = torch.zeros_like(self.t, dtype=torch.long)
        self._marcher = self._marcher_of_all()

    def advance(self, most: int) -> Attempts:
        count, start, begin = min(most, SPAN), self.t, self.y
        march = self._marcher.go(count, self.t, self.h, self.y, self.f)
        self.t, self.y = march.times[-1], march.states[-1]
        self.f, self.h = march.velocity, march.planned
        stages = self.method.tableau.stages
        spent = self.evaluations + stages * torch.arange(1, count + 1, device=self.t.device)
        self.evaluations += stages * count

        def within(number: Tensor, index: Tensor, theta: Tensor) -> Tensor:
            before = march.states[number - 1, index]
            y = torch.where(number[:, None] > 0, before, begin[index])
            K = self._marcher.stages(number, index)
            return self.method.interpolate(y, march.step[number, index], K, theta)

        return Attempts(
            lanes=torch.arange(len(self.t), device=self.t.device),
            good=march.good,
            start=torch.cat([start[None], march.times[:-1]]),
            step=march.step,
            end=march.times,
            states=march.states,
            evaluations=spent[:, None].expand(march.step.shape),
            within=within,
        )

    def stiff(self, left: Callable[[], Tensor]) -> bool:
        """Whether half of the lanes that are left are held up."""
        reach = self.far * self.h
        short = reach < torch.minimum(self.end - self.t, self.y.abs().amax(-1))
        if bool(short.any()):
            short &= reach < left()
        self._strain = (self._strain + 1) * short
        return int((self._strain >= STEADY).sum()) * 2 >= len(self._strain)

    def stuck(self) -> Tensor:
        return (self.h < 1e-14 * self.t.clamp_min(1e-6 * self.end)) & (self.t < self.end)

    def select(self, stay: Tensor) -> None:
        self.coordinates, self.field = self.coordinates.select(stay), self.field.select(stay)
        self.t, self.h, self._strain = self.t[stay], self.h[stay], self._strain[stay]
        self.y, self.f = self.y[stay], self.f[stay]
        self._marcher = self._marcher_of_all()

    def _marcher_of_all(self) -> Marcher:
        y, field, tolerance = self.y, self.field, self.tolerance
        control = StepControl(self.end, self.method.tableau.order)
        if not field.marches_compiled:
            return PlainMarcher(self.method, control, tolerance, self._velocity, y, SPAN)
        pairs = y.view(len(y), 2, self.shape[0] // 2, self.shape[1])
        return field.compiled_marcher(
            self.coordinates, self.method, control, tolerance, pairs, SPAN, self.needed
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
