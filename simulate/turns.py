"""Times of contestants that take turns, and what can be said of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import binom


def times_in_turn(
    contestants: Mapping[str, Callable[[], object]],
    rounds: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds of a call of each, ``rounds`` times.

    They take turns, forwards and backwards, so that whatever else slows the machine down slows
    all of them down: what can be compared are the times of one round.

    Args:
        contestants: by name, functions without arguments, such as an optimiser's ``step``.
        clock: in seconds. ``time.thread_time`` counts what this thread alone ran, so the time
            that others had the core is left out; it sees nothing of a second thread or a GPU.
    """
    taken: dict[str, list[float]] = {name: [] for name in contestants}
    names = list(contestants)
    for _ in range(rounds):
        for name in names:
            began = clock()
            contestants[name]()
            taken[name].append(clock() - began)
        names.reverse()
    return taken


def median_interval(values: ArrayLike) -> tuple[float, float, float]:
    """Median and its 95 % interval by order statistics, which supposes nothing of the values.

    Args:
        values: one dimension, at least one. Of less than six the interval is all of them.

    Returns:
        median, lower and upper end.
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    out = max(int(binom.ppf(0.025, len(ordered), 0.5)), 1)
    return float(np.median(ordered)), float(ordered[out - 1]), float(ordered[-out])
