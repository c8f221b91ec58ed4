"""The tolerances of an adaptive integration."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Tolerance:
    """Bounds on each component's local error: atol + rtol times the component."""

    rtol: float
    atol: float

    def scale(self, before: Tensor, after: Tensor) -> Tensor:
        """The bound of every component, from the states around a step."""
        return self.atol + self.rtol * torch.maximum(before.abs(), after.abs())

    def overall(self, states: Tensor) -> Tensor:
        """One bound for all components, by the root mean square of states (L, N); (L,).

        A component of a rotated basis that passes through zero asks for no more than the others.
        """
        return self.atol + self.rtol * states.square().mean(-1).sqrt()

    def slack(self, beta: Tensor) -> Tensor:
        """How much of its tolerance the estimate of a three-stage Radau IIA step may use, (L,).

        The estimate is of order 4 in the step and the error at its end of order 6, so it may be
        rtol^(2/3) where rtol is asked for, with a fifth for safety; but not above six times
        beta, for a state that is off by more may be on the wrong side of an arrival, and chatters.

        Args:
            beta: (L,), smoothing scales.

        Reference: Hairer, Wanner, the code RADAU5.
        """
        return (6 * beta).clamp_max(0.2 * self.rtol ** (2 / 3)) / self.rtol
