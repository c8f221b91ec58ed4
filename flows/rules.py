"""When the iteration on the stages of an implicit step is over, and how long the next step is."""

from __future__ import annotations

from typing import NamedTuple

STAGES = 3


class Rules(NamedTuple):
    """Limits of :class:`flows.implicit.ImplicitStepper`, for the plain path and the compiled one.

    Attributes:
        corrections: of the stages of a step, at most.
        remainder: the share of what the estimate may be that the iteration may leave, which is
            also never more than what was asked for.
        order: of the error estimate. safety, slowest, fastest: of the step control.
        after_failure: what a step whose iteration failed is cut to.
        approach, close: a step covers at most the share ``approach`` of the way to the next
            arrival, until the mode is closer to it than ``close`` beta.
        fast: a mode may be slow where its metric exceeds ``fast`` beta.
    """

    corrections: int = 12
    remainder: float = 0.1
    order: int = STAGES + 1
    safety: float = 0.8
    slowest: float = 0.1
    fastest: float = 8.0
    after_failure: float = 0.3
    approach: float = 0.5
    close: float = 10.0
    fast: float = 3.0


RULES = Rules()
