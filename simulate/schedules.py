"""How learning rates change over a run: functions of the step that multiply every rate."""

from __future__ import annotations

import math
from collections.abc import Callable

from geometry.errors import require_between, require_positive_int

Schedule = Callable[[int], float]


def constant(step: int) -> float:
    """1 at every step."""
    return 1.0


def linear_decay(steps: int, warmup: int = 0, final: float = 0.0) -> Schedule:
    """Up in ``warmup`` steps, then down along a line to ``final`` after ``steps``.

    Step s has (s + 1) / (warmup + 1) while s < warmup, so that no step has rate 0.

    Args:
        steps: of the run. warmup: below steps. final: in [0, 1].

    Raises:
        ValueError: values out of these ranges; from the schedule, a step below 0 or past the end.
    """
    return _warmed_up(steps, warmup, final, lambda share: 1 - share)


def cosine_decay(steps: int, warmup: int = 0, final: float = 0.0) -> Schedule:
    """As ``linear_decay``, down along half a cosine.

    Reference: Loshchilov and Hutter, SGDR, arXiv 1608.03983.
    """
    return _warmed_up(steps, warmup, final, lambda share: (1 + math.cos(math.pi * share)) / 2)


def _warmed_up(steps: int, warmup: int, final: float, shape: Callable[[float], float]) -> Schedule:
    require_positive_int("steps", steps)
    require_between("warmup", warmup, 0, steps - 1)
    require_between("final", final, 0, 1)

    def schedule(step: int) -> float:
        require_between("step", step, 0, steps)
        if step < warmup:
            return (step + 1) / (warmup + 1)
        return final + (1 - final) * shape((step - warmup) / (steps - warmup))

    return schedule
