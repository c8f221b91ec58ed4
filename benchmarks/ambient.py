"""One flow in larger and larger matrices: the time and the memory of ``integrate`` by itself.

Every size carries the same flow over by orthonormal columns, so what is done in reduced coordinates
is the same and the 64 x 64 reference serves them all. Each size has a fresh process, for the
peak of a process cannot be told apart from what ran in it before.
"""

from __future__ import annotations

import multiprocessing
import re
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.accuracy import largest_error
from benchmarks.case import Factors, FlowCase
from benchmarks.measuring import measure
from benchmarks.peers.by_flows import trajectory
from benchmarks.row import Row
from benchmarks.study import Session, Study
from flows import Trajectory


@dataclass(frozen=True)
class Probe:
    """What the process of one size found.

    Attributes:
        seconds: best of the repeats, from problem and starts to the trajectory; nothing is lifted.
        memory: bytes at the peak beyond what was held before; None where the system does not say.
        evaluations: mean over seeds.
        factors: B (S, T, m, r) and A (S, T, r, n) of the core case.
        outside: the largest entry of the factors outside of the core's spans.
    """

    seconds: float
    memory: int | None
    evaluations: float
    factors: Factors
    outside: float


def grow(study: Study, session: Session) -> Iterator[Row]:
    """Ours at every size, at the tolerance that the core case needs."""
    own, task = study.contestants[0], session.task(study.settings[0], study.ladder)
    # Errors are alike at every size, but for round-off: the tolerance is found once, at the core.
    core = replace(task, case=task.case.core, repeats=1)
    at_core = measure(own, core, task.case.error_bound)
    for setting in study.settings:
        if setting.case.core != core.case:
            raise ValueError(f"{setting.name}: {core.case} is expected at the core of every size")
        found = replace(at_core, setting=setting.name)
        if not found.counts:
            yield replace(found, seconds=None)
            continue
        session.say(f"{setting.name}: {own.name}, rtol {found.rtol:.0e}, in its own process")
        try:
            got = in_fresh_process(
                setting.case, task.seeds, found.rtol, session.repeats, session.threads
            )
        except Exception as failure:  # this size has failed; the others go on
            remark = f"{type(failure).__name__}: {failure}"
            yield replace(found, error=float("inf"), seconds=None, remark=remark)
            continue
        yield replace(
            found,
            error=max(largest_error(got.factors, task.reference.factors), got.outside),
            seconds=got.seconds,
            evaluations=got.evaluations,
            memory=got.memory,
            remark="" if got.memory is not None else "memory: the system does not tell the peak",
        )


def in_fresh_process(
    case: FlowCase, seeds: Sequence[int], rtol: float, repeats: int, threads: int = 1
) -> Probe:
    """:func:`probe` in a process of its own."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(probe, case, seeds, rtol, repeats, threads).result()


def probe(
    case: FlowCase, seeds: Sequence[int], rtol: float, repeats: int, threads: int = 1
) -> Probe:
    """Build problem and starts, warm up on one seed of the core, then measure."""
    torch.set_num_threads(threads)
    _, start = case.problem, case.starts(seeds)
    trajectory(case.core, case.core.starts(seeds[:1]), rtol)
    before = held_since_reset()
    seconds = []
    for repeat in range(repeats):
        began = time.perf_counter()
        found = trajectory(case, start, rtol)
        seconds.append(time.perf_counter() - began)
        if repeat == 0:
            peak = peak_bytes()
    memory = None if before is None or peak is None else peak - before
    evaluations = float(found.work.evaluations.double().mean())
    return Probe(min(seconds), memory, evaluations, *carried_back(case, found))


def carried_back(case: FlowCase, found: Trajectory) -> tuple[Factors, float]:
    """The factors in the core, P^T B and A Q, and the largest entry of what that leaves out."""
    P, Q = case.embedding
    left, right, outside = [], [], 0.0
    # Lane by lane: all lanes at all times would not fit.
    for lane in range(len(found.states)):
        coordinates = found.coordinates.select(torch.tensor([lane]))
        B, A = coordinates.lift(found.states[lane : lane + 1])
        b, a = P.mT @ B, A @ Q
        outside = max(outside, float((B - P @ b).abs().max()), float((A - a @ Q.mT).abs().max()))
        left.append(b[0].numpy())
        right.append(a[0].numpy())
    return (np.stack(left), np.stack(right)), outside


def held_since_reset() -> int | None:
    """Let the peak start from here; the bytes that are held now, or None where that cannot be."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return None
    return peak_bytes()


def peak_bytes() -> int | None:
    """The process's largest resident size so far, as Linux tells it.

    Not ``ru_maxrss``, in which a process inherits the peak of the one that started it.
    """
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    found = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.M)
    return None if found is None else 1024 * int(found[1])
