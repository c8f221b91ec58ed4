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
        self.reason, self.time, self.lane, self.factors = reason, time, lane, factors

    def __reduce__(self) -> tuple[object, ...]:
        # By its message alone it could not be made again on its way out of a process.
        return type(self), (self.reason, self.time, self.lane, self.factors)
