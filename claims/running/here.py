"""A crew of worker processes on this machine."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection, Generator, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from typing import cast

import joblib

from claims.registry import Claim
from claims.results import Outcome
from claims.running import gpus
from claims.running.crew import Asked, News
from claims.running.lanes import Lane, standing_lanes


class Here:
    """As many lanes as jobs. One that dies costs the claim it was running, no other.

    Jobs beyond the number of claims are shared out among them, as processes of their own.
    ``gpus`` are shared out among the lanes, and claims then have no further processes.
    ``standing`` are lanes of the run's registry and subject, which are put to work first.
    """

    def __init__(
        self,
        jobs: int,
        gpus: Sequence[str] = (),
        standing: Sequence[Lane] = (),
        remarks: Sequence[str] = (),
    ) -> None:
        if jobs < 1:
            raise ValueError(f"jobs must be at least 1, got {jobs}")
        self.jobs, self.gpus, self.remarks = jobs, gpus, remarks
        self._standing = standing

    def run(self, claims: Sequence[Claim], asked: Asked) -> Generator[News, None, None]:
        """As for :meth:`claims.running.crew.Crew.run`."""
        # A worker sees one GPU, which further processes would only have to share.
        processes = 1 if self.gpus else max(1, self.jobs // max(1, len(claims)))
        waiting, idle = deque(claims), deque(self._standing)
        lanes: set[Lane] = set()
        running: dict[Connection, tuple[Lane, Claim]] = {}

        def start_next(lane: Lane) -> News:
            claim = waiting.popleft()
            lane.start(claim.id, asked, processes)
            running[lane.connection] = lane, claim
            return claim, None

        try:
            while waiting or running:
                while waiting and len(lanes) < self.jobs:
                    lane = idle.popleft() if idle else self._another(lanes, asked)
                    lanes.add(lane)
                    yield start_next(lane)
                for ready in wait(list(running)):
                    lane, claim = running[cast(Connection, ready)]
                    answer = lane.answer()
                    if isinstance(answer, float):
                        yield claim, answer
                        continue
                    del running[cast(Connection, ready)]
                    if not lane.alive:
                        lanes.remove(lane)
                        lane.stop()
                    elif waiting:
                        # It goes on before the outcome is recorded, which takes its time.
                        yield start_next(lane)
                    yield claim, Outcome(claim=claim, **answer)
        finally:
            for lane in lanes:
                lane.stop()

    def _another(self, lanes: Collection[Lane], asked: Asked) -> Lane:
        return Lane(asked.registry, asked.subject, _freest(lanes, len(self.gpus)))


@contextmanager
def on_this_machine(
    asked: Asked, jobs: int | None = None, *, standing: bool = False
) -> Iterator[Here]:
    """A crew of so many jobs, by default one for each GPU that is asked for, or for each core.

    More than there are of both would wait for each other, in memory of their own: it has as many
    as there are, and says so. Of a ``standing`` one the lanes load the registry from now on.

    Raises ValueError where a GPU is asked for and there is none.
    """
    names = gpus.gpu_names(asked.place.device)
    wanted = jobs or len(names) or cores()
    jobs = min(wanted, max(cores(), len(names)))
    fewer = f"{wanted} jobs are asked for; {jobs} run at once, no more than this machine has cores."
    remarks = [fewer] if jobs < wanted else []
    with standing_lanes(jobs if standing else 0, asked.registry, len(names)) as lanes:
        yield Here(jobs, names, lanes, remarks)


def cores() -> int:
    """How many this process may use, by its affinity and by the quota of its container."""
    return cast(int, joblib.cpu_count())


def _freest(lanes: Collection[Lane], gpus: int) -> int | None:
    """The GPU that the fewest lanes compute on; None where there are none."""
    taken = Counter(lane.gpu for lane in lanes)
    return min(range(gpus), key=lambda gpu: taken[gpu], default=None)
