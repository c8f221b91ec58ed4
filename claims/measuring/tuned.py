"""Contestants tuned by the common protocol, what was seen of them on the way, and how fast."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from claims.measuring.intervals import Array
from simulate.tuning import Protocol, Tuning

# From R rates to losses (R, S) at the end and what else was seen, (R, ...).
Run = Callable[[tuple[float, ...]], tuple[Array, Array]]


@dataclass(frozen=True)
class Tuned:
    """What one contestant did, at every rate that it was tried at.

    Attributes:
        tuning: its R rates, ascending, and the losses (R, S) at the end.
        observed: (R, ...) what else was seen.
    """

    tuning: Tuning
    observed: Array

    @property
    def rate(self) -> float:
        """The best one."""
        return float(self.tuning.rates[self.tuning.best])

    @property
    def losses(self) -> Array:
        """(S,) at the best rate."""
        return np.asarray(self.tuning.losses[self.tuning.best])

    @property
    def seen(self) -> Array:
        """(...) at the best rate."""
        return np.asarray(self.observed[self.tuning.best])


def tuned(protocol: Protocol, run: Run) -> Tuned:
    """Tried on the protocol's grid, and as it goes on from there."""
    tuning, observed = Tuning(protocol), dict[float, Array]()
    while rates := tuning.next_rates():
        losses, found = run(rates)
        tuning.add(rates, losses)
        observed.update(zip(rates, found, strict=True))
    return Tuned(tuning, np.stack([observed[rate] for rate in tuning.rates.tolist()]))


def steps_to(steps: Array, curves: Array, targets: Array) -> Array:
    """How many steps every curve takes to its target; all of them where it never comes there.

    Between recorded steps the logarithm of a loss is taken to fall along a line.

    Args:
        steps: (T,) ascending. curves: (..., T) losses > 0. targets: (...) > 0, alike.

    Returns:
        (...), within the steps.
    """
    logs, aims = np.log(curves), np.log(targets)[..., None]
    below = logs <= aims
    first = below.argmax(-1)[..., None]
    before = np.maximum(first - 1, 0)
    high, low = (np.take_along_axis(logs, place, -1) for place in (before, first))
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(first > 0, (high - aims) / (high - low), 0.0)
    reached = steps[before] + share * (steps[first] - steps[before])
    return np.asarray(np.where(below.any(-1), reached[..., 0], steps[-1]), dtype=float)
