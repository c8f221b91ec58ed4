"""What an integration leaves behind: states at the requested times, arrivals, work."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Work:
    """What each lane cost, (lanes,) integers, and when it stopped.

    Attributes:
        evaluations: right-hand sides, those of the few steps included that are tried with others in
            a row before anybody sees that the lane has stopped. accepted, rejected: steps.
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
        if float(times[0]) == 0.0:
            self.states[:, 0] = start

    def due(self, start: Tensor, end: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The times within (start, end] of attempts (M, P): numbers, positions and indices (E,)."""
        first = torch.searchsorted(self.times, start.contiguous(), right=True)
        count = torch.searchsorted(self.times, end.contiguous(), right=True) - first
        attempt = torch.repeat_interleave(count.flatten())
        # The times of an attempt end where the count so far does.
        shift = (first + count).flatten() - count.flatten().cumsum(0)
        index = shift[attempt] + torch.arange(len(attempt), device=attempt.device)
        return attempt // start.shape[1], attempt % start.shape[1], index

    def write(self, lanes: Tensor, index: Tensor, states: Tensor) -> None:
        self.states[lanes, index] = states

    def stop(self, lanes: Tensor, times: Tensor, states: Tensor) -> None:
        """Lanes that converged at ``times``: their states hold from there on."""
        self.stop_times[lanes] = times
        first = torch.searchsorted(self.times, times, right=True)
        for lane, index, state in zip(lanes.tolist(), first.tolist(), states, strict=True):
            self.states[lane, index:] = state

    def count(self, lanes: Tensor, live: Tensor, good: Tensor, evaluations: Tensor) -> None:
        """The attempts (M, P) of ``lanes``: those that are ``live``, accepted where ``good``.

        The evaluations count whether they are or not: they were made.
        """
        self._attempted[lanes] += live.sum(0)
        self._accepted[lanes] += (good & live).sum(0)
        self.evaluations[lanes] = evaluations[-1]

    def march(self, steps: int, evaluations: int) -> None:
        """A march of every lane in fixed steps."""
        self._attempted[:], self._accepted[:], self.evaluations[:] = steps, steps, evaluations

    def attempts(self, lanes: Tensor) -> Tensor:
        """Attempted steps of ``lanes`` so far."""
        return self._attempted[lanes]

    def work(self, method: str, kernel: str) -> Work:
        rejected = self._attempted - self._accepted
        return Work(self.evaluations, self._accepted, rejected, self.stop_times, method, kernel)
