"""What a stepper reports: attempts at a step, finished, of some of the lanes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True)
class Attempt:
    """Finished attempts of P of the L lanes in the batch, good and bad.

    Attributes:
        lanes: (P,), positions in the batch, ascending.
        good: (P,) booleans, whether the step was accepted.
        start, step: (P,), flow time before it and its length; end: (P,), the time after it.
        state: (P, N), after the step.
        within: (index (E,) into the P, theta (E,)) to states (E, N) at start + theta step.
    """

    lanes: Tensor
    good: Tensor
    start: Tensor
    step: Tensor
    end: Tensor
    state: Tensor
    within: Callable[[Tensor, Tensor], Tensor]


class Stepper(Protocol):
    """Lanes on their way: how far each has come, and how it goes on.

    Attributes:
        t: (L,), flow time. y, f: (L, N), the state there and its velocity.
    """

    t: Tensor
    y: Tensor
    f: Tensor

    def attempt(self) -> Attempt | None:
        """Work on every lane of the batch; what came to an end with it, if anything did."""

    def stiff(self) -> bool:
        """Whether another method had better take over."""

    def stuck(self) -> Tensor:
        """(L,) booleans: lanes whose step fell below round-off."""

    def evaluations(self) -> Tensor:
        """(L,), right-hand sides of each lane so far."""

    def select(self, stay: Tensor) -> None:
        """Keep some of the lanes."""
