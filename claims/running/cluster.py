"""A crew of the workers of a Dask cluster, which somebody started: each thread runs one claim."""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
import tempfile
import time
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from claims.registry import Claim
from claims.results import Outcome
from claims.running.crew import Asked, CrewLost, News
from claims.running.lanes import in_error
from claims.running.on_worker import (
    can_write,
    end_lanes,
    load_here,
    run_there,
    surroundings,
    unlike,
)

if TYPE_CHECKING:
    from distributed import Client, Future

CONNECT_SECONDS = 5.0
# Of its surroundings, what has to be as here.
OF_SCHEDULER = ("python", "dask", "distributed", "code")


class Cluster:
    """All claims are handed to the scheduler at once, or so many as jobs are given.

    A claim that loses its worker, not its own process, is begun anew on another. Threads beyond the
    number of claims are shared out among them as processes, of the worker that each is on.
    """

    def __init__(
        self,
        client: Client,
        threads: int,
        jobs: int | None = None,
        gpus: Sequence[str] = (),
        *,
        shared: bool = False,
    ) -> None:
        self._client, self._most, self._shared = client, jobs or math.inf, shared
        self.jobs, self.gpus = jobs or threads, gpus
        apart = "Its workers cannot write to the results here: parts of a claim are not kept."
        size = f"{threads} thread{'' if threads == 1 else 's'}"
        self.remarks = [f"Cluster of {size}.", *([] if shared else [apart])]

    def run(self, claims: Sequence[Claim], asked: Asked) -> Generator[News, None, None]:
        """As for :meth:`claims.running.crew.Crew.run`."""
        client, name = self._client, f"paper_checks-{uuid4().hex}"
        store = asked.store.absolute() if asked.store is not None and self._shared else None
        processes = 1 if self.gpus else max(1, self.jobs // max(1, len(claims)))
        rest = replace(asked, store=store), processes, surroundings(), name
        named, waiting = {claim.id: claim for claim in claims}, deque(claims)
        began: dict[str, float] = {}
        running: dict[str, Future] = {}
        # What comes from the cluster comes in threads of its client.
        news: SimpleQueue[Any] = SimpleQueue()
        client.subscribe_topic(name, lambda event: news.put(event[1]))
        try:
            while waiting or running:
                while waiting and len(running) < self._most:
                    claim = waiting.popleft()
                    # One name for all, so that the scheduler hands them out as workers get free.
                    key = name, claim.id
                    running[claim.id] = client.submit(run_there, claim.id, *rest, key=key)
                    running[claim.id].add_done_callback(news.put)
                told = news.get()
                if isinstance(told, dict):
                    claim, share = named[told["claim"]], told["share"]
                    # What is late is no news.
                    if claim.id in running and (share is None or claim.id in began):
                        began.setdefault(claim.id, time.perf_counter())
                        yield claim, share
                    continue
                claim = named[told.key[1]]
                if claim.id not in began:
                    began[claim.id] = time.perf_counter()
                    yield claim, None
                fields = self._fields(told, time.perf_counter() - began[claim.id])
                del running[claim.id]
                yield claim, Outcome(claim=claim, **fields)
        finally:
            if client.status == "running":
                client.unsubscribe_topic(name)
                client.cancel(list(running.values()), force=True)
                client.run(end_lanes, name, on_error="ignore")

    def _fields(self, future: Future, seconds: float) -> dict[str, Any]:
        """What came of a claim. Raises CrewLost where the cluster forgot it."""
        from distributed import KilledWorker

        try:
            fields: dict[str, Any] = future.result()
        except Exception as raised:
            if future.status == "error":
                died = isinstance(raised, KilledWorker)
                kind = "the worker process died" if died else type(raised).__name__
                return in_error(f"{kind}: {raised}", seconds)
            why = getattr(raised, "reason", raised)
            raise CrewLost(f"the cluster gave the claims up ({why})") from raised
        return fields


@contextmanager
def on_cluster(address: str, asked: Asked, jobs: int | None = None) -> Iterator[Cluster]:
    """The workers of the scheduler at an address, such as ``tcp://host:8786``.

    Raises ValueError where dask is missing, no scheduler answers, no worker is there, or one is not
    as this machine is.
    """
    client = _connected(address)
    try:
        _require_same(client)
        gpus = _loaded(client, asked)
        threads = client.nthreads()
        if asked.place.device != "cpu":
            _require_a_gpu_each(threads, gpus)
        names = tuple(itertools.chain(*gpus.values()))
        shared = _shares_files(client, asked)
        yield Cluster(client, sum(threads.values()), jobs, names, shared=shared)
    finally:
        _close(client)


def _close(client: Client) -> None:
    """Let go; one that lost its scheduler would log, as an error, that it is kept from looking."""
    log = logging.getLogger("distributed.client")
    level = log.level
    try:
        if client.status != "running":
            log.setLevel(logging.CRITICAL)
        client.close()
    finally:
        log.setLevel(level)


def _connected(address: str) -> Client:
    try:
        from distributed import Client
    except ImportError as missing:
        raise ValueError(
            f"a cluster needs dask ({missing}): pip install -c constraints.txt -e '.[cluster]'"
        ) from missing
    try:
        asyncio.run(_knock(address))
        client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError, TypeError, MemoryError) as refused:
        why = str(refused) or "what listens there does not answer as a scheduler does"
        raise ValueError(
            f"no scheduler at {address!r}: {why}; give the address that `dask scheduler` prints, "
            "or scheduler_address of a cluster, and see that this machine reaches it"
        ) from refused
    try:
        client.wait_for_workers(1, timeout=CONNECT_SECONDS)
    except TimeoutError:
        client.close()
        raise ValueError(
            f"the scheduler at {address} has no workers; start some, `dask worker {address}`"
        ) from None
    return client


async def _knock(address: str) -> None:
    """A client would wait without end for an answer of what is no scheduler.

    It would take the first bytes of another protocol for a length, of any size.
    """
    from distributed import Security, connect

    options = Security().get_connection_args("client")
    knocking = connect(address, timeout=CONNECT_SECONDS, **options)
    comm = await asyncio.wait_for(knocking, CONNECT_SECONDS + 1)
    await comm.close()


def _require_same(client: Client) -> None:
    """Workers compute as this machine does, and the scheduler reads what it hands on to them."""
    failing = "cannot load this code, which has to be installed there"
    found = _on_each(client, failing, surroundings)
    try:
        scheduler = client.run_on_scheduler(surroundings)
    except Exception as raised:
        raise ValueError(f"the scheduler {failing}: {raised}") from raised
    there = {f"the worker {worker}": each for worker, each in found.items()}
    there["the scheduler"] = {name: scheduler.get(name) for name in OF_SCHEDULER}
    here = surroundings()
    for who, its in there.items():
        if differing := unlike(its, {name: here.get(name) for name in its}):
            raise ValueError(f"{who} has {differing}; install the same there, and start it anew")


def _loaded(client: Client, asked: Asked) -> Mapping[str, tuple[str, ...]]:
    """The GPUs of each worker, all of which can load what the claims need."""
    return _on_each(client, "cannot run the claims", load_here, asked)


def _require_a_gpu_each(threads: Mapping[str, int], gpus: Mapping[str, Sequence[str]]) -> None:
    for worker, names in gpus.items():
        if threads[worker] > len(names):
            raise ValueError(
                f"the worker {worker} has {threads[worker]} threads and {len(names)} GPUs, and "
                "every claim is to have one of its own; start it with fewer, --nthreads"
            )


def _on_each(client: Client, failing: str, function: Any, *given: Any) -> dict[str, Any]:
    """What a function returns on each worker."""
    found: dict[str, Any] = client.run(function, *given, on_error="return")
    failed = {worker: what for worker, what in found.items() if isinstance(what, Exception)}
    for worker, what in failed.items():
        among = f" ({len(failed)} of {len(found)} workers)" if len(found) > 1 else ""
        raise ValueError(f"the worker {worker} {failing}{among}: {what}")
    return found


def _shares_files(client: Client, asked: Asked) -> bool:
    """Whether all workers can write to where parts of claims are kept on this machine."""
    if asked.store is None:
        return False
    existing = next(path for path in asked.store.absolute().parents if path.is_dir())
    with tempfile.NamedTemporaryFile(dir=existing) as mark:
        found = _on_each(client, "cannot look for files", can_write, Path(mark.name))
    return all(found.values())
