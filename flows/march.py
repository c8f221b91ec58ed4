"""Explicit steps in a row, every lane with lengths of its own, and how long each is to be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from flows.runge_kutta import Method, Velocity
from flows.tolerance import Tolerance


class March(NamedTuple):
    """What M attempts in a row led to.

    Attributes:
        good: (M, L) booleans, whether each step was accepted. step: (M, L), its length.
        times, states: (M, L) and (M, L, N), after it: before it where it was not accepted.
        velocity: (L, N), at the last of the states. planned: (L,), the length of the next step.
    """

    good: Tensor
    step: Tensor
    times: Tensor
    states: Tensor
    velocity: Tensor
    planned: Tensor


@dataclass(frozen=True)
class StepControl:
    """How long the next step of a lane is, from the error of the last.

    Attributes:
        end: the flow time no step goes beyond.
        order: of the solution that is carried on; the error estimate is one below its local error.
    """

    end: float
    order: int
    safety: float = 0.9
    slowest: float = 0.2
    fastest: float = 10.0

    def length(self, t: Tensor, planned: Tensor) -> tuple[Tensor, Tensor]:
        """The step to try, and whether it reaches the end.

        One that nearly does is stretched to it, not followed by a sliver.
        """
        left = self.end - t
        final = planned >= left * (1 - 1e-10)
        return torch.where(final, left, planned), final

    def planned(self, h: Tensor, error: Tensor, good: Tensor, stable: Tensor) -> Tensor:
        """The length of the next step.

        After a rejection it may only shrink, as it does for an error above 1.
        """
        # A state that is not finite has a velocity that is not, and that is part of the estimate.
        factor = self.safety * error.nan_to_num(torch.inf) ** (-1.0 / self.order)
        shorter = h * factor.clamp(self.slowest, self.fastest)
        return torch.where(good, torch.minimum(shorter, stable), shorter)


class Marcher(Protocol):
    """What marches the lanes of a batch, and keeps the stages of the last march."""

    def go(self, count: int, t: Tensor, planned: Tensor, y: Tensor, f: Tensor) -> March:
        """``count`` attempts from y (L, N) at times t (L,), where y' = f."""

    def stages(self, number: Tensor, index: Tensor) -> Tensor:
        """The stages of attempts ``number`` (E,) of lanes ``index`` (E,), (S + 1, E, N).

        A marcher that was told which times are needed has those of attempts that pass one.
        """


class PlainMarcher:
    """Steps by torch, wherever the lanes are.

    Args:
        y: states like those to come. most: how many attempts there may be in a row.
    """

    def __init__(
        self,
        method: Method,
        control: StepControl,
        tolerance: Tolerance,
        velocity: Velocity,
        y: Tensor,
        most: int,
    ) -> None:
        self._method, self._control, self._tolerance = method, control, tolerance
        self._velocity = velocity
        # Claimed once, for fresh pages cost time.
        self._room = y.new_empty(most, method.tableau.stages + 1, *y.shape)

    def go(self, count: int, t: Tensor, planned: Tensor, y: Tensor, f: Tensor) -> March:
        passed = []
        for number in range(count):
            h, final = self._control.length(t, planned)
            step = self._method.step(self._velocity, y, f, h, self._room[number])
            K = step.K
            error = self._method.error(K, h, self._tolerance.scale(y, step.end))
            apart = torch.linalg.vector_norm(step.end - step.previous, dim=-1)
            change = torch.linalg.vector_norm(K[-1] - K[-2], dim=-1)
            good = error <= 1.0
            stable = self._method.stable_step(apart, change)
            planned = self._control.planned(h, error, good, stable)
            t = torch.where(good, torch.where(final, self._control.end, t + h), t)
            moved = good[:, None]
            y, f = torch.where(moved, step.end, y), torch.where(moved, K[-1], f)
            passed.append((good, h, t, y))
        good, steps, times, states = (torch.stack(x) for x in zip(*passed, strict=True))
        return March(good, steps, times, states, f, planned)

    def stages(self, number: Tensor, index: Tensor) -> Tensor:
        return self._room[number, :, index].transpose(0, 1)
