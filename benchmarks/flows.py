"""The flow benchmark: every contestant to the same error, errors beside the times.

A contestant's tolerance is the loosest of a fixed ladder that meets the error bound, found on the
first few seeds, which also warms it up. Should the full set of seeds miss the bound, the ladder is
climbed on; a contestant that meets it nowhere is timed at its tightest and marked as failing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.case import Array, FlowCase
from benchmarks.contestant import Contestant, Factors

LADDER = (1e-6, 3e-7, 1e-7, 3e-8, 1e-8, 3e-9, 1e-9, 3e-10, 1e-10)
SEARCH_SEEDS = 4


@dataclass(frozen=True)
class Row:
    """What one contestant did.

    Attributes:
        error: largest entry of any product's error, over all seeds and times of the grid.
        seconds: best of the repeats, all seeds; compile_seconds come on top, once.
    """

    contestant: str
    method: str
    version: str | None
    rtol: float
    error: float
    meets_bound: bool
    seconds: float
    compile_seconds: float


def largest_error(factors: Factors, reference: Array) -> float:
    """Over all seeds, times and entries of the products; inf where anything is not finite."""
    B, A = factors
    if B.shape[:2] != reference.shape[:2]:
        raise ValueError(
            f"factors at {reference.shape[:2]} (seeds, times) are expected; given {B.shape[:2]}"
        )
    error = float(np.abs(B @ A - reference).max())
    return error if np.isfinite(error) else float("inf")


def loosest(contestant: Contestant, case: FlowCase, seeds: Sequence[int], reference: Array) -> int:
    """Position in the ladder of the loosest tolerance that meets the bound, or of the last."""
    for position, rtol in enumerate(LADDER):
        factors = contestant.prepare(case, seeds, rtol).run()
        if largest_error(factors, reference) <= case.error_bound:
            return position
    return len(LADDER) - 1


def measure(
    contestant: Contestant, case: FlowCase, seeds: Sequence[int], reference: Array, repeats: int
) -> Row:
    """Find the tolerance, then time all seeds."""
    few = seeds[:SEARCH_SEEDS]
    first = loosest(contestant, case, few, reference[: len(few)])
    for rtol in LADDER[first:]:
        prepared = contestant.prepare(case, seeds, rtol)
        seconds = []
        for _ in range(repeats):
            began = time.perf_counter()
            factors = prepared.run()
            seconds.append(time.perf_counter() - began)
        error = largest_error(factors, reference)
        meets = error <= case.error_bound
        if meets:
            break
    return Row(
        contestant.name,
        contestant.method,
        contestant.version,
        rtol,
        error,
        meets,
        min(seconds),
        prepared.compile_seconds,
    )


def missing(contestants: Sequence[Contestant]) -> list[str]:
    """The names of those whose package is not installed."""
    return [contestant.name for contestant in contestants if not contestant.installed]


def race(
    contestants: Sequence[Contestant],
    case: FlowCase,
    seeds: Sequence[int],
    repeats: int,
    say: Callable[[str], None],
) -> Iterator[Row]:
    """Measure every contestant that is installed, one after the other."""
    say(f"reference: DOP853 at 1e-12, {len(seeds)} seeds")
    reference = case.reference(seeds)
    for contestant in contestants:
        if contestant.installed:
            say(contestant.name)
            yield measure(contestant, case, seeds, reference, repeats)
