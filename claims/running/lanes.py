"""A lane: one worker process that runs one claim at a time.

Each lane is a process of its own rather than a place in a pool. When one dies, the claim it was
running is known and no other claim suffers; a broken pool would take all of them down. One job is
a lane too, so that the numbers come from the same surroundings whatever the number of jobs.
"""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from claims.registry import Verdict
from claims.running.crew import Asked
from claims.running.worker import serve

# Of an outcome, by name, all but the claim.
Fields = dict[str, Any]


class Lane:
    """A worker process. ``connection`` becomes readable when it has an answer, or has died.

    ``gpu`` is the number of the one that it computes on, among those that this process sees.
    ``alive`` is false once it was found dead.
    """

    def __init__(self, registry: str, subject: str | None = None, gpu: int | None = None) -> None:
        self.gpu, self.alive = gpu, True
        self._began = 0.0
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        # No daemon, for those may have no processes of their own. It ends with this process anyway.
        self._process = context.Process(target=serve, args=(theirs, registry, subject, gpu))
        self._process.start()
        theirs.close()

    def start(self, claim: str, asked: Asked, processes: int = 1) -> None:
        """Have the claim with this id run, in so many processes if it wants them."""
        self._began = time.perf_counter()
        # A process that died while it was idle is found out, like any other, in ``answer``.
        with suppress(BrokenPipeError):
            self.connection.send((claim, asked, processes))

    def answer(self) -> Fields | float:
        """What came of the claim, or the share of it that is done.

        Where the process died the claim ends in ERROR, with the way it did.
        """
        try:
            answer: Fields | float = self.connection.recv()
        except (EOFError, OSError):
            self._process.join()
            self.alive = False
            ending = f"the worker process died ({_ending(self._process.exitcode)})"
            return in_error(ending, time.perf_counter() - self._began)
        return answer

    def stop(self) -> None:
        """End the process, whatever it is doing; a lane that was stopped stays so."""
        self._process.kill()
        self._process.join()
        self.connection.close()


@contextmanager
def standing_lanes(count: int, registry: str, gpus: int = 0) -> Iterator[list[Lane]]:
    """Lanes that load the registry while the caller does, instead of after it.

    They end with the block. ``gpus`` are shared out among them.
    """
    lanes: list[Lane] = []
    try:
        lanes.extend(Lane(registry, gpu=i % gpus if gpus else None) for i in range(count))
        yield list(lanes)
    finally:
        for lane in lanes:
            lane.stop()


def in_error(reason: str, seconds: float) -> Fields:
    """Of a claim that could not say itself what became of it."""
    return {
        "verdict": Verdict.ERROR,
        "reason": reason,
        "evidence": None,
        "controls": {},
        "seconds": seconds,
        "traceback": None,
    }


def _ending(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        name = signal.Signals(-exit_code).name
        memory = ", perhaps for want of memory, of which fewer --jobs take less"
        return f"killed by {name}{memory if name == 'SIGKILL' else ''}"
    return f"exit code {exit_code}"
