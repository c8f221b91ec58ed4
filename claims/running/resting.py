"""Lanes that rest between two claims of a run, for a while: to load another takes as long."""

from __future__ import annotations

import threading

from claims.running.lanes import Lane

PATIENCE_SECONDS = 5.0


class RestingLanes:
    """Lanes by the run that they belong to and the GPU that they compute on.

    Nobody has to tell that a run has come to its end: what is not taken in time ends by itself.
    """

    def __init__(self) -> None:
        self._resting: dict[Lane, tuple[str, threading.Timer]] = {}
        self._one_at_a_time = threading.RLock()

    def take(self, run: str, gpu: int | None) -> Lane | None:
        """One that is there, no longer at rest."""
        with self._one_at_a_time:
            for lane, (belongs, timer) in self._resting.items():
                if (belongs, lane.gpu) == (run, gpu):
                    timer.cancel()
                    del self._resting[lane]
                    return lane
        return None

    def rest(self, lane: Lane, run: str) -> None:
        """Keep a lane for the next claim of its run."""
        timer = threading.Timer(PATIENCE_SECONDS, self._end, [lane])
        with self._one_at_a_time:
            self._resting[lane] = run, timer
            timer.start()

    def end(self, run: str) -> None:
        """End those of a run now."""
        with self._one_at_a_time:
            for lane, (belongs, timer) in list(self._resting.items()):
                if belongs == run:
                    timer.cancel()
                    self._end(lane)

    def _end(self, lane: Lane) -> None:
        with self._one_at_a_time:
            # One that was taken while the timer went off is another's.
            if self._resting.pop(lane, None) is not None:
                lane.stop()
