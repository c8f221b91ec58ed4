"""What a stepper reports: attempts at a step, finished, of some of the lanes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True)
class Attempts:
    """M finished attempts in a row, good and bad, of P of the L lanes in the batch.

    They hold until the next ``advance``.

    Attributes:
        lanes: (P,), positions in the batch, ascending.
        good: (M, P) booleans, whether the step was accepted.
        start, step: (M, P), flow time before it and its length.
        end: (M, P), the time after it: ``start`` where it was not accepted, or left nothing to do.
        states: (M, P, N), after it, moved or not; before the last row undefined where nothing was
            left to do.
        evaluations: (M, P), right-hand sides of the lane so far.
        within: (number (E,) into the M, index (E,) into the P, theta (E,)) to states (E, N) at
            start + theta step.
    """

    lanes: Tensor
    good: Tensor
    start: Tensor
    step: Tensor
    end: Tensor
    states: Tensor
    evaluations: Tensor
    within: Callable[[Tensor, Tensor, Tensor], Tensor]


class Stepper(Protocol):
    """Lanes on their way: how far each has come, and how it goes on.

    Attributes:
        t: (L,), flow time. y, f: (L, N), the state there and its velocity.
    """

    @property
    def t(self) -> Tensor: ...

    @property
    def y(self) -> Tensor: ...

    @property
    def f(self) -> Tensor: ...

    def advance(self, most: int) -> Attempts | None:
        """Work on every lane of the batch; what came to an end with it, if anything did.

        Args:
            most: attempts a lane that may be made, at least 1.
        """

    def stiff(self, left: Callable[[], Tensor]) -> bool:
        """Whether another method had better take over; to be asked after every ``advance``.

        Args:
            left: the flow time (L,) that each lane has to go to convergence. Asked for only where
                that to the end does not decide.
        """

    def stuck(self) -> Tensor:
        """(L,) booleans: lanes whose step fell below round-off."""

    def select(self, stay: Tensor) -> None:
        """Keep some of the lanes."""
