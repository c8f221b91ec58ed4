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
        self.evaluations, self._attempted, self._accepted = torch.zeros(
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
        first = self._written[lanes]
        beyond = torch.maximum(torch.searchsorted(self.times, reached, right=True), first)
        count = beyond - first
        position = torch.repeat_interleave(count)
        if not len(position):
            return position, position
        self._written[lanes] = beyond
        # The pairs of a lane end where the count so far does, and with the index beyond - 1.
        shift = beyond - count.cumsum(0)
        return position, shift[position] + torch.arange(len(position), device=lanes.device)

    def write(self, lanes: Tensor, index: Tensor, states: Tensor) -> None:
        self.states[lanes, index] = states

    def hold(self, lanes: Tensor, states: Tensor) -> None:
        """Fill the remaining times of converged lanes with their last state."""
        for lane, state in zip(lanes.tolist(), states, strict=True):
            self.states[lane, int(self._written[lane]) :] = state

    def count(self, lanes: Tensor, good: Tensor) -> None:
        """One attempted step of each of ``lanes``, accepted where ``good``."""
        self._attempted[lanes] += 1
        self._accepted[lanes] += good

    def march(self, steps: int, evaluations: int) -> None:
        """A march of every lane in fixed steps."""
        self._attempted[:], self._accepted[:], self.evaluations[:] = steps, steps, evaluations

    def attempts(self, lanes: Tensor) -> Tensor:
        """Attempted steps of ``lanes`` so far."""
        return self._attempted[lanes]

    def work(self, method: str, kernel: str) -> Work:
        rejected = self._attempted - self._accepted
        return Work(self.evaluations, self._accepted, rejected, self.stop_times, method, kernel)
