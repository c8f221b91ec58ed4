"""How learning rates change over a run, and what they are in runs of a known length."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

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


def begin_schedule(groups: Iterable[dict[str, Any]]) -> None:
    """Note the rates that a schedule multiplies, by torch's name, where they are not noted yet."""
    for group in groups:
        group.setdefault("initial_lr", group["lr"])


def follow_schedule(groups: Iterable[dict[str, Any]], factor: float) -> None:
    """Rates become ``factor`` times those that the schedule began from."""
    for group in groups:
        group["lr"] = group["initial_lr"] * factor


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


def tail_index_rates(steps: int, tail_index: float | None = None) -> tuple[float, float]:
    """Learning rate and momentum of a whole run under noise with finite moments up to an index.

    K steps and index a: lr = K^(-(2a - 1) / (3a - 2)) and 1 - momentum = K^(-a / (3a - 2)), with
    which gradients fall as K^(-(a - 1) / (3a - 2)). Index None is for noise of which nothing is
    known: K^(-3/4) and K^(-1/2), for K^(-(a - 1) / (2a)).

    Args:
        steps: K. tail_index: a in (1, 2]: the noise has a finite a-th moment.

    Returns:
        (lr, momentum).

    Raises:
        ValueError: steps not a positive int, another index.

    Reference:
        He, Deng, Lu, arXiv 2509.11983.
    """
    require_positive_int("steps", steps)
    if tail_index is None:
        return steps**-0.75, 1 - steps**-0.5
    if not 1 < tail_index <= 2:
        raise ValueError(
            f"tail_index must lie in (1, 2], got {tail_index}; noise of finite variance has 2, and "
            "of a first moment alone no rate is known"
        )
    over = 3 * tail_index - 2
    return steps ** -((2 * tail_index - 1) / over), 1 - steps ** -(tail_index / over)
