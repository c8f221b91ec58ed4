"""When the iteration on the stages of an implicit step is over, and how long the next step is."""

from __future__ import annotations

from typing import NamedTuple

STAGES = 3


class Rules(NamedTuple):
    """Limits of :class:`flows.implicit.ImplicitStepper`, for the plain path and the compiled one.

    Attributes:
        corrections: of the stages of a step, at most. sweeps: over the stages, in each.
        remainder: the share of what the estimate may be that the iteration may leave, which is
            also never more than what was asked for.
        quickest: the least that a correction is taken to leave of the last, before it is known.
        order: of the error estimate. safety, slowest, fastest: of the step control.
        after_failure: what a step whose iteration failed is cut to.
        approach, close: a step covers at most the share ``approach`` of the way of a singular
            value to ``close`` beta beyond zero.
        open: a mode may be solved by itself where its metric exceeds ``open`` beta.
        trusted: and where its singular value is to change by less than this share of the metric.
        nearly: rows that turn by less than this within a step are had to second order.
        smooth: the last step's polynomial is gone on with where its third-order terms at the end
            of the next one are below this share of those of second order.
    """

    corrections: int = 10
    sweeps: int = 2
    remainder: float = 0.05
    quickest: float = 0.1
    order: int = STAGES + 1
    safety: float = 0.8
    slowest: float = 0.1
    fastest: float = 8.0
    after_failure: float = 0.3
    approach: float = 0.6
    close: float = 10.0
    open: float = 1.1
    trusted: float = 0.2
    nearly: float = 0.5
    smooth: float = 0.3


RULES = Rules()
