"""What a Dask worker does for a run: each claim in a lane, a process of its own.

No claim runs in the worker's own process, which loads no torch. So neither its threads nor what
else it has run matter to the numbers, a claim that dies takes its lane alone, and one that is
called off ends at once. Lanes go on with the next claim, as they do where there is no cluster.
"""

from __future__ import annotations

import asyncio
import itertools
import multiprocessing
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from claims.results.provenance import ROOMS, versions
from claims.running.crew import Asked
from claims.running.gpus import gpu_names
from claims.running.lanes import Fields, Lane
from claims.running.resting import RestingLanes
from claims.selection import load_registry
from simulate.fingerprint import source_digest

if TYPE_CHECKING:
    from distributed import Worker

# The worker's own process keeps what it has loaded, and its lanes load what there is by then.
LOADED = source_digest(ROOMS)
RESTING = RestingLanes()
# How soon a claim that nobody waits for any more ends.
BEAT_SECONDS = 0.5
# Shares of a claim's work are told by steps of this size: they all pass through the scheduler.
STEP = 0.01


class NotAsked(Exception):
    """The claim was called off, or is not to run here."""


def surroundings() -> dict[str, str]:
    """What the numbers of claims that run here hang on, by name: versions, and our code."""
    wire = {name: version(name) for name in ("dask", "distributed")}
    code = LOADED[:12] if source_digest(ROOMS) == LOADED else "that changed since it was loaded"
    return versions() | wire | {"code": code}


def unlike(there: Mapping[str, str | None], here: Mapping[str, str | None]) -> str:
    """In what surroundings differ, in words; nothing where they are the same."""
    return ", ".join(
        f"{name} {there.get(name)} (here {here.get(name)})"
        for name in sorted({*there, *here})
        if there.get(name) != here.get(name)
    )


async def load_here(asked: Asked) -> tuple[str, ...]:
    """Load what claims of a run need, in a process that ends, and name the GPUs that it sees.

    Raises what is raised on the way: ValueError where there is no such subject or no GPU.
    """
    _may_have_children()
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return await asyncio.get_running_loop().run_in_executor(process, _load, asked)


def _load(asked: Asked) -> tuple[str, ...]:
    from claims.subject import load_subject

    load_registry(asked.registry)
    if asked.subject is not None:
        load_subject(asked.subject)
    return gpu_names(asked.place.device)


def can_write(mark: Path) -> bool:
    """Whether a file of the machine that asks is here too, and can be written."""
    try:
        with mark.open("r+b"):
            return True
    except OSError:
        return False


def run_there(
    claim: str, asked: Asked, processes: int, expected: Mapping[str, str], run: str
) -> Fields:
    """Run the claim with this id as a task of Dask; what comes of it, all but the claim itself.

    As an event of the ``run`` it is told that the claim begins, and which share of it is done. It
    has at most as many ``processes`` as the worker has threads.

    Raises NotAsked where the surroundings are not those that are expected, as they may be of a
    worker that came late, and where the claim is called off.
    """

    differing = unlike(surroundings(), expected)
    if differing:
        raise NotAsked(f"this worker has {differing}")
    _may_have_children()
    with _gpu(asked.place.device) as gpu:
        lane = RESTING.take(run, gpu) or Lane(asked.registry, asked.subject, gpu)
        try:
            fields = _run_in(lane, claim, asked, processes, run)
        except BaseException:
            lane.stop()
            raise
        if lane.alive:
            RESTING.rest(lane, run)
        else:
            lane.stop()
    return fields


def end_lanes(run: str) -> None:
    """The run is over: nothing of it is to be left on this worker."""
    RESTING.end(run)


def _run_in(lane: Lane, claim: str, asked: Asked, processes: int, run: str) -> Fields:
    from distributed import get_worker

    worker = get_worker()
    key, told = worker.get_current_task(), 0.0
    lane.start(claim, asked, min(processes, worker.state.nthreads))
    worker.log_event(run, {"claim": claim, "share": None})
    while True:
        answered = lane.connection.poll(BEAT_SECONDS)
        _require_wanted(worker, key)
        if not answered:
            continue
        answer = lane.answer()
        if not isinstance(answer, float):
            return answer
        if answer >= told + STEP:
            told = answer
            worker.log_event(run, {"claim": claim, "share": told})


def _require_wanted(worker: Worker, key: Any) -> None:
    """Dask cannot end what runs in a thread: it only forgets it."""
    from distributed import Status

    task = worker.state.tasks.get(key)
    if task is None or task.state != "executing":
        raise NotAsked("the claim was called off")
    if worker.status in (Status.closing, Status.closed, Status.failed):
        raise NotAsked("the worker closes")


def _may_have_children() -> None:
    """Undo what a nanny does to its worker, a daemon, which would be refused them."""
    multiprocessing.current_process().daemon = False


_taken: set[int] = set()
_taking = threading.Lock()


@contextmanager
def _gpu(device: str) -> Iterator[int | None]:
    """The first GPU that no other claim on this worker has; None on the CPU."""
    if device == "cpu":
        yield None
        return
    with _taking:
        gpu = next(number for number in itertools.count() if number not in _taken)
        _taken.add(gpu)
    try:
        yield gpu
    finally:
        with _taking:
            _taken.remove(gpu)
