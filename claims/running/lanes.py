"""A lane: one worker process that runs one claim at a time.

Each lane is a process of its own rather than a place in a pool. When one dies, the claim it was
running is known and no other claim suffers; a broken pool would take all of them down. One job is
a lane too, so that the numbers come from the same surroundings whatever the number of jobs.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from claims.registry import HERE, Claim, Place
from claims.results.recorded import Outcome
from claims.running.worker import serve


class LaneDied(Exception):
    """The worker process ended without an answer."""


class Lane:
    """A worker process. ``connection`` becomes readable when it has an answer, or has died.

    ``gpu`` is the number of the one that it computes on, among those that this process sees.
    """

    def __init__(self, registry: str, subject: str | None = None, gpu: int | None = None) -> None:
        self.gpu = gpu
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        # No daemon, for those may have no processes of their own. It ends with this process anyway.
        self._process = context.Process(target=serve, args=(theirs, registry, subject, gpu))
        self._process.start()
        theirs.close()

    def start(
        self,
        claim: Claim,
        tier: str,
        seed: int,
        store: Path | None = None,
        processes: int = 1,
        place: Place = HERE,
    ) -> None:
        """Have ``claim`` run. Only its id travels: functions need not pickle."""
        # A process that died while it was idle is found out, like any other, in ``answer``.
        with suppress(BrokenPipeError):
            self.connection.send((claim.id, tier, seed, store, processes, place))

    def answer(self, claim: Claim) -> Outcome | float:
        """What came of ``claim``, or the share of it that is done.

        Raises LaneDied with the way the process ended.
        """
        try:
            fields: dict[str, Any] | float = self.connection.recv()
        except (EOFError, OSError):
            self._process.join()
            raise LaneDied(_ending(self._process.exitcode)) from None
        return fields if isinstance(fields, float) else Outcome(claim=claim, **fields)

    def stop(self) -> None:
        """End the process, whatever it is doing; a lane that was stopped stays so."""
        self._process.kill()
        self._process.join()
        self.connection.close()


@contextmanager
def standing_lanes(count: int, registry: str, gpus: int = 0) -> Iterator[list[Lane]]:
    """Lanes that load the registry while the caller does, instead of after it.

    :func:`claims.running.many.run_claims` takes what it needs of them; all end with the block.
    ``gpus`` are shared out among them.
    """
    lanes: list[Lane] = []
    try:
        lanes.extend(Lane(registry, gpu=i % gpus if gpus else None) for i in range(count))
        yield list(lanes)
    finally:
        for lane in lanes:
            lane.stop()


def _ending(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        return f"killed by {signal.Signals(-exit_code).name}"
    return f"exit code {exit_code}"
