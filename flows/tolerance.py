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

    def of_lower_order(self, beta: float) -> Tolerance:
        """What a three-stage Radau IIA step has to ask of its estimate to meet this tolerance.

        The estimate is of order 4 in the step and the error at its end of order 6, so it may be
        rtol^(2/3), with a tenth for safety; but not above beta, for a state that is off by more
        may be on the wrong side of an arrival, and chatters.

        Reference: Hairer, Wanner, the code RADAU5.
        """
        rtol = min(0.1 * self.rtol ** (2 / 3), beta)
        return Tolerance(rtol, rtol * self.atol / self.rtol)
