"""Running many claims, in as many processes as jobs are given."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Mapping, Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import cast

from claims.registry import HERE, Claim, Place, Verdict
from claims.results import Outcome
from claims.running.lanes import Lane, LaneDied


def _ignore(*_: object) -> None:
    return None


def run_claims(
    claims: Sequence[Claim],
    tier: str,
    seed: int,
    jobs: int,
    on_outcome: Callable[[Outcome], object] = _ignore,
    *,
    on_start: Callable[[Claim], object] = _ignore,
    on_share: Callable[[Claim, float], object] = _ignore,
    registry: str = "claims",
    expected_seconds: Mapping[str, float] | None = None,
    store: Path | None = None,
    subject: str | None = None,
    standing: Sequence[Lane] = (),
    place: Place = HERE,
    gpus: int = 0,
) -> tuple[Outcome, ...]:
    """Run ``claims`` and return their outcomes in the order given.

    ``on_outcome`` is called with each outcome as it comes, in the calling process.
    ``on_share`` is told which share of a long claim is done.
    ``registry`` names the module in whose ``REGISTRY`` the workers find the claims by id.
    ``expected_seconds``, by id, has the longest claims started first; those it does not know
    are taken to be the longest. Without it goes what claims declare. A worker that dies costs the
    claim it was running, no other.
    ``store`` is the folder of what claims keep on their way. Jobs beyond the number of claims are
    shared out among them, as processes of their own.
    ``subject`` names the optimiser under test, which every worker loads.
    ``standing`` are lanes of that registry and subject, which are put to work first.
    ``place`` is where they run, and in what dtype; ``gpus``, how many this process sees, are shared
    out among the workers, and claims then have no further processes.
    """
    if jobs < 1:
        raise ValueError(f"jobs must be at least 1, got {jobs}")
    # A worker sees one GPU, which further processes would only have to share.
    processes = 1 if gpus else max(1, jobs // max(1, len(claims)))
    costs = expected_seconds or {claim.id: claim.seconds for claim in claims}
    waiting = deque(sorted(claims, key=lambda c: costs.get(c.id, float("inf")), reverse=True))
    outcomes: dict[str, Outcome] = {}
    lanes: set[Lane] = set()
    idle = deque(standing)
    running: dict[Connection, tuple[Lane, Claim, float]] = {}

    def start_next(lane: Lane) -> None:
        claim = waiting.popleft()
        lane.start(claim, tier, seed, store, processes, place)
        running[lane.connection] = lane, claim, time.perf_counter()
        on_start(claim)

    try:
        while waiting or running:
            while waiting and len(lanes) < jobs:
                lane = idle.popleft() if idle else Lane(registry, subject, _freest(lanes, gpus))
                lanes.add(lane)
                start_next(lane)
            for ready in wait(list(running)):
                lane, claim, began = running[cast(Connection, ready)]
                try:
                    outcome = lane.answer(claim)
                    if isinstance(outcome, float):
                        on_share(claim, outcome)
                        continue
                except LaneDied as ending:
                    lanes.remove(lane)
                    lane.stop()
                    outcome = _died(claim, str(ending), time.perf_counter() - began)
                del running[cast(Connection, ready)]
                # The lane goes on before the outcome is recorded, which takes its time.
                if waiting and lane in lanes:
                    start_next(lane)
                outcomes[claim.id] = outcome
                on_outcome(outcome)
    finally:
        for lane in lanes:
            lane.stop()
    return tuple(outcomes[claim.id] for claim in claims)


def _freest(lanes: Collection[Lane], gpus: int) -> int | None:
    """The GPU that the fewest lanes compute on; None where there are none."""
    taken = Counter(lane.gpu for lane in lanes)
    return min(range(gpus), key=lambda gpu: taken[gpu], default=None)


def _died(claim: Claim, ending: str, seconds: float) -> Outcome:
    reason = f"the worker process died ({ending})"
    return Outcome(claim, Verdict.ERROR, reason, None, {}, seconds, None)
