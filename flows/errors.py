"""What an integration raises when it cannot go on."""

from __future__ import annotations

from torch import Tensor


class IntegrationError(RuntimeError):
    """An integration stopped short of its end time.

    Attributes:
        time: flow time of the last good state.
        lane: index of the lane in the flattened batch.
        factors: the last good factors (B, A) of that lane, in ambient coordinates.
    """

    def __init__(self, reason: str, time: float, lane: int, factors: tuple[Tensor, Tensor]) -> None:
        super().__init__(f"{reason} (time {time:.6g}, lane {lane}; see .factors)")
        self.time, self.lane, self.factors = time, lane, factors
