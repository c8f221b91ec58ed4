"""Timing a contestant at the loosest tolerance that is good enough.

It is found on the first few seeds, which also warms the contestant up. Should the full set of seeds
miss the bound, the ladder of tolerances is climbed on; a contestant that meets it nowhere is timed
at its tightest and does not count. One that has used up its budget climbs no further.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from benchmarks.accuracy import largest_error
from benchmarks.case import FlowCase
from benchmarks.contestant import Contestant
from benchmarks.reference import Reference
from benchmarks.row import Row

SEARCH_SEEDS = 4


@dataclass(frozen=True)
class Task:
    """What a contestant is set.

    Attributes:
        setting: its name in the study.
        ladder: tolerances, falling.
        budget: seconds after which a contestant climbs and repeats no more.
        say: told what runs now.
    """

    setting: str
    case: FlowCase
    seeds: Sequence[int]
    reference: Reference
    ladder: Sequence[float]
    repeats: int
    budget: float
    say: Callable[[str], None]

    def search(self) -> Task:
        """The same on a few seeds, once each."""
        reference = self.reference.first(SEARCH_SEEDS)
        return replace(self, seeds=self.seeds[:SEARCH_SEEDS], reference=reference, repeats=1)


def attempt(
    contestant: Contestant, task: Task, rtol: float, bound: float, until: float = float("inf")
) -> Row:
    """Run at one tolerance; ``until``, a time of the performance counter, ends the repeats."""
    task.say(f"{task.setting}: {contestant.name}, rtol {rtol:.0e}, {len(task.seeds)} seeds")
    row = Row(
        task.setting,
        contestant.name,
        contestant.kind,
        contestant.method,
        contestant.version,
        len(task.seeds),
        rtol,
        error=float("inf"),
        doubt=task.reference.doubt,
        bound=bound,
        seconds=None,
        reference=task.reference.source,
    )
    seconds: list[float] = []
    try:
        prepared = contestant.prepare(task.case, task.seeds, rtol)
        while not seconds or (len(seconds) < task.repeats and time.perf_counter() < until):
            began = time.perf_counter()
            answer = prepared.run()
            seconds.append(time.perf_counter() - began)
        error = largest_error(answer.factors, task.reference.factors)
    except Exception as failure:  # a contestant that breaks has lost; the others go on
        return replace(row, remark=f"{type(failure).__name__}: {failure}".splitlines()[0])
    return replace(
        row,
        error=error,
        seconds=min(seconds),
        compile_seconds=prepared.compile_seconds,
        evaluations=answer.evaluations,
    )


def measure(contestant: Contestant, task: Task, bound: float) -> Row:
    """Find the tolerance, then time all seeds."""
    until = time.perf_counter() + task.budget
    found = climb(contestant, task.search(), task.ladder, bound, until)
    nowhere = found.rtol == task.ladder[-1] and found.seconds is not None
    if not found.counts and not (nowhere and time.perf_counter() < until):
        return replace(found, seconds=None)  # its time is that of a few seeds
    rest = task.ladder[task.ladder.index(found.rtol) :]
    return climb(contestant, task, rest, bound, until)


def climb(
    contestant: Contestant, task: Task, ladder: Sequence[float], bound: float, until: float
) -> Row:
    """The row of the first tolerance that is good enough, or of the last that was tried."""
    for rtol in ladder:
        row = attempt(contestant, task, rtol, bound, until)
        if row.counts:
            break
        if time.perf_counter() > until:
            stopped = f"stopped: {task.budget:g} s used up on {len(task.seeds)} seeds"
            row = replace(row, remark=f"{row.remark}; {stopped}" if row.remark else stopped)
            break
    return row
