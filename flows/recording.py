"""What an integration leaves behind: states at the requested times, arrivals, work."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Work:
    """What each lane cost, (lanes,) integers, and when it stopped.

    Attributes:
        evaluations: right-hand sides. accepted, rejected: steps.
        stop_times: flow time at which the lane was converged, inf where it ran to the end.
        method, kernel: what "auto" came down to.
    """

    evaluations: Tensor
    accepted: Tensor
    rejected: Tensor
    stop_times: Tensor
    method: str
    kernel: str


class Record:
    """Buffers of one integration over ``lanes`` lanes.

    Attributes:
        states: (lanes, T, p + q, r).
        arrivals: (lanes, F, k), inf until a mode reached its level.
        evaluations: (lanes,), right-hand sides.
    """

    def __init__(self, start: Tensor, times: Tensor, fractions: int, modes: int) -> None:
        lanes = start.shape[0]
        self.times = times
        self.states = start.new_full((lanes, len(times), *start.shape[1:]), torch.nan)
        self.arrivals = start.new_full((lanes, fractions, modes), torch.inf)
        self.evaluations, self._accepted, self._rejected = torch.zeros(
            3, lanes, dtype=torch.long, device=start.device
        )
        self.stop_times = start.new_full((lanes,), torch.inf)
        self._written = torch.zeros(lanes, dtype=torch.long, device=start.device)
        if float(times[0]) == 0.0:
            self.states[:, 0] = start
            self._written += 1

    def due(self, lanes: Tensor, reached: Tensor) -> tuple[Tensor, Tensor]:
        """The pairs (position in ``lanes``, index of a time) now to be written.

        ``reached`` (len(lanes),) is the flow time up to which each lane's state is known; the
        pairs count as written.
        """
        upto = torch.searchsorted(self.times, reached, right=True)
        first = self._written[lanes]
        count = (upto - first).clamp_min(0)
        position = torch.repeat_interleave(torch.arange(len(lanes), device=lanes.device), count)
        offset = torch.arange(len(position), device=lanes.device)
        start = count.cumsum(0) - count
        index = first[position] + offset - start[position]
        self._written[lanes] = torch.maximum(first, upto)
        return position, index

    def write(self, lanes: Tensor, index: Tensor, states: Tensor) -> None:
        self.states[lanes, index] = states

    def hold(self, lanes: Tensor, states: Tensor) -> None:
        """Fill the remaining times of converged lanes with their last state."""
        for lane, state in zip(lanes.tolist(), states, strict=True):
            self.states[lane, int(self._written[lane]) :] = state

    def count(self, lanes: Tensor, good: Tensor) -> None:
        """One attempted step of each of ``lanes``, accepted where ``good``."""
        self._accepted[lanes] += good
        self._rejected[lanes] += ~good

    def march(self, steps: int, evaluations: int) -> None:
        """A march of every lane in fixed steps."""
        self._accepted[:], self.evaluations[:] = steps, evaluations

    def attempts(self, lanes: Tensor) -> Tensor:
        """Attempted steps of ``lanes`` so far."""
        return self._accepted[lanes] + self._rejected[lanes]

    def work(self, method: str, kernel: str) -> Work:
        return Work(
            self.evaluations, self._accepted, self._rejected, self.stop_times, method, kernel
        )
